"""Accuracies of finished runs, and their means over trials, as tidy polars frames. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

import polars as pl

from jackpot.contract import DIVERGED, Metric, Param, Tag

# Subnetworks trained at another rate than their mask's are the ablation's (Table 4) alone.
OWN_RATE = pl.col("pretrain_learning_rate").is_null() | (
    pl.col("pretrain_learning_rate") == pl.col("learning_rate")
)
# It would again; what failed for the machine's sake, a launch trains.
FAILED_FOR_GOOD = (pl.col("status") == "FAILED") & pl.col(Tag.FAILURE).fill_null("").str.contains(
    DIVERGED
)
CELL = ("network", "dataset", "setting", "pruner", "sparsity", "learning_rate", "mask_rate")
"""The columns that trials of one cell share."""
_REQUIRED = (*CELL[:-1], "trial", "accuracy", "epochs")
_HALF = 0.5


@dataclass(frozen=True)
class Cell:
    """The mean of one setting at one learning rate, over its trials.

    Attributes:
        learning_rate: initial.
        accuracy: mean over trials, a fraction.
        trials: their numbers.
        chosen_by: the accuracy by which the best learning rate is chosen: test or held-out.
        mask_rate: learning rate of the pretraining that its mask is from; of a network without a
            mask, its own.
        diverged: how many more trials ended without a number.
    """

    learning_rate: float
    accuracy: float
    trials: frozenset[int]
    chosen_by: float
    mask_rate: float
    diverged: int = 0


def accuracies(
    runs: pl.DataFrame, which: Literal["last", "best"] = "last", *, any_rate: bool = False
) -> pl.DataFrame:
    """Runs in the form that `means` expects, with `accuracy` of the last or best epoch.

    Runs that failed for the machine's sake are left out, and those without a learning rate; those
    that diverged stay, without an accuracy.

    Args:
        runs: rows of a store, with the params and metrics of `jackpot.contract` as columns, and
            `status`.
        which: epoch.
        any_rate: whether to keep subnetworks trained at another rate than their masks' (Table 4).
    """
    column = Metric.VAL_ACCURACY if which == "last" else Metric.BEST_VAL_ACCURACY
    held_out = Metric.HELDOUT_ACCURACY if which == "last" else Metric.BEST_HELDOUT_ACCURACY
    finished = pl.col("status") == "FINISHED"
    counted = runs.filter(finished | FAILED_FOR_GOOD, pl.col(Param.LEARNING_RATE).is_not_null())
    return (counted if any_rate else own_rate(counted)).with_columns(
        pl.col(held_out).alias(Metric.HELDOUT_ACCURACY),
        pl.when(finished).then(pl.col(column)).alias("accuracy"),
        # WR trains the rest of the schedule: its recipe is as long as the others'.
        (pl.col("epochs") + pl.col("rewind_epoch").fill_null(0)).alias("epochs"),
    )


def tidy(runs: pl.DataFrame) -> pl.DataFrame:
    """Runs that say something, checked, with `diverged` and `mask_rate`.

    Args:
        runs: one row per run with `network dataset setting pruner sparsity learning_rate trial
            accuracy epochs`, accuracy as a fraction; pruner is null for dense and small-dense
            networks. `status` is FINISHED if it is left out: a FAILED run, or one whose accuracy is
            NaN, diverged. `pretrain_learning_rate` is that of the mask, if it is another.

    Raises:
        ValueError: a column that is missing, an accuracy that is no fraction, or two runs of one
            trial.
    """
    if {"diverged", "mask_rate"} <= set(runs.columns):
        return runs
    absent = [name for name in _REQUIRED if name not in runs.columns]
    if absent:
        raise ValueError(f"runs lack {', '.join(absent)}; expected {', '.join(_REQUIRED)}")
    status = pl.col("status") if "status" in runs.columns else pl.lit("FINISHED")
    mask_rate = pl.col("learning_rate")
    if "pretrain_learning_rate" in runs.columns:
        mask_rate = pl.coalesce("pretrain_learning_rate", mask_rate)
    accuracy = pl.col("accuracy").cast(pl.Float64)
    diverged = (status == "FAILED") | ((status == "FINISHED") & accuracy.is_nan())
    found = (
        runs.with_columns(diverged.fill_null(value=False).alias("diverged"), accuracy)
        .with_columns(
            pl.when(~pl.col("diverged")).then("accuracy").alias("accuracy"),
            mask_rate.cast(pl.Float64).alias("mask_rate"),
            pl.col("learning_rate").cast(pl.Float64),
            pl.col("sparsity").cast(pl.Float64),
            pl.col("pruner").cast(pl.String),
        )
        .filter(pl.col("diverged") | ((status == "FINISHED") & pl.col("accuracy").is_not_null()))
    )
    wrong = found.filter(~pl.col("accuracy").is_between(0, 1))
    if wrong.height:
        raise ValueError(
            f"accuracies are fractions between 0 and 1; received {wrong['accuracy'][0]:g} for "
            f"{wrong['setting'][0]} at learning rate {wrong['learning_rate'][0]:g}"
        )
    twice = found.filter(pl.struct(*CELL, "trial").is_duplicated())
    if twice.height:
        row = twice.row(0, named=True)
        raise ValueError(
            f"two runs of {row['setting']} at sparsity {row['sparsity']:g}, learning rate "
            f"{row['learning_rate']:g} have trial {row['trial']}: runs of different recipes must "
            "not be mixed"
        )
    return found


def own_rate(runs: pl.DataFrame) -> pl.DataFrame:
    """Runs without those trained at another rate than their mask's (Table 4)."""
    return runs.filter(OWN_RATE) if "pretrain_learning_rate" in runs.columns else runs


def below(parents: Iterable[tuple[str, Collection[str]]], lost: Collection[str]) -> list[str]:
    """Runs that are not trained, since one that they need is lost.

    Args:
        parents: of each run that may be trained, by key; parents come first.
        lost: keys of the runs that diverged.

    >>> below([("b", ["a"]), ("c", ["b"]), ("d", [])], ["a"])
    ['b', 'c']
    """
    gone, found = set(lost), []
    for key, needed in parents:
        if not gone.isdisjoint(needed):
            gone.add(key)
            found.append(key)
    return found


def with_destroyed(runs: pl.DataFrame) -> pl.DataFrame:
    """Runs in which a network that training destroyed has diverged, as one of NaN has.

    That is a trial less than half as accurate as another of the same setting, pruner, sparsity and
    learning rate (the number is ours). Where a rate is too large, it is chance whether a loss
    becomes NaN or a network guesses one class for good; and one such trial tells a rate's noise so
    badly that no comparison could leave the rate out. A setting that has such a trial at every rate
    keeps them: then there is no other rate to choose.

    Args:
        runs: see `tidy`.
    """
    low = pl.col("accuracy") < _HALF * pl.col("accuracy").max().over(CELL)
    known = tidy(runs).with_columns(low.fill_null(value=False).alias("_low"))
    whole = ~(pl.col("_low") | pl.col("diverged")).any().over(CELL)
    return (
        known.with_columns(whole.alias("_whole"))
        .with_columns((pl.col("_low") & pl.col("_whole").any().over(CELL[:5])).alias("_low"))
        .with_columns(
            pl.when(~pl.col("_low")).then("accuracy").alias("accuracy"),
            (pl.col("diverged") | pl.col("_low")).alias("diverged"),
        )
        .drop("_low", "_whole")
    )


def means(runs: pl.DataFrame) -> pl.DataFrame:
    """Mean, standard deviation (n − 1) and count over trials.

    Args:
        runs: see `tidy`. A column `link`, if there is one, is kept.

    Returns:
        One row per setting and learning rate at which a trial ended with a number, with `accuracy
        deviation trials trial_numbers diverged epochs`.

    Example:
        >>> runs = pl.DataFrame(
        ...     {"network": "n", "dataset": "d", "setting": "lt", "pruner": "imp", "sparsity": 0.5,
        ...      "learning_rate": 0.1, "trial": [1, 2], "accuracy": [0.8, 0.9], "epochs": 2})
        >>> means(runs).select("trials", pl.col("accuracy").round(3)).row(0)
        (2, 0.85)
    """
    reported = pl.col("accuracy").is_not_null()
    return (
        tidy(runs)
        .group_by(CELL, maintain_order=True)
        .agg(
            pl.col("accuracy").mean(),
            pl.col("accuracy").std().alias("deviation"),
            reported.sum().alias("trials"),
            pl.col("trial").filter(reported).unique().sort().alias("trial_numbers"),
            pl.col("diverged").sum(),
            pl.col("epochs").min(),
            *(pl.col(name).first() for name in runs.columns if name == "link"),
            # Null unless all trials have it.
            *(
                pl.when(pl.col(name).is_not_null().all()).then(pl.col(name).mean()).alias(name)
                for name in runs.columns
                if name == Metric.HELDOUT_ACCURACY
            ),
        )
        .filter(pl.col("trials") > 0)
        .sort("setting", "pruner", "sparsity", "learning_rate", "mask_rate")
    )


def curve(table: pl.DataFrame, rate_by: Literal["test", "heldout"] = "test") -> list[Cell]:
    """The cells of one setting, by learning rate.

    Args:
        table: from `means`, rows of one setting, pruner and sparsity.
        rate_by: accuracy that `chosen_by` is; the held-out one only where all cells have it.
    """
    by = pl.col("accuracy").alias("by")
    held_out = Metric.HELDOUT_ACCURACY
    if rate_by == "heldout" and held_out in table.columns and not table[held_out].has_nulls():
        by = pl.col(held_out).alias("by")
    rows = table.sort("learning_rate").select(
        "learning_rate", "accuracy", "trial_numbers", by, "mask_rate", "diverged"
    )
    return [
        Cell(rate, mean, frozenset(trials), by, mask_rate, diverged)
        for rate, mean, trials, by, mask_rate, diverged in rows.rows()
    ]


def able(cells: Iterable[Cell]) -> list[Cell]:
    """The cells that can win: those in which no trial diverged."""
    return [cell for cell in cells if not cell.diverged]


def best(cells: Iterable[Cell]) -> Cell:
    """The cell at the best learning rate; of equal ones at the lowest."""
    return max(cells, key=lambda cell: (cell.chosen_by, -cell.learning_rate))
