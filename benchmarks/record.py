"""Keeps what benchmarks measure: a JSON file each in `benchmarks/results/`, with machine and date.

`python -m benchmarks.charts` draws them for `docs/speed.md`.
"""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).parent / "results"
Row = dict[str, Any]


def keep(name: str, rows: Sequence[Row], by: Sequence[str] = ()) -> None:
    """Writes rows for this kind of device, each with machine, date and commit.

    Args:
        name: of the benchmark.
        rows: what was measured.
        by: columns that say what was measured: earlier rows of the same stay unless replaced.
    """
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}-{'gpu' if gpu() else 'cpu'}.json"
    about = {"machine": machine(), "date": f"{date.today()}", "commit": _commit()}
    fresh = [row | about for row in rows]
    measured = {tuple(row[column] for column in by) for row in fresh}
    kept = json.loads(path.read_text()) if by and path.exists() else []
    kept = [row for row in kept if tuple(row.get(column) for column in by) not in measured]
    path.write_text(json.dumps([*kept, *fresh], indent=1) + "\n")
    print(f"kept in {path.relative_to(FOLDER.parents[1])}")


def gpu() -> bool:
    """Whether this machine has one."""
    return torch.cuda.is_available()


def machine() -> str:
    """Processor or GPU, cores, and versions of what computes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    card = f"{torch.cuda.get_device_name()}, " if gpu() else ""
    return f"{card}{_processor()}, {cores} cores, torch {torch.__version__}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str:
    """The commit that was measured, with `+` where the tree differs from it."""
    git = ["git", "-C", str(FOLDER.parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    answer = subprocess.run(git, capture_output=True, text=True)
    return answer.stdout.strip() or "unknown"


def process_start() -> float:
    """When this process started, seconds since the epoch."""
    import psutil

    return psutil.Process().create_time()
