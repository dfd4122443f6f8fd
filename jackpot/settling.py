"""How many trials would decide what a study leaves open, where, and with what chance. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import ndtr, stdtrit

from jackpot.conditions import PRIZES, Verdict
from jackpot.contrasts import bounds, possibly_best
from jackpot.definition import Finding, Judgement
from jackpot.noise import Noise
from jackpot.settings import PRETRAIN
from jackpot.trials import Cell

MOST = 50
"""More trials than this are not worth asking for: the truth is at the boundary."""
_POWER = 0.8


@dataclass(frozen=True)
class Settling:
    """What would decide one condition, with a chance of 80 % if the margin is as the means say.

    Attributes:
        finding: about the condition.
        trials: how many are needed in all; None: more than `MOST`.
        rates: the learning rates that can still matter, by setting.
    """

    finding: Finding
    trials: int | None
    rates: Mapping[str, tuple[float, ...]]


def settle(judgement: Judgement) -> list[Settling]:
    """What would decide each condition that a judgement's verdict needs and the trials leave open.

    Empty where no trials tell the noise: a second trial of each setting comes first.

    Example:
        >>> from jackpot import judge, published
        >>> (judgement,) = judge(published.PRINTED[published.SECTION_2_78].runs())
        >>> settle(judgement)
        []
    """
    if judgement.noise is None:
        return []
    return [
        _settle(found, judgement, judgement.noise, found.own, found.other)
        for found in judgement.conditions
        if found.undecided and found.condition.verdicts and found.own and found.other
    ]


@dataclass(frozen=True)
class End:
    """A setting that is best at an end of the learning rates that were tried.

    Attributes:
        setting: name.
        learning_rate: the end.
        is_largest: whether it is the largest rate, or the smallest.
    """

    setting: str
    learning_rate: float
    is_largest: bool


def at_an_end(judgement: Judgement) -> list[End]:
    """The settings whose best learning rate is the smallest or the largest that was tried.

    The definition says "any learning rate": a maximum at an end may be higher beyond it. An end at
    which a trial diverged is none, and neither is one that only equals a rate inside.
    """
    found: dict[str, End] = {}
    for one in judgement.conditions:
        if one.condition.at != "best" or one.condition.rival is None:
            continue
        if not one.condition.verdicts:
            continue  # No verdict changes by it.
        rival = one.condition.rival
        for name, is_masked, cells in (
            (judgement.ticket, True, one.ours),
            (rival.name, rival.is_masked, one.theirs),
        ):
            # Where pretraining or the ticket diverged there may be no mask to train with.
            lost = {name, PRETRAIN.name, judgement.ticket} if is_masked else {name}
            tried = _rates(cells) + tuple(r for n, r in judgement.diverged if n in lost)
            ranked = sorted(cells, key=lambda cell: cell.accuracy)
            if not ranked or len(set(tried)) < 2:
                continue
            if len(ranked) > 1 and ranked[-1].accuracy <= ranked[-2].accuracy:
                continue
            best = ranked[-1].learning_rate
            if best in (min(tried), max(tried)):
                found[name] = End(name, best, best == max(tried))
    return list(found.values())


def needed(judgement: Judgement) -> dict[str, tuple[float, ...]]:
    """The learning rates at which more trials can change an open verdict, by setting.

    A rate that surely is not the best of its setting changes no maximum over rates, and so nothing.
    Empty for a verdict that the trials decide.
    """
    found: dict[str, set[float]] = {}
    for opened in _heading(judgement):
        rival = opened.condition.rival.name if opened.condition.rival else ""
        for name, cells in zip(
            (judgement.ticket, rival), _mattering(opened, judgement), strict=True
        ):
            found.setdefault(name, set()).update(_rates(cells))
    return {name: tuple(sorted(rates)) for name, rates in found.items()}


def chance(judgement: Judgement, trials: int, level: float) -> float:
    """How likely an open verdict is to be decided with more trials.

    The predictive power: with margin m and standard error e now, the margin of `trials` trials is
    N(m, e² − e′²) with e′ = e √(n / trials), the margin's true value being unknown (Spiegelhalter
    et al. 1986). A verdict is decided if one condition fails, or all hold.

    Args:
        judgement: with trials that tell the noise, or the answer is 1.
        trials: of each cell, when they are judged.
        level: at which they are.
    """
    noise, opened = judgement.noise, _open(judgement)
    if judgement.verdict is Verdict.UNDECIDED:
        # Whether it is a jackpot is asked once it is known to be a ticket.
        opened = [found for found in opened if set(PRIZES) <= found.condition.verdicts]
    if noise is None or not opened:
        return 1.0
    share = level / judgement.criteria.level
    each = [_chances(found, judgement, noise, trials, share) for found in opened]
    if judgement.verdict is Verdict.TICKET:
        return max(holds + fails for holds, fails in each)
    return max(min(holds for holds, _ in each), max(fails for _, fails in each))


def _chances(
    found: Finding, judgement: Judgement, noise: Noise, trials: int, share: float
) -> tuple[float, float]:
    """How likely a condition is to hold, and to fail, with that many trials of each cell."""
    if found.own is None or found.other is None or found.margin is None:
        return 1.0, 1.0
    error, freedom = noise.of_difference(found.own, found.other)
    now = min(len(found.own.trials), len(found.other.trials))
    if trials <= now:
        return 0.0, 0.0
    free = freedom * (trials - 1) / max(now - 1, 1)
    later = error * (now / trials) ** 0.5
    spread = (error**2 - later**2) ** 0.5
    for_, against = _levels(found, judgement)
    return (
        float(ndtr((found.margin - stdtrit(free, 1 - share * for_) * later) / spread)),
        float(ndtr((-found.margin - stdtrit(free, 1 - share * against) * later) / spread)),
    )


def _open(judgement: Judgement) -> list[Finding]:
    """The findings that keep a verdict from being decided."""
    if judgement.verdict not in (Verdict.UNDECIDED, Verdict.TICKET):
        return []
    return [
        found
        for found in judgement.conditions
        if found.undecided and found.condition.verdicts and found.own and found.other
    ]


def _heading(judgement: Judgement) -> list[Finding]:
    """The open findings that the next trials should decide.

    One condition that fails is enough for the verdict "none": if the means say that some do, it is
    the one that they say most surely. A prize needs all.
    """
    opened, noise = _open(judgement), judgement.noise
    if judgement.verdict is not Verdict.UNDECIDED or noise is None:
        return opened

    def lies_inside(found: Finding) -> float:
        if found.own is None or found.other is None or found.margin is None:
            return 0.0
        return found.margin / noise.of_difference(found.own, found.other)[0]

    least = min(
        (found for found in opened if set(PRIZES) <= found.condition.verdicts),
        key=lies_inside,
        default=None,
    )
    return opened if least is None or lies_inside(least) >= 0 else [least]


def _levels(found: Finding, judgement: Judgement) -> tuple[float, float]:
    """The levels at which one cell's bounds say that a condition holds, and that it fails."""
    same_rate = found.condition.at == "same rate"
    return (
        judgement.criteria.level / len(found.ours),
        judgement.alpha_against / (1 if same_rate else len(found.theirs)),
    )


def _mattering(found: Finding, judgement: Judgement) -> tuple[Sequence[Cell], Sequence[Cell]]:
    """The ticket's cells and its rival's that may decide a condition."""
    noise, alpha = judgement.noise, judgement.criteria.level
    if found.condition.at == "best":
        return possibly_best(found.ours, noise, alpha), possibly_best(found.theirs, noise, alpha)
    if noise is None or found.own is None or found.other is None:
        return found.ours, found.theirs
    # A pair at one rate matters while it may be the one that favours the ticket most, and may meet
    # the condition.
    allowance = found.own.accuracy - found.other.accuracy - (found.margin or 0.0)
    pairs = bounds(
        found.ours,
        found.theirs,
        allowance,
        noise,
        same_rate=True,
        alpha=alpha,
        alpha_against=judgement.alpha_against,
    )
    least = max([0.0, *(pair.low or 0.0 for pair in pairs)])
    ours = [pair.cell for pair in pairs if (pair.high or 0.0) >= least]
    rates = {cell.mask_rate for cell in ours}
    return ours, [cell for cell in found.theirs if cell.learning_rate in rates]


def _settle(found: Finding, judgement: Judgement, noise: Noise, own: Cell, other: Cell) -> Settling:
    for_, against = _levels(found, judgement)
    level = for_ if (found.margin or 0.0) > 0 else against
    rival = found.condition.rival.name if found.condition.rival else ""
    ours, theirs = _mattering(found, judgement)
    return Settling(
        found,
        _trials(abs(found.margin or 0.0), own, other, noise, level),
        {judgement.ticket: _rates(ours), rival: _rates(theirs)},
    )


def _rates(cells: Sequence[Cell]) -> tuple[float, ...]:
    return tuple(sorted({cell.learning_rate for cell in cells}))


def _trials(margin: float, own: Cell, other: Cell, noise: Noise, level: float) -> int | None:
    """The least n with margin ≥ (t of the decision + t of the power) · standard error of n."""
    now = min(len(own.trials), len(other.trials))
    single = frozenset({1})
    one = Cell(own.learning_rate, 0, single, 0, own.mask_rate)
    another = Cell(other.learning_rate, 0, single, 0, other.mask_rate)
    error, freedom = noise.of_difference(one, another)
    for n in range(now + 1, MOST + 1):
        # Degrees of freedom grow as the trials within a cell do.
        free = freedom * (n - 1) / max(now - 1, 1)
        needed = float(stdtrit(free, 1 - level) + stdtrit(free, _POWER))
        if margin >= needed * error / n**0.5:
            return n
    return None
