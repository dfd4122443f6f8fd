"""A condition: the mask is clearly better than itself, shuffled over all layers.

    JACKPOT_CONDITIONS=examples.beats_scattered:beats_scattered make explore

It is shown beside the paper's five, on the page Definition and in the map of verdicts on
Overview; no verdict needs it.
"""

from examples.scattered import scattered
from jackpot import Condition, Criteria


def clear_gap(criteria: Criteria, dataset: str) -> float:
    """The gap that conditions 2 and 3 ask for."""
    return criteria.gap


beats_scattered = Condition(
    name="S",
    symbol="S",
    words="clearly better than its own mask, shuffled over all layers",
    verdicts=frozenset(),
    rival=scattered,
    rival_words="scattered mask",
    at="best",
    allowance=clear_gap,
    is_strict=True,
)
