"""One launch of a study: config → plan → runs → store → summary."""

import hashlib
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console

from jackpot import wording
from jackpot.contract import Metric
from trainer import datasets
from trainer.execution import estimate, forecast, group_size, images
from trainer.execution.attempt import Attempts
from trainer.execution.budget import Budget, Spending
from trainer.execution.outcome import Executor, Outcome, Status, results, skipped_for
from trainer.execution.record import Launch, Record
from trainer.execution.serial import Serial
from trainer.execution.way import Known, Way, followed, on_these_images, way_from
from trainer.report import live, looks
from trainer.report import tables as report
from trainer.store.delivery import Delivery, Undelivered
from trainer.store.journal import WorkDir
from trainer.store.shared import SharedFiles
from trainer.store.tracking import Store, StoreAway, StoredRun, StoreRefused
from trainer.study.config import Study
from trainer.study.groups import in_turn
from trainer.study.plan import Plan, RunSpec

if TYPE_CHECKING:
    from trainer.execution.ray_executor import RayOptions

# Seconds without any delivery at the end after which a launch leaves the rest to the next one.
DELIVERY_PATIENCE_S = 60.0
_NAMED = 3


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
    first = images.planned(config, digest, None, stored, work)
    way = way_from(config, first, Known(stored, work, _diverged(config, store)))
    plan_, todo = way.plan, way.todo
    epochs, left = (sum(spec.epochs for spec in specs) for specs in (plan_.runs, todo))
    console.print(
        f"{len(plan_.runs)} runs, {epochs:,} epochs; {len(plan_.runs) - len(todo)} runs are "
        f"finished, {len(todo)} runs with {left:,} epochs are left."
    )
    seconds = _seconds(config, todo, stored, console) if todo else 0.0
    if way.course is not None:
        with console.status("drawing how the study may go on …"):
            ahead = forecast.ahead(config, way.course, results(way.known))
        console.print(looks.ahead(way.course, ahead, _epoch_s(seconds, left)))
    console.print(report.planned(plan_, {k for k, o in way.known.items() if o.status.is_trained}))
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


def _epoch_s(seconds: float, epochs: int) -> float | None:
    """Seconds of an epoch, without those that a launch takes once."""
    return max(seconds - estimate.LAUNCH_S, 0.0) / epochs if epochs else None


def _seconds(
    config: Study, todo: list[RunSpec], stored: Mapping[str, StoredRun], console: Console
) -> float:
    """How long the runs that are left may take, which it prints."""
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
    seconds = estimate.seconds(in_turn(todo, size), speeds)
    side = f", {size} runs side by side" if size > 1 else ""
    console.print(
        f"Estimated time in one process: {wording.duration(seconds)}, from {speeds.origin}{side}.",
        highlight=False,
    )
    return seconds


def launch(
    config: Study,
    store: Store,
    console: Console,
    options: "RayOptions | None" = None,
    budget: Budget | None = None,
) -> Ended:
    """Trains what is not finished, records it in the store, and prints a summary.

    Args:
        config: the study.
        store: where results go.
        console: where to print.
        options: train several runs at once with Ray; None: one after another in this process.
        budget: after which it stops.

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
    known = Known(stored, work, _diverged(config, store))
    way = on_these_images(config, dataset, known)
    todo, is_training = way.todo, bool(way.todo)
    reporter = live.reporter(console, sum(spec.epochs for spec in todo))
    delivery = Delivery(store, work, say=reporter.say)
    if todo:
        _prepare(config, way, dataset, work, console, here=options is None)
    size = group_size.here(config, work.speeds) if todo and options is None else 1
    delivery.start()
    with (
        _workers(options if todo else None),
        Record(config, store, work, delivery, is_training) as record,
        _stoppable() as stop,
    ):
        record.write(way.plan, way.course)
        with reporter as view:
            spending = Spending(budget or Budget(), view, stop)
            launch_ = Launch.of_plan(way.plan, config, store, work)
            attempts = Attempts(launch_, store, work, delivery, dataset, spending, stop)
            executor = _executor(attempts, config, size, options if todo else None)
            with spending.counting():
                way = _trained(executor, config, way, known, record, view, stop)
        plan_, outcomes = way.plan, way.known
        # An adaptive study goes on without what diverged: that is a result.
        trained = {key for key, outcome in outcomes.items() if outcome.status.is_trained}
        there = trained if way.course is None else set(results(outcomes))
        missing = sum(spec.key not in there for spec in plan_.runs)
        # What stopped it may have come with its last epoch.
        is_over = not missing and (way.course is None or way.course.stopped)
        is_stopped = stop.is_set() and not is_over
        record.end(missing, is_stopped)
        if not missing:
            work.shared.clear()
    with console.status("sending what is left to the tracking store …"):
        keys = {plan_.key, *(spec.key for spec in plan_.runs)}
        undelivered = delivery.close(DELIVERY_PATIENCE_S, keys)
    collapsed = {key for key, run in stored.items() if run.metrics.get(Metric.COLLAPSED_LAYERS)}
    _tell(console, plan_, outcomes, undelivered, store, work, collapsed, trained=is_training)
    _say_how_it_ended(console, way, budget, is_stopped and spending.is_spent, is_stopped)
    interrupted = is_stopped and not spending.is_spent
    return Ended(outcomes, not missing and undelivered is None, interrupted)


def _trained(
    executor: Executor,
    config: Study,
    way: Way,
    known: Known,
    record: Record,
    view: live.View,
    stop: threading.Event,
) -> Way:
    """Trains what is to be trained; of an adaptive study look by look, until it stops."""
    while True:
        _tell_look(view, way)
        way = Way(way.plan, executor.run(way.plan, way.known), way.course)
        if way.course is None or way.course.stopped:
            return way
        way = followed(config, way, known)
        record.write(way.plan, way.course)
        if stop.is_set() or not way.todo:
            # With nothing to do it has stopped, or runs of this look have failed.
            if way.course is not None and way.course.stopped:
                _tell_look(view, way)
            return way


def _tell_look(view: live.View, way: Way) -> None:
    """Shows what the last judged look said, and what the next one asks for."""
    if way.course is None:
        return
    todo = way.todo
    epochs = sum(spec.epochs for spec in todo)
    view.look_ended(way.course.judged, looks.sentence(way.course, len(todo), epochs), epochs)


def _prepare(
    config: Study,
    way: Way,
    dataset: Callable[[], datasets.Dataset],
    work: WorkDir,
    console: Console,
    here: bool,
) -> None:
    """Checks that the study can be trained before training starts. Raises: see `launch`."""
    plan_, todo = way.plan, way.todo
    console.print(
        f"Study '{config.study}': {len(plan_.runs)} runs{' so far' if way.course else ''}, "
        f"{len(plan_.runs) - len(todo)} of them finished already.",
        highlight=False,
    )
    with console.status("preparing: imports, network, images …"):
        from trainer.execution.start import check_study

        for warning in check_study(config, plan_, todo, dataset(), work.shared, here):
            console.print(warning, markup=False, highlight=False)


def _workers(options: "RayOptions | None") -> AbstractContextManager[None]:
    """What an executor needs while it trains: a connection to Ray, or nothing."""
    if options is None:
        return nullcontext()
    from trainer.execution.ray_executor import connected

    return connected(options.address)


def _executor(
    attempts: Attempts, config: Study, size: int, options: "RayOptions | None"
) -> Executor:
    if options is None:
        return Serial(attempts, size)
    from trainer.execution.ray_executor import Ray

    return Ray(attempts, config, options)


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


def _diverged(config: Study, store: Store) -> dict[str, str]:
    """Why runs failed that would diverge again, by run key; what cannot be read is trained."""
    with suppress(StoreAway, StoreRefused):
        return store.diverged(config.network, config.dataset.name)
    return {}


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


def _say_how_it_ended(
    console: Console, way: Way, budget: Budget | None, is_spent: bool, is_stopped: bool
) -> None:
    if way.course is not None and way.course.stopped:
        console.print(f"Stopped: {way.course.why}.", highlight=False)
    if is_spent:
        console.print(
            f"The budget of {budget} is spent. The same command goes on where this one stopped.",
            highlight=False,
        )
    elif is_stopped:
        console.print("Interrupted. The same command goes on where this one stopped.")


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets; a second Ctrl-C interrupts at once."""
    stop, asked = threading.Event(), threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        # What else has set `stop`, such as a budget, is not the user's.
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
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
    failed = [o for o in outcomes.values() if o.status is Status.FAILED]
    skipped = skipped_for(outcomes)
    lines = {
        f"{len(failed)} failed": [f"{o.spec.name}: {o.reason}" for o in failed],
        f"{sum(map(len, skipped.values()))} skipped": [
            f"{_first([spec.name for spec in specs])}: {why}" for why, specs in skipped.items()
        ],
    }
    for head, said in lines.items():
        if said:
            console.print(f"[bold]{head}:[/]", highlight=False)
        for line in said:
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _first(names: Sequence[str]) -> str:
    """Names, of which there may be many: pruning in rounds loses all after the first."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
