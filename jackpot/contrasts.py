"""Whether the best of one curve over learning rates exceeds the best of another: yes, no or open.

Each question is about maxima over rates of means over a few trials. The rates that came out best
were chosen by their noise, so that a test at those two alone is wrong more often than it says.
Pure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from scipy.special import stdtrit

from jackpot.noise import Noise
from jackpot.trials import Cell

ALPHA = 0.05
"""The share of studies in which a decision may be wrong."""


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

    It holds if max_i min_j (a_i − b_j − allowance − t se_ij) > 0, with t at level α / I: all j must
    be exceeded, which needs no correction (Berger 1982), while i is chosen by the data. It fails if
    max_i min_j (a_i − b_j − allowance + t se_ij) < 0, with t at level α′ / J.

    Args:
        ours, theirs: means at one or more learning rates.
        allowance: as a fraction.
        noise: see `jackpot.noise.of`; None: nothing is decided.
        alpha: how often "holds" may be wrong.
        alpha_against: α′, how often "fails" may be; None: as `alpha`.
    """
    against = alpha if alpha_against is None else alpha_against

    def at(shift: Callable[[Cell, Cell], float]) -> float:
        return max(
            min(a.accuracy - b.accuracy - allowance + shift(a, b) for b in theirs) for a in ours
        )

    return _contrast(at, noise, alpha / len(ours), against / len(theirs))


def exceeds_at_one_rate(
    ours: Sequence[Cell],
    theirs: Sequence[Cell],
    allowance: float,
    noise: Noise | None,
    *,
    alpha: float = ALPHA,
    alpha_against: float | None = None,
) -> Contrast | None:
    """Whether a cell of ours exceeds that of theirs at its own rate, at some rate; see `exceeds`.

    Returns:
        None if they share no rate.
    """
    rates = {cell.learning_rate: cell for cell in theirs}
    pairs = [(cell, rates[cell.learning_rate]) for cell in ours if cell.learning_rate in rates]
    if not pairs:
        return None
    against = alpha if alpha_against is None else alpha_against

    def at(shift: Callable[[Cell, Cell], float]) -> float:
        return max(a.accuracy - b.accuracy - allowance + shift(a, b) for a, b in pairs)

    return _contrast(at, noise, alpha / len(pairs), against)


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


def _contrast(
    at: Callable[[Callable[[Cell, Cell], float]], float],
    noise: Noise | None,
    level: float,
    level_against: float,
) -> Contrast:
    value = at(lambda a, b: 0.0)
    if noise is None:
        return Contrast(value)
    return Contrast(
        value,
        at(lambda a, b: -_half(noise, a, b, level)),
        at(lambda a, b: _half(noise, a, b, level_against)),
    )


def _half(noise: Noise, a: Cell, b: Cell, level: float) -> float:
    """How far the difference of two means may be off, at a one-sided level."""
    error, freedom = noise.of_difference(a, b)
    # Student's quantile function; importing scipy.stats for it would take half a second.
    return float(stdtrit(freedom, 1 - level)) * error
