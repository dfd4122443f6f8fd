"""How many trials would decide what a study leaves open. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from scipy.special import stdtrit

from jackpot.contrasts import possibly_best
from jackpot.definition import Finding, Judgement
from jackpot.noise import Noise
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


def _settle(found: Finding, judgement: Judgement, noise: Noise, own: Cell, other: Cell) -> Settling:
    same_rate = found.condition.at == "same rate"
    level = (
        judgement.criteria.alpha / len(found.ours)
        if (found.margin or 0.0) > 0
        else judgement.alpha_against / (1 if same_rate else len(found.theirs))
    )
    rival = found.condition.rival.name if found.condition.rival else ""
    alpha = judgement.criteria.alpha
    ours, theirs = (
        possibly_best(found.ours, noise, alpha),
        possibly_best(found.theirs, noise, alpha),
    )
    if same_rate:
        theirs = [
            cell for cell in found.theirs if cell.learning_rate in {c.mask_rate for c in ours}
        ]
    return Settling(
        found,
        _trials(abs(found.margin or 0.0), own, other, noise, level),
        {judgement.ticket: _rates(ours), rival: _rates(theirs)},
    )


def _rates(cells: list[Cell]) -> tuple[float, ...]:
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
