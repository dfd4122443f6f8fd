"""Accuracies of finished runs, and their means over trials, as tidy polars frames. Pure."""

from dataclasses import dataclass
from typing import Literal

import polars as pl

from jackpot.contract import Metric

# Subnetworks trained at another rate than their mask's are the ablation's (Table 4) alone.
OWN_RATE = pl.col("pretrain_learning_rate").is_null() | (
    pl.col("pretrain_learning_rate") == pl.col("learning_rate")
)
CELL = ("network", "dataset", "setting", "pruner", "sparsity", "learning_rate")
"""The columns that trials of one cell share."""


@dataclass(frozen=True)
class Cell:
    """The mean of one setting at one learning rate, over its trials.

    Attributes:
        learning_rate: initial.
        accuracy: mean over trials, a fraction.
        trials: their numbers.
        chosen_by: the accuracy by which the best learning rate is chosen: test or held-out.
    """

    learning_rate: float
    accuracy: float
    trials: frozenset[int]
    chosen_by: float


def accuracies(runs: pl.DataFrame, which: Literal["last", "best"] = "last") -> pl.DataFrame:
    """Finished runs in the form that `means` expects, with `accuracy` of the last or best epoch.

    Args:
        runs: rows of a store, with the params and metrics of `jackpot.contract` as columns, and
            `status`.
        which: epoch.
    """
    column = Metric.VAL_ACCURACY if which == "last" else Metric.BEST_VAL_ACCURACY
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
            learning_rate trial accuracy epochs`; pruner is null for dense and small-dense
            networks. A column `link`, if there is one, is kept.

    Returns:
        One row per setting and learning rate with `accuracy deviation trials trial_numbers epochs`.

    Example:
        >>> runs = pl.DataFrame(
        ...     {"network": "n", "dataset": "d", "setting": "lt", "pruner": "imp", "sparsity": 0.5,
        ...      "learning_rate": 0.1, "trial": [1, 2], "accuracy": [0.8, 0.9], "epochs": 2})
        >>> means(runs).select("trials", pl.col("accuracy").round(3)).row(0)
        (2, 0.85)
    """
    return (
        runs.drop_nulls("accuracy")
        .group_by(CELL, maintain_order=True)
        .agg(
            pl.col("accuracy").mean(),
            pl.col("accuracy").std().alias("deviation"),
            pl.len().alias("trials"),
            pl.col("trial").unique().sort().alias("trial_numbers"),
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
    rows = table.sort("learning_rate").select("learning_rate", "accuracy", "trial_numbers", by)
    return [Cell(rate, mean, frozenset(trials), by) for rate, mean, trials, by in rows.rows()]


def best(table: pl.DataFrame) -> dict | None:
    """The row with the highest mean accuracy; ties go to the lowest rate. None if there is no row.

    Args:
        table: from `means`.
    """
    if table.is_empty():
        return None
    return table.sort(-pl.col("accuracy"), "learning_rate").row(0, named=True)
