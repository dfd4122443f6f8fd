"""Whether the best of one curve over learning rates exceeds the best of another: yes, no or open.

Each question is about maxima over rates of means over a few trials. The rates that came out best
were chosen by their noise, so that a test at those two alone is wrong more often than it says.
Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
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
    return _bounds(
        ours, theirs, allowance, noise, alpha / len(ours), against / len(theirs), paired=False
    )


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
    paired = [rates[cell.mask_rate] for cell in shared]
    return _bounds(
        shared, paired, allowance, noise, alpha / max(len(shared), 1), against, paired=True
    )


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
    error, freedom = noise.of_differences(cells, cells)
    means = np.array([cell.accuracy for cell in cells])
    below = means - means[:, None] - stdtrit(freedom, 1 - alpha / (len(cells) - 1)) * error
    np.fill_diagonal(below, -1)
    return [cell for cell, surely in zip(cells, (below > 0).any(1), strict=True) if not surely]


def _bounds(
    ours: Sequence[Cell],
    theirs: Sequence[Cell],
    allowance: float,
    noise: Noise | None,
    level: float,
    against: float,
    *,
    paired: bool,
) -> list[Bound]:
    """Each of ours against all of theirs, or if they are paired against its own."""
    if not ours:
        return []
    values = np.array([[a.accuracy - b.accuracy for b in theirs] for a in ours]) - allowance
    if paired:
        values = np.diagonal(values)[:, None]
    if noise is None:
        return [Bound(a, float(v)) for a, v in zip(ours, values.min(1), strict=True)]
    error, freedom = noise.of_differences(ours, theirs)
    if paired:
        error, freedom = np.diagonal(error)[:, None], np.diagonal(freedom)[:, None]
    # Student's quantile function; importing scipy.stats for it would take half a second.
    low = (values - stdtrit(freedom, 1 - level) * error).min(1)
    high = (values + stdtrit(freedom, 1 - against) * error).min(1)
    return [
        Bound(a, float(value), float(below), float(above))
        for a, value, below, above in zip(ours, values.min(1), low, high, strict=True)
    ]
