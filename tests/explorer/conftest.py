from pathlib import Path

import polars as pl
import pytest

from explorer.readers import reader
from explorer.readers.frames import trainings
from tests import configs


@pytest.fixture(scope="session", autouse=True)
def _pages(_pages_are_as_fast_as_in_a_server: None) -> None:
    """Pages run as fast as they do in a server."""


@pytest.fixture(scope="session")
def adaptive(tmp_path_factory: pytest.TempPathFactory, _empty_database: Path) -> str:
    """A store with a real adaptive study, whose range of learning rates grew."""
    return configs.trained(
        tmp_path_factory.mktemp("adaptive"),
        _empty_database,
        "study: adaptive\n"
        "network: lenet-300-100\n"
        "dataset: {name: digits, train_images: 512, test_images: 200}\n"
        "settings: [pretrain, lt, rr, sdt]\n"
        "pruners: [omp]\n"
        "learning_rates: {from: 0.005, to: 0.02, count: 2}\n"
        "trials: {from: 2, to: 3}\n"
        "until: decided\n"
        "pruning: {sparsities: [0.75]}\n"
        "training: {epochs: 2, batch_size: 64, rewind_epoch: 1}\n",
    )


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, _empty_database: Path) -> str:
    """A store with a real study: three learning rates, two trials, one run that diverged."""
    from trainer.landscape.__main__ import main as landscape

    uri = configs.trained(
        tmp_path_factory.mktemp("trained"),
        _empty_database,
        "study: tiny\n"
        "network: lenet-300-100\n"
        "dataset: {name: digits, train_images: 512, test_images: 200}\n"
        "settings: [pretrain, lt, rr, wr, sdt]\n"
        "learning_rates: [0.02, 0.1, 900.0]\n"
        "trials: 2\n"
        "pruning: {fraction: 0.5, sparsities: [0.75]}\n"
        "training: {epochs: 4, batch_size: 64, rewind_epoch: 1}\n"
        "trajectory_every: 1\n",
        code=1,
    )
    runs = trainings(reader(uri).runs()).filter(pl.col("status") == "FINISHED")
    for setting in ("pretrain", "lt"):
        reported = pl.col("sparsity") == (0.75 if setting == "lt" else 0)
        run_id = runs.filter(pl.col("setting") == setting, reported)["run_id"][0]
        command = ["--run", run_id, "--tracking-uri", uri, "--points", "7", "--images", "100"]
        assert landscape([*command]) == 0
    return uri
