"""Whether the best of one curve over learning rates exceeds the best of another: yes, no or open.

Each question is about maxima over rates of means over a few trials. The rates that came out best
were chosen by their noise, so that a test at those two alone is wrong more often than it says.
Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from scipy.special import stdtrit

from jackpot.conditions import ALPHA
from jackpot.noise import Noise
from jackpot.trials import Cell


class Decision(StrEnum):
    """What trials say of a claim."""

    HOLDS = "holds"
    FAILS = "fails"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Contrast:
    """An amount by which one curve exceeds another, with the bounds that decide about it.

    Attributes:
        value: at the means, a fraction.
        low, high: above 0, the one says that it holds; below 0, the other that it fails. None if
            no trials tell the noise.
    """

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def decision(self) -> Decision:
        """Whether the bounds leave one answer."""
        if self.low is None or self.high is None:
            return Decision.UNDECIDED
        if self.low > 0:
            return Decision.HOLDS
        return Decision.FAILS if self.high < 0 else Decision.UNDECIDED


@dataclass(frozen=True)
class Bound:
    """By how much one of our cells exceeds every one of theirs; see `Contrast`."""

    cell: Cell
    value: float
    low: float | None = None
    high: float | None = None


def against_all(
    ours: Sequence[Cell],
    theirs: Sequence[Cell],
    allowance: float,
    noise: Noise | None,
    *,
    alpha: float = ALPHA,
    alpha_against: float | None = None,
) -> list[Bound]:
    """By how much each cell of ours exceeds every one of theirs.

    The lower bound of cell i is min_j (a_i − b_j − allowance − t se_ij), with t at level α / I: all
    j must be exceeded, which needs no correction (Berger 1982), while i is chosen by the data. The
    upper one has t at level α′ / J: which j exceeds it is chosen by the data.

    Args:
        ours, theirs: means at one or more learning rates; I and J of them.
        allowance: as a fraction.
        noise: see `jackpot.noise.of`; None: nothing is decided.
        alpha: how often "holds" may be wrong.
        alpha_against: α′, how often "fails" may be; None: as `alpha`.
    """
    against = alpha if alpha_against is None else alpha_against
    return [_bound(a, theirs, allowance, noise, alpha / len(ours), against) for a in ours]


def against_same_rate(
    ours: Sequence[Cell],
    theirs: Sequence[Cell],
    allowance: float,
    noise: Noise | None,
    *,
    alpha: float = ALPHA,
    alpha_against: float | None = None,
) -> list[Bound]:
    """By how much each cell of ours exceeds theirs at the rate that its mask was found at.

    Cells at whose rate there is none of theirs are left out. See `against_all`, with J = 1.
    """
    rates = {cell.learning_rate: cell for cell in theirs}
    shared = [cell for cell in ours if cell.mask_rate in rates]
    against = alpha if alpha_against is None else alpha_against
    return [
        _bound(a, [rates[a.mask_rate]], allowance, noise, alpha / len(shared), against)
        for a in shared
    ]


def some(bounds: Sequence[Bound]) -> Contrast:
    """Whether it is true of some cell. Raises: ValueError for no cell."""
    lows = [bound.low for bound in bounds if bound.low is not None]
    highs = [bound.high for bound in bounds if bound.high is not None]
    return Contrast(
        max(bound.value for bound in bounds), max(lows, default=None), max(highs, default=None)
    )


def together(several: Sequence[Sequence[Bound]]) -> list[Bound]:
    """The bounds of each cell for all of several claims to be true of it: the smallest ones."""
    by_cell = [{bound.cell: bound for bound in bounds} for bounds in several]
    shared = [cell for cell in by_cell[0] if all(cell in bounds for bounds in by_cell)]
    return [_smallest(cell, [bounds[cell] for bounds in by_cell]) for cell in shared]


def _smallest(cell: Cell, bounds: Sequence[Bound]) -> Bound:
    lows = [bound.low for bound in bounds if bound.low is not None]
    highs = [bound.high for bound in bounds if bound.high is not None]
    return Bound(
        cell,
        min(bound.value for bound in bounds),
        min(lows, default=None),
        min(highs, default=None),
    )


def exceeds(
    ours: Sequence[Cell],
    theirs: Sequence[Cell],
    allowance: float,
    noise: Noise | None,
    *,
    alpha: float = ALPHA,
    alpha_against: float | None = None,
) -> Contrast:
    """Whether some cell of ours exceeds every one of theirs by more than `allowance`.

    Args:
        ours, theirs, allowance, noise, alpha, alpha_against: see `against_all`.
    """
    return some(
        against_all(ours, theirs, allowance, noise, alpha=alpha, alpha_against=alpha_against)
    )


def possibly_best(cells: Sequence[Cell], noise: Noise | None, alpha: float) -> list[Cell]:
    """The cells that may have the highest mean: none of the others surely exceeds them.

    Args:
        cells: of one curve.
        noise: None: each of them.
        alpha: how often the truly best one may be missing (Hsu 1984).
    """
    if noise is None or len(cells) < 2:
        return list(cells)
    level = alpha / (len(cells) - 1)
    return [
        cell
        for cell in cells
        if not any(
            other.accuracy - cell.accuracy - _half(noise, other, cell, level) > 0
            for other in cells
            if other is not cell
        )
    ]


def _bound(
    a: Cell,
    theirs: Sequence[Cell],
    allowance: float,
    noise: Noise | None,
    level: float,
    against: float,
) -> Bound:
    differences = [a.accuracy - b.accuracy - allowance for b in theirs]
    if noise is None:
        return Bound(a, min(differences))
    level_against = against / len(theirs)
    lows, highs = [], []
    for difference, b in zip(differences, theirs, strict=True):
        error, freedom = noise.of_difference(a, b)
        # Student's quantile function; importing scipy.stats for it would take half a second.
        lows.append(difference - float(stdtrit(freedom, 1 - level)) * error)
        highs.append(difference + float(stdtrit(freedom, 1 - level_against)) * error)
    return Bound(a, min(differences), min(lows), min(highs))


def _half(noise: Noise, a: Cell, b: Cell, level: float) -> float:
    """How far the difference of two means may be off, at a one-sided level."""
    error, freedom = noise.of_difference(a, b)
    return float(stdtrit(freedom, 1 - level)) * error
