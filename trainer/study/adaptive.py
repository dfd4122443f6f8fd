"""Which runs an adaptive study trains next, or why it stops. Pure: no torch, no MLflow, no clock.

The study judges its runs at each of its looks (`jackpot.looks`), and adds trials only at the
learning rates at which they may change a verdict that is not decided. `follow` starts over at the
first look each time: it takes the same way whoever asks, whenever a launch was killed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import polars as pl

from jackpot import wording
from jackpot.conditions import CONDITIONS, Criteria, Verdict, with_beside, with_said
from jackpot.contrasts import Decision
from jackpot.definition import Judgement, judge
from jackpot.looks import Looks, LookThen, Standing, TicketThen
from jackpot.settings import find as find_setting
from jackpot.settling import End, at_an_end, chance, needed
from trainer import pruning
from trainer.study.config import RateRange, Study, two_digits
from trainer.study.plan import Plan, RunSpec, digest, has_meaning, maker, plan, reported, runs_at

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
class Ticket:
    """What a look says of a ticket that is asked for.

    Attributes:
        pruner, sparsity: of its mask.
        standing: what becomes of it.
        judgement: None if no run with its mask gave a number.
        look: the look that judged it: an earlier one where that decided it.
    """

    pruner: str
    sparsity: float
    standing: Standing
    judgement: Judgement | None
    look: int

    @property
    def verdict(self) -> Verdict:
        """Of its judgement."""
        return Verdict.NOT_ENOUGH_RUNS if self.judgement is None else self.judgement.verdict

    def then(self) -> TicketThen:
        """What a launch records of it."""
        found = self.judgement
        conditions = () if found is None else found.conditions
        is_open = found is not None and self.standing is Standing.OPEN
        return TicketThen(
            self.pruner,
            self.sparsity,
            str(self.verdict),
            self.standing,
            self.look,
            {f.condition.name: f.decision for f in conditions},
            {f.condition.name: f.margin for f in conditions},
            needed(found) if found is not None and is_open else {},
        )


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
        tickets: that are asked for; empty while runs of the look are missing.
        left: trials that later looks may add to a cell.
    """

    number: int
    trials: int
    share: float
    runs: int
    rates: tuple[float, ...]
    added: Mapping[Cell, int]
    left: int
    grown: tuple[float, ...] = ()
    tickets: tuple[Ticket, ...] = ()

    @property
    def stops(self) -> bool:
        """Whether it is the last one: nothing is left that more trials would decide."""
        return bool(self.tickets) and self.count(Standing.OPEN) == 0

    def count(self, standing: Standing) -> int:
        """How many tickets stand so."""
        return sum(ticket.standing is standing for ticket in self.tickets)

    @cached_property
    def why(self) -> str:
        """Why the study stops after it, in words; empty if it does not."""
        if not self.stops:
            return ""
        total, decided = len(self.tickets), self.count(Standing.DECIDED)
        if decided == total:
            return "the verdict is decided" if total == 1 else f"all {total} verdicts are decided"
        said = [f"{decided} of {wording.count(total, 'verdict')} decided"]
        if futile := self.count(Standing.FUTILE):
            more = f": {wording.count(self.left, 'more trial')} would not settle it"
            said.append(f"{futile} at the boundary{more if self.left else ''}")
        if most := self.count(Standing.MOST):
            said.append(f"{most} undecided with the most trials")
        if missing := self.count(Standing.MISSING):
            said.append(f"{missing} without runs to judge")
        return ", ".join(said)

    def then(self) -> LookThen:
        """What a launch records of it."""
        return LookThen(
            self.number,
            self.trials,
            self.share,
            self.runs,
            self.rates,
            self.grown,
            tuple(ticket.then() for ticket in self.tickets),
            self.why,
        )


@dataclass(frozen=True)
class Course:
    """How far an adaptive study has come.

    Attributes:
        looks: so far; of the last one, runs may be missing.
        plan: all runs that have been asked for.
        asked: the look that asked for each of them first, by run key.
    """

    looks: tuple[Look, ...]
    plan: Plan
    asked: Mapping[str, int]

    @property
    def stopped(self) -> bool:
        """Whether nothing is left to train."""
        return self.looks[-1].stops

    @property
    def why(self) -> str:
        """Why it stopped, in words; empty if it has not."""
        return self.looks[-1].why

    @property
    def judged(self) -> Look | None:
        """The last look whose runs have all ended."""
        return next((look for look in reversed(self.looks) if look.tickets), None)


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


def worst(
    config: Study, dataset_sha256: str | None = None, rates: Sequence[float] | None = None
) -> Plan:
    """All that an adaptive study may train, at these learning rates.

    Args:
        config, dataset_sha256: see `follow`.
        rates: None: those of the first look.
    """
    everywhere = {"trials": config.most_trials, "until": None}
    at = {"learning_rates": list(rates or config.rates)}
    return plan(config.model_copy(update=everywhere | at), dataset_sha256)


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
        first = plan(config, dataset_sha256)
        self.make = maker(config, dataset_sha256)
        ticket = find_setting(config.criteria.ticket or Criteria().ticket)
        able = [p for p in config.pruners if has_meaning(ticket, pruning.find(p))]
        self.asked = sorted(product(reported(config), able))
        self.rates = list(config.rates)
        self.cells = dict.fromkeys(map(Cell.of, first.runs), looks.first)
        self.known: dict[tuple[int, float], list[RunSpec]] = {}
        self.decided: dict[tuple[float, str], Ticket] = {}
        self.found: list[Look] = []
        self.first_asked: dict[str, int] = {}
        # Of what decides its way: another study of these runs has another record.
        about = config.model_dump(
            mode="json", include={"learning_rates", "trials", "criteria"}, exclude_none=True
        )
        self.identity = digest([first.key, about])
        self._add(dict(self.cells))

    def course(self) -> Course:
        """The looks, and the runs that they ask for; goes on where it came to last time."""
        while self._judge_last() and not self.found[-1].stops:
            self._add(self._next(self.found[-1]))
        plan_ = Plan(self.config.study, tuple(self._runs()), self.identity)
        return Course(tuple(self.found), plan_, dict(self.first_asked))

    def _add(self, cells: Mapping[Cell, int]) -> None:
        """The next look, with more trials of these cells."""
        self.cells |= cells
        number = len(self.found) + 1
        trials, share = self.looks.trials[number - 1], self.looks.share(number)
        left = self.looks.last - trials
        self.found.append(Look(number, trials, share, 0, tuple(self.rates), cells, left))
        self.found[-1] = replace(self.found[-1], runs=len(self._runs()))

    def _judge_last(self) -> bool:
        """Judges the last look; False if runs of it are missing.

        Before, it widens the range of rates until no setting is best at an end.
        """
        look, runs = self.found[-1], self._runs()
        while True:
            if any(run.key not in self.results for run in runs):
                return False
            judgements = self._judged(table(runs, self.results), look.share)
            wider = self._beyond_the_ends(judgements, look.trials)
            if not wider:
                break
            self.cells |= wider
            new = {cell.learning_rate for cell in wider}
            self.rates = sorted({*self.rates, *new})
            runs, grown = self._runs(), tuple(sorted({*look.grown, *new}))
            added = {**look.added, **wider}
            look = replace(look, runs=len(runs), rates=tuple(self.rates), added=added, grown=grown)
            self.found[-1] = look
        tickets = tuple(self._ticket(key, judgements.get(key), look) for key in self.asked)
        self.found[-1] = replace(look, tickets=tickets)
        self.decided |= {
            (ticket.sparsity, ticket.pruner): ticket
            for ticket in tickets
            if ticket.standing is Standing.DECIDED
        }
        return True

    def _ticket(self, key: tuple[float, str], judgement: Judgement | None, look: Look) -> Ticket:
        # A verdict that a look has decided stands: each look has its own share of the level.
        if key in self.decided:
            return self.decided[key]
        sparsity, pruner = key
        standing = self._standing(key, judgement, look)
        return Ticket(pruner, sparsity, standing, judgement, look.number)

    def _standing(
        self, key: tuple[float, str], judgement: Judgement | None, look: Look
    ) -> Standing:
        if judgement is None or judgement.verdict is Verdict.NOT_ENOUGH_RUNS:
            return Standing.MISSING
        if judgement.verdict not in (Verdict.UNDECIDED, Verdict.TICKET):
            return Standing.DECIDED
        last = len(self.looks.trials)
        if look.number == last:
            before = self.found[-2].tickets if len(self.found) > 1 else ()
            # One that was given up has not had the most trials.
            was = [one.standing for one in before if (one.sparsity, one.pruner) == key]
            return Standing.FUTILE if was == [Standing.FUTILE] else Standing.MOST
        level = judgement.criteria.alpha * self.looks.share(last)
        hopeless = chance(judgement, self.looks.last, level) < _FUTILE
        return Standing.FUTILE if hopeless or not needed(judgement) else Standing.OPEN

    def _next(self, look: Look) -> dict[Cell, int]:
        """Cells that get more trials at the next look, with their trials in all."""
        trials = self.looks.trials[look.number]
        return {
            _cell(name, ticket.judgement, rate): trials
            for ticket in look.tickets
            if ticket.standing is Standing.OPEN and ticket.judgement is not None
            for name, rates in needed(ticket.judgement).items()
            for rate in rates
        }

    def _beyond_the_ends(
        self, judgements: Mapping[tuple[float, str], Judgement], trials: int
    ) -> dict[Cell, int]:
        """Cells at learning rates beyond an end of the range at which some setting is best.

        All tickets that are not decided get them: a maximum over rates is compared with one over
        the same rates. A ticket that is none whatever is trained does not count.
        """
        chosen = self.config.learning_rates
        if not isinstance(chosen, RateRange) or len(self.rates) > 2 * (chosen.count - 1):
            return {}
        able = [
            judgement
            for key, judgement in judgements.items()
            if key not in self.decided
            and not any(
                one.condition.rival is None and one.decision is Decision.FAILS
                for one in judgement.conditions
            )
        ]
        beyond = {
            rate
            for judgement in able
            for end in at_an_end(judgement)
            if (rate := self._beyond(end, chosen.ratio)) is not None
        }
        return {
            _cell(name, judgement, rate): trials
            for rate in beyond
            for judgement in able
            for name in judgement.compared
        }

    def _beyond(self, end: End, ratio: float) -> float | None:
        """The next learning rate after an end; None if it is none, or no end of the whole range."""
        if end.is_largest:
            rate = two_digits(end.learning_rate * ratio)
            return rate if self.rates[-1] < rate <= _LARGEST else None
        rate = two_digits(end.learning_rate / ratio)
        return rate if 0 < rate < self.rates[0] else None

    def _judged(self, frame: pl.DataFrame, share: float) -> dict[tuple[float, str], Judgement]:
        said = self.config.criteria.model_dump(exclude_none=True)
        criteria = with_said(Criteria(share=share), said)
        trained = [setting.name for setting in self.config.chosen_settings]
        # No verdict needs the conditions beside the five, but their rivals get new rates as well.
        conditions = with_beside(CONDITIONS, trained, criteria.ticket)
        found = judge(frame, criteria, conditions=conditions)
        judged = {(judgement.sparsity, judgement.pruner): judgement for judgement in found}
        return {key: judged[key] for key in self.asked if key in judged}

    def _runs(self) -> list[RunSpec]:
        """All runs of the cells, parents first, trial by trial and rate by rate."""
        number = len(self.found)
        found: dict[str, RunSpec] = {}
        for trial in range(1, max(self.cells.values()) + 1):
            for rate in self.rates:
                found |= {run.key: run for run in self._needed_at(trial, rate)}
        for key in found:
            self.first_asked.setdefault(key, number)
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


def table(runs: Iterable[RunSpec], results: Mapping[str, Result]) -> pl.DataFrame:
    """Runs and their results, by run key, as `jackpot.judge` takes them."""
    rows = [
        {
            "network": run.network,
            "dataset": run.dataset.name,
            "setting": run.setting.name,
            "pruner": run.pruner,
            "sparsity": run.sparsity,
            "learning_rate": run.learning_rate,
            "trial": run.trial,
            "accuracy": results[run.key].accuracy,
            "status": "FAILED" if results[run.key].diverged else "FINISHED",
            "epochs": run.epochs + run.first_epoch,
        }
        for run in runs
    ]
    return pl.DataFrame(rows, schema_overrides={"pruner": pl.String, "accuracy": pl.Float64})


def _cell(name: str, judgement: Judgement, rate: float) -> Cell:
    """The cell of a setting that a judgement looks at."""
    setting = find_setting(name)
    return Cell(
        name,
        judgement.pruner if setting.is_masked else "",
        0.0 if setting.is_dense else judgement.sparsity,
        rate,
    )
