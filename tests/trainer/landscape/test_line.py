"""Lines between two runs: a twin in another order, and the next IMP round."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from streamlit.testing.v1 import AppTest

import explorer
from explorer.snapshot import snapshot
from jackpot import artifacts
from tests import configs
from tests.trainer import stored
from trainer import datasets
from trainer.landscape.__main__ import main


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, _empty_database: Path) -> str:
    config = configs.tiny(
        tmp_path_factory.mktemp("config"),
        settings="[pretrain, lt, lt_twin, wr, wr_twin]",
        pruners="[imp, snip]",
        pruning="{fraction: 0.5, sparsities: [0.5, 0.75]}",
        trials="2",
        fuse="4",
    )
    folder = tmp_path_factory.mktemp("lines")
    return configs.trained(folder, _empty_database, config.read_text())


def named(uri: str) -> dict[str, object]:
    return {run.info.run_name: run for run in stored.runs(uri)}


NAME = "s=0.750 lr=0.05 trial=1"


def test_a_twin_starts_where_its_original_does_and_ends_elsewhere(study: str):
    runs = named(study)
    for pair in (("lt-imp", "lt_twin-imp"), ("wr-snip", "wr_twin-snip")):
        one, other = (runs[f"{label} {NAME}"] for label in pair)
        first, second = (stored.weights(run, "ticket/initial.safetensors") for run in (one, other))
        assert all((first[path] == second[path]).all() for path in first)
        assert all((stored.mask(one)[p] == stored.mask(other)[p]).all() for p in stored.mask(one))
        ends = [stored.weights(run) for run in (one, other)]
        assert any((ends[0][path] != ends[1][path]).any() for path in first)


def error(weights: dict[str, np.ndarray], images: torch.Tensor, labels: np.ndarray) -> float:
    """LeNet-300-100 written out."""
    x = images.flatten(1)
    for layer in ("hidden1", "hidden2"):
        kernel, bias = (torch.from_numpy(weights[f"{layer}/{k}"]) for k in ("kernel", "bias"))
        x = F.relu(x @ kernel + bias)
    kernel, bias = (torch.from_numpy(weights[f"classifier/{k}"]) for k in ("kernel", "bias"))
    return float(((x @ kernel + bias).argmax(1).numpy() != labels).mean())


@pytest.mark.parametrize(
    ("one", "other", "masked"),
    [
        (f"lt-imp {NAME}", f"lt_twin-imp {NAME}", False),
        (f"wr-imp {NAME}", f"wr_twin-imp {NAME}", False),
        ("lt-imp s=0.500 lr=0.05 trial=1", f"lt-imp {NAME}", True),
    ],
)
def test_the_error_on_the_line_is_that_of_the_weights_between(
    study: str, one: str, other: str, masked: bool, capsys
):
    runs = named(study)
    first, second = runs[one], runs[other]
    arguments = ["--run", first.info.run_id, "--to", second.info.run_id, "--points", "5"]
    assert main([*arguments, "--tracking-uri", study]) == 0
    said = capsys.readouterr().out
    assert "Error barrier" in said
    assert ("both under the mask of" in said) is masked
    file = stored.file(first, f"connectivity/{second.info.run_id}.safetensors")
    arrays, about = artifacts.read(file)
    assert about["other_run_id"] == second.info.run_id
    digits = datasets.load("digits", 256, 100)
    source = digits.source
    images = torch.from_numpy(digits.test.images / 255.0).float()
    images = (images - source.mean[0]) / source.std[0]
    ends, mask = [stored.weights(run) for run in (first, second)], stored.mask(second)
    if masked:
        ends[0] = {path: array * mask.get(path, 1) for path, array in ends[0].items()}
    for alpha, accuracy in zip(arrays["alpha"], arrays["accuracy"], strict=True):
        between = {p: (1 - alpha) * ends[0][p] + alpha * ends[1][p] for p in ends[0]}
        between = {p: array.astype(np.float32) for p, array in between.items()}
        assert 1 - accuracy == pytest.approx(error(between, images, digits.test.labels), abs=0.011)


def test_runs_of_other_networks_or_points_that_are_no_line_are_refused(study: str, capsys):
    runs = named(study)
    one, other = (runs[f"{n} {NAME}"].info.run_id for n in ("lt-imp", "lt_twin-imp"))
    assert main(["--run", one, "--to", other, "--points", "2", "--tracking-uri", study]) == 2
    assert "expected 3 or more on a line" in capsys.readouterr().err
    assert main(["--run", one, "--to", "0" * 32, "--tracking-uri", study]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.usefixtures("_pages_are_as_fast_as_in_a_server")
def test_the_tickets_page_shows_masks_signs_and_lines(study: str, monkeypatch, capsys):
    runs = named(study)
    first, second = (runs[f"{n} {NAME}"] for n in ("lt-imp", "lt_twin-imp"))
    arguments = ["--run", first.info.run_id, "--to", second.info.run_id, "--points", "3"]
    assert main([*arguments, "--tracking-uri", study]) == 0
    snapshot.clear()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", study)
    page = Path(explorer.__file__).parent / "views" / "runs.py"
    app = AppTest.from_file(str(page), default_timeout=60)
    app.query_params["ticket_run"] = first.info.run_id
    app.run()
    assert not app.exception
    tables = [frame.value for frame in app.dataframe]
    (beside,) = [t for t in tables if "iou" in t.columns]
    assert set(beside["with"]) == {
        "lt-imp s=0.750 lr=0.05 trial=2",
        "lt-snip s=0.750 lr=0.05 trial=1",
    }
    mask, theirs = (stored.mask(runs[f"lt-{p} {NAME}"]) for p in ("imp", "snip"))
    common = sum(int((mask[path] & theirs[path]).sum()) for path in mask)
    either = sum(int((mask[path] | theirs[path]).sum()) for path in mask)
    row = (
        beside.filter(beside["with"] == f"lt-snip {NAME}")
        if hasattr(beside, "rows")
        else (beside[beside["with"] == f"lt-snip {NAME}"])
    )
    assert float(row["iou"].iloc[0]) == pytest.approx(common / either)
    (line,) = [t for t in tables if "barrier (points)" in t.columns]
    assert line["to"].tolist() == [f"lt_twin-imp {NAME}"]
    assert any("kept the sign of" in text.value for text in app.text)
