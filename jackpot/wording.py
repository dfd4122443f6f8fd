"""How numbers are written, on screen, in files and in names: the same everywhere."""

# Share of the density by which a written sparsity may be off.
_OFF = 0.02


def sparsity(value: float) -> str:
    """A sparsity with three decimals, as the paper has it; deep ones with as many as they need.

    Three decimals stay while they are off by no more than 2 % of the density, so that sparsities
    whose densities differ by more than 4 % are never written alike. IMP's differ by 20 %.

    Args:
        value: a fraction, in [0, 1).

    >>> sparsity(0.5904), sparsity(1 - 0.8**16), sparsity(1 - 0.8**27), sparsity(0.9995)
    ('0.590', '0.972', '0.9976', '0.9995')
    """
    for decimals in range(3, 18):
        rounded = round(value, decimals)
        if abs(rounded - value) <= _OFF * (1 - value) and rounded < 1:
            return f"{rounded:.{decimals}f}"
    return repr(value)


# In days.
_YEAR, _MONTH, _WEEK = 365.25, 30.44, 7


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> [duration(s) for s in (45, 180, 7500, 3 * 86400 + 4 * 3600)]
    ['45 s', '3 min', '2 h 05 min', '3 days 4 h']
    >>> [duration(86400 * days) for days in (10, 20, 100, 1000)]
    ['10 days', '3 weeks', '3 months', '2.7 years']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days = hours / 24
    if days < _WEEK:
        return f"{hours // 24} days {hours % 24} h"
    if days < 2 * _WEEK:
        return f"{round(days)} days"
    if days < 2 * _MONTH:
        return f"{round(days / _WEEK)} weeks"
    if days < 2 * _YEAR:
        return f"{round(days / _MONTH)} months"
    return f"{days / _YEAR:.1f} years"


def count(number: int, noun: str) -> str:
    """A number with its noun.

    >>> count(1, "trial"), count(3, "trial")
    ('1 trial', '3 trials')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def span(counts: tuple[int, int]) -> str:
    """The fewest and the most of something.

    >>> span((3, 3)), span((1, 3))
    ('3', '1 to 3')
    """
    few, many = counts
    return f"{few}" if few == many else f"{few} to {many}"
