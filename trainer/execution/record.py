"""The record of a launch: what all its processes need to know, and what it leaves in the store."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from filelock import Timeout
from ruamel.yaml import YAML

from jackpot import stores, wording
from jackpot.contract import Artifact, Kind, Tag
from trainer.execution import environment
from trainer.store.delivery import Delivery
from trainer.store.journal import RunFolder, RunStart, WorkDir
from trainer.store.tracking import Store, StoreAway, StoreRefused
from trainer.study.adaptive import Course, Look
from trainer.study.config import DatasetChoice, Study
from trainer.study.plan import Plan, reported


@dataclass(frozen=True)
class Launch:
    """What every process that trains runs of a launch needs to know. It can be pickled.

    Attributes:
        study: name of the study.
        key: of the plan.
        uri: of the store.
        work: the store's work directory.
        dataset: which images.
        environment: tags of the machine and software for every run.
        checkpoint_every: epochs between checkpoints.
        trajectory_every: epochs between weights that runs at `reported` sparsities keep.
        reported: sparsities of the study.
    """

    study: str
    key: str
    uri: str
    work: str
    dataset: DatasetChoice
    environment: dict[str, str]
    checkpoint_every: int
    trajectory_every: int | None
    reported: frozenset[float]

    @classmethod
    def of_plan(cls, plan: Plan, config: Study, store: Store, work: WorkDir) -> "Launch":
        """The launch of a plan on a store."""
        return cls(
            study=plan.study,
            key=plan.key,
            # Relative names mean another file in a worker's folder.
            uri=stores.sqlite_uri(file) if (file := store.sqlite_file) else store.uri,
            work=str(work.path.absolute()),
            dataset=config.dataset,
            environment=environment.tags(),
            checkpoint_every=config.checkpoint_every,
            trajectory_every=config.trajectory_every,
            reported=frozenset(reported(config)),
        )


@contextmanager
def recorded(
    plan: Plan, config: Study, store: Store, work: WorkDir, delivery: Delivery, is_training: bool
) -> Iterator[RunFolder | None]:
    """The launch's own run in the store, with config, plan and environment as artifacts.

    None if the same plan is recorded already and has nothing to do, or if another launch of it is
    under way, which keeps the record.
    """
    lock = work.lock(plan.key)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield None
        return
    try:
        if not is_training:
            try:
                earlier = store.launch_of(plan.study, plan.key)
            except (StoreAway, StoreRefused):
                earlier = None
            if earlier and earlier[1] == "FINISHED" and not work.of(plan.key):
                yield None
                return
        folder = work.open(plan.key)
        folder.start(
            RunStart(
                key=plan.key,
                kind=Kind.LAUNCH,
                experiment=plan.study,
                name=f"launch {datetime.now():%Y-%m-%d %H:%M}, {_size(plan)}",
                params={},
                tags={
                    **environment.tags(),
                    Tag.KIND: Kind.LAUNCH,
                    Tag.STUDY: plan.study,
                    Tag.PLAN_KEY: plan.key,
                },
                about=about(plan, config),
            )
        )
        delivery.alive.add(plan.key)
        write_record(folder, plan, config)
        yield folder
    finally:
        lock.release()


def _size(plan: Plan) -> str:
    """How large a launch is, in words."""
    if plan.looks is not None:
        return f"until decided, {plan.looks[0].first} to {plan.looks[0].last} trials"
    return f"{len(plan.runs)} runs"


def about(plan: Plan, config: Study) -> str:
    """The description of a study's experiment in MLflow, in Markdown."""
    rates = ", ".join(f"{rate:g}" for rate in config.rates)
    looks = config.looks
    trials = (
        f"{looks.first} to {looks.last} trials of each, until the verdicts are decided"
        if looks
        else f"{wording.count(config.most_trials, 'trial')} of each"
    )
    depths = ", ".join(wording.sparsity(s) for s in sorted(set(reported(config))))
    settings = ", ".join(setting.label for setting in config.chosen_settings)
    pruners = ", ".join(config.pruners)
    return f"""Study **{plan.study}**: does a winning ticket of {config.network} on \
{config.dataset.name} really win?

- settings: {settings}; pruners: {pruners}
- learning rates: {rates}
- sparsities: {depths}
- {trials}, {config.training.epochs} epochs

Each run is a child of the launch that trained it; the launch has the config, the plan and the \
environment as artifacts. Group the runs by `setting`, `pruner` or `sparsity`, show the columns \
`sparsity` and `learning_rate`, and use the chart view to compare their curves. The table loads \
100 runs at a time: a chart shows what is loaded.

Verdicts and figures: `python -m explorer` with `MLFLOW_TRACKING_URI` set to this \
store, then `/?study={plan.study}`. After Ma et al., NeurIPS 2021."""


def write_record(folder: RunFolder, plan: Plan, config: Study) -> None:
    """Writes config, plan and environment as artifacts."""
    yaml = YAML()
    with folder.artifact(Artifact.LAUNCH_CONFIG).open("w", encoding="utf-8") as file:
        yaml.dump(config.model_dump(mode="json"), file)
    environment_ = json.dumps(environment.description(), indent=1)
    folder.artifact(Artifact.LAUNCH_ENVIRONMENT).write_text(environment_, encoding="utf-8")
    for name in (Artifact.LAUNCH_CONFIG, Artifact.LAUNCH_ENVIRONMENT):
        folder.artifact_written(name)
    _write_plan(folder, plan, config)


def write_course(folder: RunFolder, course: Course, config: Study) -> None:
    """Writes how far an adaptive study has come: its looks, and the runs it has asked for."""
    _write_plan(folder, course.plan, config, course.looks)


def _write_plan(folder: RunFolder, plan: Plan, config: Study, looks: Sequence[Look] = ()) -> None:
    runs = [
        {"run_key": spec.key, "name": spec.name, "parent_run_keys": [p.key for p in spec.parents]}
        | {str(name): value for name, value in spec.params().items()}
        for spec in plan.runs
    ]
    criteria = config.criteria.model_dump(exclude_none=True)
    planned: dict[str, Any] = {
        "study": plan.study,
        "plan_key": plan.key,
        "criteria": criteria,
        "runs": runs,
    }
    if looks:
        # In the same file: at which level a plan's runs are judged has to be known with them.
        planned["looks"] = [asdict(look.then()) for look in looks]
    folder.artifact(Artifact.LAUNCH_PLAN).write_text(
        json.dumps(planned, indent=1), encoding="utf-8"
    )
    folder.artifact_written(Artifact.LAUNCH_PLAN)
