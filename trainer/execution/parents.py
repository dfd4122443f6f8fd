"""Fetches what runs need of their parents: from this machine, else from the store."""

import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path

from trainer.execution.outcome import Reporter
from trainer.store.journal import WorkDir
from trainer.store.tracking import Store, StoreAway, StoredRun, StoreRefused
from trainer.study.plan import RunSpec

_WAIT_S, _TRIES = 2.0, 3


class ParentUnavailable(Exception):
    """A parent's artifact that a run needs cannot be had."""


class Parents:
    """Gives artifacts of finished runs.

    Args:
        store: holds what has been delivered.
        work: holds what has not.
        reporter: is told when a fetch waits for the store.
        stop: ends the wait.
    """

    def __init__(
        self, store: Store, work: WorkDir, reporter: Reporter, stop: threading.Event
    ) -> None:
        self._store, self._work, self._reporter, self._stop = store, work, reporter, stop

    def fetch(self, parent: RunSpec, name: str, into: Path) -> Path:
        """A local file of a parent's artifact.

        Args:
            parent: the run that wrote it.
            name: of the artifact.
            into: folder for it.

        Raises:
            ParentUnavailable: the run or the artifact is gone.
            KeyboardInterrupt: `stop` was set while the store was away.
        """
        folder = self._work.finished(parent.key)
        if folder is not None:
            mine = into / f"{parent.key}-{name.replace('/', '-')}"
            with suppress(FileNotFoundError):
                _link(folder.artifact(name), mine)
                return mine
        waiting, tries = False, 0
        while not self._stop.is_set():
            try:
                stored = self._store.finished_run(parent.key)
                if stored is None:
                    raise ParentUnavailable(
                        f"its parent '{parent.name}' is no longer in the store. Launch the study "
                        "again to train it anew"
                    )
                try:
                    return self._store.fetch(stored.run_id, name, into)
                except (StoreAway, StoreRefused) as error:
                    # Raises StoreAway if nothing answers. Otherwise the artifact is missing, unless
                    # the artifact store was briefly unreachable.
                    self._store.running(parent.key)
                    tries += 1
                    if tries >= _TRIES:
                        raise _missing(parent, name, stored, error) from error
                    self._stop.wait(_WAIT_S)
            except StoreAway as error:
                if not waiting:
                    self._reporter.say(
                        f"waiting for the store, which holds '{parent.name}': {error}"
                    )
                waiting = True
                self._stop.wait(_WAIT_S)
        raise KeyboardInterrupt


def _missing(parent: RunSpec, name: str, stored: StoredRun, error: Exception) -> ParentUnavailable:
    return ParentUnavailable(
        f"'{name}' of its parent '{parent.name}' (run {stored.run_id}) is missing: {error}. "
        "Delete that run in MLflow and launch the study again to train it anew"
    )


def _link(source: Path, target: Path) -> None:
    """A second name for a file (a copy where links cannot be made), safe from its removal."""
    if target.exists():
        return
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)
