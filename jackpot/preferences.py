"""What subnetworks prefer, as Table 3 and the guideline ask it: decided, or left open. Pure."""

from collections.abc import Sequence
from math import nan

from jackpot.conditions import ALPHA
from jackpot.contrasts import Contrast, exceeds, possibly_best
from jackpot.noise import Noise
from jackpot.trials import Cell, best

NOWHERE = Contrast(-1.0, -1.0, -1.0)
"""Of a dense network that is best at the smallest rate tried: none is smaller."""


def prefers_small(
    ticket: Sequence[Cell], dense: Sequence[Cell], noise: Noise | None, alpha: float = ALPHA
) -> Contrast:
    """By how much a ticket is better at some rate below the dense network's best than elsewhere.

    It prefers a small rate if, whichever rate may be the dense network's best, some smaller rate
    is better for the ticket than that one and all larger ones. Each of the two questions has half
    of the level. The bounds are the widest of all rates that may be the dense network's best; the
    value is NaN where the ticket was trained on one side of that rate alone.

    Args:
        ticket, dense: cells at each learning rate; at least one of each.
        noise: see `jackpot.noise.of`.
        alpha: how often either answer may be wrong.
    """
    peak = best(list(dense))
    found = [
        _is_below(ticket, dense, cell.learning_rate, noise, alpha)
        for cell in possibly_best(dense, noise, alpha / 2)
    ]
    value = _is_below(ticket, dense, peak.learning_rate, noise, alpha).value
    lows = [one.low for one in found if one.low is not None]
    highs = [one.high for one in found if one.high is not None]
    if len(lows) < len(found) or len(highs) < len(found):
        return Contrast(value)
    return Contrast(value, min(lows), max(highs))


def _is_below(
    ticket: Sequence[Cell],
    dense: Sequence[Cell],
    rate: float,
    noise: Noise | None,
    alpha: float,
) -> Contrast:
    """Whether the ticket's best rate is below `rate`."""
    # No rate was tried at which it could be better.
    if noise is not None and rate <= min(cell.learning_rate for cell in dense):
        return NOWHERE
    below = [cell for cell in ticket if cell.learning_rate < rate]
    rest = [cell for cell in ticket if cell.learning_rate >= rate]
    if not below or not rest:
        # It was trained on one side alone: what it would prefer is not known.
        return Contrast(nan)
    return exceeds(below, rest, 0.0, noise, alpha=alpha / 2, alpha_against=alpha / 2)
