"""How far a study has come: what is known of its runs, and which are to be trained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jackpot.contract import Metric
from trainer import datasets
from trainer.execution import images
from trainer.execution.outcome import Outcome, known_outcomes, results
from trainer.store.journal import WorkDir
from trainer.store.tracking import StoredRun
from trainer.study.adaptive import Course, follow
from trainer.study.config import Study
from trainer.study.plan import Plan, RunSpec


@dataclass(frozen=True)
class Known:
    """What is known of runs before a launch trains any.

    Attributes:
        stored: finished runs of the study's network and dataset in the store, by key.
        work: has those that are on their way.
        diverged: why runs failed in the store that would diverge again, by key.
    """

    stored: Mapping[str, StoredRun]
    work: WorkDir
    diverged: Mapping[str, str]

    def outcomes(self, plan_: Plan) -> dict[str, Outcome]:
        """Of those of a plan's runs that are not to be trained, by key."""
        diverged = dict(self.diverged)
        for spec in plan_.runs:
            for folder in self.work.of(spec.key):
                if reason := folder.divergence():
                    diverged[spec.key] = reason
        return known_outcomes(plan_, _accuracies(plan_, self.stored, self.work), diverged)


@dataclass(frozen=True)
class Way:
    """What a study has come to, and what is next.

    Attributes:
        plan: of an adaptive study, what it has asked for so far.
        known: outcomes of the runs that are not to be trained, by key.
        course: of an adaptive study.
    """

    plan: Plan
    known: dict[str, Outcome]
    course: Course | None = None

    @property
    def todo(self) -> list[RunSpec]:
        """The runs that are to be trained."""
        return [spec for spec in self.plan.runs if spec.key not in self.known]


def way_from(config: Study, first: Plan, known: Known) -> Way:
    """How far finished runs lead; `first` is the plan, of an adaptive study of its first look."""
    way = Way(first, known.outcomes(first))
    return way if config.looks is None else followed(config, way, known)


def followed(config: Study, way: Way, known: Known) -> Way:
    """The way of an adaptive study from there, as far as what is known leads."""
    while True:
        course = follow(config, results(way.known), way.plan.runs[0].dataset_sha256)
        found = known.outcomes(course.plan) | way.known
        # Parents first, as they are in the plan.
        outcomes = {run.key: found[run.key] for run in course.plan.runs if run.key in found}
        if len(outcomes) == len(way.known):
            return Way(course.plan, outcomes, course)
        way = Way(course.plan, outcomes, course)


def on_these_images(config: Study, dataset: Callable[[], datasets.Dataset], known: Known) -> Way:
    """What there is to train, on the images at hand.

    Where there is nothing left to train, the images may be gone. Raises: DatasetError.
    """
    try:
        loaded = dataset()
    except datasets.DatasetError:
        way = way_from(config, images.planned(config, None, None, known.stored, known.work), known)
        if way.todo:
            raise
        return way
    first = images.planned(config, loaded.digest, loaded.earlier_digest, known.stored, known.work)
    return way_from(config, first, known)


def _accuracies(
    plan_: Plan, stored: Mapping[str, StoredRun], work: WorkDir
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
