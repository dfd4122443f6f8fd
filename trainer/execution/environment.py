"""What a launch ran on: versions, machine and commit, without importing any of it."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from jackpot.contract import Tag

PACKAGES = ("torch", "keras", "numpy", "tensorflow-datasets", "mlflow", "safetensors")


def tags() -> dict[str, str]:
    """Tags that every run carries: library versions as `version.<package>`, and the commit."""
    found = {f"version.{name}": installed for name, installed in _versions().items()}
    commit = _commit()
    return {**found, Tag.GIT_COMMIT: commit} if commit else found


def description() -> dict[str, object]:
    """The launch's `environment.json`."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "packages": _versions(),
        "git_commit": _commit(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """The checkout's commit, with `-dirty` if files differ from it; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        answer = subprocess.run(
            [*command, "--exclude=*", "--abbrev=40"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
