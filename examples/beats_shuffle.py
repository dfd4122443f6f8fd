"""A condition: the mask is clearly better than its own shuffle.

    JACKPOT_CONDITIONS=examples.beats_shuffle:beats_shuffle make explore

It is shown beside the paper's five, on the page Definition and in the map of verdicts on
Overview; no verdict needs it.
"""

from examples.shuffled import shuffled
from jackpot import Condition, Criteria


def clear_gap(criteria: Criteria, dataset: str) -> float:
    """The gap that conditions 2 and 3 ask for."""
    return criteria.gap


beats_shuffle = Condition(
    name="M",
    symbol="Ⓜ",
    words="clearly better than its own mask, shuffled",
    verdicts=frozenset(),
    rival=shuffled,
    rival_words="shuffled mask",
    at="best",
    allowance=clear_gap,
    is_strict=True,
)
