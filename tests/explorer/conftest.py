import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with a real study: three learning rates, two trials, one run that diverged."""
    from trainer.cli import main

    folder = tmp_path_factory.mktemp("trained")
    config = folder / "tiny.yaml"
    config.write_text(
        "study: tiny\n"
        "network: lenet-300-100\n"
        "dataset: {name: digits, train_images: 512, test_images: 200}\n"
        "settings: [pretrain, lt, rr, wr, sdt]\n"
        "learning_rates: [0.02, 0.1, 900.0]\n"
        "trials: 2\n"
        "pruning: {fraction: 0.5, sparsities: [0.75]}\n"
        "training: {epochs: 4, batch_size: 64, rewind_epoch: 1}\n"
    )
    uri = f"sqlite:///{folder}/mlflow.db"
    here = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["--config", str(config), "--tracking-uri", uri]) == 1
    finally:
        os.chdir(here)
    return uri
