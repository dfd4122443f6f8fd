"""The card of a ticket that is taken away: what it is, where it is from, how it is loaded. Pure."""

from collections.abc import Mapping, Sequence


def with_jackpot(network: str) -> str:
    """Code that loads the ticket's own files, in their folder; one's own network is to be named."""
    named = f', network="{network}"' if ":" in network else ""
    return f"""from trainer.pruning.callbacks import ApplyMask
from trainer.store.ticket import load_ticket

model, mask = load_ticket("."{named})
model.fit(…, callbacks=[ApplyMask(mask)])"""


def card(
    name: str,
    facts: Mapping[str, str],
    lineage: Sequence[str],
    verdict: str,
    loading: Mapping[str, str],
    task: str = "",
) -> str:
    """A README.md as model hubs show it: metadata in YAML, then Markdown.

    Args:
        name: of the ticket.
        facts: its recipe, by param of `jackpot.contract`.
        lineage: where weights and mask are from, a line each.
        verdict: in words, its evidence in further lines; empty: it was not judged.
        loading: Python code by what it needs.
        task: what hubs call its task; empty: none of theirs.

    Example:
        >>> text = card("lt-imp", {"network": "resnet20"}, [], "", {"Jackpot": "load_ticket('.')"})
        >>> text.splitlines()[:3]
        ['---', 'tags:', '- lottery-ticket']
    """
    dataset = facts.get("dataset", "").removeprefix("tfds:")
    lines = ["---", "tags:", "- lottery-ticket", "- pruning"]
    lines += [f"pipeline_tag: {task}"] if task else []
    lines += ["datasets:", f"- {dataset}"] if dataset.isidentifier() else []
    lines += ["---", "", f"# {_plain(name)}", ""]
    lines += ["| param | value |", "|---|---|"]
    lines += [f"| {key} | {_plain(value)} |" for key, value in facts.items()]
    said, *evidence = verdict.splitlines() or ["It was not judged."]
    lines += ["", "## Verdict", "", _plain(said), ""]
    lines += [*(f"- {_plain(line)}" for line in evidence), ""] if evidence else []
    lines += ["By the definition of Ma et al. 2021, https://arxiv.org/abs/2107.00166.", ""]
    lines += ["## Lineage", "", *(f"- {_plain(line)}" for line in lineage), ""]
    lines += ["## How to load it", ""]
    for needs, code in loading.items():
        lines += [f"{needs}:", "", "```python", code, "```", ""]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text as Markdown shows it: what a store holds is no markup."""
    escaped = "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in text)
    return " ".join(escaped.split())
