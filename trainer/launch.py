"""One launch of a study: config → plan → runs → store → summary."""

import hashlib
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from filelock import Timeout
from rich.console import Console
from ruamel.yaml import YAML

from jackpot.contract import Artifact, Kind, Metric, Tag
from trainer import datasets
from trainer.execution import environment, estimate
from trainer.execution.execute import Executor, Outcome, Runs, Serial, Status, asked_together
from trainer.report import live
from trainer.report import tables as report
from trainer.store.delivery import Delivery
from trainer.store.journal import RunFolder, Start, WorkDir
from trainer.store.tracking import Store, StoreAway, StoredRun, StoreRefused
from trainer.study.config import Study
from trainer.study.plan import Plan, in_turn, plan, reported

if TYPE_CHECKING:
    from trainer.execution.ray_executor import RayOptions

# How long nothing may reach the store at the end before a launch leaves the rest to the next one.
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
    plan_ = plan(config)
    work = work_dir(store)
    stored = _stored(config, store, work, console)
    known = _accuracies(plan_, stored, work)
    todo = [spec for spec in plan_.runs if spec.key not in known]
    console.print(report.planned(plan_, known))
    epochs = sum(spec.epochs for spec in plan_.runs)
    left = sum(spec.epochs for spec in todo)
    console.print(
        f"{len(plan_.runs)} runs, {epochs:,} epochs; {len(plan_.runs) - len(todo)} runs are "
        f"finished, {len(todo)} runs with {left:,} epochs are left."
    )
    if todo:
        from trainer.execution import calibration
        from trainer.training.process import device_name

        # Measured anew: the machine may have been busy the last time.
        work.speeds.clear()
        together = together_at_once(config, work)
        speeds = estimate.from_earlier_runs(config, stored.values(), device_name())
        if speeds is None:
            speeds = calibration.calibrated(config, sorted({1, together}), work.speeds)
        groups = in_turn(todo, together)
        time_left = report.duration(estimate.seconds(groups, speeds))
        console.print(
            f"Estimated time in one process: {time_left}, from {speeds.origin}"
            f"{f', {together} runs side by side' if together > 1 else ''}."
        )


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
        ValueError: the network cannot take the dataset's images, has no layer to prune, or none to
            make narrower.
    """
    plan_ = plan(config)
    work = work_dir(store)
    delivery = Delivery(store, work, say=lambda text: reporter.say(text))
    known = _accuracies(plan_, _stored(config, store, work, console), work)
    todo = [spec for spec in plan_.runs if spec.key not in known]
    reporter = live.reporter(console, sum(spec.epochs for spec in todo))

    @cache
    def dataset() -> datasets.Dataset:
        return datasets.as_chosen(config.dataset)

    if todo:
        console.print(
            f"Study '{config.study}': {len(plan_.runs)} runs, "
            f"{len(plan_.runs) - len(todo)} of them finished already.",
            highlight=False,
        )
        with console.status("preparing: imports, network, images …"):
            from trainer.execution.start import check

            check(config, todo, dataset(), work.shared, here=options is None)
    together = together_at_once(config, work) if todo and options is None else 1
    delivery.start()
    with (
        _recorded(plan_, config, store, work, delivery, bool(todo)) as folder,
        _stoppable() as stop,
    ):
        with reporter as view:
            runs = Runs(
                study=plan_.study,
                launch_key=plan_.key,
                store=store,
                work=work,
                delivery=delivery,
                dataset=dataset,
                environment=environment.tags(),
                reporter=view,
                stop=stop,
                checkpoint_every=config.checkpoint_every,
                trajectory_every=config.trajectory_every,
                reported=frozenset(reported(config)),
            )
            executor: Executor = Serial(plan_, runs, known, together)
            if options is not None and todo:
                from trainer.execution.ray_executor import Ray

                executor = Ray(plan_, runs, known, config, options)
            outcomes = executor.run()
        finished = [o for o in outcomes.values() if o.status in (Status.FINISHED, Status.KNOWN)]
        complete = len(finished) == len(plan_.runs)
        if folder is not None:
            folder.end(
                "KILLED" if stop.is_set() else "FINISHED" if complete else "FAILED",
                None if complete else f"{len(plan_.runs) - len(finished)} runs are not finished",
            )
            delivery.alive.discard(folder.key)
        interrupted = stop.is_set()
        if complete:
            work.shared.clear()
    with console.status("sending what is left to the tracking store …"):
        keys = {plan_.key, *(spec.key for spec in plan_.runs)}
        undelivered = delivery.close(DELIVERY_PATIENCE_S, keys)
    if not todo:
        console.print(
            f"Study '{config.study}': nothing to train, all {len(plan_.runs)} runs are finished.",
            highlight=False,
        )
    console.print(report.results(plan_, outcomes.values()))
    _say_what_failed(console, outcomes)
    if undelivered:
        console.print(
            f"[bold]{undelivered.runs} runs have not reached {store.uri}[/]: {undelivered.reason}\n"
            f"Nothing is lost: they are kept in {work.path}, and the same command sends them.",
            highlight=False,
        )
    if interrupted:
        console.print("Interrupted. The same command goes on where this one stopped.")
    return Ended(outcomes, complete and undelivered is None, interrupted)


def together_at_once(config: Study, work: WorkDir) -> int:
    """How many runs one process of this machine steps side by side."""
    asked = asked_together(config)
    if asked is not None:
        return asked
    from trainer.execution import calibration

    return calibration.together(config, work.speeds)


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


def _stored(config: Study, store: Store, work: WorkDir, console: Console) -> dict[str, StoredRun]:
    """Finished runs of the study's network and dataset in the store, by key.

    None, and a word about it, if the store does not answer.
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
def _recorded(
    plan_: Plan, config: Study, store: Store, work: WorkDir, delivery: Delivery, training: bool
) -> Iterator[RunFolder | None]:
    """The launch's own record, unless the same plan is recorded already and has nothing to do."""
    lock = work.lock(plan_.key)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        # Another launch of the same plan is under way and keeps the record.
        yield None
        return
    try:
        if not training:
            try:
                recorded = store.launch_of(plan_.study, plan_.key)
            except (StoreAway, StoreRefused):
                recorded = None
            if recorded and recorded[1] == "FINISHED" and not work.of(plan_.key):
                yield None
                return
        folder = work.open(plan_.key)
        folder.start(
            Start(
                key=plan_.key,
                kind=Kind.LAUNCH,
                experiment=plan_.study,
                name=f"launch {datetime.now():%Y-%m-%d %H:%M}, {len(plan_.runs)} runs",
                params={},
                tags={
                    **environment.tags(),
                    Tag.KIND: Kind.LAUNCH,
                    Tag.STUDY: plan_.study,
                    Tag.PLAN_KEY: plan_.key,
                },
            )
        )
        delivery.alive.add(plan_.key)
        write_record(folder, plan_, config)
        yield folder
    finally:
        lock.release()


def write_record(folder: RunFolder, plan_: Plan, config: Study) -> None:
    """Config, plan and environment as artifacts."""
    yaml = YAML()
    with folder.artifact(Artifact.LAUNCH_CONFIG).open("w", encoding="utf-8") as file:
        yaml.dump(config.model_dump(mode="json"), file)
    runs = [
        {"run_key": spec.key, "name": spec.name, "parent_run_keys": [p.key for p in spec.parents]}
        | {str(name): value for name, value in spec.params().items()}
        for spec in plan_.runs
    ]
    for name, contents in (
        (Artifact.LAUNCH_PLAN, {"study": plan_.study, "plan_key": plan_.key, "runs": runs}),
        (Artifact.LAUNCH_ENVIRONMENT, environment.description()),
    ):
        folder.artifact(name).write_text(json.dumps(contents, indent=1), encoding="utf-8")
    for name in (Artifact.LAUNCH_CONFIG, Artifact.LAUNCH_PLAN, Artifact.LAUNCH_ENVIRONMENT):
        folder.artifact_written(name)


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
