"""What a run records, on local disk first: nothing is lost if the store or the process dies.

Each attempt at a run has a folder in the work directory. The run writes events (one JSON line
each) and files there and never waits; `trainer.store.delivery` carries them to MLflow and removes
the folder once all has arrived.
"""

import errno
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal

from filelock import FileLock

from jackpot.contract import DIVERGED, Kind
from trainer.store.shared import SharedFiles

log = logging.getLogger(__name__)
EndStatus = Literal["FINISHED", "FAILED", "KILLED"]
Event = dict[str, Any]


@dataclass(frozen=True)
class RunStart:
    """First event of a folder: the name, params and tags of the MLflow run.

    Attributes:
        key: run key, or plan key of a launch.
        kind: `jackpot.contract.Kind`.
        experiment: the study's name.
        name: of the MLflow run.
        params, tags: set when the run is made.
        launch: plan key of the launch that this training belongs to; None for a launch.
        init_key, mask_key: run keys whose MLflow run ids become tags.
        about: description of the experiment, in Markdown; of a launch.
    """

    key: str
    kind: str
    experiment: str
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    launch: str | None = None
    init_key: str | None = None
    mask_key: str | None = None
    about: str = ""


class RunFolder:
    """One attempt's folder: `journal.jsonl`, `artifacts/`, and what delivery has done so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._journal = path / "journal.jsonl"
        self._delivered = path / "delivered.json"
        self._last_step: int | None = None
        self.artifacts = path / "artifacts"
        self.checkpoint = path / "checkpoint.safetensors"

    @property
    def key(self) -> str:
        """Run key (or plan key of a launch)."""
        return self.path.name.rsplit(".", 1)[0]

    def start(self, start: RunStart) -> None:
        """Begins the folder, or begins anew after a kill: a torn last line is dropped."""
        self.artifacts.mkdir(parents=True, exist_ok=True)
        if self._journal.exists():
            whole = self._journal.read_bytes().rfind(b"\n") + 1
            os.truncate(self._journal, whole)
        if self.first() is None:
            self._append({"event": "start", **start.__dict__})
        elif self._paused():
            self._append({"event": "resume"})

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Records metrics at a step. A step that is recorded already is not recorded again: an
        epoch replayed after a kill gives the same numbers.
        """
        if self._last_step is None:
            self._last_step = max((event["step"] for event in self.history()), default=0)
        if step > self._last_step:
            self._append({"event": "metrics", "step": step, "values": values})
            self._last_step = step

    def summary(self, step: int, values: dict[str, float], tags: dict[str, str]) -> None:
        """Records the metrics and tags of a whole run, unless a killed process has done so."""
        if not any(event["event"] == "summary" for event, _ in self.events()):
            self._append({"event": "summary", "step": step, "values": values, "tags": tags})

    def artifact(self, name: str) -> Path:
        """Where to write the artifact `name`, before `artifact_written` says it is whole."""
        return self.artifacts / name

    def artifact_written(self, name: str) -> None:
        """Records that the artifact `name` is complete."""
        self._append({"event": "artifact", "name": name})

    def end(self, status: EndStatus, reason: str | None = None) -> None:
        """Records how the attempt ended; KILLED may be followed by another `start`."""
        self._append({"event": "end", "status": status, "reason": reason})

    def _append(self, event: Event) -> None:
        """Appends one line in one write: after a kill, it is complete or cut off at the end.

        Raises:
            OSError: for example, the disk is full. A partly written line is removed.
        """
        line = json.dumps({**event, "time": time.time_ns() // 1_000_000}) + "\n"
        size = self._journal.stat().st_size if self._journal.exists() else 0
        try:
            with self._journal.open("ab", buffering=0) as file:
                written = file.write(line.encode())
                if written < len(line.encode()):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._journal))
                if event["event"] == "end":
                    # Written data survives the process; `fsync` is only needed for a power cut.
                    os.fsync(file.fileno())
        except OSError:
            if self._journal.exists():
                os.truncate(self._journal, size)
            raise

    def events(self, offset: int = 0) -> Iterator[tuple[Event, int]]:
        """Complete events from byte `offset` on, each with the offset after it."""
        try:
            with self._journal.open("rb") as file:
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    offset += len(line)
                    try:
                        event = json.loads(line)
                    except ValueError:
                        # Only a power cut leaves such a line; the epochs around it still count.
                        log.warning("%s: skipping a line that is no event", self._journal)
                        continue
                    yield event, offset
        except FileNotFoundError:
            return

    def first(self) -> Event | None:
        """The start event."""
        return next((event for event, _ in self.events()), None)

    def status(self) -> EndStatus | None:
        """How the attempt ended; None while it may go on (running, killed or interrupted)."""
        status = None
        for event, _ in self.events():
            if event["event"] == "end":
                status = event["status"]
            elif event["event"] == "resume":
                status = None
        return None if status == "KILLED" else status

    def failure(self) -> str | None:
        """Why the attempt failed; None if it did not."""
        last = [event for event, _ in self.events()][-1:]
        if last and last[0]["event"] == "end" and last[0]["status"] == "FAILED":
            return str(last[0]["reason"])
        return None

    def divergence(self) -> str | None:
        """Why the attempt diverged, and would again; None if it did not."""
        reason = self.failure()
        return reason if reason and re.match(DIVERGED, reason) else None

    def _paused(self) -> bool:
        last = [event for event, _ in self.events()][-1:]
        return bool(last) and last[0]["event"] == "end"

    def history(self) -> list[Event]:
        """The recorded metric events in order."""
        return [event for event, _ in self.events() if event["event"] == "metrics"]

    def last_metrics(self) -> dict[str, float]:
        """The metrics of the last recorded epoch, empty before the first."""
        history = self.history()
        return history[-1]["values"] if history else {}

    def delivered(self) -> dict[str, Any]:
        """What delivery has noted: `run_id`, `offset`, `creating`."""
        try:
            return json.loads(self._delivered.read_text())
        except (FileNotFoundError, ValueError):
            return {}

    def note_delivered(self, **notes: Any) -> None:
        """Notes delivery's progress, atomically."""
        partial = self._delivered.with_suffix(".partial")
        partial.write_text(json.dumps(self.delivered() | notes))
        partial.replace(self._delivered)

    def remove(self) -> None:
        """Removes the folder once its run has arrived in the store.

        It is moved away first, so that readers see all of it or nothing.
        """
        trash = self.path.parent.parent / "trash"
        trash.mkdir(exist_ok=True)
        gone = trash / f"{self.path.name}-{time.time_ns()}"
        self.path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


class WorkDir:
    """The trainer's own files for one store: run folders, locks, and what runs share.

    Attributes:
        shared: what several runs need.
        speeds: what calibrations measured.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shared, self.speeds = SharedFiles(path / "shared"), SharedFiles(path / "speeds")
        self._runs = path / "runs"

    def check(self) -> None:
        """Sees that runs can be recorded here. Raises: ValueError."""
        try:
            self._runs.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self._runs):
                pass
        except OSError as error:
            raise ValueError(
                f"{self.path}: cannot be written: {error.strerror}. Runs are recorded there before "
                "they are sent to the store; it is beside a SQLite store, else in the current "
                "folder. Name another store with --tracking-uri, or launch from another folder"
            ) from None

    def empty_trash(self) -> None:
        """Removes folders of runs that have arrived, where a kill left them half removed."""
        shutil.rmtree(self.path / "trash", ignore_errors=True)

    def lock(self, key: str) -> FileLock:
        """The lock that a process holds while it trains the run `key`, or runs the launch `key`."""
        (self.path / "locks").mkdir(parents=True, exist_ok=True)
        return FileLock(self.path / "locks" / f"{key}.lock")

    def folders(self) -> list[RunFolder]:
        """All folders with a start event, oldest first: parents come before their children.

        Of those that began in the same millisecond, launches come first.
        """
        found = [RunFolder(path) for path in self._runs.glob("*.*")]
        started = [(folder.first(), folder) for folder in found]
        return [
            folder
            for first, folder in sorted(
                ((first, folder) for first, folder in started if first),
                key=lambda item: (
                    item[0]["time"],
                    item[0]["kind"] != Kind.LAUNCH,
                    item[1].path.name,
                ),
            )
        ]

    def of(self, key: str) -> list[RunFolder]:
        """Folders of one run, first attempt first."""
        paths = sorted(self._runs.glob(f"{key}.*"), key=lambda p: int(p.name.rsplit(".", 1)[1]))
        return [RunFolder(path) for path in paths]

    def finished(self, key: str) -> RunFolder | None:
        """A finished attempt at `key` that is still here."""
        return next((f for f in self.of(key) if f.status() == "FINISHED"), None)

    def open(self, key: str) -> RunFolder:
        """The attempt at `key` to resume, or a new one."""
        attempts = self.of(key)
        unfinished = next((f for f in attempts if f.status() is None), None)
        if unfinished is not None:
            return unfinished
        number = max((int(f.path.name.rsplit(".", 1)[1]) for f in attempts), default=0) + 1
        return RunFolder(self._runs / f"{key}.{number}")
