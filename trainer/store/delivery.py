"""Sends what runs recorded on disk to MLflow, in a separate thread, until everything has arrived.

Training never waits for it. Whatever happens to the store (unreachable, slow, full, run deleted),
events stay in their folders and are sent again. MLflow keeps a point that it gets twice only once,
because the point carries the time at which it was measured.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from jackpot.contract import PARENT_TAG, Kind, Param, Tag
from trainer.store.journal import Event, RunFolder, RunStart, WorkDir
from trainer.store.tracking import STALE_AFTER_S, Store, StoreAway, StoreRefused

log = logging.getLogger(__name__)
# Far longer than a store takes to show a run that was made, and to delete it.
_YIELD_S = 1.0


@dataclass(frozen=True)
class Undelivered:
    """What could not be delivered, and why."""

    runs: int
    reason: str


class Delivery:
    """Delivers the folders of a work directory.

    Args:
        store: where to deliver to.
        work: the work directory whose folders are delivered.
        every_s: pause between rounds, and so the maximum delay of a metric.
        patience_s: maximum pause after a failure; the pause doubles with each failure.
        say: called once when the store becomes unreachable, and once when it is back.

    Attributes:
        alive: keys of the runs that this process is training now; they get a heartbeat.
    """

    def __init__(
        self,
        store: Store,
        work: WorkDir,
        every_s: float = 2.0,
        patience_s: float = 30.0,
        say: Callable[[str], None] = log.warning,
    ) -> None:
        self._store, self._work = store, work
        self._every_s, self._patience_s, self._say = every_s, patience_s, say
        self.alive: set[str] = set()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._ids: dict[str, str] = {}
        self._beats: dict[str, float] = {}
        self._refused: dict[str, str] = {}
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    def start(self) -> "Delivery":
        """Starts the thread."""
        self._thread.start()
        return self

    def nudge(self) -> None:
        """Says that there is something worth sending now, such as a finished run."""
        self._wake.set()

    def close(self, timeout_s: float, keys: set[str]) -> Undelivered | None:
        """Sends what is left and stops; gives up once nothing has moved for `timeout_s` seconds.

        Args:
            timeout_s: patience.
            keys: runs (and the launch) to wait for; others may be another launch's.

        Returns:
            What was left behind, None if all has arrived. It stays on disk for the next launch.
        """
        deadline = time.monotonic() + timeout_s
        left = self._left(keys)
        # Somebody is waiting now: notice soon when the store is back.
        self._patience_s = self._every_s
        self._wake.set()
        while left and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.05)
            now = self._left(keys)
            if now != left:
                deadline = time.monotonic() + timeout_s
            left = now
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout=5)
        left = self._left(keys)  # The last round may have sent it all.
        if not left:
            return None
        reason = self._problem or next(iter(self._refused.values()), "it took too long")
        return Undelivered(len(left), reason)

    def claim(self, folder: RunFolder) -> bool:
        """Makes the folder's run in the store, unless somebody else is training that key there.

        Two that claim at once both see each other. The one with the lower run id waits a moment for
        the other to withdraw; if it does not, it was there first.

        Returns:
            False: another one trains it, and the folder is gone.
        """
        try:
            with self._work.lock("delivery"):
                run_id = self._deliver_metrics(folder)
            others = self._others(folder.key, run_id)
            if others and run_id < min(others):
                time.sleep(_YIELD_S)
                others = self._others(folder.key, run_id)
            if not others:
                return True
            with self._work.lock("delivery"):
                self._store.withdraw(run_id)
                self._ids.pop(folder.key, None)
                folder.remove()
        except (StoreAway, StoreRefused):
            return True  # Training does not wait for a store that is away.
        return False

    def _others(self, key: str, own: str) -> list[str]:
        """Ids of other runs of a key that are being trained, or have been."""
        running = [
            run.run_id
            for run in self._store.running(key)
            if run.run_id != own and run.heartbeat_age_s < STALE_AFTER_S
        ]
        finished = self._store.finished_run(key)
        return [*running, finished.run_id] if finished else running

    @property
    def problem(self) -> str | None:
        """Why the store cannot be reached at the moment; None while all is well."""
        return self._problem

    def _left(self, keys: set[str]) -> dict[str, int]:
        """Events that MLflow does not have yet, by folder."""
        waiting = {f.path.name: self._pending(f) for f in self._work.folders() if f.key in keys}
        return {name: count for name, count in waiting.items() if count}

    def _pending(self, folder: RunFolder) -> int:
        notes = folder.delivered()
        offsets = notes.get("offset", 0), notes.get("files_offset", 0)
        return sum(1 for offset in offsets for _ in folder.events(offset))

    def _run(self) -> None:
        pause = self._every_s
        while not self._stop.is_set():
            self._wake.wait(pause)
            self._wake.clear()
            try:
                self._round()
            except Exception as reason:
                # The thread must survive any error: it delivers all other runs as well.
                if not isinstance(reason, StoreAway):
                    log.exception("delivery to %s failed", self._store.uri)
                pause = min(max(2 * pause, 1.0), self._patience_s)
                if self._problem is None:
                    self._say(
                        f"tracking store {self._store.uri}: {reason}. Training goes on; "
                        f"everything is kept in {self._work.path} and sent when the store answers."
                    )
                self._problem = str(reason)
            else:
                if self._problem is not None:
                    self._say(f"tracking store {self._store.uri}: back, all caught up")
                self._problem, pause = None, self._every_s

    def _round(self) -> None:
        """One pass over all folders: launches and parents come before their children.

        Raises:
            StoreAway: raised after all metrics that can be sent have been sent; the files wait.
        """
        away: StoreAway | None = None
        # Launches that share a work directory take turns, so that each event is sent once.
        with self._work.lock("delivery"):
            for folder in self._work.folders():
                if folder.path.name in self._refused:
                    continue
                try:
                    run_id = self._deliver_metrics(folder)
                    if away is None:
                        self._deliver_files(folder, run_id)
                except StoreAway as reason:
                    if folder.delivered().get("run_id") is None:
                        raise  # Not even a run can be made.
                    away = reason
                except StoreRefused as reason:
                    self._start_over(folder, str(reason))
        if away is not None:
            raise away

    def _start_over(self, folder: RunFolder, reason: str) -> None:
        """The store lost the run: everything is still here, so send it again as a new one."""
        if folder.delivered().get("again"):
            self._refused[folder.path.name] = reason
            self._say(f"{folder.key}: MLflow refuses its data: {reason}")
            return
        log.warning("run %s is gone from the store (%s): sending it again", folder.key, reason)
        self._ids.pop(folder.key, None)
        folder.note_delivered(run_id=None, offset=0, files_offset=0, creating=False, again=True)

    def _deliver_metrics(self, folder: RunFolder) -> str:
        """Makes the run if need be, and sends its new metrics and tags in one call."""
        notes = folder.delivered()
        run_id = notes.get("run_id")
        if run_id is None:
            run_id = self._create(folder, notes)
            folder.note_delivered(run_id=run_id, creating=False)
        self._ids[folder.key] = run_id
        events = list(folder.events(notes.get("offset", 0)))
        if events:
            tags = self._send(run_id, [event for event, _ in events])
            if Tag.DATASET_SHA256 in tags and (first := folder.first()) is not None:
                name = first["params"].get(Param.DATASET, "")
                self._store.log_dataset(run_id, name, tags[Tag.DATASET_SHA256])
            folder.note_delivered(offset=events[-1][1], again=False)
        if folder.key in self.alive:
            self._beat(run_id)
        return run_id

    def _deliver_files(self, folder: RunFolder, run_id: str) -> None:
        """Stores new artifacts one by one, and ends the run after its last."""
        sent = end = folder.delivered().get("files_offset", 0)
        for event, end in folder.events(sent):
            if event["event"] == "artifact":
                self._store.put(run_id, folder.artifact(event["name"]), event["name"])
            elif event["event"] == "resume":
                self._store.resume(run_id)
            elif event["event"] == "end":
                if event["reason"]:
                    self._store.log(run_id, [], {Tag.FAILURE: event["reason"][:4000]})
                self._store.terminate(run_id, event["status"], event["time"])
            else:
                continue  # Of a run's many events few are files: no note on disk for each.
            folder.note_delivered(files_offset=end)
            sent = end
        if end != sent:
            folder.note_delivered(files_offset=end)
        if folder.status() is not None and not self._pending(folder):
            folder.remove()

    def _beat(self, run_id: str) -> None:
        """Shows that the run's process lives, at most once a minute."""
        now = time.monotonic()
        if now - self._beats.get(run_id, -60.0) >= 60.0:
            self._store.log(run_id, [], {Tag.HEARTBEAT: f"{time.time():.0f}"})
            self._beats[run_id] = now

    def _create(self, folder: RunFolder, notes: dict) -> str:
        """The id of the folder's run in the store, which is made unless it is there already."""
        first = folder.first()
        if first is None:
            raise StoreRefused(f"{folder.path} has no start event")
        start = RunStart(**{k: v for k, v in first.items() if k not in ("event", "time")})
        run_id: str | None = None
        if start.kind == Kind.LAUNCH:
            # Launching a plan again continues its existing launch.
            earlier = self._store.launch_of(start.experiment, start.key)
            if earlier:
                run_id, _ = earlier
                self._store.resume(run_id)
        elif notes.get("creating"):
            # The process died between asking for the run and noting its id.
            run_id = self._store.created_at(start.key, first["time"])
        run_id = run_id or self._made(folder, start, first["time"])
        self._store.log_params(run_id, start.params)
        return run_id

    def _made(self, folder: RunFolder, start: RunStart, began: int) -> str:
        folder.note_delivered(creating=True)
        tags: dict[str, str] = {Tag.HEARTBEAT: f"{time.time():.0f}"}
        for tag, key in ((Tag.INIT_RUN_ID, start.init_key), (Tag.MASK_RUN_ID, start.mask_key)):
            parent = self._id_of(key) if key else None
            if parent:
                tags[tag] = parent
        if start.launch:
            if start.launch not in self._ids:
                earlier = self._store.launch_of(start.experiment, start.launch)
                if earlier:
                    self._ids[start.launch], _ = earlier
            if start.launch in self._ids:
                tags[PARENT_TAG] = self._ids[start.launch]
        if start.kind == Kind.TRAINING:
            self._reap(start.key)
        return self._store.create(start, began, tags)

    def _id_of(self, key: str) -> str | None:
        if key not in self._ids:
            found = self._store.finished_run(key)
            return found.run_id if found else None
        return self._ids[key]

    def _reap(self, key: str) -> None:
        """Ends runs of this key whose process has disappeared."""
        for run in self._store.running(key):
            if run.heartbeat_age_s > STALE_AFTER_S:
                self._store.log(run.run_id, [], {Tag.FAILURE: "its process went away"})
                self._store.terminate(run.run_id, "KILLED")

    def _send(self, run_id: str, events: list[Event]) -> dict[str, str]:
        """Sends the metrics and tags of `events` in one call, and returns the tags."""
        told = [event for event in events if event["event"] in ("metrics", "summary")]
        points = [
            (name, value, event["time"], event["step"])
            for event in told
            for name, value in event["values"].items()
        ]
        tags = {name: value for event in told for name, value in event.get("tags", {}).items()}
        if points or tags:
            self._store.log(run_id, points, tags)
        return tags
