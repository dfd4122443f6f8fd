"""Keeps what benchmarks measure: a JSON file each in `benchmarks/results/`, with machine and date.

`python -m benchmarks.charts` draws them for `docs/speed.md`.
"""

import json
import os
import platform
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"


def keep(name: str, rows: list[dict[str, Any]]) -> None:
    """Writes the rows of a benchmark for this kind of device; the last ones are replaced."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}-{device()}.json"
    about = {"machine": machine(), "date": f"{date.today()}", "commit": _commit()}
    path.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")
    print(f"kept in {path.relative_to(FOLDER.parents[1])}")


def device() -> str:
    """`gpu` or `cpu`."""
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


def machine() -> str:
    """Processor or GPU, cores, and versions of what computes."""
    import keras
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    versions = (
        f"Python {platform.python_version()}, torch {torch.__version__}, keras {keras.__version__}"
    )
    return f"{gpu}{_processor()}, {cores} cores, {versions}"


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
