"""How the definition is read, in words. Pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from jackpot import settings
from jackpot.conditions import Criteria


def changes(
    criteria: Criteria,
    which: Literal["last", "best"] = "last",
    said: Mapping[str, float | str] = MappingProxyType({}),
) -> list[str]:
    """What is not as the paper has it, a few words each; empty where all of it is.

    But for the level of a look, which is a ticket's: see `jackpot.citation.level`.

    Args:
        criteria: of the reader and the study (`Study.read_by`).
        which: epoch whose accuracy counts.
        said: by the study, of which another ticket than its own is a change too.

    >>> changes(Criteria()), changes(Criteria(gap=0.01, reading="joint"), "best")
    ([], ['clear gap: over 1 points', 'joint reading', 'accuracy of the best epoch'])
    >>> changes(Criteria(epochs=20.0))
    ['sufficient epochs: 20']
    """
    default = Criteria()
    words = {
        "tolerance": f"similar: within {100 * (criteria.tolerance or 0):g} points",
        "gap": f"clear gap: over {100 * criteria.gap:g} points",
        "sparsity": f"non-trivial sparsity: {criteria.sparsity:g}",
        "epochs": f"sufficient epochs: {criteria.epochs or 0:g}",
        "floor": f"decent rate: dense within {100 * criteria.floor:g} points",
        "any_rate": "masks of another rate count",
        "reading": f"{criteria.reading} reading",
        "ticket": f"ticket: {settings.label(criteria.ticket)}",
        "rate_by": "best rate by held-out images",
        "alpha": f"level {100 * criteria.alpha:g} %",
    }
    changed = {name for name in words if getattr(criteria, name) != getattr(default, name)}
    if criteria.ticket != said.get("ticket", criteria.ticket):
        changed.add("ticket")
    found = [text for name, text in words.items() if name in changed]
    return found + (["accuracy of the best epoch"] if which == "best" else [])


def footnote(changed: list[str]) -> str:
    """A line below a figure in print; empty where nothing is changed.

    >>> footnote(["joint reading"])
    'Criteria other than the paper’s: joint reading.'
    """
    return f"Criteria other than the paper’s: {'; '.join(changed)}." if changed else ""
