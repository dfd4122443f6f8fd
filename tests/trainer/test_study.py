"""A whole study, end to end, and what it leaves in the store."""

import json
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from jackpot.artifacts import ArtifactError
from jackpot.contract import Metric
from tests.trainer import stored
from trainer.pruning.callbacks import ApplyMask
from trainer.store.ticket import load_ticket

PRUNED = ["hidden1/kernel", "hidden2/kernel"]


def smallest_pruned(weights: dict[str, np.ndarray], count: int, alive=None) -> list[np.ndarray]:
    """An independent oracle: sorts all weights, later index first among equals."""
    flat = np.concatenate([np.abs(weights[path]).ravel() for path in PRUNED]).astype(float)
    if alive is not None:
        flat[~np.concatenate([alive[path].ravel() for path in PRUNED])] = -1.0
    order = np.lexsort((-np.arange(flat.size), flat))
    kept = np.ones(flat.size, bool)
    kept[order[:count]] = False
    return np.split(kept, [weights[PRUNED[0]].size])


@pytest.fixture
def study(train, write_config, store_uri):
    assert train(write_config()) == 0
    return stored.labelled(store_uri)


def test_a_study_trains_what_the_paper_says(
    study, store_uri, train, write_config, capsys, tmp_path
):
    assert sorted(study) == sorted(
        ["pretrain", "lt-imp s=0.500", "sdt s=0.750"]
        + [f"{label}-{p} s=0.750" for label in ("lt", "rr", "wr") for p in ("imp", "omp")]
    )
    total = 64 * 300 + 300 * 100
    theta0 = stored.weights(study["pretrain"], "ticket/initial.safetensors")
    theta_t = stored.weights(study["pretrain"], "rewind/epoch-1.safetensors")
    theta_end = stored.weights(study["pretrain"])
    assert not np.array_equal(theta0["hidden1/kernel"], theta_t["hidden1/kernel"])
    assert not np.array_equal(theta_t["hidden1/kernel"], theta_end["hidden1/kernel"])

    # Masks: exactly as many weights as asked for, the smallest, from the right parent.
    round1, round2 = study["lt-imp s=0.500"], study["lt-imp s=0.750"]
    for run, parent, count, earlier in (
        (round1, theta_end, total // 2, None),
        (round2, stored.weights(round1), total * 3 // 4, stored.mask(round1)),
        (study["lt-omp s=0.750"], theta_end, total * 3 // 4, None),
    ):
        found = stored.mask(run)
        assert list(found) == PRUNED
        for path, expected in zip(PRUNED, smallest_pruned(parent, count, earlier), strict=True):
            np.testing.assert_array_equal(found[path].ravel(), expected)
    for pruner in ("imp", "omp"):
        for setting in ("rr", "wr"):
            for path in PRUNED:
                np.testing.assert_array_equal(
                    stored.mask(study[f"{setting}-{pruner} s=0.750"])[path],
                    stored.mask(study[f"lt-{pruner} s=0.750"])[path],
                )

    # Initial weights: mask × θ₀ for LT, mask × θ_t for WR, a fresh draw of all for RR.
    reinitialised = []
    for name, run in study.items():
        if name in ("pretrain", "sdt s=0.750"):
            continue
        initial, final = stored.weights(run, "ticket/initial.safetensors"), stored.weights(run)
        mask = stored.mask(run)
        start = {"lt": theta0, "wr": theta_t}.get(name[:2])
        for path, array in initial.items():
            keep = mask.get(path, True)
            if start is not None:
                np.testing.assert_array_equal(array, start[path] * keep)
            elif path.endswith("kernel"):
                assert np.mean(array[keep] == theta0[path][keep]) < 0.01
            assert not np.array_equal(final[path], array), "it was trained"
            assert (final[path][~np.asarray(keep)] == 0.0).all() if path in mask else True
        if name.startswith("rr"):
            reinitialised.append(initial["classifier/kernel"])
    np.testing.assert_array_equal(*reinitialised)

    # The small-dense network: narrower, same depth, as many parameters as the others keep.
    sdt = study["sdt s=0.750"]
    assert sdt.data.metrics[Metric.TARGET_PARAMETERS] == 50_610 - total * 3 // 4
    ratio = sdt.data.metrics[Metric.TRAINABLE_PARAMETERS] / sdt.data.metrics["target_parameters"]
    assert ratio == pytest.approx(1, abs=0.01)
    assert set(stored.weights(sdt)) == set(theta0)
    for name in ("lt-imp s=0.750", "rr-omp s=0.750"):
        metrics = study[name].data.metrics
        assert metrics[Metric.TRAINABLE_PARAMETERS] == 50_610 - total * 3 // 4
        assert metrics[Metric.MEASURED_SPARSITY] == pytest.approx(0.75)

    _the_store_follows_the_contract(study, store_uri)
    _a_ticket_is_read_back(study, store_uri)

    # Launched again it trains nothing; with one more learning rate, only what is new.
    before = {run.info.run_id for run in stored.runs(store_uri)}
    capsys.readouterr()
    assert train(write_config()) == 0
    assert "nothing to train, all 9 runs are finished" in capsys.readouterr().out
    assert {run.info.run_id for run in stored.runs(store_uri)} == before
    assert len(stored.runs(store_uri, "launch")) == 1
    assert train(write_config(), "--dry-run", "--set", "learning_rates=[0.05, 0.1]") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "18 runs, 50 epochs; 9 runs are finished, 9 runs with 25 epochs are left." in said
    assert "earlier runs" in said
    assert train(write_config(), "--set", "learning_rates=[0.05, 0.1]") == 0
    new = [run for run in stored.runs(store_uri) if run.info.run_id not in before]
    assert {run.data.params["learning_rate"] for run in new} == {"0.1"}
    assert len(new) == 9
    assert len(stored.runs(store_uri, "launch")) == 2
    # Another study that asks for the same runs finds them.
    assert train(write_config(study="other", settings="[lt]")) == 0
    assert len(stored.runs(store_uri)) == 18
    assert [r.data.tags["study"] for r in stored.runs(store_uri, "launch")][-1] == "other"
    assert list(tmp_path.glob(".jackpot/*/runs/*")) == [], "everything is delivered"


def _the_store_follows_the_contract(study, store_uri):
    (launch,) = stored.runs(store_uri, "launch")
    assert launch.info.status == "FINISHED"
    plan = json.loads(stored.file(launch, "plan.json").read_text())
    assert {r["run_key"] for r in plan["runs"]} == {r.data.tags["run_key"] for r in study.values()}
    assert "hidden" not in stored.file(launch, "config.yaml").read_text()
    assert "torch" in json.loads(stored.file(launch, "environment.json").read_text())["packages"]
    for name, run in study.items():
        params, tags = run.data.params, run.data.tags
        assert run.info.status == "FINISHED"
        assert tags["mlflow.parentRunId"] == launch.info.run_id
        assert tags["device"] == "cpu"
        assert tags["version.torch"]
        first = 2 if name.startswith("wr") else 1
        for metric in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
            assert stored.steps(store_uri, run, metric) == list(range(first, 4))
        assert run.data.metrics[Metric.BEST_VAL_ACCURACY] >= run.data.metrics["val_accuracy"]
        assert 0 <= run.data.metrics["val_accuracy"] <= 1
        assert run.data.metrics[Metric.IMAGES_PER_SECOND] > 0
        assert params["epochs"] == str(4 - first)
        assert params["setting"] == name.partition(" ")[0].partition("-")[0]
        if "-" in name:
            assert params["pretrain_learning_rate"] == "0.05"
            parent = study["lt-imp s=0.500"] if params.get("round") == "2" else study["pretrain"]
            assert tags["mask_run_id"] == parent.info.run_id
            assert ("init_run_id" in tags) == (not name.startswith("rr"))
            assert parent.data.tags["run_key"] in tags["parent_run_keys"].split(",")


def test_mlflow_shows_what_a_study_is_about(train, write_config, store_uri):
    config = write_config(settings="[lt]", pruners="[omp]")
    assert train(config) == 0
    client = MlflowClient(store_uri)
    experiment = client.get_experiment_by_name("tiny")
    note = experiment.tags["mlflow.note.content"]
    assert note.startswith("Study **tiny**: does a winning ticket of lenet-300-100 on digits")
    assert "?study=tiny" in note
    (images,) = stored.labelled(store_uri)["lt-omp s=0.750"].inputs.dataset_inputs
    assert images.dataset.name == "digits"
    tags = stored.labelled(store_uri)["lt-omp s=0.750"].data.tags
    assert tags["dataset_sha256"].startswith(images.dataset.digest)
    # Somebody's own words stay.
    client.set_experiment_tag(experiment.experiment_id, "mlflow.note.content", "Mine.")
    assert train(write_config(settings="[lt, rr]", pruners="[omp]")) == 0
    assert client.get_experiment_by_name("tiny").tags["mlflow.note.content"] == "Mine."


def _a_ticket_is_read_back(study, store_uri):
    run = study["lt-imp s=0.750"]
    client = MlflowClient(store_uri)
    folder = client.download_artifacts(run.info.run_id, "")
    for source in (run.info.run_id, folder):
        model, mask = load_ticket(source, store_uri)
        initial = stored.weights(run, "ticket/initial.safetensors")
        for variable in model.variables:
            np.testing.assert_array_equal(variable.numpy(), initial[variable.path])
        model.compile("sgd", "sparse_categorical_crossentropy")
        images = np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype("float32")
        model.fit(images, np.arange(8), verbose=0, callbacks=[ApplyMask(mask)])
        assert (model.get_layer("hidden2").kernel.numpy()[~mask["hidden2/kernel"]] == 0).all()
    dense, none = load_ticket(study["pretrain"].info.run_id, store_uri)
    assert none == {}
    assert dense.count_params() == 50_610


def test_a_convolutional_study_with_chosen_layers(train, write_config, store_uri):
    config = write_config(
        network="resnet20",
        settings="[lt, rr, sdt]",
        pruners="[omp]",
        pruning="{sparsities: [0.5], layers: ['stage1*', 'stem']}",
        training="{epochs: 1, batch_size: 32, warmup_epochs: 1, schedule: {name: cosine}}",
    )
    assert train(config) == 0
    found = stored.labelled(store_uri)
    mask = stored.mask(found["lt-omp s=0.500"])
    assert {path.partition("_")[0] for path in mask} == {"stem/kernel", "stage1"}
    sizes = [entry.size for entry in mask.values()]
    assert sum(int((~entry).sum()) for entry in mask.values()) == sum(sizes) // 2
    # Batch-norm statistics were trained too, and are part of what is saved.
    final = stored.weights(found["rr-omp s=0.500"])
    assert (final["stem_norm/moving_variance"] != 1).all()


def test_held_out_images_choose_the_epoch_and_are_never_trained_on(
    train, write_config, store_uri, capsys
):
    held = "{name: digits, train_images: 256, test_images: 100, validation_images: 56}"
    config = write_config(
        dataset=held,
        pruning="{fraction: 0.5, sparsities: [0.75], mask_epoch: best}",
        training="{epochs: 6, batch_size: 64, rewind_epoch: 1}",
        learning_rates="[0.3]",
    )
    assert train(config) == 0
    study = stored.labelled(store_uri)
    client = MlflowClient(store_uri)
    for run in study.values():
        values = {
            name: [m.value for m in client.get_metric_history(run.info.run_id, name)]
            for name in ("heldout_accuracy", "val_accuracy")
        }
        first = stored.steps(store_uri, run, "heldout_accuracy")[0]
        best = int(np.argmax(values["heldout_accuracy"]))
        assert run.data.metrics["best_epoch"] == first + best
        assert run.data.metrics["best_val_accuracy"] == values["val_accuracy"][best]
        assert run.data.params["validation_images"] == "56"
    # The masks come from the weights of the best epoch.
    kept = stored.weights(study["pretrain"], "weights/best.safetensors")
    total = 64 * 300 + 300 * 100
    for name, count in (("lt-imp s=0.500", total // 2), ("lt-omp s=0.750", total * 3 // 4)):
        expected = smallest_pruned(kept, count)
        for path, part in zip(PRUNED, expected, strict=True):
            np.testing.assert_array_equal(stored.mask(study[name])[path].ravel(), part)
    # Training on the first 200 images with nothing held out gives the same weights.
    alone = write_config(
        dataset="{name: digits, train_images: 200, test_images: 100}",
        settings="[pretrain]",
        training="{epochs: 6, batch_size: 64, rewind_epoch: 1}",
        learning_rates="[0.3]",
    )
    assert train(alone, "--set", "study=alone") == 0
    (other,) = stored.runs(store_uri, study="alone")
    same = stored.weights(other)
    for path, array in stored.weights(study["pretrain"]).items():
        np.testing.assert_array_equal(array, same[path])


def test_a_network_of_ones_own_gets_the_whole_treatment(
    train, write_config, store_uri, tmp_path, monkeypatch
):
    from tests.trainer.networks.test_networks import OWN

    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    config = write_config(network="mine:build", pruners="[omp]", settings="[lt, rr, sdt]")
    assert train(config) == 0
    study = stored.labelled(store_uri)
    assert set(study) == {"pretrain", "lt-omp s=0.750", "rr-omp s=0.750", "sdt s=0.750"}
    assert list(stored.mask(study["lt-omp s=0.750"])) == ["body/kernel"]
    sdt = study["sdt s=0.750"].data.metrics
    # One channel more of this network is a twentieth of its size.
    assert abs(sdt["trainable_parameters"] / sdt["target_parameters"] - 1) < 0.02
    run_id = study["lt-omp s=0.750"].info.run_id
    with pytest.raises(ArtifactError, match=r"network='mine:build'"):
        load_ticket(run_id, store_uri)
    model, mask = load_ticket(run_id, store_uri, network="mine:build")
    assert (model.get_layer("body").kernel.numpy()[~mask["body/kernel"]] == 0).all()


def test_a_network_that_cannot_be_narrowed_is_told_of_before_anything_is_trained(
    train, write_config, store_uri, tmp_path, monkeypatch, capsys
):
    from tests.trainer.networks.test_networks import OWN

    (tmp_path / "rigid.py").write_text(OWN.replace("blocks.channels(", "int("))
    monkeypatch.syspath_prepend(tmp_path)
    config = write_config(network="rigid:build", pruners="[omp]", settings="[lt, sdt]")
    assert train(config) == 2
    assert "'rigid:build' has no small-dense counterpart" in capsys.readouterr().err
    assert stored.runs(store_uri) == []
    assert train(config, "--set", "settings=[lt]") == 0


def test_table_4_trains_masks_of_one_rate_at_another(train, write_config, store_uri):
    config = write_config(settings="[lt]", pruners="[imp, omp]")
    crossed = "ablation=[{pretrain_learning_rate: 0.05, learning_rates: [0.01, 0.05]}]"
    assert train(config, "--set", crossed) == 0
    runs = [run for run in stored.runs(store_uri) if run.data.params["setting"] == "lt"]
    rates = {
        (r.data.params["pruner"], r.data.params["sparsity"], r.data.params["learning_rate"])
        for r in runs
    }
    assert rates == {
        ("imp", "0.5", "0.05"),
        *((pruner, "0.75", rate) for pruner in ("imp", "omp") for rate in ("0.05", "0.01")),
    }
    for pruner in ("imp", "omp"):
        masks = [
            stored.mask(run)
            for run in runs
            if (run.data.params["pruner"], run.data.params["sparsity"]) == (pruner, "0.75")
        ]
        for path in PRUNED:
            np.testing.assert_array_equal(masks[0][path], masks[1][path])


def test_layers_of_any_kind_train_in_every_setting(
    train, write_config, store_uri, tmp_path, monkeypatch
):
    from tests.trainer.networks.test_networks import UNNAMED

    (tmp_path / "anykind.py").write_text(UNNAMED)
    monkeypatch.syspath_prepend(tmp_path)
    assert train(write_config(network="anykind:build", pruners="[omp]")) == 0
    study = stored.labelled(store_uri)
    theta0 = stored.weights(study["pretrain"], "ticket/initial.safetensors")
    ticket = stored.weights(study["lt-omp s=0.750"], "ticket/initial.safetensors")
    for path, keep in stored.mask(study["lt-omp s=0.750"]).items():
        np.testing.assert_array_equal(ticket[path], theta0[path] * keep)
    # Another network of the same name is trained anew.
    (tmp_path / "anykind.py").write_text(UNNAMED.replace("0.2", "0.3"))
    assert train(write_config(network="anykind:build", settings="[pretrain]")) == 0
    assert len(stored.runs(store_uri)) == len(study) + 1


def test_evaluation_can_be_thinned_out(write_config, store_uri, train, capsys):
    def config(every: int) -> Path:
        return write_config(
            settings="[lt, wr]",
            pruners="[omp]",
            dataset="{name: digits, train_images: 256, test_images: 100, validation_images: 50}",
            training=f"{{epochs: 7, batch_size: 64, rewind_epoch: 2, evaluate_every: {every}}}",
        )

    assert train(config(3)) == 0
    thin = stored.labelled(store_uri)
    for label, first in (("pretrain", 1), ("lt-omp s=0.750", 1), ("wr-omp s=0.750", 3)):
        run = thin[label]
        assert run.data.params["evaluate_every"] == "3"
        assert stored.steps(store_uri, run, "loss") == list(range(first, 8))
        for metric in ("val_loss", "val_accuracy", "heldout_accuracy"):
            assert stored.steps(store_uri, run, metric) == [3, 6, 7]
        assert run.data.metrics["best_epoch"] in (3, 6, 7)
    # Evaluating changes nothing of what is trained.
    assert train(config(1)) == 0
    all_runs = stored.runs(store_uri)
    assert len(all_runs) == 6, "what is logged is part of a run's key"
    (often,) = [
        run
        for run in all_runs
        if run.info.run_name.startswith("lt") and "evaluate_every" not in run.data.params
    ]
    same = stored.weights(thin["lt-omp s=0.750"])
    for path, array in stored.weights(often).items():
        assert array.tobytes() == same[path].tobytes()
    assert often.data.metrics["val_loss"] == thin["lt-omp s=0.750"].data.metrics["val_loss"]


def test_a_study_in_bfloat16(write_config, store_uri, train):
    config = write_config(
        settings="[lt]",
        pruners="[omp]",
        training="{epochs: 3, batch_size: 64, precision: bfloat16}",
    )
    assert train(config) == 0
    for run in stored.labelled(store_uri).values():
        assert run.data.params["precision"] == "bfloat16"
        assert all(array.dtype == "float32" for array in stored.weights(run).values())
    assert train(config, "--set", "training.precision=float16") == 2
    assert train(config, "--set", "training.precision=float32") == 0
    assert len(stored.runs(store_uri)) == 4
