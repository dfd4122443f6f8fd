"""Trains a group of runs in this process: claims them, retries them, records how they ended."""

import gc
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from filelock import Timeout

from jackpot.contract import Kind, Metric, Tag
from trainer.execution.outcome import Outcome, Reporter, Status
from trainer.execution.parents import Parents, ParentUnavailable
from trainer.execution.record import Launch
from trainer.store.delivery import Delivery
from trainer.store.journal import RunFolder, RunStart, WorkDir
from trainer.store.tracking import STALE_AFTER_S, Store, StoreAway, StoreRefused
from trainer.study.plan import RunSpec

if TYPE_CHECKING:
    from trainer.datasets import Dataset
    from trainer.execution.run import Run

log = logging.getLogger(__name__)
# Times that a run is begun when a process that shares its batches dies.
_LIVES = 3


@dataclass
class Attempts:
    """Trains runs of a launch in this process.

    Args:
        launch: what the runs have in common.
        store, work, delivery: where results go and come from.
        dataset: loads the images; called when the first run needs them.
        reporter: receives progress events.
        stop: once set, the current runs stop between two steps and no other starts.
    """

    launch: Launch
    store: Store
    work: WorkDir
    delivery: Delivery
    dataset: "Callable[[], Dataset]"
    reporter: Reporter
    stop: threading.Event
    _parents: Parents = field(init=False)

    def __post_init__(self) -> None:
        self._parents = Parents(self.store, self.work, self.reporter, self.stop)

    def ready(self, spec: RunSpec, outcomes: Mapping[str, Outcome]) -> bool:
        """Whether all that a run needs of its parents is there."""
        if any(parent.key not in outcomes for parent in spec.parents):
            return False
        # The parents' weights may be in a store that is away: others can be trained meanwhile.
        return not self.delivery.problem or all(
            self.work.finished(parent.key) is not None for parent in spec.parents
        )

    def attempt(self, specs: Sequence[RunSpec]) -> dict[str, Outcome]:
        """Trains runs that are ready, side by side, and skips those that another launch trains."""
        ended: dict[str, Outcome] = {}
        mine: list[RunSpec] = []
        with ExitStack() as locks:
            for spec in specs:
                try:
                    locks.enter_context(self.work.lock(spec.key).acquire(timeout=0))
                    known = self._found_elsewhere(spec)
                except (Timeout, _TrainedElsewhere):
                    continue
                if known:
                    ended[spec.key] = known
                elif self._claimed(spec):
                    mine.append(spec)
            if mine and not self.stop.is_set():
                ended |= self._train(mine)
        return ended

    def _found_elsewhere(self, spec: RunSpec) -> Outcome | None:
        """The outcome of a run that some launch ended since this one began.

        Raises:
            _TrainedElsewhere: it is being trained on another machine.
        """
        waiting = self.work.finished(spec.key)
        if waiting is not None:
            return Outcome(spec, Status.KNOWN, waiting.last_metrics().get(Metric.VAL_ACCURACY))
        for folder in self.work.of(spec.key):
            if why := folder.divergence():
                return Outcome(spec, Status.FAILED, reason=f"{why} in another launch")
        if self.delivery.problem:
            return None
        with suppress(StoreAway, StoreRefused):
            found = self.store.finished_run(spec.key)
            if found:
                return Outcome(spec, Status.KNOWN, found.metrics.get(Metric.VAL_ACCURACY))
            if why := self.store.divergence(spec.key):
                return Outcome(spec, Status.FAILED, reason=f"{why} in another launch")
            own = self.work.open(spec.key).delivered().get("run_id")
            for other in self.store.running(spec.key):
                if other.run_id != own and other.heartbeat_age_s < STALE_AFTER_S:
                    raise _TrainedElsewhere
        return None

    def _claimed(self, spec: RunSpec) -> bool:
        """Whether the run is this process's to train.

        Launches beside one SQLite store share a work directory, and its locks. On a server others
        may have their own: the run is made there before it is trained.
        """
        if self.store.sqlite_file or self.delivery.problem or self.stop.is_set():
            return True
        folder = self.work.open(spec.key)
        if folder.first() is not None:
            return True  # It is resumed, and is in the store.
        folder.start(self._start(spec))
        return self.delivery.claim(folder)

    def _train(self, specs: Sequence[RunSpec]) -> dict[str, Outcome]:
        # Keras and torch take seconds to import: only a launch that trains pays for it.
        import torch
        from torch import OutOfMemoryError

        from trainer.execution.run import advance
        from trainer.training.data_parallel import PeerLost

        ended: dict[str, Outcome] = {}
        left, lives, group_size = list(specs), _LIVES, len(specs)
        while left:
            runs = self._begin(left, ended)
            try:
                while runs:
                    advance(list(runs.values())[:group_size], self.dataset(), self.stop)
                    ended |= self._settled(runs)
            except (Exception, KeyboardInterrupt) as error:
                if isinstance(error, PeerLost) and (lives := lives - 1):
                    self.reporter.say(f"{left[0].name}: {error}; it goes on from its checkpoint")
                elif isinstance(error, OutOfMemoryError) and group_size > 1:
                    group_size //= 2
                    self.reporter.say(f"out of memory: {group_size} runs side by side from now")
                else:
                    ended |= {key: self._ended_by(error, run.spec) for key, run in runs.items()}
            left = [spec for spec in left if spec.key not in ended]
            if left:
                # Outside the handler, where the failed runs no longer hold memory.
                runs.clear()
                gc.collect()
                with suppress(RuntimeError):  # Of an allocator that a failed recording upset.
                    torch.cuda.empty_cache()
        self.delivery.alive.difference_update(spec.key for spec in specs)
        return ended

    def _settled(self, runs: "dict[str, Run]") -> dict[str, Outcome]:
        """The outcomes of the runs that are done or have failed, which are removed from `runs`."""
        ended: dict[str, Outcome] = {}
        for key, run in list(runs.items()):
            if run.progress.failure:
                ended[key] = self._ended_by(run.progress.failure, run.spec)
            elif run.done:
                ended[key] = self._finish(run)
            if key in ended:
                run.release()
                del runs[key]
        return ended

    def _begin(self, specs: Sequence[RunSpec], ended: dict[str, Outcome]) -> "dict[str, Run]":
        """Runs at their first step or last checkpoint; those that cannot begin end at once."""
        from trainer.execution.run import Run

        begun: dict[str, Run] = {}
        for spec in specs:
            folder = self.work.open(spec.key)
            try:
                folder.start(self._start(spec))
                self.delivery.alive.add(spec.key)
                self.delivery.nudge()
                begun[spec.key] = Run(
                    spec,
                    self.dataset(),
                    folder,
                    self._parents.fetch,
                    self.work.shared,
                    checkpoint_every=self.launch.checkpoint_every,
                    trajectory_every=self._trajectory_every(spec),
                    on_begin=partial(self.reporter.run_began, spec),
                    on_epoch=partial(self.reporter.epoch_ended, spec),
                    say=self.reporter.say,
                )
            except (Exception, KeyboardInterrupt) as error:
                ended[spec.key] = self._ended_by(error, spec)
        return begun

    def _finish(self, run: "Run") -> Outcome:
        try:
            run.finish()
        except (Exception, KeyboardInterrupt) as error:
            return self._ended_by(error, run.spec)
        run.folder.end("FINISHED")
        run.folder.checkpoint.unlink(missing_ok=True)
        accuracy = run.folder.last_metrics().get(Metric.VAL_ACCURACY)
        has_collapsed = run.active is not None and bool(run.active.collapsed)
        return Outcome(run.spec, Status.FINISHED, accuracy, has_collapsed=has_collapsed)

    def _ended_by(self, error: BaseException, spec: RunSpec) -> Outcome:
        """The outcome of a run that `error` ended, which its folder records as well."""
        from torch import OutOfMemoryError

        from jackpot.artifacts import ArtifactError
        from trainer.datasets import DatasetError
        from trainer.pruning.masks import MaskError
        from trainer.training.callbacks import Diverged, Interrupted
        from trainer.training.data_parallel import PeerLost

        folder = self.work.open(spec.key)
        if isinstance(error, Interrupted | KeyboardInterrupt):
            self.stop.set()
            folder.end("KILLED", "interrupted; launch the study again to go on")
            return Outcome(spec, Status.INTERRUPTED, reason="interrupted")
        if isinstance(error, OSError | PeerLost | OutOfMemoryError):
            return self._stopped(spec, folder, error)
        known = Diverged | ArtifactError | MaskError | ParentUnavailable | DatasetError
        if isinstance(error, known):
            return self._failed(spec, folder, str(error))
        log.error("run '%s' failed:", spec.name, exc_info=error)
        return self._failed(spec, folder, f"{type(error).__name__}: {error}")

    def _trajectory_every(self, spec: RunSpec) -> int | None:
        """Only dense runs and runs at reported sparsities keep a trajectory, not other rounds."""
        looked_at = spec.setting.is_dense or spec.sparsity in self.launch.reported
        return self.launch.trajectory_every if looked_at else None

    def _stopped(self, spec: RunSpec, folder: RunFolder, error: Exception) -> Outcome:
        """Ends a run after, say, a full disk: its results so far are kept for the next launch."""
        reason = f"{error}; free or mend that, and launch the study again to go on"
        with suppress(OSError):
            folder.end("KILLED", reason)
        return Outcome(spec, Status.FAILED, reason=reason)

    def _failed(self, spec: RunSpec, folder: RunFolder, reason: str) -> Outcome:
        folder.checkpoint.unlink(missing_ok=True)
        folder.end("FAILED", reason)
        return Outcome(spec, Status.FAILED, reason=reason)

    def _start(self, spec: RunSpec) -> RunStart:
        return RunStart(
            key=spec.key,
            kind=Kind.TRAINING,
            experiment=self.launch.study,
            name=spec.name,
            params={str(name): value for name, value in spec.params().items()},
            tags={
                **self.launch.environment,
                Tag.KIND: Kind.TRAINING,
                Tag.STUDY: self.launch.study,
                Tag.RUN_KEY: spec.key,
                Tag.PARENT_RUN_KEYS: ",".join(parent.key for parent in spec.parents),
            },
            launch=self.launch.key,
            init_key=spec.init_from.key if spec.init_from else None,
            mask_key=spec.mask_from.key if spec.mask_from else None,
        )


class _TrainedElsewhere(Exception):
    """Another machine is training the run."""
