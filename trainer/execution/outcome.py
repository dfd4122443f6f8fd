"""How runs of a plan end, and who is told."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from jackpot.contract import DIVERGED
from trainer.study.adaptive import Result
from trainer.study.plan import Plan, RunSpec


class Status(StrEnum):
    """How a run of the plan ended."""

    FINISHED = "finished"
    KNOWN = "known"
    FAILED = "failed"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"

    @property
    def is_trained(self) -> bool:
        """Whether the run's results are there."""
        return self in (Status.FINISHED, Status.KNOWN)


_WAS = {Status.FAILED: "failed", Status.SKIPPED: "was skipped", Status.INTERRUPTED: "was stopped"}


@dataclass(frozen=True)
class Outcome:
    """The end of one run.

    Attributes:
        spec: the run.
        status: how it ended.
        val_accuracy: after its last epoch.
        reason: why it failed or was skipped.
        has_collapsed: whether a layer of its mask has collapsed; not known of `KNOWN` ones.
    """

    spec: RunSpec
    status: Status
    val_accuracy: float | None = None
    reason: str = ""
    has_collapsed: bool = False


class Reporter(Protocol):
    """Receives progress events; the live view and the plain lines implement it."""

    def run_began(self, spec: RunSpec, epochs_done: int) -> None:
        """A run starts, or resumes after `epochs_done` of its epochs."""

    def epoch_ended(self, spec: RunSpec, epoch: int, metrics: dict[str, float]) -> None:
        """An epoch (1-based, along the schedule) has ended."""

    def run_ended(self, outcome: Outcome) -> None:
        """A run has ended, or has been skipped."""

    def say(self, message: str) -> None:
        """Something else that a user wants to know."""


class Executor(Protocol):
    """Trains plans, one after another."""

    def run(self, plan: Plan, known: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """The outcome of every run of a plan that was reached, by key.

        Args:
            plan: what to train.
            known: outcomes of the runs that are not to be trained, by key.
        """


def known_outcomes(
    plan: Plan, known: Mapping[str, float | None], diverged: Mapping[str, str]
) -> dict[str, Outcome]:
    """Outcomes of the plan's runs that are known before anything is trained.

    Args:
        plan: of the launch.
        known: last-epoch accuracy of finished runs, by key.
        diverged: why runs failed that would diverge again, by key; their children are skipped.
    """
    outcomes: dict[str, Outcome] = {}
    for spec in plan.runs:
        if spec.key in known:
            outcomes[spec.key] = Outcome(spec, Status.KNOWN, known[spec.key])
        elif spec.key in diverged:
            reason = (
                f"{diverged[spec.key]} in an earlier launch, and would again; to train it all the "
                "same, delete it in MLflow"
            )
            outcomes[spec.key] = Outcome(spec, Status.FAILED, reason=reason)
        elif found := skipped(spec, outcomes):
            outcomes[spec.key] = found
    return outcomes


def results(outcomes: Mapping[str, Outcome]) -> dict[str, Result]:
    """What runs gave that would give the same again, by key: those of an adaptive study's looks.

    A run that failed for the machine's sake has not ended: another launch trains it.
    """
    found: dict[str, Result] = {}
    for key, outcome in outcomes.items():
        if outcome.status.is_trained:
            found[key] = Result(outcome.val_accuracy)
        elif outcome.status is Status.FAILED and re.match(DIVERGED, outcome.reason):
            found[key] = Result(diverged=True)
        elif outcome.status is Status.SKIPPED and all(
            parent.key in found or parent.key not in outcomes for parent in outcome.spec.parents
        ):
            found[key] = Result()
    return found


def skipped_for(outcomes: Mapping[str, Outcome]) -> dict[str, list[RunSpec]]:
    """Runs that were skipped, by why: the ancestor that was not trained, and how that ended."""
    found: dict[str, list[RunSpec]] = {}
    for outcome in outcomes.values():
        if outcome.status is Status.SKIPPED:
            root = _root(outcome, outcomes)
            found.setdefault(f"'{root.spec.name}' {_WAS[root.status]}", []).append(outcome.spec)
    return found


def _root(outcome: Outcome, outcomes: Mapping[str, Outcome]) -> Outcome:
    """The first that was not trained of a run's line of ancestors."""
    while True:
        parents = (outcomes.get(parent.key) for parent in outcome.spec.parents)
        ended = [one for one in parents if one is not None and not one.status.is_trained]
        if not ended:
            return outcome
        outcome = ended[0]


def skipped(spec: RunSpec, outcomes: Mapping[str, Outcome]) -> Outcome | None:
    """The outcome of a run that a parent has failed; None if none has."""
    for parent in spec.parents:
        ended = outcomes.get(parent.key)
        if ended is not None and not ended.status.is_trained:
            reason = f"it needs '{parent.name}', which {_WAS[ended.status]}"
            return Outcome(spec, Status.SKIPPED, reason=reason)
    return None
