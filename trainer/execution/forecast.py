"""How many more runs an adaptive study may take: at best, as drawn, and at most. Pure but for time.

The draws are predictive: each cell's true accuracy is drawn around its mean so far, and each new
trial around that, with the noise that the study's own trials tell. The planner that follows them is
the real one.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jackpot import noise
from jackpot.looks import Standing
from jackpot.trials import with_destroyed
from trainer.study.adaptive import Cell, Course, Result, simulated, table, worst
from trainer.study.config import Study
from trainer.study.plan import RunSpec

_DRAWS, _PATIENCE_S = 100, 15.0


@dataclass(frozen=True)
class Amount:
    """Runs that are to be trained, and their epochs."""

    runs: int
    epochs: int


@dataclass(frozen=True)
class Ahead:
    """What is left of an adaptive study.

    Attributes:
        least: if the look under way decides every verdict.
        drawn: how many studies that went on from here were drawn; 0 before the first look.
        typical: the mean of those.
        low, high: of eight in ten of those, the fewest and the most.
        decided: share of verdicts that those decided.
        most: if every cell gets all trials, at the learning rates so far.
    """

    least: Amount
    most: Amount
    drawn: int = 0
    typical: Amount | None = None
    low: Amount | None = None
    high: Amount | None = None
    decided: float | None = None


def ahead(config: Study, course: Course, results: Mapping[str, Result]) -> Ahead:
    """What is left of a study that has come as far as `course`, with those results."""
    digest = course.plan.runs[0].dataset_sha256
    least = _amount(course.plan.runs, results)
    whole = worst(config, digest, course.looks[-1].rates).runs
    planned = {run.key: run for run in (*whole, *course.plan.runs)}
    most = _amount([] if course.stopped else list(planned.values()), results)
    known = [run for run in course.plan.runs if run.key in results]
    judged = course.judged is not None
    told = noise.of(with_destroyed(table(known, results))) if judged else None
    if told is None or course.stopped:
        return Ahead(least, most)
    pilot = _Pilot(told, known, results)
    found: list[tuple[int, int, float]] = []
    began = time.monotonic()
    for seed in range(_DRAWS):
        drawn = simulated(config, pilot.truth(seed), results, digest)
        amount = _amount(drawn.plan.runs, results)
        last = drawn.looks[-1]
        decided = last.count(Standing.DECIDED) / len(last.tickets)
        found.append((amount.runs, amount.epochs, decided))
        if time.monotonic() - began > _PATIENCE_S:
            break
    runs, epochs, decided_share = np.array(found).T
    low, typical, high = (
        Amount(round(of(runs)), round(of(epochs)))
        for of in (lambda v: np.quantile(v, 0.1), np.mean, lambda v: np.quantile(v, 0.9))
    )
    share = float(decided_share.mean())
    return Ahead(least, most, len(found), typical, low, high, share)


def _amount(runs: Sequence[RunSpec], results: Mapping[str, Result]) -> Amount:
    left = [run for run in runs if run.key not in results]
    return Amount(len(left), sum(run.epochs for run in left))


class _Pilot:
    """What the trials so far say of those to come."""

    def __init__(
        self, told: noise.Noise, runs: Sequence[RunSpec], results: Mapping[str, Result]
    ) -> None:
        self.noise = told
        self.trials: dict[Cell, list[float]] = {}
        self.tried = {Cell.of(run) for run in runs}
        for run in runs:
            accuracy = results[run.key].accuracy
            if accuracy is not None:
                self.trials.setdefault(Cell.of(run), []).append(accuracy)

    def truth(self, seed: int) -> "_Truth":
        """One that may be the case."""
        return _Truth(self, np.random.default_rng(seed))

    def nearest(self, cell: Cell) -> Cell | None:
        """The cell itself; at a learning rate that nobody has tried, the one at the nearest.

        None where nothing tells: where every trial diverged, they will again.
        """
        if cell in self.tried:
            return cell if cell in self.trials else None
        alike = [
            other
            for other in self.trials
            if (other.setting, other.pruner, other.sparsity)
            == (cell.setting, cell.pruner, cell.sparsity)
        ]
        return min(
            alike,
            key=lambda other: abs(np.log(other.learning_rate / cell.learning_rate)),
            default=None,
        )

    def variance(self, cell: Cell) -> float:
        """Of one trial."""
        return self.noise.variance.get(cell.learning_rate, self.noise.elsewhere[0])


class _Truth:
    """Draws trials around accuracies that are drawn once."""

    def __init__(self, pilot: _Pilot, rng: np.random.Generator) -> None:
        self.pilot, self.rng = pilot, rng
        self.accuracy: dict[Cell, float] = {}

    def __call__(self, runs: Sequence[RunSpec]) -> dict[str, Result]:
        return {run.key: self._drawn(run) for run in runs}

    def _drawn(self, run: RunSpec) -> Result:
        cell = self.pilot.nearest(Cell.of(run))
        if cell is None:
            return Result()
        trials, variance = self.pilot.trials[cell], self.pilot.variance(cell)
        if cell not in self.accuracy:
            spread = (variance / len(trials)) ** 0.5
            self.accuracy[cell] = float(np.mean(trials) + spread * self.rng.standard_normal())
        drawn = self.accuracy[cell] + variance**0.5 * self.rng.standard_normal()
        return Result(float(np.clip(drawn, 0, 1)))
