"""Whether the best of one curve over learning rates exceeds the best of another: yes, no or open.

Each question is about maxima over rates of means over a few trials. The rates that came out best
were chosen by their noise, so that a test at those two alone is wrong more often than it says.
Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

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


MARKS: Mapping[Decision | None, str] = MappingProxyType(
    {Decision.HOLDS: "✓", Decision.FAILS: "×", Decision.UNDECIDED: "△", None: "?"}
)
"""Of conditions; △ is the paper's "at the boundary": the trials do not decide. None: no runs."""


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


def bounds(
    ours: Sequence[Cell],
    theirs: Sequence[Cell],
    allowance: float,
    noise: Noise | None,
    *,
    same_rate: bool = False,
    alpha: float = ALPHA,
    alpha_against: float = ALPHA,
) -> list[Bound]:
    """By how much each cell of ours exceeds every one of theirs.

    The lower bound of cell i is min_j (a_i − b_j − allowance − t se_ij), with t at level α / I: all
    j must be exceeded, which needs no correction (Berger 1982), while i is chosen by the data. The
    upper one has t at level α′ / J: which j exceeds it is chosen by the data.

    Args:
        ours, theirs: means at one or more learning rates; I and J of them.
        allowance: as a fraction.
        noise: see `jackpot.noise.of`; None: nothing is decided.
        same_rate: whether each cell of ours is held against theirs at the rate that its mask was
            found at alone, J = 1; those at whose rate there is none are left out.
        alpha: how often "holds" may be wrong.
        alpha_against: α′, how often "fails" may be.
    """
    matching = np.ones((len(ours), len(theirs)), bool)
    if same_rate:
        rates = [cell.learning_rate for cell in theirs]
        matching = np.equal.outer([cell.mask_rate for cell in ours], rates)
        met = np.flatnonzero(matching.any(1)).tolist()
        ours, matching = [ours[i] for i in met], matching[met]
    if not ours:
        return []

    def least(differences: np.ndarray) -> list[float]:
        return np.where(matching, differences, np.inf).min(1).tolist()

    differences = (
        np.subtract.outer([a.accuracy for a in ours], [b.accuracy for b in theirs]) - allowance
    )
    values = least(differences)
    if noise is None:
        return [Bound(a, value) for a, value in zip(ours, values, strict=True)]
    error, freedom = noise.of_differences(ours, theirs)
    # Student's quantile function; importing scipy.stats for it would take half a second.
    below = stdtrit(freedom, 1 - alpha / len(ours)) * error
    above = stdtrit(freedom, 1 - alpha_against / (1 if same_rate else len(theirs))) * error
    lows, highs = least(differences - below), least(differences + above)
    return [Bound(*each) for each in zip(ours, values, lows, highs, strict=True)]


def some(found: Sequence[Bound]) -> Contrast:
    """Whether it is true of some cell. Raises: ValueError for no cell."""
    return Contrast(*_extremes(max, found))


def together(several: Sequence[Sequence[Bound]]) -> list[Bound]:
    """The bounds of each cell for all of several claims to be true of it: the smallest ones."""
    by_cell = [{bound.cell: bound for bound in found} for found in several]
    shared = [cell for cell in by_cell[0] if all(cell in found for found in by_cell)]
    return [Bound(cell, *_extremes(min, [found[cell] for found in by_cell])) for cell in shared]


def _extremes(
    pick: Callable[[list[float]], float], found: Sequence[Bound]
) -> tuple[float, float | None, float | None]:
    """Value, low and high; the bounds of one study are all known, or all are not."""
    lows = [bound.low for bound in found if bound.low is not None]
    highs = [bound.high for bound in found if bound.high is not None]
    value = pick([bound.value for bound in found])
    return (value, pick(lows), pick(highs)) if lows else (value, None, None)


def exceeds(
    ours: Sequence[Cell],
    theirs: Sequence[Cell],
    allowance: float,
    noise: Noise | None,
    *,
    alpha: float = ALPHA,
    alpha_against: float = ALPHA,
) -> Contrast:
    """Whether some cell of ours exceeds every one of theirs by more than `allowance`.

    Args:
        ours, theirs, allowance, noise, alpha, alpha_against: see `bounds`.
    """
    return some(bounds(ours, theirs, allowance, noise, alpha=alpha, alpha_against=alpha_against))


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
