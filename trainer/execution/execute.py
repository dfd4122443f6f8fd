"""Executes a plan. The serial executor trains its runs in this process, some side by side.

`trainer.execution.ray_executor` trains several at once.
"""

import gc
import logging
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from filelock import Timeout

from jackpot.contract import Kind, Metric, Setting, Tag
from trainer import datasets
from trainer.store.delivery import Delivery
from trainer.store.journal import RunFolder, Start, WorkDir
from trainer.store.tracking import STALE_AFTER_S, Store, StoreAway, StoreRefused
from trainer.study.config import Study
from trainer.study.plan import Plan, RunSpec, side_by_side

if TYPE_CHECKING:
    from trainer.datasets import Dataset
    from trainer.execution.run import Run

log = logging.getLogger(__name__)
_WAIT_S, _TRIES = 2.0, 3
# Times that a run is begun when a process that shares its batches dies.
_LIVES = 3


class Status(StrEnum):
    """How a run of the plan ended."""

    FINISHED = "finished"
    KNOWN = "known"
    FAILED = "failed"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"


_WAS = {Status.FAILED: "failed", Status.SKIPPED: "was skipped", Status.INTERRUPTED: "was stopped"}


@dataclass(frozen=True)
class Outcome:
    """The end of one run: `reason` says why it failed or was skipped."""

    spec: RunSpec
    status: Status
    val_accuracy: float | None = None
    reason: str = ""


class Reporter(Protocol):
    """Is told what happens; the live view and the plain lines are two of them."""

    def run_began(self, spec: RunSpec, epochs_done: int) -> None:
        """A run starts, or goes on after `epochs_done` of its epochs."""

    def epoch_ended(self, spec: RunSpec, epoch: int, metrics: dict[str, float]) -> None:
        """An epoch (1-based, along the schedule) has ended."""

    def run_ended(self, outcome: Outcome) -> None:
        """A run has ended, or has been skipped."""

    def say(self, message: str) -> None:
        """Something else that a user wants to know."""


class ParentUnavailable(Exception):
    """A parent's artifact that a run needs is not to be had."""


@dataclass
class Runs:
    """Trains runs of a plan in this process, wherever it runs.

    Args:
        study: name of the study.
        launch_key: key of the plan, which is the launch's.
        store, work, delivery: where results go and come from.
        dataset: loads the images; called once, when the first run needs them.
        environment: tags of the machine and software for every run.
        reporter: is told of progress.
        stop: once set, the current runs stop between two steps and no other starts.
        checkpoint_every: epochs between checkpoints.
        trajectory_every: epochs between weights that runs at `reported` sparsities keep.
        reported: sparsities of the study.
    """

    study: str
    launch_key: str
    store: Store
    work: WorkDir
    delivery: Delivery
    dataset: "Callable[[], Dataset]"
    environment: dict[str, str]
    reporter: Reporter
    stop: threading.Event
    checkpoint_every: int = 1
    trajectory_every: int | None = None
    reported: frozenset[float] = frozenset()

    def skipped(self, spec: RunSpec, outcomes: dict[str, Outcome]) -> Outcome | None:
        """The outcome of a run that a parent has failed."""
        for parent in spec.parents:
            ended = outcomes.get(parent.key)
            if ended is not None and ended.status not in (Status.FINISHED, Status.KNOWN):
                reason = f"it needs '{parent.name}', which {_WAS[ended.status]}"
                return Outcome(spec, Status.SKIPPED, reason=reason)
        return None

    def ready(self, spec: RunSpec, outcomes: dict[str, Outcome]) -> bool:
        """Whether all that a run needs of its parents is there."""
        if any(parent.key not in outcomes for parent in spec.parents):
            return False
        # The parents' weights may be in a store that is away: others can be trained meanwhile.
        return not self.delivery.problem or all(
            self.work.finished(parent.key) is not None for parent in spec.parents
        )

    def attempt(self, specs: Sequence[RunSpec]) -> dict[str, Outcome]:
        """Trains runs that are ready side by side; left out is what another launch is training."""
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
                else:
                    mine.append(spec)
            if mine and not self.stop.is_set():
                ended |= self._train(mine)
        return ended

    def _found_elsewhere(self, spec: RunSpec) -> Outcome | None:
        """The outcome of a run that some launch finished since this one began.

        Raises:
            _TrainedElsewhere: it is being trained on another machine.
        """
        waiting = self.work.finished(spec.key)
        if waiting is not None:
            return Outcome(spec, Status.KNOWN, waiting.last_metrics().get(Metric.VAL_ACCURACY))
        if self.delivery.problem:
            return None
        with suppress(StoreAway, StoreRefused):
            found = self.store.finished_run(spec.key)
            if found:
                return Outcome(spec, Status.KNOWN, found.metrics.get(Metric.VAL_ACCURACY))
            own = self.work.open(spec.key).delivered().get("run_id")
            for other in self.store.running(spec.key):
                if other.run_id != own and other.heartbeat_age_s < STALE_AFTER_S:
                    raise _TrainedElsewhere
        return None

    def _train(self, specs: Sequence[RunSpec]) -> dict[str, Outcome]:
        # Keras and torch take seconds to import: only a launch that trains pays for it.
        import torch
        from torch import OutOfMemoryError

        from trainer.execution.run import advance
        from trainer.training.data_parallel import PeerLost

        ended: dict[str, Outcome] = {}
        left, lives, together = list(specs), _LIVES, len(specs)
        while left:
            runs = self._begin(left, ended)
            try:
                while runs:
                    advance(list(runs.values())[:together], self.dataset(), self.stop)
                    ended |= self._settled(runs)
            except (Exception, KeyboardInterrupt) as error:
                if isinstance(error, PeerLost) and (lives := lives - 1):
                    self.reporter.say(f"{left[0].name}: {error}; it goes on from its checkpoint")
                elif isinstance(error, OutOfMemoryError) and together > 1:
                    together //= 2
                    self.reporter.say(f"out of memory: {together} runs side by side from now")
                else:
                    ended |= {key: self._ended_by(error, run.spec) for key, run in runs.items()}
            left = [spec for spec in left if spec.key not in ended]
            if left:
                # Outside of the handler, and with a swept floor: what failed holds no memory now.
                runs.clear()
                gc.collect()
                with suppress(RuntimeError):  # Of an allocator that a failed recording upset.
                    torch.cuda.empty_cache()
        self.delivery.alive.difference_update(spec.key for spec in specs)
        return ended

    def _settled(self, runs: "dict[str, Run]") -> dict[str, Outcome]:
        """The outcomes of those of `runs` that are done or have failed; they are taken out."""
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
                    self._fetch,
                    self.work.shared,
                    checkpoint_every=self.checkpoint_every,
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
        accuracy = run.folder.last_metrics().get(Metric.VAL_ACCURACY)
        return Outcome(run.spec, Status.FINISHED, accuracy)

    def _ended_by(self, error: BaseException, spec: RunSpec) -> Outcome:
        """The outcome of a run that `error` ended, which its folder records as well."""
        from torch import OutOfMemoryError

        from jackpot.artifacts import ArtifactError
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
        if isinstance(error, Diverged | ArtifactError | MaskError | ParentUnavailable):
            return self._failed(spec, folder, str(error))
        log.error("run '%s' failed:", spec.name, exc_info=error)
        return self._failed(spec, folder, f"{type(error).__name__}: {error}")

    def _trajectory_every(self, spec: RunSpec) -> int | None:
        """Rounds on the way to a reported sparsity keep no trajectory: only what is looked at."""
        looked_at = spec.setting == Setting.PRETRAIN or spec.sparsity in self.reported
        return self.trajectory_every if looked_at else None

    def _stopped(self, spec: RunSpec, folder: RunFolder, error: Exception) -> Outcome:
        """A full disk, say: what the run has so far is kept, and the next launch goes on."""
        reason = f"{error}; free or mend that, and launch the study again to go on"
        with suppress(OSError):
            folder.end("KILLED", reason)
        return Outcome(spec, Status.FAILED, reason=reason)

    def _failed(self, spec: RunSpec, folder: RunFolder, reason: str) -> Outcome:
        folder.checkpoint.unlink(missing_ok=True)
        folder.end("FAILED", reason)
        return Outcome(spec, Status.FAILED, reason=reason)

    def _start(self, spec: RunSpec) -> Start:
        return Start(
            key=spec.key,
            kind=Kind.TRAINING,
            experiment=self.study,
            name=spec.name,
            params={str(name): value for name, value in spec.params().items()},
            tags={
                **self.environment,
                Tag.KIND: Kind.TRAINING,
                Tag.STUDY: self.study,
                Tag.RUN_KEY: spec.key,
                Tag.PARENT_RUN_KEYS: ",".join(parent.key for parent in spec.parents),
            },
            launch=self.launch_key,
            init_key=spec.init_from.key if spec.init_from else None,
            mask_key=spec.mask_from.key if spec.mask_from else None,
        )

    def _fetch(self, parent: RunSpec, name: str, into: Path) -> Path:
        """A parent's artifact: from its folder if it is still here, else from the store."""
        folder = self.work.finished(parent.key)
        if folder is not None:
            mine = into / f"{parent.key}-{name.replace('/', '-')}"
            with suppress(FileNotFoundError):
                _link(folder.artifact(name), mine)
                return mine
        waiting, tries = False, 0
        while not self.stop.is_set():
            try:
                stored = self.store.finished_run(parent.key)
                if stored is None:
                    raise ParentUnavailable(
                        f"its parent '{parent.name}' is no longer in the store. Launch the study "
                        "again to train it anew"
                    )
                try:
                    return self.store.fetch(stored.run_id, name, into)
                except (StoreAway, StoreRefused) as error:
                    # Raises StoreAway if nothing answers; otherwise it is the artifact that lacks,
                    # unless its own store was away for a moment.
                    self.store.running(parent.key)
                    tries += 1
                    if tries < _TRIES:
                        self.stop.wait(_WAIT_S)
                        continue
                    raise ParentUnavailable(
                        f"'{name}' of its parent '{parent.name}' (run {stored.run_id}) is missing: "
                        f"{error}. Delete that run in MLflow and launch the study again to train "
                        "it anew"
                    ) from error
            except StoreAway as error:
                if not waiting:
                    self.reporter.say(
                        f"waiting for the store, which holds '{parent.name}': {error}"
                    )
                waiting = True
                self.stop.wait(_WAIT_S)
        raise KeyboardInterrupt


def asked_together(config: Study) -> int | None:
    """How many runs a study says to step side by side; None leaves it to what the device gains."""
    # Streamed images are decoded for one run at a time.
    if config.fuse == "off" or datasets.find(config.dataset.name).streamed:
        return 1
    return None if config.fuse == "auto" else config.fuse


class Executor(Protocol):
    """Trains what is not finished of a plan."""

    def run(self) -> dict[str, Outcome]:
        """The outcome of every run of the plan that was reached, by key."""


@dataclass
class Serial:
    """Trains the runs of a plan in this process, each after its parents, some side by side.

    Args:
        plan: what to train.
        runs: trains one of them.
        known: last-epoch accuracy of the runs that are finished already, by key.
        together: how many runs may be stepped side by side.
    """

    plan: Plan
    runs: Runs
    known: dict[str, float | None]
    together: int = 1

    def run(self) -> dict[str, Outcome]:
        """Trains what is not finished and returns the outcome of every run by key.

        A run that another launch is training is left to it; this one waits for the result if
        there is nothing else to do.
        """
        runs, outcomes = self.runs, already_known(self.plan, self.known)
        waiting = False
        while todo := [spec for spec in self.plan.runs if spec.key not in outcomes]:
            ended = {spec.key: o for spec in todo if (o := runs.skipped(spec, outcomes))}
            ready = [spec for spec in todo if runs.ready(spec, outcomes)]
            for group in side_by_side(ready, self.together):
                if ended or runs.stop.is_set():
                    break
                ended = runs.attempt(group)
            for key, outcome in ended.items():
                outcomes[key] = outcome
                runs.reporter.run_ended(outcome)
                runs.delivery.nudge()
            if runs.stop.is_set():
                break
            if not ended:
                if not waiting:
                    runs.reporter.say("waiting for runs that another launch is training")
                waiting = True
                runs.stop.wait(_WAIT_S)
        return outcomes


def already_known(plan: Plan, known: dict[str, float | None]) -> dict[str, Outcome]:
    """Outcomes of the plan's runs that are finished before anything is trained."""
    return {
        spec.key: Outcome(spec, Status.KNOWN, known[spec.key])
        for spec in plan.runs
        if spec.key in known
    }


class _TrainedElsewhere(Exception):
    """Another machine is training the run."""


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
