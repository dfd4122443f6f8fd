from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import keras
import numpy as np
import pytest

from jackpot import artifacts, settings
from tests.trainer.study.test_plan import study
from trainer.execution import calibration
from trainer.networks import pool
from trainer.store.shared import SharedFiles


def test_a_file_is_made_once_by_whoever_comes_first(tmp_path: Path):
    shared, made = SharedFiles(tmp_path / "shared"), []

    def make(path: Path) -> None:
        made.append(path)
        artifacts.write(path, {"x": np.arange(3)}, {})

    def ask(_: int) -> int:
        arrays, _ = SharedFiles(tmp_path / "shared").once("some", {"a": 1}, make, artifacts.read)
        return int(arrays["x"].sum())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(8))) == [3] * 8
    assert len(made) == 1
    shared.once("some", {"a": 2}, make, artifacts.read)
    assert len(made) == 2, "other facts"
    made[0].write_bytes(made[0].read_bytes()[:-3])
    assert ask(0) == 3, "a damaged file is made again"
    assert len(made) == 3
    shared.clear()
    assert ask(0) == 3
    assert len(made) == 4


def test_clearing_waits_until_a_file_that_was_made_is_read(tmp_path: Path):
    """A launch that ends clears what another launch on the same store may be making."""
    shared, made, cleared = SharedFiles(tmp_path), Event(), Event()

    def make(path: Path) -> None:
        artifacts.write(path, {"x": np.arange(3)}, {})
        made.set()
        assert not cleared.wait(0.5), "cleared before it was read"

    def clear() -> None:
        made.wait()
        shared.clear()
        cleared.set()

    with ThreadPoolExecutor(1) as pool:
        clearing = pool.submit(clear)
        arrays, _ = SharedFiles(tmp_path).once("some", {}, make, artifacts.read)
        clearing.result()
    assert arrays["x"].sum() == 3
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_made_leaves_nothing_behind(tmp_path: Path):
    shared = SharedFiles(tmp_path)

    def full(path: Path) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        shared.once("some", {}, full, artifacts.read)
    assert not list(tmp_path.glob("*.safetensors"))


def test_idle_networks_go_to_runs_of_their_structure():
    built = []

    def build() -> keras.Model:
        built.append(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
        return built[-1]

    first = pool.borrow("a structure", build)
    pool.give_back("a structure", first)
    assert pool.borrow("another", build) is built[1]
    assert pool.borrow("a structure", build) is first
    assert pool.borrow("a structure", build) is built[2], "it is in use"


def test_a_study_draws_and_prunes_each_once(write_config, train, tmp_path, monkeypatch):
    """OMP's mask serves LT, RR and WR; θ₀ all learning rates; networks are built once."""
    from trainer.execution import start
    from trainer.pruning import masks

    pruned, built = [], []
    prune, build = masks.prune, start.build

    def counted_prune(*arguments: object) -> masks.Mask:
        pruned.append(1)
        return prune(*arguments)

    def counted_build(*arguments: object) -> keras.Model:
        built.append(arguments[3])
        return build(*arguments)

    monkeypatch.setattr(masks, "prune", counted_prune)
    monkeypatch.setattr(start, "build", counted_build)
    monkeypatch.setattr(pool, "_idle", type(pool._idle)(maxlen=16))
    config = write_config(
        settings="[lt, rr, wr]", pruners="[omp, imp]", learning_rates="[0.05, 0.1]"
    )
    assert train(config) == 0
    # Two rates: one mask of OMP, two rounds of IMP.
    assert len(pruned) == 2 * (1 + 2)
    # θ₀ and θ₀′ of the one trial; no network is built only to be filled.
    assert len(built) == 2
    assert not list(tmp_path.glob(".jackpot/*/shared/*"))


def test_a_calibration_is_measured_once_and_counts_each_structure(tmp_path, monkeypatch):
    monkeypatch.setitem(calibration._BUDGET_S, "cpu", 0.05)
    config = study(
        network="lenet-300-100",
        dataset="digits",
        training={"epochs": 3, "batch_size": 64, "rewind_epoch": 1},
    )
    shared = SharedFiles(tmp_path)
    first = calibration.calibrated(config, [1, 3], shared)
    again = calibration.calibrated(config, [1, 3], shared)
    assert first == again, "figures that were measured twice would differ"
    for name in settings.SETTINGS:
        speed = first.for_setting(name)
        assert set(speed.image_s) == {1, 3}
        assert 0 < speed.evaluation_s < 1
    assert first.for_setting("sdt") != first.for_setting("lt")
    assert calibration.fastest_group_size(config, shared) == 1, "on a CPU"
