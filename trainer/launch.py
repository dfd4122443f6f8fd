"""One launch of a study: config → plan → runs → store → summary."""

import hashlib
import re
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console

from jackpot import wording
from jackpot.contract import DIVERGED, Metric
from trainer import datasets
from trainer.execution import estimate, group_size, images
from trainer.execution.attempt import Attempts
from trainer.execution.outcome import Executor, Outcome, Status, known_outcomes
from trainer.execution.record import Launch, recorded
from trainer.execution.serial import Serial
from trainer.report import live
from trainer.report import tables as report
from trainer.store.delivery import Delivery, Undelivered
from trainer.store.journal import EndStatus, RunFolder, WorkDir
from trainer.store.shared import SharedFiles
from trainer.store.tracking import Store, StoreAway, StoredRun, StoreRefused
from trainer.study.config import Study
from trainer.study.groups import in_turn
from trainer.study.plan import Plan, RunSpec

if TYPE_CHECKING:
    from trainer.execution.ray_executor import RayOptions

# Seconds without any delivery at the end after which a launch leaves the rest to the next one.
DELIVERY_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Ended:
    """How a launch ended.

    Attributes:
        outcomes: of every run of the plan that was reached, by run key.
        complete: every run of the plan is finished and in the store.
        interrupted: someone stopped it.
    """

    outcomes: dict[str, Outcome]
    complete: bool
    interrupted: bool


def work_dir(store: Store) -> WorkDir:
    """The store's own folder in `.jackpot`, beside a SQLite store, else in the current folder.

    All launches on a store share it; what waits for one store is never sent to another.
    """
    file = store.sqlite_file
    name = hashlib.sha256((file.as_uri() if file else store.uri).encode()).hexdigest()[:12]
    return WorkDir((file.parent if file else Path.cwd()) / ".jackpot" / name)


def dry_run(config: Study, store: Store, console: Console) -> None:
    """Prints what a launch would train, and how long it may take."""
    work = work_dir(store)
    stored = _stored(config, store, work, console)
    digest = datasets.known_digest(config.dataset.name)
    if digest is None and stored:
        console.print(
            "The images have not been decoded on this machine yet: finished runs are taken to be "
            "of the same ones.",
            highlight=False,
        )
    plan_ = images.planned(config, digest, None, stored, work)
    known = _accuracies(plan_, stored, work)
    todo = [spec for spec in plan_.runs if spec.key not in known]
    epochs = sum(spec.epochs for spec in plan_.runs)
    left = sum(spec.epochs for spec in todo)
    console.print(
        f"{len(plan_.runs)} runs, {epochs:,} epochs; {len(plan_.runs) - len(todo)} runs are "
        f"finished, {len(todo)} runs with {left:,} epochs are left."
    )
    if todo:
        console.print(_cost(config, todo, stored, console), highlight=False)
    console.print(report.planned(plan_, known))
    from trainer.execution.start import check_network

    chosen = config.dataset
    train, _ = datasets.sizes(chosen.name, chosen.train_images, chosen.test_images)
    train -= chosen.validation_images or 0
    if train < 1:
        raise ValueError(
            f"dataset.validation_images: {chosen.validation_images:,} leave no image to train on"
        )
    for said in check_network(config, plan_, datasets.find(chosen.name), train):
        console.print(said, markup=False, highlight=False)


def _cost(
    config: Study, todo: list[RunSpec], stored: Mapping[str, StoredRun], console: Console
) -> str:
    """How long the runs that are left may take."""
    from trainer.execution import calibration
    from trainer.training.process import device_name

    # Measured anew, since the machine may have been busy the last time; and nothing is written.
    with (
        TemporaryDirectory(prefix="jackpot-") as folder,
        console.status("measuring how fast this machine trains it …"),
    ):
        measured = SharedFiles(Path(folder))
        size = group_size.here(config, measured)
        speeds = estimate.from_earlier_runs(config, stored.values(), device_name())
        if speeds is None:
            speeds = calibration.calibrated(config, sorted({1, size}), measured)
    time_left = wording.duration(estimate.seconds(in_turn(todo, size), speeds))
    side = f", {size} runs side by side" if size > 1 else ""
    return f"Estimated time in one process: {time_left}, from {speeds.origin}{side}."


def launch(
    config: Study, store: Store, console: Console, options: "RayOptions | None" = None
) -> Ended:
    """Trains what is not finished, records it in the store, and prints a summary.

    Args:
        config: the study.
        store: where results go.
        console: where to print.
        options: train several runs at once with Ray; None: one after another in this process.

    Raises:
        DatasetError: the dataset is not to be had; nothing has been trained.
        ValueError: the work directory cannot be written; or the network cannot take the dataset's
            images, has no layer to prune, or none to make narrower.
    """
    work = work_dir(store)
    work.check()
    work.empty_trash()
    dataset = cache(lambda: datasets.as_chosen(config.dataset))
    stored = _stored(config, store, work, console)
    plan_, accuracies = _plan_on_these_images(config, dataset, stored, work)
    known = known_outcomes(plan_, accuracies, _diverged(config, store, plan_, work))
    todo = [spec for spec in plan_.runs if spec.key not in known]
    reporter = live.reporter(console, sum(spec.epochs for spec in todo))
    delivery = Delivery(store, work, say=reporter.say)
    if todo:
        _prepare(config, plan_, todo, dataset, work, console, here=options is None)
    size = group_size.here(config, work.speeds) if todo and options is None else 1
    delivery.start()
    with (
        recorded(plan_, config, store, work, delivery, is_training=bool(todo)) as folder,
        _stoppable() as stop,
    ):
        with reporter as view:
            launch_ = Launch.of_plan(plan_, config, store, work)
            attempts = Attempts(launch_, store, work, delivery, dataset, view, stop)
            outcomes = _executor(plan_, attempts, known, config, size, options, todo).run()
        finished = [o for o in outcomes.values() if o.status.is_trained]
        missing = len(plan_.runs) - len(finished)
        if folder is not None:
            _end(folder, missing, stop.is_set())
            delivery.alive.discard(folder.key)
        if not missing:
            work.shared.clear()
    with console.status("sending what is left to the tracking store …"):
        keys = {plan_.key, *(spec.key for spec in plan_.runs)}
        undelivered = delivery.close(DELIVERY_PATIENCE_S, keys)
    collapsed = {key for key, run in stored.items() if run.metrics.get(Metric.COLLAPSED_LAYERS)}
    _tell(console, plan_, outcomes, undelivered, store, work, collapsed, trained=bool(todo))
    if stop.is_set():
        console.print("Interrupted. The same command goes on where this one stopped.")
    return Ended(outcomes, not missing and undelivered is None, stop.is_set())


def _plan_on_these_images(
    config: Study,
    dataset: Callable[[], datasets.Dataset],
    stored: dict[str, StoredRun],
    work: WorkDir,
) -> tuple[Plan, dict[str, float | None]]:
    """The plan, and the accuracies of those of its runs that are finished.

    Where there is nothing left to train, the images may be gone. Raises: DatasetError.
    """
    try:
        loaded = dataset()
    except datasets.DatasetError:
        plan_ = images.planned(config, None, None, stored, work)
        known = _accuracies(plan_, stored, work)
        if len(known) < len(plan_.runs):
            raise
        return plan_, known
    plan_ = images.planned(config, loaded.digest, loaded.earlier_digest, stored, work)
    return plan_, _accuracies(plan_, stored, work)


def _prepare(
    config: Study,
    plan_: Plan,
    todo: Sequence[RunSpec],
    dataset: Callable[[], datasets.Dataset],
    work: WorkDir,
    console: Console,
    here: bool,
) -> None:
    """Checks that the study can be trained before training starts. Raises: see `launch`."""
    console.print(
        f"Study '{config.study}': {len(plan_.runs)} runs, "
        f"{len(plan_.runs) - len(todo)} of them finished already.",
        highlight=False,
    )
    with console.status("preparing: imports, network, images …"):
        from trainer.execution.start import check_study

        for warning in check_study(config, plan_, todo, dataset(), work.shared, here):
            console.print(warning, markup=False, highlight=False)


def _executor(
    plan_: Plan,
    attempts: Attempts,
    known: dict[str, Outcome],
    config: Study,
    size: int,
    options: "RayOptions | None",
    todo: Sequence[RunSpec],
) -> Executor:
    if options is None or not todo:
        return Serial(plan_, attempts, known, size)
    from trainer.execution.ray_executor import Ray

    return Ray(plan_, attempts, known, config, options)


def _end(folder: RunFolder, missing: int, is_interrupted: bool) -> None:
    """Records how the launch ended."""
    status: EndStatus = "FAILED" if missing else "FINISHED"
    reason = f"{missing} runs are not finished" if missing else None
    folder.end("KILLED" if is_interrupted else status, reason)


def _tell(
    console: Console,
    plan_: Plan,
    outcomes: dict[str, Outcome],
    undelivered: Undelivered | None,
    store: Store,
    work: WorkDir,
    collapsed: Collection[str],
    trained: bool,
) -> None:
    """Prints what came out, what failed, and what has not reached the store."""
    if not trained:
        console.print(
            f"Study '{plan_.study}': nothing to train, all {len(plan_.runs)} runs are finished.",
            highlight=False,
        )
    console.print(report.results(plan_, outcomes.values(), collapsed))
    _say_what_failed(console, outcomes)
    if undelivered:
        console.print(
            f"[bold]{undelivered.runs} runs have not reached {store.uri}[/]: {undelivered.reason}\n"
            f"Nothing is lost: they are kept in {work.path}, and the same command sends them.",
            highlight=False,
        )


def _accuracies(
    plan_: Plan, stored: dict[str, StoredRun], work: WorkDir
) -> dict[str, float | None]:
    """Last-epoch accuracy of the plan's finished runs, in the store or on the way to it."""
    known: dict[str, float | None] = {}
    for key in (spec.key for spec in plan_.runs):
        waiting = None if key in stored else work.finished(key)
        if waiting is not None:
            known[key] = waiting.last_metrics().get(Metric.VAL_ACCURACY)
        elif key in stored:
            known[key] = stored[key].metrics.get(Metric.VAL_ACCURACY)
    return known


def _diverged(config: Study, store: Store, plan_: Plan, work: WorkDir) -> dict[str, str]:
    """Why runs failed that would diverge again, by run key; what cannot be read is trained."""
    found: dict[str, str] = {}
    with suppress(StoreAway, StoreRefused):
        found = store.diverged(config.network, config.dataset.name)
    for spec in plan_.runs:
        for folder in work.of(spec.key):
            why = folder.failure()
            if why and re.match(DIVERGED, why):
                found[spec.key] = why
    return found


def _stored(config: Study, store: Store, work: WorkDir, console: Console) -> dict[str, StoredRun]:
    """Finished runs of the study's network and dataset in the store, by key.

    Empty, with a message to the user, if the store does not answer.
    """
    try:
        return store.finished(config.network, config.dataset.name)
    except (StoreAway, StoreRefused) as error:
        console.print(
            f"Tracking store {store.uri} does not answer: {error}\n"
            f"Going on without it: runs that it has finished cannot be seen, and results wait in "
            f"{work.path} until it answers.",
            highlight=False,
        )
        return {}


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets; a second Ctrl-C interrupts at once."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say_what_failed(console: Console, outcomes: dict[str, Outcome]) -> None:
    for status in (Status.FAILED, Status.SKIPPED):
        ended = [o for o in outcomes.values() if o.status == status]
        if ended:
            console.print(f"[bold]{len(ended)} {status}:[/]", highlight=False)
            for outcome in ended:
                line = f"  {outcome.spec.name}: {outcome.reason}"
                console.print(line, markup=False, highlight=False, soft_wrap=True)
