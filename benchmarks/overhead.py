"""What a study spends outside of its steps: at its start, between runs, and in all.

    TFDS_DATA_DIR=... python -m benchmarks.overhead [--set training.epochs=4 ...]

Runs `configs/resnet20-smoke.yaml`, cut to short runs, in a folder of its own. The start is counted
from that of the process, its imports included; a gap lies between the last step of a run (of
training or evaluation) and the first of the next.
"""

import argparse
import os
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from benchmarks import record

CUT = ["dataset.train_images=1500", "dataset.test_images=500", "training.epochs=5"]
CONFIG = Path(__file__).parents[1] / "configs" / "resnet20-smoke.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    options = parser.parse_args()
    measured = measure(options.overrides)
    for name, value in measured.items():
        print(f"{name:>32}: {value:.2f}")
    record.keep("overhead", [measured])


def measure(overrides: list[str]) -> dict[str, float]:
    """Seconds of the start and of gaps, and the share of time outside of steps."""
    from rich.console import Console

    from trainer.launch import launch
    from trainer.store.tracking import Store
    from trainer.study.config_file import load_study
    from trainer.training.stepper import Stepper

    study = load_study(CONFIG, [*CUT, *overrides])
    steps: list[tuple[object, float, float]] = []
    run = Stepper._run

    def timed(stepper: Stepper, *arguments: object) -> None:
        began = time.perf_counter()
        run(stepper, *arguments)
        steps.append((stepper, began, time.perf_counter()))

    Stepper._run = timed
    with tempfile.TemporaryDirectory() as folder:
        here = Path.cwd()
        os.chdir(folder)
        launch(study, Store("sqlite:///mlflow.db"), Console())
        os.chdir(here)
    first, last = steps[0], steps[-1]
    gaps = [b[1] - a[2] for a, b in pairwise(steps) if b[0] is not a[0]]
    stepping = sum(end - began for _, began, end in steps)
    wall, since_first = last[2] - first[1], time.perf_counter() - first[1]
    return {
        "launch to first step, s": time.time() - since_first - record.process_start(),
        "gap between runs, median, s": statistics.median(gaps),
        "gap between runs, longest, s": max(gaps),
        "steps of a run, mean, s": stepping / (len(gaps) + 1),
        "outside of steps, %": 100 * (1 - stepping / wall),
    }


if __name__ == "__main__":
    main()
