"""Each example of `docs/extending.md`, end to end: train, log, open every page."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from streamlit.testing.v1 import AppTest

import explorer
from examples import dataset, fisher, lamp
from explorer.readers import reader
from explorer.readers.frames import trainings
from explorer.snapshot import snapshot
from jackpot import accuracies, judge
from jackpot.conditions import with_own
from tests import configs
from tests.trainer import stored
from trainer import networks
from trainer.pruning.look import Look

PAGES = sorted((Path(explorer.__file__).parent / "views").glob("*.py"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, _empty_database: Path) -> str:
    """A study that uses all extensions at once."""
    return configs.trained(
        tmp_path_factory.mktemp("examples"),
        _empty_database,
        "study: extended\n"
        'network: "examples.small_cnn:build"\n'
        "dataset: {name: digits, train_images: 256, test_images: 100}\n"
        'settings: [pretrain, lt, rr, "examples.scattered:scattered", sdt]\n'
        'pruners: [imp, "examples.lamp:lamp", "examples.fisher:fisher"]\n'
        "learning_rates: [0.001, 0.01]\n"
        "trials: 2\n"
        "pruning: {fraction: 0.5, sparsities: [0.75]}\n"
        "training:\n"
        "  epochs: 2\n"
        "  batch_size: 64\n"
        '  optimizer: {name: "examples.rmsprop:RMSprop", smoothing: 0.9}\n',
    )


def test_everything_is_trained_and_logged(study: str):
    runs = stored.runs(study)
    labels = {(r.data.params["setting"], r.data.params.get("pruner")) for r in runs}
    pruners = ("imp", "examples.lamp:lamp", "examples.fisher:fisher")
    assert labels == {
        ("pretrain", None),
        ("sdt", None),
        *((setting, pruner) for setting in ("lt", "rr", "sc") for pruner in pruners),
    }
    for run in runs:
        assert run.data.params["optimizer"] == "examples.rmsprop:RMSprop"
        assert run.data.params["optimizer_options"] == "smoothing=0.9"
    # The Fisher pruner looks at θ₀: its runs have no parents, and pretraining's own draw.
    theta0 = next(r for r in runs if r.data.params["setting"] == "pretrain")
    ticket = next(
        r
        for r in runs
        if (r.data.params["setting"], r.data.params.get("pruner"))
        == ("lt", "examples.fisher:fisher")
        and r.data.params["trial"] == theta0.data.params["trial"]
    )
    assert ticket.data.tags["parent_run_keys"] == ""
    drawn = stored.weights(theta0, "ticket/initial.safetensors")
    for path, keep in stored.mask(ticket).items():
        assert (~keep).sum() == round(0.75 * keep.size), "one layer is pruned"
        np.testing.assert_array_equal(
            stored.weights(ticket, "ticket/initial.safetensors")[path], drawn[path] * keep
        )


def test_a_scattered_mask_keeps_as_many_weights_at_other_places(study: str):
    runs = stored.runs(study)
    masks = {
        (r.data.params["setting"], r.data.params["trial"]): stored.mask(r)
        for r in runs
        if r.data.params.get("pruner") == "imp"
        and r.data.params["sparsity"] == "0.75"
        and r.data.params["learning_rate"] == "0.01"
    }
    for trial in ("1", "2"):
        for path, keep in masks["lt", trial].items():
            assert masks["sc", trial][path].sum() == keep.sum()
            assert (masks["sc", trial][path] != keep).any()
    (path,) = masks["sc", "1"]
    assert (masks["sc", "1"][path] != masks["sc", "2"][path]).any(), "each trial has its own"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.usefixtures("_pages_are_as_fast_as_in_a_server")
def test_every_page_shows_them(page: Path, study: str, monkeypatch: pytest.MonkeyPatch):
    snapshot.clear()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", study)
    monkeypatch.setenv("JACKPOT_CONDITIONS", "examples.beats_scattered:beats_scattered")
    app = AppTest.from_file(str(page), default_timeout=60).run()
    assert not app.exception
    charts = app.get("vega_lite_chart")
    if page.stem in ("learning_rate", "sparsity"):
        for line in ("LT-IMP", "LT-LAMP", "LT-FISHER", "SC-IMP", "SC-LAMP"):
            assert f'"{line}"' in charts[0].proto.spec
    if page.stem == "definition":
        table = app.dataframe[0].value
        assert set(table["pruner"]) == {"IMP", "LAMP", "FISHER"}
        assert list(table.columns[2:8]) == ["①", "②", "③", "④", "⑤", "S"]
        assert charts, "its figure"
    if page.stem == "correlation":
        assert "SC: θ⊙m and θ_T⊙m" in set(app.dataframe[0].value["pair"])
    if page.stem == "overview":
        assert {"IMP", "LAMP", "FISHER"} <= set(app.dataframe[0].value["pruner"])


def test_a_condition_of_ones_own_is_judged_beside_the_five(study: str):
    runs = accuracies(trainings(reader(study).runs()))
    conditions = with_own(["examples.beats_scattered:beats_scattered"])
    complete = [j for j in judge(runs, conditions=conditions) if not j.missing]
    assert len(complete) == 3
    for judgement, without in zip(complete, judge(runs)[-3:], strict=True):
        found = judgement.finding("S")
        at = runs.filter(pruner=judgement.pruner, sparsity=0.75)
        accuracy = pl.col("accuracy")
        cells = (
            at.group_by("setting", "learning_rate")
            .agg(accuracy.mean(), by_luck=accuracy.min() < accuracy.max() / 2)
            .filter(~pl.col("by_luck"))
        )
        best = dict(cells.group_by("setting").agg(pl.col("accuracy").max()).rows())
        assert found.margin == pytest.approx(best["lt"] - best["sc"] - 0.005)
        assert judgement.verdict == without.verdict, "no verdict needs it"


def test_lamp_is_the_formula_of_its_paper():
    # By hand: squares 4, 1, 9 in one layer; ascending 1/(1+4+9), 4/(4+9), 9/9.
    scores = lamp.score(Look({"k": np.array([[2.0, -1.0, 3.0]], np.float32)}))
    np.testing.assert_allclose(scores["k"], [[4 / 13, 1 / 14, 1.0]])


def test_fisher_is_autograds_gradient_times_the_weights_squared():
    torch.manual_seed(0)
    model = networks.build("lenet-300-100", input_shape=(8, 8, 1), classes=10, seed=3)
    images, labels = torch.randn(16, 8, 8, 1), torch.randint(0, 10, (16,))
    weights = {
        v.path: v.numpy()
        for v in model.trainable_variables
        if v.path.startswith("hidden") and v.path.endswith("kernel")
    }
    scores = fisher.score(
        Look(weights, None, lambda precision: model, lambda: iter([(images, labels)]))
    )
    # Independently: the network written out in torch, its gradient by torch.func.
    by_path = {v.path: torch.tensor(v.numpy()) for v in model.trainable_variables}

    def loss(w: dict) -> torch.Tensor:
        x = images.flatten(1)
        for name in ("hidden1", "hidden2"):
            x = torch.relu(x @ w[f"{name}/kernel"] + w[f"{name}/bias"])
        return F.cross_entropy(x @ w["classifier/kernel"] + w["classifier/bias"], labels)

    gradients = torch.func.grad(loss)(by_path)
    for path, found in scores.items():
        expected = (gradients[path] * by_path[path]).square().numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-12)


def test_a_dataset_of_ones_own_trains(
    tmp_path: Path, write_config, train, store_uri: str, monkeypatch: pytest.MonkeyPatch
):
    import tensorflow_datasets as tfds

    from trainer.datasets import from_tfds

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("JACKPOT_CACHE_DIR", str(tmp_path / "cache"))
    from_tfds.describe.cache_clear()
    dataset.prepare(tmp_path / "tfds")
    config = write_config(
        dataset='"tfds:shapes"',
        settings="[pretrain]",
        learning_rates="[0.1]",
        training="{epochs: 5, batch_size: 32}",
    )
    assert train(config) == 0
    (run,) = stored.runs(store_uri)
    assert run.data.metrics["val_accuracy"] > 0.9, "bars that lie and stand are told apart"
