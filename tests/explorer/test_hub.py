"""The ticket's folder that the page offers: its files, and a card."""

import io
import zipfile
from pathlib import Path

import pytest

from explorer import hub
from explorer.snapshot import snapshot, studies
from jackpot.contract import Artifact
from trainer.store.ticket import load_ticket


@pytest.mark.parametrize("setting", ["lt", "rr"])
def test_the_folder_holds_the_ticket_and_says_what_it_is(
    setting: str, trained: str, tmp_path: Path
):
    found = snapshot(trained)
    found.refresh()
    (study,) = studies(found)
    run = study.runs.filter(setting=setting, pruner="imp", sparsity=0.75, status="FINISHED").row(
        0, named=True
    )
    files = [Artifact.TICKET_INITIAL, Artifact.TICKET_MASK]

    def content(name: str) -> bytes:
        with found.store.artifact(run["run_id"], name) as path:
            return path.read_bytes()

    packed = hub.zipped(study, run, ["study <b>tiny</b>"], files, content)
    with zipfile.ZipFile(io.BytesIO(packed)) as file:
        assert set(file.namelist()) == {"README.md", *files}
        file.extractall(tmp_path)
    model, mask = load_ticket(tmp_path)
    assert sum(int(entry.sum()) for entry in mask.values()) == round(0.25 * (64 * 300 + 300 * 100))
    assert model.count_params() > 0
    card = (tmp_path / "README.md").read_text()
    assert "| network | lenet-300-100 |" in card
    assert "\\<b\\>tiny" in card, "what a store says is no markup"
    # Only a ticket has a verdict.
    assert ("It was not judged" in card) is (setting == "rr")
    assert ("of lenet-300-100 on digits at sparsity 0.750" in card) is (setting == "lt")
