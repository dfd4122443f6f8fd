"""A ticket's folder for a model hub, zipped: its own files, and a card."""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from explorer.snapshot import Study
from jackpot import citation, settings
from jackpot.card import card, with_jackpot
from jackpot.conditions import Criteria
from jackpot.contract import Param


def zipped(
    study: Study,
    run: Mapping[str, Any],
    lineage: Sequence[str],
    files: Sequence[str],
    content: Callable[[str], bytes],
) -> bytes:
    """The folder as a zip file.

    Args:
        study: of the run.
        run: its row.
        lineage: where weights and mask are from, a line each.
        files: names of its artifacts.
        content: fetches one of them.
    """
    facts = {
        str(name): f"{value:g}" if isinstance(value, float) else str(value)
        for name in Param
        if (value := run.get(name)) is not None
    }
    if run["val_accuracy"] is not None:
        facts["test accuracy after its training"] = f"{100 * run['val_accuracy']:.2f} %"
    text = card(
        run["name"],
        facts,
        lineage,
        _verdict(study, run),
        {"Jackpot": with_jackpot(facts.get("network", ""))},
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("README.md", text)
        for name in files:
            file.writestr(name, content(name))
    return packed.getvalue()


def _verdict(study: Study, run: Mapping[str, Any]) -> str:
    """The verdict on tickets with the run's mask, to be cited; empty if it is no ticket."""
    row = settings.SETTINGS.get(run["setting"])
    if row is None or not row.is_ticket:
        return ""
    criteria = Criteria(ticket=row.name, stands=frozenset({"ticket"}))
    for judgement in study.judged(criteria, "last"):
        if (judgement.pruner, judgement.sparsity) == (run["pruner"], run["sparsity"]):
            return citation.text(judgement, study.name, study.launch_id, "last")
    return ""
