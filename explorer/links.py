"""Addresses of runs in MLflow's own UI. Pure."""

import json
from collections.abc import Sequence
from urllib.parse import quote

import polars as pl

_RUN = "{}/#/experiments/{}/runs/{}"
POINT = ("network", "dataset", "setting", "pruner", "sparsity", "learning_rate")


def address(ui: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    """The page of one run, or the comparison of several of the same experiment.

    Args:
        ui: address of the MLflow server, such as `http://127.0.0.1:5000`.
        experiment_id: of the runs.
        run_ids: at least one.
    """
    base = ui.rstrip("/")
    if len(run_ids) == 1:
        return _RUN.format(base, quote(experiment_id), quote(run_ids[0]))
    runs, experiments = (quote(json.dumps(ids)) for ids in (list(run_ids), [experiment_id]))
    return f"{base}/#/compare-runs?runs={runs}&experiments={experiments}"


def of_run(ui: str) -> pl.Expr:
    """`address` of each row's run as an expression, for tables of thousands."""
    return pl.format(_RUN, pl.lit(ui.rstrip("/")), "experiment_id", "run_id")


def of_points(runs: pl.DataFrame, ui: str) -> pl.DataFrame:
    """`runs` with a column `link`: the trials of a point of a figure share one address.

    Args:
        runs: rows of the store; see `explorer.readers.frames.SCHEMA`.
        ui: as in `address`.
    """
    links = (
        runs.group_by(POINT)
        .agg("run_id", pl.col("experiment_id").first())
        .with_columns(
            pl.struct("experiment_id", "run_id")
            .map_elements(
                lambda point: address(ui, point["experiment_id"], point["run_id"]),
                return_dtype=pl.String,
            )
            .alias("link")
        )
        .drop("experiment_id", "run_id")
    )
    return runs.join(links, on=POINT, how="left", nulls_equal=True)
