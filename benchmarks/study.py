"""A whole study against its trainings run one by one with a plain PyTorch loop.

    TFDS_DATA_DIR=... python -m benchmarks.study [--set dataset.train_images=2500 ...]

Ours is `python -m trainer` on `configs/resnet20-smoke.yaml`, into an empty store; the other trains
the same networks on the same images for the same epochs, augments, evaluates and masks as a careful
user of PyTorch would, and logs nothing. Both are whole processes, imports and all. They take turns:
one is stopped for some seconds while the other runs, so that a machine whose speed drifts does not
decide.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import record

CONFIG = Path(__file__).parents[1] / "configs" / "resnet20-smoke.yaml"
_SLICE_S = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--plain", action="store_true", help="be the plain loop")
    options = parser.parse_args()
    if options.plain:
        train_all(options.overrides)
        return
    record.keep("study", [compare(options.overrides)])


def compare(overrides: Sequence[str]) -> record.Row:
    """Seconds of both, and what the planner expects."""
    sets = [word for override in overrides for word in ("--set", override)]
    ours = [sys.executable, "-m", "trainer", "--config", str(CONFIG), *sets]
    plain = [sys.executable, "-m", "benchmarks.study", "--plain", *sets]
    with tempfile.TemporaryDirectory() as folder:
        expected = estimate(overrides, Path(folder) / "mlflow.db")
        took = in_turns({"ours": (ours, Path(folder)), "plain": (plain, CONFIG.parents[1])})
    row = {"overrides": " ".join(overrides)} | took
    row |= {"ratio": took["ours"] / took["plain"], "estimate": expected}
    print(
        f"study {took['ours']:.1f} s, plain loops {took['plain']:.1f} s, ratio {row['ratio']:.3f}; "
        f"estimated {expected:.1f} s ({100 * (expected / took['ours'] - 1):+.0f} %)"
    )
    return row


def in_turns(commands: dict[str, tuple[list[str], Path]]) -> dict[str, float]:
    """Runs commands to their ends, one at any time; seconds of each, by name.

    Raises:
        SystemExit: one of them failed.
    """
    # Exits through `finally` below, which ends the others.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    took = dict.fromkeys(commands, 0.0)
    running: dict[str, subprocess.Popen] = {}
    for name, (command, folder) in commands.items():
        running[name] = subprocess.Popen(
            command, cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL
        )
        os.killpg(running[name].pid, signal.SIGSTOP)
    try:
        while running:
            for name, process in list(running.items()):
                began = time.perf_counter()
                os.killpg(process.pid, signal.SIGCONT)
                try:
                    process.wait(_SLICE_S)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGSTOP)
                took[name] += time.perf_counter() - began
                if process.returncode is not None:
                    del running[name]
                if process.returncode:
                    raise SystemExit(f"{name} failed with exit code {process.returncode}")
    finally:
        for process in running.values():
            os.killpg(process.pid, signal.SIGKILL)
    return took


def estimate(overrides: Sequence[str], database: Path) -> float:
    """What `--dry-run` would say, in seconds; the calibration is not counted."""
    from trainer.execution import calibration, group_size
    from trainer.execution.estimate import seconds
    from trainer.launch import work_dir
    from trainer.store.tracking import Store
    from trainer.study.config_file import load_study
    from trainer.study.groups import in_turn
    from trainer.study.plan import plan

    config = load_study(CONFIG, list(overrides))
    work = work_dir(Store(f"sqlite:///{database}"))
    together = group_size.here(config, work.speeds)
    measured = calibration.calibrated(config, sorted({1, together}), work.speeds)
    return seconds(in_turn(plan(config).runs, together), measured)


def train_all(overrides: Sequence[str]) -> None:
    """Trains every run of the study with the plain loop, one after another."""
    import torch

    from benchmarks.plain import narrow_resnet20, train
    from trainer import datasets
    from trainer.study.config_file import load_study
    from trainer.study.plan import plan
    from trainer.training.process import prepare_process

    config = load_study(CONFIG, list(overrides))
    images = datasets.as_chosen(config.dataset)
    prepare_process()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for spec in plan(config).runs:
        kept = 1 - spec.sparsity
        dense = spec.setting == "sdt"
        network = narrow_resnet20(kept**0.5 if dense else 1.0)
        masked = None if dense or not spec.sparsity else kept
        accuracy = train(
            network, images, spec.training, spec.learning_rate, spec.epochs, masked, device
        )
        print(f"{spec.name}: {100 * accuracy:.1f} %", flush=True)


if __name__ == "__main__":
    main()
