"""What subnetworks prefer, as Table 3 and the guideline ask it: decided, or left open. Pure."""

from collections.abc import Sequence

from jackpot.conditions import ALPHA
from jackpot.contrasts import Decision, exceeds, possibly_best
from jackpot.noise import Noise
from jackpot.trials import Cell


def prefers_small(ticket: Sequence[Cell], dense: Sequence[Cell], noise: Noise | None) -> Decision:
    """Whether a ticket is best at a smaller learning rate than the dense network.

    It is if, whichever rate may be the dense network's best, some smaller rate is better for the
    ticket than that one and all larger ones. Each of the two questions has half of the level.

    Args:
        ticket, dense: cells at each learning rate.
        noise: see `jackpot.noise.of`.
    """
    lowest = min(cell.learning_rate for cell in dense)
    said = {
        _is_below(ticket, peak.learning_rate, noise)
        # No rate was tried at which it could be better.
        if peak.learning_rate > lowest or noise is None
        else Decision.FAILS
        for peak in possibly_best(dense, noise, ALPHA / 2)
    }
    return said.pop() if len(said) == 1 else Decision.UNDECIDED


def _is_below(ticket: Sequence[Cell], rate: float, noise: Noise | None) -> Decision:
    """Whether the ticket's best rate is below `rate`."""
    below = [cell for cell in ticket if cell.learning_rate < rate]
    rest = [cell for cell in ticket if cell.learning_rate >= rate]
    if not below or not rest:
        # It was trained on one side alone: what it would prefer is not known.
        return Decision.UNDECIDED
    return exceeds(below, rest, 0.0, noise, alpha=ALPHA / 2, alpha_against=ALPHA / 2).decision
