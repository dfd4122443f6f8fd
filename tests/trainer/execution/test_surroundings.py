"""Terminals, homes and Keras settings of other people."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import torch

from tests.trainer import stored
from trainer import networks
from trainer.store.ticket import load_ticket


def test_an_ascii_terminal_and_another_keras_change_nothing(
    write_config, store_uri: str, train, tmp_path: Path
):
    config = write_config(settings="[lt]", pruners="[omp]", network="lenet-300-100")
    other = tmp_path / "other"
    other.mkdir()
    shutil.copyfile(tmp_path / "mlflow.db", other / "mlflow.db")  # Empty, as ours still is.
    assert train(config) == 0
    home = tmp_path / "home"
    (home / ".keras").mkdir(parents=True)
    (home / ".keras" / "keras.json").write_text(
        json.dumps({"floatx": "float16", "image_data_format": "channels_first"})
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "trainer", "--config", config),
            *("--tracking-uri", f"sqlite:///{other}/mlflow.db"),
        ],
        env=os.environ
        | {"HOME": str(home), "KERAS_HOME": str(home / ".keras"), "KERAS_BACKEND": "tensorflow"}
        | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"},
        capture_output=True,
    )
    said = done.stdout.decode("ascii")
    assert done.returncode == 0, done.stderr
    assert "(mean ? s.d., n = 1)" in said
    ours, theirs = (stored.labelled(uri) for uri in (store_uri, f"sqlite:///{other}/mlflow.db"))
    assert set(ours) == set(theirs) == {"pretrain", "lt-omp s=0.750"}
    for name, run in ours.items():
        for metric in ("loss", "val_loss", "val_accuracy", "measured_sparsity"):
            assert run.data.metrics[metric] == theirs[name].data.metrics[metric]


def test_networks_are_float32_and_channels_last_whatever_keras_says():
    before = keras.config.floatx(), keras.config.image_data_format()
    try:
        keras.config.set_floatx("float16")
        keras.config.set_image_data_format("channels_first")
        model = networks.build("resnet20", input_shape=(8, 8, 1), classes=10)
        assert {v.dtype for v in model.variables} == {"float32"}
        assert model(torch.zeros(2, 8, 8, 1)).shape == (2, 10)
        assert keras.config.floatx() == "float16"
        assert keras.config.image_data_format() == "channels_first"
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_image_data_format(before[1])


def test_a_loaded_ticket_does_not_reseed_the_caller(write_config, store_uri: str, train):
    assert train(write_config(settings="[lt]", pruners="[omp]")) == 0
    run = stored.labelled(store_uri)["lt-omp s=0.750"]
    draws = []
    for load in (False, True):
        keras.utils.set_random_seed(5)
        if load:
            load_ticket(run.info.run_id, store_uri)
        dense = keras.layers.Dense(3)
        dense.build((None, 4))
        draws.append((torch.rand(3).tolist(), np.random.rand(3).tolist(), dense.get_weights()[0]))
    assert draws[0][:2] == draws[1][:2]
    np.testing.assert_array_equal(draws[0][2], draws[1][2])


@pytest.mark.parametrize("what", ["cache", "work"])
def test_a_folder_that_cannot_be_written_is_named(
    what: str, write_config, store_uri: str, train, tmp_path: Path, monkeypatch, capsys
):
    (tmp_path / "file").write_text("in the way")  # Read-only even for root.
    if what == "cache":
        monkeypatch.setenv("JACKPOT_CACHE_DIR", str(tmp_path / "file" / "cache"))
        words = "Set JACKPOT_CACHE_DIR to a folder that can be written"
    else:
        (tmp_path / ".jackpot").write_text("in the way")
        words = "Name another store with --tracking-uri, or launch from another folder"
    assert train(write_config()) == 2
    assert words in capsys.readouterr().err
