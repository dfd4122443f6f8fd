"""Files that several runs need: made once per machine, read by all processes.

They hold initial weights, masks, matched units, and widths of small-dense networks. They stay in
the work directory until the launch ends; a lost or damaged file is made again.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from jackpot.artifacts import ArtifactError
from trainer.study.plan import digest

T = TypeVar("T")


class SharedFiles:
    """A folder of files that several runs need.

    Args:
        folder: made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def once(
        self,
        what: str,
        facts: Mapping[str, Any],
        make: Callable[[Path], object],
        read: Callable[[Path], T],
    ) -> T:
        """Reads a file with `read`; `make` makes it first unless some process has done so.

        Args:
            what: kind of file.
            facts: everything that determines its contents, as JSON values.
            make: writes the file completely or not at all.
            read: raises `ArtifactError` if the file is unusable.

        Raises:
            OSError: for example, the disk is full; and whatever `make` raises.
        """
        path = self._folder / f"{what}-{digest(facts)}.safetensors"
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if path.exists():
                with suppress(ArtifactError, FileNotFoundError):
                    return read(path)
            make(path)
            return read(path)

    def clear(self) -> None:
        """Removes all files, none between its making and reading; needed ones are made again."""
        for path in self._folder.glob("*.safetensors"):
            lock = path.with_suffix(".lock")
            with FileLock(lock):
                path.unlink(missing_ok=True)
                lock.unlink(missing_ok=True)
