"""Every method and control end to end, two rounds deep: initial weights and masks.

Files are read back through MLflow, and expected values computed here from other runs' files.
"""

from pathlib import Path

import numpy as np
import pytest
from mlflow.entities import Run

from tests import configs
from tests.trainer import stored

START, END = "ticket/initial.safetensors", "weights/final.safetensors"
SPARSITIES = ("0.500", "0.750")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, _empty_database: Path) -> dict[str, Run]:
    uri = configs.trained(
        tmp_path_factory.mktemp("methods"),
        _empty_database,
        "study: methods\n"
        "network: lenet-300-100\n"
        "dataset: {name: digits, train_images: 256, test_images: 100}\n"
        "settings: [pretrain, lt, rr, lrr, sh, inverted, rearranged, rr_signs, rr_signs_t,\n"
        "  rr_aligned, pretrain_2, as_long]\n"
        "pruners: [imp_lrr, omp, snip]\n"
        "learning_rates: [0.1]\n"
        "trials: 1\n"
        "pruning: {fraction: 0.5, sparsities: [0.5, 0.75]}\n"
        "training: {epochs: 2, batch_size: 64, evaluate_every: 2}\n"
        "fuse: 6\n",
    )
    return stored.labelled(uri)


def named(runs: dict[str, Run], label: str, sparsity: str = "0.750") -> Run:
    return runs[f"{label} s={sparsity}"]


def flat(arrays: dict[str, np.ndarray], like: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([arrays[path].ravel() for path in like])


def test_lrr_goes_on_from_where_the_round_before_ended(runs: dict[str, Run]):
    before = runs["pretrain"]
    for sparsity in SPARSITIES:
        run = named(runs, "lrr-imp_lrr", sparsity)
        mask, ended = stored.mask(run), stored.weights(before)
        for path, start in stored.weights(run, START).items():
            np.testing.assert_array_equal(start, ended[path] * mask.get(path, True))
        # Its mask: the largest magnitudes that the round before ended with.
        size = np.abs(flat(ended, mask))
        kept = np.argsort(-size, kind="stable")[: round((1 - float(sparsity)) * size.size)]
        assert set(kept) == set(np.flatnonzero(flat(mask, mask)))
        before = run


def test_rr_and_lt_train_under_the_masks_of_lrr(runs: dict[str, Run]):
    for sparsity in SPARSITIES:
        of_lrr = stored.mask(named(runs, "lrr-imp_lrr", sparsity))
        for label in ("rr-imp_lrr", "lt-imp_lrr"):
            other = stored.mask(named(runs, label, sparsity))
            assert all((other[path] == of_lrr[path]).all() for path in of_lrr)
    theta0 = stored.weights(runs["pretrain"], START)
    start = stored.weights(named(runs, "lt-imp_lrr"), START)
    mask = stored.mask(named(runs, "lt-imp_lrr"))
    for path, entry in mask.items():
        np.testing.assert_array_equal(start[path], theta0[path] * entry)


def test_one_shot_lrr_starts_from_what_pretraining_ended_with(runs: dict[str, Run]):
    run, ended = named(runs, "lrr-omp"), stored.weights(runs["pretrain"])
    mask = stored.mask(run)
    lt = stored.mask(named(runs, "lt-omp"))
    for path, entry in mask.items():
        np.testing.assert_array_equal(entry, lt[path])
        np.testing.assert_array_equal(stored.weights(run, START)[path], ended[path] * entry)


def test_the_dense_network_is_trained_as_long_and_nothing_of_it_is_pruned(runs: dict[str, Run]):
    before = runs["pretrain"]
    for sparsity in SPARSITIES:
        run = named(runs, "as_long-imp_lrr", sparsity)
        assert run.data.metrics["measured_sparsity"] == 0
        assert all(entry.all() for entry in stored.mask(run).values())
        start, ended = stored.weights(run, START), stored.weights(before)
        assert all((start[path] == ended[path]).all() for path in ended)
        before = run


@pytest.mark.parametrize("pruner", ["omp", "snip"])
def test_controls_of_the_mask(runs: dict[str, Run], pruner: str):
    theta0 = stored.weights(runs["pretrain"], START)
    mask = stored.mask(named(runs, f"lt-{pruner}"))
    shuffled = stored.mask(named(runs, f"sh-{pruner}"))
    inverted = stored.mask(named(runs, f"inverted-{pruner}"))
    assert [e.sum() for e in shuffled.values()] == [e.sum() for e in mask.values()]
    assert any((shuffled[path] != mask[path]).any() for path in mask)
    assert flat(inverted, mask).sum() == flat(mask, mask).sum()
    assert not (flat(inverted, mask) & flat(mask, mask)).any(), "at 0.75 they share nothing"
    if pruner == "omp":
        size = np.abs(flat(stored.weights(runs["pretrain"]), mask))
        assert size[flat(inverted, mask)].max() <= size[~flat(inverted, mask)].min()
    for label, entry in (("sh", shuffled), ("inverted", inverted)):
        start = stored.weights(named(runs, f"{label}-{pruner}"), START)
        for path, keep in entry.items():
            np.testing.assert_array_equal(start[path], theta0[path] * keep)


def test_rearranged_weights_are_the_same_values_at_other_places(runs: dict[str, Run]):
    theta0, run = stored.weights(runs["pretrain"], START), named(runs, "rearranged-omp")
    start, mask = stored.weights(run, START), stored.mask(run)
    for path, keep in mask.items():
        assert (keep == stored.mask(named(runs, "lt-omp"))[path]).all()
        assert not start[path][~keep].any()
        np.testing.assert_array_equal(np.sort(start[path][keep]), np.sort(theta0[path][keep]))
        assert (start[path][keep] != theta0[path][keep]).any()
    others = [path for path in theta0 if path not in mask]
    assert others
    assert all((start[path] == theta0[path]).all() for path in others)


@pytest.mark.parametrize("label", ["rr_signs", "rr_signs_t"])
def test_signs_are_taken_over_and_magnitudes_are_the_redrawn_ones(runs: dict[str, Run], label: str):
    redrawn = stored.weights(runs["pretrain_2"], START)
    of = stored.weights(runs["pretrain"], START if label == "rr_signs" else END)
    run = named(runs, f"{label}-omp")
    start, mask = stored.weights(run, START), stored.mask(run)
    for path, keep in mask.items():
        np.testing.assert_array_equal(np.abs(start[path][keep]), np.abs(redrawn[path][keep]))
        np.testing.assert_array_equal(np.sign(start[path][keep]), np.sign(of[path][keep]))
        assert (np.sign(redrawn[path][keep]) != np.sign(of[path][keep])).any()
    others = [path for path in redrawn if path not in mask]
    assert all((start[path] == redrawn[path]).all() for path in others)


def test_an_aligned_mask_has_as_many_weights_of_each_layer(runs: dict[str, Run]):
    redrawn, run = stored.weights(runs["pretrain_2"], START), named(runs, "rr_aligned-omp")
    start, mask = stored.weights(run, START), stored.mask(run)
    plain = stored.mask(named(runs, "lt-omp"))
    for path, keep in mask.items():
        assert keep.sum() == plain[path].sum()
        np.testing.assert_array_equal(start[path], redrawn[path] * keep)
    assert any((mask[path] != plain[path]).any() for path in mask)
    # Rows of the first layer are pixels, which no permutation moves; columns are units.
    first = next(iter(mask))
    np.testing.assert_array_equal(mask[first].sum(1), plain[first].sum(1))
    np.testing.assert_array_equal(np.sort(mask[first].sum(0)), np.sort(plain[first].sum(0)))
    parents = set(run.data.tags["parent_run_keys"].split(","))
    assert parents == {runs[n].data.tags["run_key"] for n in ("pretrain", "pretrain_2")}


def test_what_has_no_meaning_under_a_pruner_is_not_trained(runs: dict[str, Run]):
    labels = {name.partition(" ")[0] for name in runs}
    assert not {"lrr-snip", "rr_signs_t-snip", "as_long-snip", "inverted-imp_lrr"} & labels
    assert {"rr_signs-snip", "sh-snip", "rr_aligned-snip", "lrr-omp", "as_long-omp"} <= labels
    for label in ("lt-snip", "rr-snip", "sh-snip"):
        assert named(runs, label).data.tags["parent_run_keys"] == "", "no training comes before it"


def test_pruners_at_initialisation_come_in_the_published_order(write_config, train, store_uri: str):
    """Tanaka et al. 2020, where little is left (VGG-16 on CIFAR-100 at 0.99).

    SynFlow 63.5, SNIP 61.3, GraSP 61.1, magnitude 60.9, random 52.3 %.
    """
    config = write_config(
        dataset="digits",
        settings="[lt]",
        pruners="[random, magnitude_init, snip, grasp, synflow]",
        learning_rates="[0.1]",
        trials="3",
        pruning="{sparsities: [0.99]}",
        training="{epochs: 8, batch_size: 128, evaluate_every: 8,"
        " optimizer: {name: sgd, momentum: 0.9}}",
        fuse="8",
    )
    assert train(config) == 0
    found: dict[str, list[float]] = {}
    for run in stored.runs(store_uri):
        found.setdefault(run.data.params["pruner"], []).append(run.data.metrics["val_accuracy"])
    mean = {pruner: float(np.mean(values)) for pruner, values in found.items()}
    assert all(len(values) == 3 for values in found.values())
    assert max(mean, key=mean.__getitem__) == "synflow"
    assert mean["random"] < mean["magnitude_init"] - 0.1
    assert mean["magnitude_init"] < min(mean["snip"], mean["grasp"])
