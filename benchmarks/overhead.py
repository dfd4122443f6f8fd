"""Share of a study's wall time that is spent outside training and evaluation steps.

    TFDS_DATA_DIR=... python -m benchmarks.overhead [--set training.epochs=4 ...]

Runs `configs/resnet20-smoke.yaml`, cut to runs of about 20 s on two cores, in a folder of its own.
Counted from the moment the imports are done and the images are mapped until the last run has
reached the store.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from rich.console import Console

import trainer.run
from trainer import datasets
from trainer.config_file import load_study
from trainer.launch import launch
from trainer.tracking import Store

CUT = ["dataset.train_images=1500", "dataset.test_images=500", "training.epochs=5"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    options = parser.parse_args()
    config_file = Path(__file__).parents[1] / "configs" / "resnet20-smoke.yaml"
    study = load_study(config_file, [*CUT, *options.overrides])
    spent: list[trainer.run.Seconds] = []
    finish = trainer.run.Run.finish

    def timed(run: trainer.run.Run) -> trainer.run.Seconds:
        spent.append(finish(run))
        return spent[-1]

    trainer.run.Run.finish = timed
    datasets.load(study.dataset.name, study.dataset.train_images, study.dataset.test_images)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        store = Store("sqlite:///mlflow.db")
        store.create_schema()
        began = time.perf_counter()
        launch(study, store, Console())
        wall = time.perf_counter() - began
        os.chdir("/")
    stepping = sum(run.training + run.evaluation for run in spent)
    print(
        f"{len(spent)} runs of {stepping / len(spent):.1f} s; {wall:.1f} s in all, of which "
        f"{100 * (1 - stepping / wall):.1f} % outside training and evaluation "
        f"({(wall - stepping) / len(spent):.2f} s per run)"
    )


if __name__ == "__main__":
    main()
