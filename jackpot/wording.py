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
