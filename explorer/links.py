"""Addresses: of the app's own pages, and of runs in MLflow's UI. Pure."""

import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode

import polars as pl

from jackpot.trials import OWN_RATE

# MLflow opens experiments that have no traces in its GenAI view otherwise.
_VIEW = "?workflowType=machine_learning"
_RUN = "{}/#/experiments/{}/runs/{}" + _VIEW
POINT = ("setting", "pruner", "sparsity", "learning_rate")
"""What names a point of a figure within a study."""


def address(ui: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    """The page of one run in MLflow's UI, or the comparison of several of the same experiment.

    Args:
        ui: address of the MLflow server, such as `http://127.0.0.1:5000`.
        experiment_id: of the runs.
        run_ids: at least one.
    """
    base = ui.rstrip("/")
    if len(run_ids) == 1:
        return _RUN.format(base, quote(experiment_id), quote(run_ids[0]))
    runs, experiments = (quote(json.dumps(ids)) for ids in (list(run_ids), [experiment_id]))
    return f"{base}/#/compare-runs{_VIEW}&runs={runs}&experiments={experiments}"


def of_run(ui: str) -> pl.Expr:
    """`address` of each row's run as an expression, for tables of thousands."""
    return pl.format(_RUN, pl.lit(ui.rstrip("/")), "experiment_id", "run_id")


def to_ticket(view: Mapping[str, str]) -> pl.Expr:
    """Each row's run on the page of runs and tickets, as an expression.

    Args:
        view: study and launch, as addresses name them.
    """
    return pl.format("{}&ticket_run={}", pl.lit(page("runs", **view)), "run_id")


def page(name: str, **asked: str | float | None) -> str:
    """The address of a page of the app, relative to the one that shows it.

    Args:
        name: of the page: its last part in the address; empty: the first page.
        asked: what the page is to show; None is left out.

    >>> page("definition", study="my study", detail=None)
    './definition?study=my+study'
    """
    values = {
        key: f"{value:.17g}" if isinstance(value, float) else value
        for key, value in asked.items()
        if value is not None
    }
    return f"./{name}?{urlencode(values)}"


def of_points(runs: pl.DataFrame, view: Mapping[str, str]) -> pl.DataFrame:
    """`runs` with a column `link`: the page `point` with the evidence of each row's point.

    Args:
        runs: rows of the store; see `explorer.readers.frames.SCHEMA`.
        view: study and launch, as addresses name them.
    """
    # A figure's points have masks of their own rate; Table 4's others have a page of their own.
    own = OWN_RATE if "pretrain_learning_rate" in runs.columns else pl.lit(True)
    points = runs.select(POINT).unique()
    found = [
        page("point", **view, setting=setting, pruner=pruner, s=sparsity, lr=rate)
        for setting, pruner, sparsity, rate in points.rows()
    ]
    return runs.join(
        points.with_columns(pl.Series("link", found, dtype=pl.String)),
        on=POINT,
        how="left",
        nulls_equal=True,
        maintain_order="left",
    ).with_columns(pl.when(own).then("link").alias("link"))
