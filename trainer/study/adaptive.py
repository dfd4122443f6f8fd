"""Which runs an adaptive study trains next, or why it stops. Pure: no torch, no MLflow, no clock.

The study judges its runs at each of its looks (`jackpot.looks`), and adds trials only at the
learning rates at which they may change a verdict that is not decided. `follow` starts over at the
first look each time: it takes the same way whoever asks, whenever a launch was killed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import polars as pl

from jackpot.conditions import Criteria, Verdict, with_said
from jackpot.contrasts import Decision
from jackpot.definition import Judgement, judge
from jackpot.looks import Looks, LookThen, Standing, TicketThen
from jackpot.settings import find as find_setting
from jackpot.settling import at_an_end, chance, needed
from trainer.study.config import RateRange, Study, two_digits
from trainer.study.plan import Plan, RunSpec, maker, plan, reported, runs_at

# Below this chance of a decision with all trials, none is added.
_FUTILE = 0.05
# The largest learning rate that a config can name.
_LARGEST = 1000.0


@dataclass(frozen=True)
class Result:
    """What a run gave.

    Attributes:
        accuracy: after its last epoch, a fraction; None of a run that gave none.
        diverged: why it gave none, if its loss became NaN; otherwise a parent's did.
    """

    accuracy: float | None = None
    diverged: bool = False


@dataclass(frozen=True, order=True)
class Cell:
    """One setting at one learning rate: what trials are counted of.

    Attributes:
        setting: name.
        pruner: of its mask; empty where it has none.
        sparsity: 0 of dense networks.
        learning_rate: of the run.
    """

    setting: str
    pruner: str
    sparsity: float
    learning_rate: float

    @classmethod
    def of(cls, spec: RunSpec) -> "Cell":
        """The cell that a run is a trial of."""
        return cls(spec.setting.name, spec.pruner or "", spec.sparsity, spec.learning_rate)


@dataclass(frozen=True)
class Look:
    """A point at which an adaptive study judges.

    Attributes:
        number: 1-based.
        trials: of the cells that may still matter.
        share: of α, what its judgements may spend.
        runs: that are asked for up to it, parents included.
        rates: learning rates that are tried up to it.
        added: trials in all of each cell that this look adds some to, parents left out.
        grown: learning rates that the range grew by, since a best one was at its end.
        judgements: of the tickets that are asked for; empty while runs of the look are missing.
        standings: of each judgement.
    """

    number: int
    trials: int
    share: float
    runs: int
    rates: tuple[float, ...]
    added: Mapping[Cell, int]
    grown: tuple[float, ...] = ()
    judgements: tuple[Judgement, ...] = ()
    standings: tuple[Standing, ...] = ()

    @property
    def stops(self) -> bool:
        """Whether it is the last one: nothing is left that more trials would decide."""
        return bool(self.standings) and Standing.OPEN not in self.standings

    def then(self) -> LookThen:
        """What a launch records of it."""
        tickets = tuple(
            TicketThen(
                judgement.pruner,
                judgement.sparsity,
                str(judgement.verdict),
                standing,
                {f.condition.name: f.decision and str(f.decision) for f in judgement.conditions},
                {f.condition.name: f.margin for f in judgement.conditions},
                needed(judgement) if standing is Standing.OPEN else {},
            )
            for judgement, standing in zip(self.judgements, self.standings, strict=True)
        )
        words = why(self) if self.stops else ""
        return LookThen(
            self.number, self.trials, self.share, self.runs, self.rates, self.grown, tickets, words
        )


@dataclass(frozen=True)
class Course:
    """How far an adaptive study has come.

    Attributes:
        looks: so far; of the last one, runs may be missing.
        plan: all runs that have been asked for.
    """

    looks: tuple[Look, ...]
    plan: Plan

    @property
    def stopped(self) -> bool:
        """Whether nothing is left to train."""
        return self.looks[-1].stops

    @cached_property
    def why(self) -> str:
        """Why it stopped, in words; empty if it has not."""
        return why(self.looks[-1]) if self.stopped else ""


def why(look: Look) -> str:
    """Why a study stops after a look, in words."""
    counts = {standing: look.standings.count(standing) for standing in Standing}
    total = len(look.standings)
    if counts[Standing.DECIDED] == total:
        return "the verdict is decided" if total == 1 else f"all {total} verdicts are decided"
    said = [f"{counts[Standing.DECIDED]} of {total} verdicts are decided"]
    if counts[Standing.BOUNDARY]:
        said.append(
            f"{counts[Standing.BOUNDARY]} at the boundary, which the trials that are left would "
            "not settle"
        )
    if counts[Standing.MOST]:
        said.append(f"{counts[Standing.MOST]} undecided with the most trials")
    if counts[Standing.MISSING]:
        said.append(f"{counts[Standing.MISSING]} without runs to judge")
    return ", ".join(said)


def follow(
    config: Study, results: Mapping[str, Result], dataset_sha256: str | None = None
) -> Course:
    """The way of an adaptive study, as far as its results lead.

    Args:
        config: with `until: decided`.
        results: by run key, of whatever runs have ended.
        dataset_sha256: see `trainer.study.plan.plan`.

    Returns:
        The way to the first look that lacks a result, or to the one after which it stops.

    Raises:
        ValueError: the study is not adaptive.
    """
    if config.looks is None:
        raise ValueError(f"study {config.study!r} has a number of trials, and no looks")
    return _Walk(config, config.looks, results, dataset_sha256).course()


def worst(config: Study, dataset_sha256: str | None = None) -> Plan:
    """All that an adaptive study may train, if its range of learning rates does not grow."""
    if config.looks is None:
        return plan(config, dataset_sha256)
    most = config.model_copy(update={"trials": config.looks.last, "until": None})
    return plan(most, dataset_sha256)


Simulate = Callable[[Sequence[RunSpec]], Mapping[str, Result]]
"""Gives results of runs that were not trained: of a planted truth, or of a pilot's noise."""


def simulated(
    config: Study,
    simulate: Simulate,
    results: Mapping[str, Result] | None = None,
    dataset_sha256: str | None = None,
) -> Course:
    """The way of a study whose results are drawn: the real one, but for its training.

    Args:
        config, dataset_sha256: see `follow`.
        simulate: draws.
        results: of runs that have been trained.

    Raises:
        ValueError: the study is not adaptive.
    """
    if config.looks is None:
        raise ValueError(f"study {config.study!r} has a number of trials, and no looks")
    found = dict(results or {})
    walk = _Walk(config, config.looks, found, dataset_sha256)
    while True:
        course = walk.course()
        missing = [run for run in course.plan.runs if run.key not in found]
        if not missing:
            return course
        found.update(simulate(missing))


class _Walk:
    """One walk from the first look on."""

    def __init__(
        self,
        config: Study,
        looks: Looks,
        results: Mapping[str, Result],
        dataset_sha256: str | None,
    ) -> None:
        self.config, self.looks, self.results = config, looks, results
        self.first = plan(config, dataset_sha256)
        self.make = maker(config, dataset_sha256)
        self.reported = set(reported(config))
        self.rates = list(config.rates)
        self.cells = dict.fromkeys(map(Cell.of, self.first.runs), looks.first)
        self.known: dict[tuple[int, float], list[RunSpec]] = {}
        self.found: list[Look] = []
        self._add(dict(self.cells))

    def course(self) -> Course:
        """The looks, and the runs that they ask for; goes on where it came to last time."""
        while self._judge_last() and not self.found[-1].stops:
            self._add(self._next(self.found[-1]))
        plan_ = Plan(self.config.study, tuple(self._runs()), (self.looks, self.first))
        return Course(tuple(self.found), plan_)

    def _add(self, cells: Mapping[Cell, int]) -> None:
        """The next look, with more trials of these cells."""
        self.cells |= cells
        number = len(self.found) + 1
        trials, share = self.looks.trials[number - 1], self.looks.share(number)
        asked = len(self._runs())
        self.found.append(Look(number, trials, share, asked, tuple(self.rates), cells))

    def _judge_last(self) -> bool:
        """Judges the last look; False if runs of it are missing.

        Before, it widens the range of rates until no setting is best at an end.
        """
        look, runs = self.found[-1], self._runs()
        while True:
            if any(run.key not in self.results for run in runs):
                return False
            frame = self._frame(runs)
            judgements = self._judged(frame, look.share)
            wider = self._beyond_the_ends(judgements, look.trials)
            if not wider:
                break
            self.cells |= wider
            new = {cell.learning_rate for cell in wider} - set(self.rates)
            self.rates = sorted({*self.rates, *new})
            runs, rates, grown = self._runs(), tuple(self.rates), tuple(sorted({*look.grown, *new}))
            look = self.found[-1] = replace(
                look, runs=len(runs), rates=rates, added={**look.added, **wider}, grown=grown
            )
        self.found[-1] = replace(
            look,
            judgements=tuple(judgements),
            standings=tuple(self._standing(judgement, look.number) for judgement in judgements),
        )
        return True

    def _standing(self, judgement: Judgement, number: int) -> Standing:
        if judgement.verdict is Verdict.NOT_ENOUGH_RUNS:
            return Standing.MISSING
        if judgement.verdict not in (Verdict.UNDECIDED, Verdict.TICKET):
            return Standing.DECIDED
        last = len(self.looks.trials)
        if number == last:
            return Standing.MOST
        level = judgement.criteria.alpha * self.looks.share(last)
        hopeless = chance(judgement, self.looks.last, level) < _FUTILE
        return Standing.BOUNDARY if hopeless or not needed(judgement) else Standing.OPEN

    def _next(self, look: Look) -> dict[Cell, int]:
        """Cells that get more trials at the next look, with their trials in all."""
        trials = self.looks.trials[look.number]
        found: dict[Cell, int] = {}
        for judgement, standing in zip(look.judgements, look.standings, strict=True):
            if standing is Standing.OPEN:
                for name, rates in needed(judgement).items():
                    for rate in rates:
                        found[_cell(name, judgement, rate)] = trials
        return found

    def _beyond_the_ends(self, judgements: Sequence[Judgement], trials: int) -> dict[Cell, int]:
        """Cells at a learning rate beyond an end of the range at which some setting is best."""
        chosen = self.config.learning_rates
        if not isinstance(chosen, RateRange) or len(self.rates) > 2 * (chosen.count - 1):
            return {}
        found: dict[Cell, int] = {}
        for judgement in judgements:
            if any(
                one.condition.rival is None and one.decision is Decision.FAILS
                for one in judgement.conditions
            ):
                continue  # Whatever is trained, it is none.
            for end in at_an_end(judgement):
                factor = chosen.ratio if end.is_largest else 1 / chosen.ratio
                beyond = two_digits(end.learning_rate * factor)
                if beyond <= _LARGEST:
                    found |= {_cell(n, judgement, beyond): trials for n in judgement.compared}
        return {cell: trials for cell, trials in found.items() if cell not in self.cells}

    def _judged(self, frame: pl.DataFrame, share: float) -> list[Judgement]:
        said = self.config.criteria.model_dump(exclude_none=True)
        criteria = with_said(Criteria(share=share), said)
        return [j for j in judge(frame, criteria) if j.sparsity in self.reported]

    def _frame(self, runs: Iterable[RunSpec]) -> pl.DataFrame:
        """What the runs gave, as `jackpot.judge` takes it."""
        rows = [row(run, self.results[run.key]) for run in runs]
        return pl.DataFrame(rows, schema_overrides={"pruner": pl.String, "accuracy": pl.Float64})

    def _runs(self) -> list[RunSpec]:
        """All runs of the cells, parents first, trial by trial and rate by rate."""
        found: dict[str, RunSpec] = {}
        for trial in range(1, max(self.cells.values()) + 1):
            for rate in self.rates:
                found |= {run.key: run for run in self._needed_at(trial, rate)}
        return list(found.values())

    def _needed_at(self, trial: int, rate: float) -> Iterator[RunSpec]:
        if (trial, rate) not in self.known:
            self.known[trial, rate] = runs_at(self.config, self.make, trial, rate)
        there = self.known[trial, rate]
        wanted = {run.key for run in there if self.cells.get(Cell.of(run), 0) >= trial}
        for run in reversed(there):
            if run.key in wanted:
                wanted |= {parent.key for parent in run.parents}
        return (run for run in there if run.key in wanted)


def row(run: RunSpec, result: Result) -> dict[str, object]:
    """A run and its result, as a row of `jackpot.judge`'s frame."""
    return {
        "network": run.network,
        "dataset": run.dataset.name,
        "setting": run.setting.name,
        "pruner": run.pruner,
        "sparsity": run.sparsity,
        "learning_rate": run.learning_rate,
        "trial": run.trial,
        "accuracy": result.accuracy,
        "status": "FAILED" if result.diverged else "FINISHED",
        "epochs": run.epochs + run.first_epoch,
    }


def _cell(name: str, judgement: Judgement, rate: float) -> Cell:
    """The cell of a setting that a judgement looks at."""
    setting = find_setting(name)
    return Cell(
        name,
        judgement.pruner if setting.is_masked else "",
        0.0 if setting.is_dense else judgement.sparsity,
        rate,
    )
