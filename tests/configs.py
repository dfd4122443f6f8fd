"""Configs for tests, and stores that they are trained into."""

import shutil
from pathlib import Path


def tiny(folder: Path, **replace: str) -> Path:
    """Writes a small digits study into `folder`; keyword arguments replace parts of it."""
    parts = {
        "study": "tiny",
        "network": "lenet-300-100",
        "dataset": "{name: digits, train_images: 256, test_images: 100}",
        "settings": "[pretrain, lt, rr, wr, sdt]",
        "pruners": "[imp, omp]",
        "learning_rates": "[0.05]",
        "trials": "1",
        "pruning": "{fraction: 0.5, sparsities: [0.75]}",
        "training": "{epochs: 3, batch_size: 64, rewind_epoch: 1}",
    } | replace
    path = folder / "tiny.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in parts.items()))
    return path


def trained(folder: Path, database: Path, config: str, code: int = 0) -> str:
    """Trains a study in `folder` into a copy of an empty database; the store's address.

    Args:
        folder: for config, store and work directory.
        database: without runs.
        config: as YAML.
        code: that the trainer is to end with.
    """
    from trainer.cli import main

    shutil.copyfile(database, folder / "mlflow.db")
    (folder / "study.yaml").write_text(config)
    uri = f"sqlite:///{folder}/mlflow.db"
    assert main(["--config", str(folder / "study.yaml"), "--tracking-uri", uri]) == code
    return uri
