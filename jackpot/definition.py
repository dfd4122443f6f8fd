"""The rigorous definition of a winning ticket (section 2.2), applied to polars frames. Pure.

Accuracies are fractions; tolerance and gap are fractions too (0.005 is half a point). How a verdict
is reached, and how often it may be wrong, is in `docs/judging.md`.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace

import polars as pl

from jackpot import contrasts, noise, settings, wording
from jackpot.conditions import (
    ALPHA,
    CONDITIONS,
    PRIZES,
    TEST_IMAGES,
    Condition,
    Criteria,
    Facts,
    Verdict,
    plain,
)
from jackpot.contract import Param, Tag
from jackpot.contrasts import Bound, Contrast, Decision, some, together
from jackpot.noise import Noise
from jackpot.settings import PRETRAIN, Setting, Weights
from jackpot.trials import OWN_RATE, Cell, able, best, curve, means, own_rate, with_destroyed

TICKET = ("network", "dataset", "pruner", "sparsity")
"""The columns that name a ticket: each combination of theirs has one judgement."""
# Differences of means that are equal but for rounding.
_ROUNDING = 1e-12
Key = tuple[str, str | None, float | None]
"""Setting, pruner where it has a mask, sparsity where it is not dense."""


@dataclass(frozen=True)
class Finding:
    """What a study says about one condition.

    Attributes:
        condition: the row of the table.
        decision: whether the trials show that it holds, or fails; None while runs are missing.
        holds: the same by the means alone, whatever their noise; None while runs are missing.
        margin: how far inside (positive) or outside the condition is by the means, a fraction; None
            for a condition without a rival.
        low, high: the bounds that decide: it holds if `low` is above 0, and fails if `high` is
            below. None where no trials tell the noise.
        learning_rates: those of the ticket and of its rival.
        missing: names of the settings whose runs are needed to decide it.
        own, other: the two cells that the means compare.
        ours, theirs: the cells that were compared: without those that cannot win.
        test_error: standard error of the difference that the number of test images alone gives,
            with other images of the same kind; a fraction. None if that number is not known.
    """

    condition: Condition
    decision: Decision | None
    holds: bool | None
    margin: float | None = None
    low: float | None = None
    high: float | None = None
    learning_rates: tuple[float, ...] = ()
    missing: tuple[str, ...] = ()
    own: Cell | None = None
    other: Cell | None = None
    ours: tuple[Cell, ...] = ()
    theirs: tuple[Cell, ...] = ()
    test_error: float | None = None

    @property
    def undecided(self) -> bool:
        """Whether the runs are there, and do not decide it."""
        return self.decision is Decision.UNDECIDED


@dataclass(frozen=True)
class Judgement:
    """The conditions of one network, dataset, pruner and sparsity, and their verdict.

    Attributes:
        ticket: name of the setting that is judged.
        compared: names of the settings that are looked at, the ticket and pretraining included.
        conditions: a finding for each condition, in the table's order.
        verdict: what the trials show; wrong in a share `criteria.alpha` of studies at most.
        point_verdict: the verdict if more trials came out as these did: that of the means.
        missing: names of settings without any run.
        pending: number of planned runs that affect it and may still finish. Until then, the best
            learning rate of a setting may not have been tried, and the verdict is provisional.
        learning_rate: at which the ticket wins, by the means; None if it does not.
        criteria: with which it was judged.
        trials: number of trials of the ticket, the fewest and the most over learning rates.
        single: names of settings that have one trial somewhere: they borrow others' variance.
        diverged: (setting, learning rate) at which a trial diverged, or ended destroyed
            (`jackpot.trials.with_destroyed`): these rates cannot win.
        assumed: what was assumed because nobody said it, such as the tolerance on a dataset.
        test_images: how many images the accuracies are measured on; None if that is not known.
        alpha_against: how often one condition may wrongly fail.
        noise: of the study's trials; None if no two tell it.
    """

    network: str
    dataset: str
    pruner: str
    sparsity: float
    ticket: str
    conditions: tuple[Finding, ...]
    verdict: Verdict
    point_verdict: Verdict
    missing: tuple[str, ...] = field(default=())
    pending: int = 0
    learning_rate: float | None = None
    criteria: Criteria = field(default_factory=Criteria)
    trials: tuple[int, int] = (0, 0)
    single: tuple[str, ...] = ()
    diverged: tuple[tuple[str, float], ...] = ()
    assumed: tuple[str, ...] = ()
    test_images: int | None = None
    alpha_against: float = ALPHA
    noise: Noise | None = field(default=None, repr=False, compare=False)
    compared: tuple[str, ...] = ()

    def finding(self, name: str) -> Finding:
        """The finding about the condition of a name, such as "3".

        Raises:
            KeyError: no such condition was judged.
        """
        return {found.condition.name: found for found in self.conditions}[name]

    @property
    def void(self) -> tuple[Condition, ...]:
        """Conditions that fail by construction: the mask is drawn without a look at any weight."""
        if settings.find(self.ticket).weights is not Weights.KEPT:
            return ()
        rows = [found.condition for found in self.conditions]
        return tuple(row for row in rows if self.pruner in row.void_under)

    @property
    def wins(self) -> bool:
        """Whether the trials show that it is a ticket of any kind."""
        return self.verdict in (*PRIZES, Verdict.TICKET)

    def __str__(self) -> str:
        """The verdict, and how many runs are to come."""
        text = str(self.verdict)
        if self.verdict is Verdict.TICKET:
            text = "ticket (jackpot undecided)"
        to_come = wording.count(self.pending, "run")
        return f"{text} (so far: {to_come} to come)" if self.pending else text


def judge(
    runs: pl.DataFrame,
    criteria: Criteria | None = None,
    pending: pl.DataFrame | None = None,
    conditions: Sequence[Condition] = CONDITIONS,
) -> list[Judgement]:
    """A judgement for every network, dataset, pruner and sparsity that has a sparse run.

    Args:
        runs: one row per run with `network dataset setting pruner sparsity learning_rate trial
            accuracy epochs`, and `status` if some diverged; see `jackpot.trials.tidy`. Runs of
            different recipes must not be mixed: give one study's.
        criteria: how the definition is read.
        pending: planned runs that may yet finish: what they bear on is provisional.
        conditions: rows of the table; of your own as well, made one by `conditions.table`.

    Raises:
        ValueError: a frame that lacks a column, has no fractions for accuracies, or two runs of one
            trial.

    Example:
        >>> def trials(setting, accuracies, pruner=None, sparsity=0.0):
        ...     return [
        ...         {"network": "resnet20", "dataset": "cifar10", "setting": setting,
        ...          "pruner": pruner, "sparsity": sparsity, "learning_rate": 0.1,
        ...          "trial": trial, "accuracy": accuracy, "epochs": 160}
        ...         for trial, accuracy in enumerate(accuracies)
        ...     ]
        >>> runs = pl.DataFrame([
        ...     *trials("lt", [0.921, 0.923, 0.922], "imp", 0.832),
        ...     *trials("rr", [0.901, 0.902, 0.899], "imp", 0.832),
        ...     *trials("pretrain", [0.920, 0.921, 0.922]),
        ...     *trials("sdt", [0.890, 0.888, 0.891], None, 0.832)])
        >>> (judgement,) = judge(runs)
        >>> str(judgement.verdict)
        'jackpot'
        >>> judgement.finding("3").decision
        <Decision.HOLDS: 'holds'>
    """
    return judging(runs, criteria, pending, conditions)(None)


def judging(
    runs: pl.DataFrame,
    criteria: Criteria | None = None,
    pending: pl.DataFrame | None = None,
    conditions: Sequence[Condition] = CONDITIONS,
) -> Callable[[float | None], list[Judgement]]:
    """`judge`, to be asked at several levels α; None is that of the criteria."""
    criteria = criteria or Criteria()
    known = with_destroyed(runs if criteria.any_rate else own_rate(runs))
    studies = [
        _Study(str(network), str(dataset), here, criteria, conditions, pending)
        for (network, dataset), here in known.group_by("network", "dataset", maintain_order=True)
    ]

    def at(alpha: float | None) -> list[Judgement]:
        found = [j for study in studies for j in study.judgements(alpha)]
        return sorted(found, key=lambda j: (j.network, j.dataset, j.sparsity, j.pruner))

    return at


def compared(criteria: Criteria, conditions: Sequence[Condition]) -> dict[str, Setting]:
    """The settings that a judgement looks at, by name: the ticket, its rivals, pretraining."""
    rivals = [condition.rival for condition in conditions if condition.rival is not None]
    ticket = settings.find(criteria.ticket)
    return {setting.name: setting for setting in (PRETRAIN, ticket, *rivals)}


def _key(setting: Setting, pruner: str | None, sparsity: float | None) -> Key:
    """What a ticket of this pruner and sparsity is compared with, of a setting."""
    return (
        setting.name,
        pruner if setting.is_masked else None,
        None if setting.is_dense else sparsity,
    )


class _Study:
    """The runs of one network and dataset, with what all judgements of them share."""

    def __init__(
        self,
        network: str,
        dataset: str,
        runs: pl.DataFrame,
        criteria: Criteria,
        conditions: Sequence[Condition],
        pending: pl.DataFrame | None,
    ) -> None:
        self.network, self.dataset, self.criteria, self.conditions = (
            network, dataset, criteria, conditions,
        )  # fmt: skip
        self.compared = compared(criteria, conditions)
        self.noise: Noise | None = noise.of(runs)
        masked = runs.filter(pl.col("pruner").is_not_null())
        self.tickets = masked.select("pruner", "sparsity").unique().rows()
        self.test_images = _test_images(runs, dataset)
        table = means(runs)
        self.curves: dict[Key, list[Cell]] = {}
        rows = table.filter(pl.col("setting").is_in(list(self.compared)))
        for (name, pruner, sparsity), cells in rows.group_by(
            "setting", "pruner", "sparsity", maintain_order=True
        ):
            key = _key(self.compared[str(name)], pruner, sparsity)
            self.curves[key] = curve(cells, criteria.rate_by)
        dense = table.filter(pl.col("setting") == PRETRAIN.name)["epochs"].to_list()
        self.epochs = min(dense, default=None)
        self.lost: dict[Key, set[float]] = {}
        gone = runs.filter(pl.col("diverged"), pl.col("setting").is_in(list(self.compared)))
        for name, pruner, sparsity, rate in gone.select(
            "setting", "pruner", "sparsity", "learning_rate"
        ).rows():
            self.lost.setdefault(_key(self.compared[name], pruner, sparsity), set()).add(rate)
        self.waiting: dict[Key, int] = {}
        if pending is not None and not pending.is_empty():
            mine = (pl.col("network") == network) & (pl.col("dataset") == dataset)
            planned = pending.filter(mine, pl.col("setting").is_in(list(self.compared)))
            if not criteria.any_rate:
                planned = planned.filter(OWN_RATE)
            counts = planned.group_by("setting", "pruner", "sparsity").len().rows()
            for name, pruner, sparsity, count in counts:
                key = _key(self.compared[name], pruner, sparsity)
                self.waiting[key] = self.waiting.get(key, 0) + count

    def judgements(self, alpha: float | None) -> list[Judgement]:
        """One for each pruner and sparsity that has a run with a mask."""
        twin = copy(self)
        if alpha is not None:
            twin.criteria = replace(self.criteria, alpha=alpha)
        return [twin._judge(pruner, sparsity) for pruner, sparsity in self.tickets]

    def _judge(self, pruner: str, sparsity: float) -> Judgement:
        keys = {name: _key(s, pruner, sparsity) for name, s in self.compared.items()}
        curves = {name: self.curves.get(key, []) for name, key in keys.items()}
        lost = {name: self.lost.get(key, set()) for name, key in keys.items()}
        facts = None if self.epochs is None else Facts(sparsity, self.epochs, self.dataset)
        bounds: dict[str, list[Bound]] = {}
        findings = tuple(
            _test(condition, facts, self.criteria)
            if condition.rival is None
            else self._compare(condition, condition.rival, curves, lost, bounds)
            for condition in self.conditions
        )
        needed = [found for found in findings if found.condition.verdicts]
        missing = tuple(dict.fromkeys(name for found in needed for name in found.missing))
        verdict, point, rate = Verdict.NOT_ENOUGH_RUNS, Verdict.NOT_ENOUGH_RUNS, None
        if not missing:
            decided = _Decided(findings, bounds, joint=self.criteria.reading == "joint")
            verdict = decided.verdict()
            point, rate = decided.of_means()
        elif any(found.decision is Decision.FAILS for found in needed if not found.condition.rival):
            # Whatever the runs that are missing would give.
            verdict = point = Verdict.NONE
        counts = [len(cell.trials) for cell in able(curves[self.criteria.ticket])]
        # Runs that only conditions beside the verdict wait for do not make it provisional.
        rivals = (c.rival.name for c in self.conditions if c.rival is not None and c.verdicts)
        decisive = {PRETRAIN.name, self.criteria.ticket, *rivals}
        return Judgement(
            network=self.network,
            dataset=self.dataset,
            pruner=pruner,
            sparsity=sparsity,
            ticket=self.criteria.ticket,
            conditions=findings,
            verdict=verdict,
            point_verdict=point,
            missing=missing,
            pending=sum(self.waiting.get(key, 0) for n, key in keys.items() if n in decisive),
            learning_rate=rate,
            criteria=self.criteria,
            trials=(min(counts, default=0), max(counts, default=0)),
            single=tuple(
                name
                for name, cells in curves.items()
                if any(len(cell.trials) == 1 for cell in able(cells))
            ),
            diverged=tuple((name, rate) for name, rates in lost.items() for rate in sorted(rates)),
            assumed=self.criteria.assumed(self.dataset),
            test_images=self.test_images,
            alpha_against=self.criteria.level / self._ways_to_fail,
            noise=self.noise,
            compared=tuple(self.compared),
        )

    def _compare(
        self,
        condition: Condition,
        rival: Setting,
        curves: Mapping[str, list[Cell]],
        lost: Mapping[str, set[float]],
        bounds: dict[str, list[Bound]],
    ) -> Finding:
        """The ticket against the condition's rival, each at the learning rate that the row says."""
        ticket = self.criteria.ticket
        absent = tuple(name for name in (ticket, rival.name) if not curves[name] and not lost[name])
        if absent:
            return Finding(condition, None, None, missing=absent)
        ours, theirs = able(curves[ticket]), able(curves[rival.name])
        same_rate = condition.at == "same rate"
        if same_rate:
            trained = {cell.learning_rate for cell in curves[rival.name]} | lost[rival.name]
            rates = {cell.mask_rate for cell in curves[ticket]} | lost[ticket]
            if not trained & rates:
                return Finding(condition, None, None, missing=(rival.name,))
            theirs = _decent(theirs, self.criteria.floor)
            decent = {cell.learning_rate for cell in theirs}
            ours = [cell for cell in ours if cell.mask_rate in decent]
        if not ours or not theirs:
            # Where only some trials diverged, and that at every rate, the rest may be any good.
            if curves[ticket] and (_in_part(curves[ticket]) or _in_part(curves[rival.name])):
                return Finding(condition, Decision.UNDECIDED, None)
            # At every rate that could count a network diverged, or did not learn.
            lost_all = not ours or same_rate
            return Finding(condition, Decision.FAILS if lost_all else Decision.HOLDS, not lost_all)
        own, other = _chosen(condition, ours, theirs)
        allowance = condition.allowance(self.criteria, self.dataset) if condition.allowance else 0.0
        margin = own.accuracy - other.accuracy - allowance
        found = self._bounds(condition, ours, theirs, own, other, allowance)
        bounds[condition.name] = found
        shown = some(found)
        return Finding(
            condition,
            shown.decision,
            margin > _ROUNDING if condition.is_strict else margin >= -_ROUNDING,
            margin,
            shown.low,
            shown.high,
            learning_rates=(own.learning_rate, other.learning_rate),
            own=own,
            other=other,
            ours=tuple(ours),
            theirs=tuple(theirs),
            test_error=_test_error(own.accuracy, other.accuracy, self.test_images),
        )

    def _bounds(
        self,
        condition: Condition,
        ours: list[Cell],
        theirs: list[Cell],
        own: Cell,
        other: Cell,
        allowance: float,
    ) -> list[Bound]:
        # Three comparisons can each make the verdict "none": each may do so wrongly in a third of
        # what is allowed (Bonferroni).
        alpha, against = self.criteria.level, self.criteria.level / self._ways_to_fail
        same_rate = condition.at == "same rate"
        if self.criteria.rate_by == "heldout":
            # One rate of each side is looked at, and was still chosen among all. In the joint
            # reading all conditions meet at one rate of the ticket, which no one of them chooses.
            is_joint = self.criteria.reading == "joint" and condition.is_joint
            if not is_joint:
                alpha /= len(ours)
                ours = [own]
            if not same_rate:
                against /= len(theirs)
            if not (same_rate and is_joint):
                theirs = [other]
        return contrasts.bounds(
            *(ours, theirs, allowance, self.noise),
            same_rate=same_rate,
            alpha=alpha,
            alpha_against=against,
        )

    @property
    def _ways_to_fail(self) -> int:
        return (
            sum(
                condition.rival is not None and condition.verdicts == frozenset(PRIZES)
                for condition in self.conditions
            )
            or 1
        )


def _in_part(cells: list[Cell]) -> bool:
    """Whether trials ended with a number, but at no rate did all of them."""
    return bool(cells) and not able(cells)


def _test_images(runs: pl.DataFrame, dataset: str) -> int | None:
    """How many images accuracies are measured on: as logged, else those of the paper's dataset."""
    for column in (Tag.TEST_SET_SIZE, Param.TEST_IMAGES):
        if column in runs.columns:
            counts = runs[column].drop_nulls().cast(pl.Int64, strict=False).drop_nulls()
            if len(counts):
                return min(counts.to_list())
    return TEST_IMAGES.get(plain(dataset))


def _test_error(first: float, second: float, images: int | None) -> float | None:
    """Standard error of the difference of two accuracies on the same images, were they others.

    √(2 p (1 − p) (1 − ρ) / N), with ρ = 0.5 for how alike two networks' errors are.
    """
    if not images:
        return None
    p = (first + second) / 2
    return float((2 * p * (1 - p) * (1 - 0.5) / images) ** 0.5)


def _decent(dense: list[Cell], floor: float) -> list[Cell]:
    """The rates at which dense networks are trained at all."""
    highest = max((cell.accuracy for cell in dense), default=0.0)
    return [cell for cell in dense if cell.accuracy >= highest - floor - _ROUNDING]


def _chosen(condition: Condition, ours: list[Cell], theirs: list[Cell]) -> tuple[Cell, Cell]:
    """The two cells that the means compare: the best of each, or both at the rate that favours."""
    if condition.at == "best":
        return best(ours), best(theirs)
    rates = {cell.learning_rate: cell for cell in theirs}
    pairs = [(cell, rates[cell.mask_rate]) for cell in ours]
    return max(pairs, key=lambda pair: pair[0].chosen_by - pair[1].chosen_by)


def _test(condition: Condition, facts: Facts | None, criteria: Criteria) -> Finding:
    if facts is None or condition.test is None:
        return Finding(condition, None, None, missing=(PRETRAIN.name,))
    holds = condition.test(facts, criteria)
    return Finding(condition, Decision.HOLDS if holds else Decision.FAILS, holds)


class _Decided:
    """From the conditions to a verdict, in either reading.

    Args:
        findings: about all conditions; none has runs missing that a verdict needs.
        bounds: of each comparison, by the name of its condition.
        joint: whether one learning rate of the ticket must meet the joint conditions.
    """

    def __init__(
        self, findings: Sequence[Finding], bounds: Mapping[str, list[Bound]], joint: bool
    ) -> None:
        self.findings, self.bounds, self.joint = findings, bounds, joint

    def verdict(self) -> Verdict:
        """What the trials show."""
        lowest = self._decision(frozenset(PRIZES))
        if lowest is Decision.FAILS:
            return Verdict.NONE
        if lowest is Decision.UNDECIDED:
            return Verdict.UNDECIDED
        for prize in PRIZES:
            decision = self._decision(frozenset({prize}))
            if decision is Decision.HOLDS:
                return prize
            if decision is Decision.UNDECIDED:
                return Verdict.TICKET
        return Verdict.NONE

    def of_means(self) -> tuple[Verdict, float | None]:
        """The highest verdict that the means grant, and the rate at which the ticket earns it."""
        for prize in PRIZES:
            needed = [f for f in self.findings if prize in f.condition.verdicts]
            if not self.joint:
                if all(found.holds for found in needed):
                    return prize, self._naming(prize).learning_rates[0]
                continue
            joint = self._joint(needed)
            alone = [found for found in needed if found not in joint]
            if not all(found.holds for found in alone):
                continue
            met = (
                [bound.cell for bound in together([self._met(found) for found in joint])]
                if joint
                else []
            )
            if met:
                return prize, max(met, key=lambda cell: cell.chosen_by).learning_rate
        return Verdict.NONE, None

    def _naming(self, prize: Verdict) -> Finding:
        return next(f for f in self.findings if f.condition.names_rate_of is prize)

    def _met(self, found: Finding) -> list[Bound]:
        """The cells whose means meet a condition."""
        strict = found.condition.is_strict
        return [
            bound
            for bound in self.bounds.get(found.condition.name, [])
            if (bound.value > _ROUNDING if strict else bound.value >= -_ROUNDING)
        ]

    def _joint(self, needed: Sequence[Finding]) -> list[Finding]:
        return [
            found
            for found in needed
            # What is not compared at any rate asks nothing of one.
            if self.joint and found.condition.is_joint and found.condition.name in self.bounds
        ]

    def _decision(self, prizes: frozenset[Verdict]) -> Decision:
        """Whether the conditions hold that each of these verdicts needs."""
        needed = [f for f in self.findings if prizes <= f.condition.verdicts]
        joint = self._joint(needed)
        decisions = [found.decision for found in needed if found not in joint]
        if joint:
            decisions.append(self._at_one_rate(joint).decision)
        if Decision.FAILS in decisions:
            return Decision.FAILS
        return Decision.UNDECIDED if Decision.UNDECIDED in decisions else Decision.HOLDS

    def _at_one_rate(self, joint: Sequence[Finding]) -> Contrast:
        """Whether all of these hold at some learning rate of the ticket."""
        shared = together([self.bounds.get(found.condition.name, []) for found in joint])
        if not shared:
            # A rate at which one of them cannot be met at all.
            return Contrast(-1.0, -1.0, -1.0)
        return some(shared)
