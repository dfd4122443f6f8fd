"""The serial executor: trains a plan in this process, some of its runs side by side."""

from collections.abc import Mapping
from dataclasses import dataclass

from trainer.execution.attempt import Attempts
from trainer.execution.outcome import Outcome, skipped
from trainer.study.groups import side_by_side
from trainer.study.plan import Plan

_WAIT_S = 2.0


@dataclass
class Serial:
    """Trains the runs of a plan in this process, each after its parents.

    Args:
        attempts: trains a group of runs.
        group_size: how many runs may be stepped side by side.
    """

    attempts: Attempts
    group_size: int = 1

    def run(self, plan: Plan, known: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """Trains what is not finished and returns the outcome of every run by key.

        Skips runs that another launch is training, and waits for their results if there is nothing
        else to do.
        """
        attempts, outcomes = self.attempts, dict(known)
        waiting = False
        while todo := [spec for spec in plan.runs if spec.key not in outcomes]:
            ended = {spec.key: o for spec in todo if (o := skipped(spec, outcomes))}
            ready = [spec for spec in todo if attempts.ready(spec, outcomes)]
            for group in side_by_side(ready, self.group_size):
                if ended or attempts.stop.is_set():
                    break
                ended = attempts.attempt(group)
            for key, outcome in ended.items():
                outcomes[key] = outcome
                attempts.reporter.run_ended(outcome)
                attempts.delivery.nudge()
            if attempts.stop.is_set():
                break
            if not ended:
                if not waiting:
                    attempts.reporter.say("waiting for runs that another launch is training")
                waiting = True
                attempts.stop.wait(_WAIT_S)
        return outcomes
