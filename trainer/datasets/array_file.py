"""Decoded datasets on disk: plain `.npy` files that all processes map, written once.

Each dataset has a folder in the user's cache (`JACKPOT_CACHE_DIR` moves it). A folder is filled
under another name and renamed when complete, so no process ever sees half of one.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import platformdirs
from filelock import FileLock

from trainer.datasets.dataset import DatasetError

Arrays = dict[str, np.ndarray]
_CONTENTS = "contents.json"


def cache_dir() -> Path:
    """The folder of all decoded datasets."""
    chosen = os.environ.get("JACKPOT_CACHE_DIR")
    return Path(chosen) if chosen else platformdirs.user_cache_path("jackpot")


def mapped(name: str, fingerprint: str, decode: Callable[[], Arrays]) -> tuple[Arrays, str]:
    """Memory-mapped arrays of one dataset, and their SHA-256.

    Args:
        name: the dataset's registered name.
        fingerprint: changes when the source data does.
        decode: gives the arrays; called only if the cache lacks them or they are damaged.

    Raises:
        DatasetError: the cache cannot be written.
    """
    folder = cache_dir() / name / fingerprint
    with _writable():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            found = _open(folder)
            if found is None:
                shutil.rmtree(folder, ignore_errors=True)
                _write(folder, decode())
                found = _open(folder)
    if found is None:
        raise OSError(f"{folder}: the arrays just written cannot be read back; check that disk")
    return found


@contextmanager
def _writable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"decoded datasets cannot be kept in {cache_dir()}: {error.strerror or error}. Set "
            "JACKPOT_CACHE_DIR to a folder that can be written"
        ) from error


def digest(name: str, fingerprint: str) -> str | None:
    """The SHA-256 that `mapped` noted of a dataset; None if it is not here."""
    try:
        noted = json.loads((cache_dir() / name / fingerprint / _CONTENTS).read_text())["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return noted if isinstance(noted, str) else None


def remembered(name: str, facts: object, make: Callable[[], str]) -> str:
    """A text that takes long to find, found once for equal `facts` on this machine.

    Args:
        name: of the file in the cache.
        facts: what it depends on, as JSON values.
        make: finds it.
    """
    file = cache_dir() / f"{name}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        noted = json.loads(file.read_text())
        if noted["facts"] == facts:
            return str(noted["found"])
    found = make()
    with _writable():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps({"facts": facts, "found": found}))
        partial.replace(file)
    return found


def _write(folder: Path, arrays: Arrays) -> None:
    partial = Path(mkdtemp(dir=folder.parent, prefix=".partial-"))
    try:
        for key, array in arrays.items():
            np.save(partial / f"{key}.npy", np.ascontiguousarray(array), allow_pickle=False)
        contents = {"arrays": sorted(arrays), "sha256": _digest(partial, sorted(arrays))}
        (partial / _CONTENTS).write_text(json.dumps(contents))
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _open(folder: Path) -> tuple[Arrays, str] | None:
    """The arrays in `folder`; None if it is absent, incomplete or damaged."""
    try:
        contents = json.loads((folder / _CONTENTS).read_text())
        keys, digest = contents["arrays"], contents["sha256"]
        if _digest(folder, keys) != digest:
            return None
        # Copy on write: nobody writes, and torch takes only arrays that could be written.
        arrays = {
            key: np.load(folder / f"{key}.npy", mmap_mode="c", allow_pickle=False) for key in keys
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return arrays, digest


def _digest(folder: Path, keys: list[str]) -> str:
    total = hashlib.sha256()
    for key in keys:
        with (folder / f"{key}.npy").open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
