"""The record of a launch: what all its processes need to know, and what it leaves in the store."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from filelock import BaseFileLock, Timeout
from ruamel.yaml import YAML

from jackpot import stores, wording
from jackpot.contract import Artifact, Kind, Tag
from trainer.execution import environment
from trainer.store.delivery import Delivery
from trainer.store.journal import EndStatus, RunFolder, RunStart, WorkDir
from trainer.store.tracking import Store, StoreAway, StoreRefused
from trainer.study.adaptive import Course
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


class Record:
    """The launch's own run in the store, with config, plan and environment as artifacts.

    One launch at a time keeps it. Another one that trains the same plan takes it over where that
    one has ended before its time.

    Args:
        config: the study.
        store, work, delivery: where it goes.
        is_training: whether anything is to be trained.
    """

    def __init__(
        self, config: Study, store: Store, work: WorkDir, delivery: Delivery, is_training: bool
    ) -> None:
        self._config, self._store, self._work, self._delivery = config, store, work, delivery
        self._is_training, self._has_tried = is_training, False
        self._folder: RunFolder | None = None
        self._lock: BaseFileLock | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()

    def write(self, plan: Plan, course: Course | None) -> None:
        """Records a plan, of an adaptive study with its looks so far, if it is ours to record."""
        if self._folder is not None:
            _write_plan(self._folder, plan, self._config, course)
        elif self._is_ours(plan):
            self._folder = self._begun(plan)
            write_record(self._folder, plan, self._config, course)

    def end(self, missing: int, is_interrupted: bool) -> None:
        """Records how the launch ended: how many runs are not finished."""
        if self._folder is None:
            return
        status: EndStatus = "FAILED" if missing else "FINISHED"
        reason = f"{missing} runs are not finished" if missing else None
        self._folder.end("KILLED" if is_interrupted else status, reason)
        self._delivery.alive.discard(self._folder.key)

    def _is_ours(self, plan: Plan) -> bool:
        begins = self._is_training and not self._has_tried
        self._has_tried = True
        lock = self._work.lock(plan.key)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        # With nothing to train, or after a launch beside this one, all may be recorded already.
        if not begins and self._is_finished(plan):
            lock.release()
            return False
        self._lock = lock
        return True

    def _is_finished(self, plan: Plan) -> bool:
        if self._work.of(plan.key):
            return self._work.finished(plan.key) is not None
        try:
            earlier = self._store.launch_of(plan.study, plan.key)
            if earlier is None or earlier[1] != "FINISHED":
                return False
            with TemporaryDirectory(prefix="jackpot-") as folder:
                path = self._store.fetch(earlier[0], Artifact.LAUNCH_PLAN, Path(folder))
                plan_ = json.loads(path.read_text(encoding="utf-8"))
                # How verdicts are read may have been said since.
                return bool(plan_.get("criteria", {}) == _criteria(self._config))
        except (StoreAway, StoreRefused, AttributeError, OSError, ValueError):
            return False

    def _begun(self, plan: Plan) -> RunFolder:
        folder = self._work.open(plan.key)
        folder.start(
            RunStart(
                key=plan.key,
                kind=Kind.LAUNCH,
                experiment=plan.study,
                name=f"launch {datetime.now():%Y-%m-%d %H:%M}, {_size(plan, self._config)}",
                params={},
                tags={
                    **environment.tags(),
                    Tag.KIND: Kind.LAUNCH,
                    Tag.STUDY: plan.study,
                    Tag.PLAN_KEY: plan.key,
                },
                about=about(plan, self._config),
            )
        )
        self._delivery.alive.add(plan.key)
        return folder


def _size(plan: Plan, config: Study) -> str:
    """How large a launch is, in words."""
    if config.looks is not None:
        return f"until decided, {config.looks.first} to {config.looks.last} trials"
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


def write_record(
    folder: RunFolder, plan: Plan, config: Study, course: Course | None = None
) -> None:
    """Writes config, plan and environment as artifacts; of an adaptive study its looks too."""
    yaml = YAML()
    with folder.artifact(Artifact.LAUNCH_CONFIG).open("w", encoding="utf-8") as file:
        yaml.dump(config.model_dump(mode="json"), file)
    environment_ = json.dumps(environment.description(), indent=1)
    folder.artifact(Artifact.LAUNCH_ENVIRONMENT).write_text(environment_, encoding="utf-8")
    for name in (Artifact.LAUNCH_CONFIG, Artifact.LAUNCH_ENVIRONMENT):
        folder.artifact_written(name)
    _write_plan(folder, plan, config, course)


def _criteria(config: Study) -> dict[str, Any]:
    """Those that the study asks to be read by, as JSON has them."""
    return config.criteria.model_dump(mode="json", exclude_none=True)


def _write_plan(folder: RunFolder, plan: Plan, config: Study, course: Course | None) -> None:
    looks = {} if course is None else course.asked
    runs = [
        {"run_key": spec.key, "name": spec.name, "parent_run_keys": [p.key for p in spec.parents]}
        | {str(name): value for name, value in spec.params().items()}
        | ({"look": looks[spec.key]} if spec.key in looks else {})
        for spec in plan.runs
    ]
    planned: dict[str, Any] = {
        "study": plan.study,
        "plan_key": plan.key,
        "criteria": _criteria(config),
        "runs": runs,
    }
    if course is not None:
        # In the same file: at which level a plan's runs are judged has to be known with them.
        planned["looks"] = [asdict(look.then()) for look in course.looks]
    # At once, not while the file is being sent.
    file = folder.artifact(Artifact.LAUNCH_PLAN)
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(planned, indent=1), encoding="utf-8")
    fresh.replace(file)
    folder.artifact_written(Artifact.LAUNCH_PLAN)
