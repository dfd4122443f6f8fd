"""The rigorous definition of a winning ticket (section 2.2), applied to polars frames. Pure.

Accuracies are fractions; tolerance and gap are fractions too (0.005 is half a point).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import polars as pl
from scipy import stats

from mlflow_server.contract import Metric

NON_TRIVIAL_SPARSITY = 0.59
CLEAR_GAP = 0.005
# "Similar accuracy" and the epochs of the standard recipe, per dataset (section 2.2, table E.1).
SIMILAR = {
    "cifar10": 0.005,
    "cifar100": 0.01,
    "tiny_imagenet": 0.01,
    "imagenet2012": 0.015,
}
STANDARD_EPOCHS = {"cifar10": 160, "cifar100": 160, "tiny_imagenet": 160, "imagenet2012": 90}
CONFIDENCE = 0.95
# Subnetworks trained at another rate than their mask's are the ablation's (Table 4) alone.
OWN_RATE = pl.col("pretrain_learning_rate").is_null() | (
    pl.col("pretrain_learning_rate") == pl.col("learning_rate")
)
GROUP = ("network", "dataset", "pruner", "sparsity")


class Verdict(StrEnum):
    """What a ticket is worth (section 2.2)."""

    JACKPOT = "jackpot"
    SECONDARY = "secondary"
    NONE = "none"
    NOT_ENOUGH_RUNS = "not enough runs"


@dataclass(frozen=True)
class Criteria:
    """The numbers behind the words of the definition; None takes the dataset's own.

    Attributes:
        tolerance: accuracy drop that still counts as similar (conditions 4 and 5).
        gap: difference that counts as clear (conditions 2 and 3).
        sparsity: least non-trivial sparsity (condition 1).
        epochs: least number of epochs that is sufficient (condition 1).
        reading: `literal`: each condition may choose its own learning rate, as the paper's text
            has it; `joint`: one learning rate must meet 3 and 4 (and 5).
        ticket: the setting that is judged: `lt`, or `wr` for weight rewinding (appendix B).
        rate_by: accuracy by which each setting's best learning rate is chosen: on the `test`
            split, as the paper does, or on `heldout` images where all trials have that. Test
            accuracies are compared either way.
    """

    tolerance: float | None = None
    gap: float = CLEAR_GAP
    sparsity: float = NON_TRIVIAL_SPARSITY
    epochs: int | None = None
    reading: Literal["literal", "joint"] = "literal"
    ticket: Literal["lt", "wr"] = "lt"
    rate_by: Literal["test", "heldout"] = "test"

    def tolerance_for(self, dataset: str) -> float:
        """The tolerance on a dataset; that of CIFAR-10 where the paper names none."""
        return self.tolerance if self.tolerance is not None else SIMILAR.get(dataset, CLEAR_GAP)

    def epochs_for(self, dataset: str) -> int:
        """Sufficient epochs on a dataset; 1 where there is no standard recipe to compare with."""
        return self.epochs if self.epochs is not None else STANDARD_EPOCHS.get(dataset, 1)


@dataclass(frozen=True)
class Mean:
    """Mean accuracy over the trials of one setting at one learning rate."""

    learning_rate: float
    accuracy: float
    deviation: float | None
    trials: int
    chosen_by: float
    """What the best learning rate is the best in: test or held-out accuracy."""


@dataclass(frozen=True)
class Condition:
    """One of the five conditions.

    Attributes:
        number: 1 to 5.
        holds: None while runs are missing.
        margin: how far inside (positive) or outside the condition is; None for condition 1.
        low, high: 95 % interval of the margin; None with a single trial on either side.
        learning_rates: those of the ticket and of what it is compared with.
        missing: settings without which it cannot be said.
    """

    number: int
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


@dataclass(frozen=True)
class Judgement:
    """The five conditions of one network, dataset, pruner and sparsity, and their verdict.

    Attributes:
        missing: settings without any run.
        pending: planned runs that bear on it and may yet finish: until then the best learning
            rate of a setting may not have been tried, and the verdict is provisional.
        learning_rate: at which the ticket wins; None if it does not.
    """

    network: str
    dataset: str
    pruner: str
    sparsity: float
    ticket: Literal["lt", "wr"]
    conditions: tuple[Condition, ...]
    verdict: Verdict
    boundary: bool
    missing: tuple[str, ...] = field(default=())
    pending: int = 0
    learning_rate: float | None = None

    def __str__(self) -> str:
        """The verdict, △ where the trials do not decide it, and how many runs are to come."""
        text = f"{self.verdict} △" if self.boundary else str(self.verdict)
        return f"{text} (so far: {self.pending} runs to come)" if self.pending else text


def accuracies(runs: pl.DataFrame, which: Literal["last", "best"] = "last") -> pl.DataFrame:
    """Finished runs as `means` wants them, `accuracy` being that of the last or best epoch.

    Args:
        runs: rows of the store, columns as in `explorer.store.SCHEMA`.
        which: epoch.
    """
    column = "val_accuracy" if which == "last" else "best_val_accuracy"
    held_out = Metric.HELDOUT_ACCURACY if which == "last" else Metric.BEST_HELDOUT_ACCURACY
    return runs.filter(pl.col("status") == "FINISHED", OWN_RATE).with_columns(
        pl.col(held_out).alias(Metric.HELDOUT_ACCURACY),
        pl.col(column).alias("accuracy"),
        # WR trains the rest of the schedule: its recipe is as long as the others'.
        (pl.col("epochs") + pl.col("rewind_epoch").fill_null(0)).alias("epochs"),
    )


def means(runs: pl.DataFrame) -> pl.DataFrame:
    """Mean, standard deviation (n − 1) and count over trials.

    Args:
        runs: one row per finished run with `network dataset setting pruner sparsity
            learning_rate trial accuracy epochs`; pruner is null for pretrain and sdt. A column
            `link`, if there is one, is kept.

    Returns:
        One row per setting and learning rate with `accuracy deviation trials epochs`.
    """
    return (
        runs.drop_nulls("accuracy")
        .group_by(
            "network",
            "dataset",
            "setting",
            "pruner",
            "sparsity",
            "learning_rate",
            maintain_order=True,
        )
        .agg(
            pl.col("accuracy").mean(),
            pl.col("accuracy").std().alias("deviation"),
            pl.len().alias("trials"),
            pl.col("epochs").min(),
            *(pl.col(name).first() for name in runs.columns if name == "link"),
            # Null unless all trials have it.
            *(
                pl.when(pl.col(name).is_not_null().all()).then(pl.col(name).mean()).alias(name)
                for name in runs.columns
                if name == Metric.HELDOUT_ACCURACY
            ),
        )
        .sort("setting", "pruner", "sparsity", "learning_rate")
    )


def judge(
    runs: pl.DataFrame, criteria: Criteria | None = None, pending: pl.DataFrame | None = None
) -> list[Judgement]:
    """A judgement for every network, dataset, pruner and sparsity that has a sparse run.

    Args:
        runs: see `means`. Runs of different recipes must not be mixed: give one study's.
        criteria: how the definition is read.
        pending: planned runs that may yet finish (`explorer.store.pending`): what they bear on is
            provisional.
    """
    criteria = criteria or Criteria()
    table = means(runs)
    groups = (
        table.filter(pl.col("pruner").is_not_null())
        .select(GROUP)
        .unique()
        .sort("network", "dataset", "sparsity", "pruner")
    )
    return [
        _judge(table, criteria, _bearing_on(pending, criteria, **group), **group)
        for group in groups.iter_rows(named=True)
    ]


def _bearing_on(
    pending: pl.DataFrame | None,
    criteria: Criteria,
    network: str,
    dataset: str,
    pruner: str,
    sparsity: float,
) -> int:
    """How many of the planned runs a judgement waits for."""
    if pending is None or pending.is_empty():
        return 0
    at, setting = pl.col("sparsity") == sparsity, pl.col("setting")
    needed = (
        (setting == "pretrain")
        | (setting.is_in([criteria.ticket, "rr"]) & (pl.col("pruner") == pruner) & at)
        | ((setting == "sdt") & at)
    )
    same = (pl.col("network") == network) & (pl.col("dataset") == dataset)
    return pending.filter(same, needed, OWN_RATE).height


def _judge(
    table: pl.DataFrame,
    criteria: Criteria,
    pending: int,
    network: str,
    dataset: str,
    pruner: str,
    sparsity: float,
) -> Judgement:
    here = table.filter(pl.col("network") == network, pl.col("dataset") == dataset)
    at = here.filter(pl.col("sparsity") == sparsity)
    own = pl.col("pruner") == pruner
    dense, ticket, rr, sdt = (
        _curve(curve, criteria.rate_by)
        for curve in (
            here.filter(pl.col("setting") == "pretrain"),
            at.filter(pl.col("setting") == criteria.ticket, own),
            at.filter(pl.col("setting") == "rr", own),
            at.filter(pl.col("setting") == "sdt"),
        )
    )
    tolerance = criteria.tolerance_for(dataset)
    dense_epochs = here.filter(pl.col("setting") == "pretrain")["epochs"].min()
    conditions = (
        _first(sparsity, dense_epochs, criteria, dataset),
        _clear(2, ticket, sdt, criteria, "sdt"),
        _clear(3, ticket, rr, criteria, "rr"),
        _similar_somewhere(ticket, dense, tolerance, criteria),
        _similar_to_best(ticket, dense, tolerance, criteria),
    )
    missing = tuple(dict.fromkeys(name for c in conditions for name in c.missing))
    verdict, rate = (
        (Verdict.NOT_ENOUGH_RUNS, None)
        if missing
        else _literal(conditions)
        if criteria.reading == "literal"
        else _joint(conditions, ticket, dense, rr, tolerance, criteria.gap)
    )
    return Judgement(
        network=network,
        dataset=dataset,
        pruner=pruner,
        sparsity=sparsity,
        ticket=criteria.ticket,
        conditions=conditions,
        verdict=verdict,
        boundary=not missing and _undecided(conditions),
        missing=missing,
        pending=pending,
        learning_rate=rate,
    )


def _first(sparsity: float, epochs: int | None, criteria: Criteria, dataset: str) -> Condition:
    if epochs is None:
        return Condition(1, None, missing=("pretrain",))
    return Condition(
        1, sparsity >= criteria.sparsity - 1e-9 and epochs >= criteria.epochs_for(dataset)
    )


def _clear(
    number: int, ticket: list[Mean], other: list[Mean], criteria: Criteria, name: str
) -> Condition:
    """max ticket − max other > gap."""
    missing = _absent({criteria.ticket: ticket, name: other})
    if missing:
        return Condition(number, None, missing=missing)
    best, rival = _best(ticket), _best(other)
    margin = best.accuracy - rival.accuracy - criteria.gap
    return Condition(
        number,
        margin > 1e-12,
        margin,
        *_interval(best, rival, margin),
        learning_rates=(best.learning_rate, rival.learning_rate),
    )


def _similar_somewhere(
    ticket: list[Mean], dense: list[Mean], tolerance: float, criteria: Criteria
) -> Condition:
    """Some learning rate at which the ticket is at least the dense network − tolerance."""
    rates = {mean.learning_rate: mean for mean in dense}
    pairs = [(mean, rates[mean.learning_rate]) for mean in ticket if mean.learning_rate in rates]
    missing = _absent({criteria.ticket: ticket, "pretrain": dense})
    if missing or not pairs:
        return Condition(4, None, missing=missing or ("pretrain",))
    best, rival = max(pairs, key=lambda pair: pair[0].chosen_by - pair[1].chosen_by)
    margin = best.accuracy - rival.accuracy + tolerance
    return Condition(
        4,
        margin >= -1e-12,
        margin,
        *_interval(best, rival, margin),
        learning_rates=(best.learning_rate, rival.learning_rate),
    )


def _similar_to_best(
    ticket: list[Mean], dense: list[Mean], tolerance: float, criteria: Criteria
) -> Condition:
    """max ticket ≥ max dense − tolerance."""
    missing = _absent({criteria.ticket: ticket, "pretrain": dense})
    if missing:
        return Condition(5, None, missing=missing)
    best, rival = _best(ticket), _best(dense)
    margin = best.accuracy - rival.accuracy + tolerance
    return Condition(
        5,
        margin >= -1e-12,
        margin,
        *_interval(best, rival, margin),
        learning_rates=(best.learning_rate, rival.learning_rate),
    )


def _literal(conditions: tuple[Condition, ...]) -> tuple[Verdict, float | None]:
    """The verdict, and the rate of the condition that gives it: 5 for a jackpot, else 4."""
    if not all(c.holds for c in conditions[:4]):
        return Verdict.NONE, None
    if conditions[4].holds:
        return Verdict.JACKPOT, conditions[4].learning_rates[0]
    return Verdict.SECONDARY, conditions[3].learning_rates[0]


def _joint(
    conditions: tuple[Condition, ...],
    ticket: list[Mean],
    dense: list[Mean],
    rr: list[Mean],
    tolerance: float,
    gap: float,
) -> tuple[Verdict, float | None]:
    """Conditions 3 and 4 (and 5) at one learning rate; 1 and 2 are as in the literal reading."""
    if not (conditions[0].holds and conditions[1].holds):
        return Verdict.NONE, None
    at = {mean.learning_rate: mean.accuracy for mean in dense}
    meeting = [
        mean
        for mean in ticket
        if mean.accuracy - _best(rr).accuracy - gap > 1e-12
        and mean.learning_rate in at
        and mean.accuracy - at[mean.learning_rate] + tolerance >= -1e-12
    ]
    if not meeting:
        return Verdict.NONE, None
    best = max(meeting, key=lambda mean: mean.accuracy)
    similar = best.accuracy - _best(dense).accuracy + tolerance >= -1e-12
    return (Verdict.JACKPOT if similar else Verdict.SECONDARY), best.learning_rate


def _undecided(conditions: tuple[Condition, ...]) -> bool:
    """Whether a condition that the trials do not decide could change the verdict.

    A condition that clearly fails settles "none" whatever the others do.
    """
    required = conditions[:4]
    if any(c.holds is False and not c.boundary for c in required):
        return False
    return any(c.boundary for c in conditions)


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


def _absent(curves: dict[str, list[Mean]]) -> tuple[str, ...]:
    return tuple(name for name, curve in curves.items() if not curve)


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
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * total**0.5
    return margin - half, margin + half
