"""What would decide an open verdict, as sentences, and as a config to copy. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from jackpot import plugins, settings
from jackpot.definition import Judgement
from jackpot.settling import MOST, Settling
from jackpot.trials import OWN_RATE


@dataclass(frozen=True)
class Launch:
    """More trials of a study that would decide what is open.

    Attributes:
        trials: of each setting, in all.
        learning_rates: at which they matter.
        more: of these, at most how many are missing of a setting at a rate.
        runs: to be trained, the masks' own included.
        hours: one run after another, by the time that runs of this study took; None if none
            has finished.
    """

    trials: int
    learning_rates: tuple[float, ...]
    more: int
    runs: int
    hours: float | None


def sentence(found: Settling) -> str:
    """What one condition needs."""
    words = f"{found.finding.condition.symbol} {found.finding.condition.words}"
    if found.trials is None:
        return f"{words}: at the boundary, more than {MOST} trials would not settle it"
    where = " and ".join(
        f"{settings.label(name)} at {', '.join(f'{rate:g}' for rate in rates)}"
        for name, rates in found.rates.items()
    )
    return f"{words}: {found.trials} trials of {where}"


def launch(
    settling: Sequence[Settling], judgement: Judgement, plan: pl.DataFrame, runs: pl.DataFrame
) -> Launch | None:
    """The trials that decide all that can be decided; None if nothing can.

    Args:
        settling: of the judgement.
        judgement: what is open.
        plan: the study's planned runs.
        runs: of the study, with `start_time` and `end_time` in milliseconds.
    """
    able = [found for found in settling if found.trials is not None]
    if not able:
        return None
    trials = max(found.trials or 0 for found in able)
    rates = tuple(sorted({r for found in able for of in found.rates.values() for r in of}))
    one = _needed(plan.filter(pl.col("trial") == plan["trial"].min()), judgement, rates)
    finished = runs.filter(pl.col("status") == "FINISHED", OWN_RATE)
    there = finished.with_columns(pl.col("sparsity").fill_null(0.0)).group_by(_CELL).len("there")
    took = finished.group_by("setting").agg(
        ((pl.col("end_time") - pl.col("start_time")) / 3.6e6).mean().alias("hours")
    )
    to_train = (
        one.join(there, on=_CELL, how="left", nulls_equal=True)
        .join(took, on="setting", how="left")
        .with_columns(
            (trials - pl.col("there").cast(pl.Int64).fill_null(0)).clip(0).alias("missing")
        )
    )
    typical = took["hours"].drop_nulls().mean()
    hours = None
    if typical is not None:
        hours = float((to_train["hours"].fill_null(typical) * to_train["missing"]).sum())
    missing = to_train["missing"]
    return Launch(trials, rates, int(missing.max() or 0), int(missing.sum()), hours)  # type: ignore[arg-type]


_CELL = ["setting", "pruner", "sparsity", "learning_rate"]


def _needed(plan: pl.DataFrame, judgement: Judgement, rates: tuple[float, ...]) -> pl.DataFrame:
    """The planned runs of one trial that a judgement rests on, their parents included."""
    planned = plan.with_columns(pl.col("sparsity").fill_null(0.0))
    chosen = planned.filter(
        OWN_RATE,
        pl.col("setting").is_in(judgement.compared),
        pl.col("learning_rate").is_in(rates),
        pl.col("pruner").is_null() | (pl.col("pruner") == judgement.pruner),
        (pl.col("sparsity") == 0) | ((pl.col("sparsity") - judgement.sparsity).abs() < 1e-9),
    )
    parents = dict(planned.select("run_key", "parent_run_keys").rows())
    needed = set(chosen["run_key"])
    waiting = list(needed)
    while waiting:
        for key in (parents.get(waiting.pop()) or "").split(","):
            if key in parents and key not in needed:
                needed.add(key)
                waiting.append(key)
    return planned.filter(pl.col("run_key").is_in(list(needed)))


def config(written: Mapping[str, Any], wanted: Launch, judgement: Judgement) -> dict[str, Any]:
    """The study's config for these trials: what has been trained is not trained again.

    Args:
        written: the config of the launch.
        wanted: the trials.
        judgement: what is open: its settings, pruner and sparsity alone are trained.
    """
    pruning = {**(written.get("pruning") or {}), "sparsities": [judgement.sparsity]}
    pruning.pop("rounds", None)
    changed = {
        "trials": wanted.trials,
        "learning_rates": list(wanted.learning_rates),
        "settings": [
            # What a setting of one's own is called, only its module says.
            s
            for s in written.get("settings") or []
            if s in judgement.compared or plugins.is_plugin(s)
        ],
        "pruners": [judgement.pruner],
        "pruning": pruning,
        "ablation": [],
    }
    return _said({**written, **changed})


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what says nothing, at any depth."""
    return {
        name: _said(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if value is not None
    }
