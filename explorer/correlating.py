"""Correlation between the weights of a study's runs, by its artifacts."""

from dataclasses import dataclass
from typing import Any

import polars as pl
import streamlit as st

from explorer import snapshot
from explorer.readers import StoreUnavailable
from jackpot import artifacts, correlation, settings
from jackpot.contract import Artifact
from jackpot.settings import LT, PRETRAIN, RR

# Appendix G compares with pretraining; the companion paper (Liu et al., ICML 2021) also with the
# trained subnetwork.
OF_PRETRAINING, OF_ITSELF = "pretraining", "the subnetwork itself"


@dataclass(frozen=True)
class Correlations:
    """R_p of the pairs of a study.

    Attributes:
        means: `pair setting learning_rate correlation low high trials`: mean over trials ± one
            standard deviation.
        layers: `pair learning_rate trial` and the columns of `jackpot.correlation.by_layer`.
        gone: why runs could not be compared, a line each.
    """

    means: pl.DataFrame
    layers: pl.DataFrame
    gone: list[str]


def pairs(trained_by: str, trained: list[str]) -> dict[str, str]:
    """Maps each comparison's name in the legend to the setting whose initial weights it uses.

    Args:
        trained_by: whose trained weights.
        trained: names of the settings that the study has sparse runs of.
    """
    starts = {LT.name: "θ₀", RR.name: "θ₀′"}
    strangers = {name: "θ" for name in trained if name not in settings.SETTINGS}
    compared = {"dense: θ₀ and θ_T": PRETRAIN.name}
    for name, start in (starts | strangers).items():
        end = "θ_T⊙m" if trained_by == OF_PRETRAINING else f"({start}⊙m)_T"
        compared[f"{settings.label(name)}: {start}⊙m and {end}"] = name
    return compared


def compare(
    uri: str, finished: pl.DataFrame, pruner: str, sparsity: float, p: float, trained_by: str
) -> Correlations:
    """R_p of every pair at one pruner and sparsity.

    Args:
        uri: of the store.
        finished: runs of one study.
        pruner, sparsity: of the mask.
        p: share of the largest weights.
        trained_by: whose trained weights: `OF_PRETRAINING` or `OF_ITSELF`.
    """
    rows, layers, gone = [], [], []
    dense = {
        (r["learning_rate"], r["trial"]): r["run_id"]
        for r in finished.filter(pl.col("setting") == PRETRAIN.name).iter_rows(named=True)
    }
    at = finished.filter(pl.col("pruner") == pruner, pl.col("sparsity") == sparsity)
    compared = pl.concat([finished.filter(pl.col("pruner").is_null()), at])
    for name, setting in pairs(trained_by, settings.ordered(at["setting"])).items():
        for run in compared.filter(pl.col("setting") == setting).iter_rows(named=True):
            trained = dense.get((run["learning_rate"], run["trial"]))
            if trained_by == OF_ITSELF:
                trained = run["run_id"]
            if trained is None or at.is_empty():
                continue
            is_sparse = run["pruner"] is not None
            # The layers of a dense network that are compared are those that its subnetworks prune.
            mask_run = run["run_id"] if is_sparse else at["run_id"][0]
            found = _attempt(uri, run["run_id"], trained, mask_run, is_sparse, p)
            if isinstance(found, str):
                gone.append(f"{run['name']}: {found}")
                continue
            table, value = found
            facts = {"pair": name, "learning_rate": run["learning_rate"], "trial": run["trial"]}
            rows.append(facts | {"setting": setting, "correlation": value})
            layers.append(table.with_columns(pl.lit(v).alias(k) for k, v in facts.items()))
    return Correlations(_means(rows), pl.concat(layers) if layers else pl.DataFrame(), gone)


def _means(rows: list[dict[str, Any]]) -> pl.DataFrame:
    schema = {
        **dict.fromkeys(("pair", "setting"), pl.String),
        **dict.fromkeys(("learning_rate", "correlation"), pl.Float64),
    }
    deviation = pl.col("correlation").std().fill_null(0.0)
    return (
        (pl.DataFrame(rows, schema_overrides=schema) if rows else pl.DataFrame(schema=schema))
        .group_by("pair", "setting", "learning_rate", maintain_order=True)
        .agg(
            pl.col("correlation").mean().alias("correlation"),
            (pl.col("correlation").mean() - deviation).alias("low"),
            (pl.col("correlation").mean() + deviation).alias("high"),
            pl.len().alias("trials"),
        )
    )


@st.cache_data(max_entries=20_000, show_spinner=False)
def _pair(
    uri: str, initial_run: str, trained_run: str, mask_run: str, is_sparse: bool, p: float
) -> pl.DataFrame:
    """R_p by layer between one run's initial and another's trained weights.

    Args:
        uri: of the store.
        initial_run, trained_run: ids of the runs.
        mask_run: of the run whose mask says which layers are compared, and if `is_sparse` which of
            their weights.
        is_sparse: whether the run of the initial weights is sparse.
        p: share of the largest weights.

    Raises:
        StoreUnavailable, ArtifactError: a file is gone or damaged.
        ValueError: weights that cannot be compared.
    """
    store = snapshot.snapshot(uri).store
    with store.artifact(mask_run, Artifact.TICKET_MASK) as path:
        mask, _ = artifacts.read_mask(path)
    with store.artifact(initial_run, Artifact.TICKET_INITIAL) as path:
        initial, _ = artifacts.read_weights(path, mask if is_sparse else None)
    # A sparse run's file holds the survivors of its own mask.
    own = mask if is_sparse and trained_run == initial_run else None
    with store.artifact(trained_run, Artifact.WEIGHTS_FINAL) as path:
        trained, _ = artifacts.read_weights(path, own)

    def compared(weights: artifacts.Arrays) -> artifacts.Arrays:
        return {
            path: weights[path][kept] if is_sparse else weights[path] for path, kept in mask.items()
        }

    return correlation.by_layer(compared(initial), compared(trained), p)


@st.cache_data(ttl=300, max_entries=20_000, show_spinner=False)
def _attempt(*arguments: Any) -> tuple[pl.DataFrame, float] | str:
    """`_pair` and its R_p, or why it cannot be had: asked again only after a while."""
    try:
        table = _pair(*arguments)
        return table, correlation.pooled(table)
    except (StoreUnavailable, artifacts.ArtifactError, ValueError) as reason:
        return str(reason)
