"""The rigorous definition of a winning ticket (section 2.2), applied to polars frames. Pure.

Accuracies are fractions; tolerance and gap are fractions too (0.005 is half a point).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import polars as pl
from scipy.special import stdtrit

from jackpot import settings
from jackpot.conditions import CONDITIONS, PRIZES, Condition, Criteria, Facts, Verdict
from jackpot.contract import Metric
from jackpot.settings import PRETRAIN, Setting
from jackpot.trials import OWN_RATE, means

CONFIDENCE = 0.95
TICKET = ("network", "dataset", "pruner", "sparsity")
"""The columns that name a ticket: each combination of theirs has one judgement."""
# Differences of means that are equal but for rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Mean:
    """Mean accuracy over the trials of one setting at one learning rate."""

    learning_rate: float
    accuracy: float
    deviation: float | None
    trials: int
    chosen_by: float
    """The accuracy by which the best learning rate is chosen: test or held-out."""


@dataclass(frozen=True)
class Finding:
    """What a study says about one condition.

    Attributes:
        condition: the row of the table.
        holds: None while runs are missing.
        margin: how far inside (positive) or outside the condition is, a fraction; None for a
            condition without a rival.
        low, high: 95 % interval of the margin; None with a single trial on either side.
        learning_rates: those of the ticket and of its rival.
        missing: names of the settings whose runs are needed to decide it.
    """

    condition: Condition
    holds: bool | None
    margin: float | None = None
    low: float | None = None
    high: float | None = None
    learning_rates: tuple[float, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def boundary(self) -> bool:
        """Whether the interval of the margin straddles 0: the trials do not decide it."""
        return self.low is not None and self.high is not None and self.low < 0 < self.high

    @property
    def is_possible(self) -> bool:
        """Whether it holds, or the trials do not exclude that it does."""
        return bool(self.holds) or self.boundary


@dataclass(frozen=True)
class Judgement:
    """The conditions of one network, dataset, pruner and sparsity, and their verdict.

    Attributes:
        ticket: name of the setting that is judged.
        conditions: a finding for each condition, in the table's order.
        missing: names of settings without any run.
        pending: number of planned runs that affect it and may still finish. Until then, the best
            learning rate of a setting may not have been tried, and the verdict is provisional.
        learning_rate: at which the ticket wins; None if it does not.
    """

    network: str
    dataset: str
    pruner: str
    sparsity: float
    ticket: str
    conditions: tuple[Finding, ...]
    verdict: Verdict
    boundary: bool
    missing: tuple[str, ...] = field(default=())
    pending: int = 0
    learning_rate: float | None = None

    def finding(self, name: str) -> Finding:
        """The finding about the condition of a name, such as "3".

        Raises:
            KeyError: no such condition was judged.
        """
        return {found.condition.name: found for found in self.conditions}[name]

    def needed_for(self, verdict: Verdict) -> tuple[Finding, ...]:
        """The findings about the conditions that a verdict needs."""
        return tuple(found for found in self.conditions if verdict in found.condition.verdicts)

    def __str__(self) -> str:
        """The verdict, △ where the trials do not decide it, and how many runs are to come."""
        text = f"{self.verdict} △" if self.boundary else str(self.verdict)
        return f"{text} (so far: {self.pending} runs to come)" if self.pending else text


def judge(
    runs: pl.DataFrame,
    criteria: Criteria | None = None,
    pending: pl.DataFrame | None = None,
    conditions: Sequence[Condition] = CONDITIONS,
) -> list[Judgement]:
    """A judgement for every network, dataset, pruner and sparsity that has a sparse run.

    Args:
        runs: see `jackpot.means`. Runs of different recipes must not be mixed: give one study's.
        criteria: how the definition is read.
        pending: planned runs that may yet finish: what they bear on is provisional.
        conditions: rows of the table; of your own as well, made one by `conditions.table`.

    Example:
        >>> def run(setting, accuracy, pruner=None, sparsity=0.0):
        ...     return {"network": "resnet20", "dataset": "cifar10", "setting": setting,
        ...             "pruner": pruner, "sparsity": sparsity, "learning_rate": 0.1, "trial": 1,
        ...             "accuracy": accuracy, "epochs": 160}
        >>> runs = pl.DataFrame([
        ...     run("lt", 0.921, "imp", 0.832), run("rr", 0.90, "imp", 0.832),
        ...     run("pretrain", 0.924), run("sdt", 0.89, None, 0.832)])
        >>> [str(judgement.verdict) for judgement in judge(runs)]
        ['jackpot']
    """
    criteria = criteria or Criteria()
    table = means(runs)
    tickets = (
        table.filter(pl.col("pruner").is_not_null())
        .select(TICKET)
        .unique()
        .sort("network", "dataset", "sparsity", "pruner")
    )
    return [
        _judge(table, criteria, conditions, _bearing_on(pending, criteria, conditions, **at), **at)
        for at in tickets.iter_rows(named=True)
    ]


def _compared(criteria: Criteria, conditions: Sequence[Condition]) -> dict[str, Setting]:
    """The settings that a judgement looks at, by name: the ticket, its rivals, pretraining."""
    rivals = [condition.rival for condition in conditions if condition.rival is not None]
    ticket = settings.find(criteria.ticket)
    return {setting.name: setting for setting in (PRETRAIN, ticket, *rivals)}


def _of(setting: Setting, pruner: str, sparsity: float) -> pl.Expr:
    """The runs of a setting that a ticket of this pruner and sparsity is compared with."""
    where = pl.col("setting") == setting.name
    if not setting.is_dense:
        where &= pl.col("sparsity") == sparsity
    return where & (pl.col("pruner") == pruner) if setting.is_masked else where


def _bearing_on(
    pending: pl.DataFrame | None,
    criteria: Criteria,
    conditions: Sequence[Condition],
    network: str,
    dataset: str,
    pruner: str,
    sparsity: float,
) -> int:
    """How many of the planned runs a judgement waits for."""
    if pending is None or pending.is_empty():
        return 0
    compared = _compared(criteria, conditions).values()
    needed = pl.any_horizontal(_of(setting, pruner, sparsity) for setting in compared)
    same = (pl.col("network") == network) & (pl.col("dataset") == dataset)
    return pending.filter(same, needed, OWN_RATE).height


def _judge(
    table: pl.DataFrame,
    criteria: Criteria,
    conditions: Sequence[Condition],
    pending: int,
    network: str,
    dataset: str,
    pruner: str,
    sparsity: float,
) -> Judgement:
    here = table.filter(pl.col("network") == network, pl.col("dataset") == dataset)
    curves = {
        name: _curve(here.filter(_of(setting, pruner, sparsity)), criteria.rate_by)
        for name, setting in _compared(criteria, conditions).items()
    }
    epochs = here.filter(_of(PRETRAIN, pruner, sparsity))["epochs"].to_list()
    facts = Facts(sparsity, min(epochs), dataset) if epochs else None
    findings = tuple(
        _compare(condition, curves, criteria, dataset)
        if condition.test is None
        else _test(condition, facts, criteria)
        for condition in conditions
    )
    needed = [found for found in findings if found.condition.verdicts]
    missing = tuple(dict.fromkeys(name for found in needed for name in found.missing))
    verdict, rate = (
        (Verdict.NOT_ENOUGH_RUNS, None)
        if missing
        else _literal(findings)
        if criteria.reading == "literal"
        else _joint(findings, curves, criteria, dataset)
    )
    return Judgement(
        network=network,
        dataset=dataset,
        pruner=pruner,
        sparsity=sparsity,
        ticket=criteria.ticket,
        conditions=findings,
        verdict=verdict,
        boundary=not missing and _undecided(findings),
        missing=missing,
        pending=pending,
        learning_rate=rate,
    )


def _test(condition: Condition, facts: Facts | None, criteria: Criteria) -> Finding:
    if facts is None or condition.test is None:
        return Finding(condition, None, missing=(PRETRAIN.name,))
    return Finding(condition, condition.test(facts, criteria))


def _compare(
    condition: Condition, curves: dict[str, list[Mean]], criteria: Criteria, dataset: str
) -> Finding:
    """The ticket against the condition's rival, each at the learning rate that the row says."""
    rival = condition.rival.name if condition.rival else ""
    pairs = _pairs(condition, curves[criteria.ticket], curves[rival])
    absent = tuple(name for name in (criteria.ticket, rival) if not curves[name])
    if not pairs:
        return Finding(condition, None, missing=absent or (rival,))
    own, other = max(pairs, key=lambda pair: pair[0].chosen_by - pair[1].chosen_by)
    margin = _margin(condition, own, other, criteria, dataset)
    low, high = _interval(own, other, margin)
    return Finding(
        condition,
        _holds(condition, margin),
        margin,
        low,
        high,
        learning_rates=(own.learning_rate, other.learning_rate),
    )


def _pairs(condition: Condition, ticket: list[Mean], rival: list[Mean]) -> list[tuple[Mean, Mean]]:
    """What a condition may compare: the best of both, or both at each rate that they share."""
    if not ticket or not rival:
        return []
    if condition.at == "best":
        return [(_best(ticket), _best(rival))]
    rates = {mean.learning_rate: mean for mean in rival}
    return [(mean, rates[mean.learning_rate]) for mean in ticket if mean.learning_rate in rates]


def _margin(
    condition: Condition, own: Mean, other: Mean, criteria: Criteria, dataset: str
) -> float:
    allowance = condition.allowance(criteria, dataset) if condition.allowance else 0.0
    return own.accuracy - other.accuracy - allowance


def _holds(condition: Condition, margin: float) -> bool:
    return margin > _ROUNDING if condition.is_strict else margin >= -_ROUNDING


def _literal(findings: Sequence[Finding]) -> tuple[Verdict, float | None]:
    """The highest verdict whose conditions all hold, and the rate of the one that names it."""
    for verdict in PRIZES:
        if all(found.holds for found in findings if verdict in found.condition.verdicts):
            return verdict, _rate(findings, verdict)
    return Verdict.NONE, None


def _rate(findings: Sequence[Finding], verdict: Verdict) -> float:
    naming = next(found for found in findings if found.condition.names_rate_of is verdict)
    return naming.learning_rates[0]


def _joint(
    findings: Sequence[Finding], curves: dict[str, list[Mean]], criteria: Criteria, dataset: str
) -> tuple[Verdict, float | None]:
    """The highest verdict whose joint conditions all hold at one learning rate of the ticket.

    Conditions that are not joint are as in the literal reading.
    """

    def met(condition: Condition, mean: Mean) -> bool:
        rival = condition.rival.name if condition.rival else ""
        return any(
            _holds(condition, _margin(condition, own, other, criteria, dataset))
            for own, other in _pairs(condition, [mean], curves[rival])
        )

    for verdict in PRIZES:
        needed = [found for found in findings if verdict in found.condition.verdicts]
        joint = [found.condition for found in needed if found.condition.is_joint]
        if not all(found.holds for found in needed if not found.condition.is_joint):
            continue
        meeting = [
            mean
            for mean in curves[criteria.ticket]
            if all(met(condition, mean) for condition in joint)
        ]
        if meeting:
            return verdict, max(meeting, key=lambda mean: mean.accuracy).learning_rate
    return Verdict.NONE, None


def _undecided(findings: Sequence[Finding]) -> bool:
    """Whether a condition that the trials do not decide could change the verdict.

    If a condition that every verdict needs clearly fails, the verdict is "none" in any case.
    """
    needed = [found for found in findings if found.condition.verdicts]
    for_all = [found for found in needed if found.condition.verdicts == set(PRIZES)]
    if any(found.holds is False and not found.boundary for found in for_all):
        return False
    return any(found.boundary for found in needed)


def _curve(table: pl.DataFrame, rate_by: Literal["test", "heldout"]) -> list[Mean]:
    by = pl.col("accuracy")
    held_out = Metric.HELDOUT_ACCURACY
    if rate_by == "heldout" and held_out in table.columns and not table[held_out].has_nulls():
        by = pl.col(held_out)
    columns = table.select(
        "learning_rate", "accuracy", "deviation", "trials", by.alias("chosen_by")
    )
    return [Mean(*row) for row in columns.iter_rows()]


def _best(curve: Iterable[Mean]) -> Mean:
    """The mean at the best learning rate; of equal ones at the lowest."""
    return max(curve, key=lambda mean: (mean.chosen_by, -mean.learning_rate))


def _interval(a: Mean, b: Mean, margin: float) -> tuple[float | None, float | None]:
    """95 % interval of a margin between two means over trials: Welch's t (Welch 1947).

    Variances are not assumed equal, degrees of freedom are Welch and Satterthwaite's. That the
    learning rates were chosen for being best is not accounted for. None with a single trial.
    """
    if a.deviation is None or b.deviation is None:
        return None, None
    variances = a.deviation**2 / a.trials, b.deviation**2 / b.trials
    total = sum(variances)
    if total == 0:
        return margin, margin
    freedom = total**2 / (variances[0] ** 2 / (a.trials - 1) + variances[1] ** 2 / (b.trials - 1))
    # Student's quantile function; importing scipy.stats for it would take half a second.
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * total**0.5
    return margin - half, margin + half
