"""Figure 6: correlation between initial and trained weights, against learning rate."""

from typing import Any

import polars as pl
import streamlit as st

from explorer import show, sidebar, snapshot
from explorer.figures import appearance
from explorer.figures import correlation as figure
from explorer.readers import StoreUnavailable
from jackpot import artifacts, correlation, settings, stores, wording
from jackpot.contract import Artifact
from jackpot.settings import LT, PRETRAIN, RR
from jackpot.trials import OWN_RATE

# Appendix G compares with pretraining; the companion paper (Liu et al., ICML 2021) also with the
# trained subnetwork.
OF_PRETRAINING, OF_ITSELF = "pretraining", "the subnetwork itself"


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


@st.cache_data(max_entries=20_000, show_spinner=False)
def pair(
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
def attempt(*arguments: Any) -> tuple[pl.DataFrame, float] | str:
    """`pair` and its R_p, or why it cannot be had: asked again only after a while."""
    try:
        table = pair(*arguments)
        return table, correlation.pooled(table)
    except (StoreUnavailable, artifacts.ArtifactError, ValueError) as reason:
        return str(reason)


st.title("Correlation")
study = sidebar.chosen()
finished = study.runs.filter(pl.col("status") == "FINISHED", OWN_RATE)
p = st.slider("p: share of the largest weights", 0.01, 0.5, 0.1, 0.01, key="p", bind="query-params")
trained_by = st.radio(
    "Trained weights of",
    [OF_PRETRAINING, OF_ITSELF],
    key="trained_by",
    bind="query-params",
    horizontal=True,
)
sparse = finished.filter(pl.col("pruner").is_not_null())
if sparse.is_empty():
    st.info("No sparse run of this study has finished yet: come back when one has.")
    st.stop()
choices = sparse.select("pruner", "sparsity").unique().sort("sparsity", "pruner").rows()
labels = {
    f"{appearance.method(pruner)} at {wording.sparsity(s)}": (pruner, s) for pruner, s in choices
}
trials = max(finished["trial"].to_list())
if trials > 3:
    # A pair takes up to a second the first time.
    wanted = st.number_input("Trials", 1, trials, 3, key="trials", bind="query-params")
    finished = finished.filter(pl.col("trial") <= wanted)
    sparse = sparse.filter(pl.col("trial") <= wanted)
label = st.selectbox("Mask", list(labels), index=len(labels) - 1, key="mask", bind="query-params")
pruner, sparsity = labels[label]

uri, rows, layers, gone = stores.tracking_uri(), [], [], []
dense = {
    (r["learning_rate"], r["trial"]): r["run_id"]
    for r in finished.filter(pl.col("setting") == PRETRAIN.name).iter_rows(named=True)
}
at = sparse.filter(pl.col("pruner") == pruner, pl.col("sparsity") == sparsity)
compared = pl.concat([finished.filter(pl.col("pruner").is_null()), at])
with st.spinner("comparing weights …"):
    for name, setting in pairs(trained_by, settings.ordered(at["setting"])).items():
        for run in compared.filter(pl.col("setting") == setting).iter_rows(named=True):
            trained = dense.get((run["learning_rate"], run["trial"]))
            if trained_by == OF_ITSELF:
                trained = run["run_id"]
            if trained is None:
                continue
            is_sparse = run["pruner"] is not None
            # The layers of a dense network that are compared are those that its subnetworks prune.
            mask_run = run["run_id"] if is_sparse else at["run_id"][0]
            found = attempt(uri, run["run_id"], trained, mask_run, is_sparse, p)
            if isinstance(found, str):
                gone.append(f"{run['name']}: {found}")
                continue
            table, value = found
            facts = {"pair": name, "learning_rate": run["learning_rate"], "trial": run["trial"]}
            rows.append(facts | {"correlation": value})
            layers.append(table.with_columns(pl.lit(v).alias(k) for k, v in facts.items()))
if gone:
    st.warning(f"{len(gone)} runs could not be compared.")
    st.text("\n".join(gone[:5]))
if not rows:
    st.stop()
deviation = pl.col("correlation").std().fill_null(0.0)
summary = (
    pl.DataFrame(rows)
    .group_by("pair", "learning_rate", maintain_order=True)
    .agg(
        pl.col("correlation").mean().alias("correlation"),
        (pl.col("correlation").mean() - deviation).alias("low"),
        (pl.col("correlation").mean() + deviation).alias("high"),
        pl.len().alias("trials"),
    )
    .sort("pair", "learning_rate")
)
show.figure(
    figure.chart(summary, p),
    f"{study.name}-correlation",
    f"Correlation indicator of study {study.name} against the learning rate.",
)
st.caption(
    "Share of the largest weights (by magnitude, within each layer) that two sets of weights "
    "have in common, over the layers that are pruned; the dashed line is what independent weights "
    "give. θ_T are pretraining's weights after its last epoch, (…)_T those of the subnetwork after "
    "its own. Bars: one standard deviation over trials."
)
by_layer = pl.concat(layers)
few = by_layer.filter(~pl.col("counts"))["layer"].unique().len()
if few:
    st.caption(
        f"{few} of {by_layer['layer'].unique().len()} layers do not count somewhere: of so few "
        f"weights (p times their number is below {correlation.LEAST_TOP}), independent ones have "
        "more in common than p. The table marks them."
    )
with st.expander("By layer"):
    show.table(
        by_layer.group_by("pair", "learning_rate", "layer", maintain_order=True).agg(
            pl.col("correlation").mean(),
            pl.col("weights").mean(),
            # How many of the trials' values are part of R_p.
            pl.col("counts").sum().alias("trials that count"),
        ),
        f"{study.name}-correlation-by-layer",
    )
