"""Training curves of chosen runs, live while they train."""

import polars as pl
import streamlit as st

from explorer import show, sidebar, snapshot
from explorer.figures import training_curves
from explorer.readers import StoreUnavailable
from jackpot import stores

st.title("Training curves")
study = sidebar.chosen()
if study.runs.is_empty():
    st.info("No run of this study has begun yet.")
    st.stop()
names = dict(study.runs.sort("start_time").select("run_id", "name").rows())
chosen = st.multiselect(
    "Runs",
    list(names),
    default=list(names)[-3:],
    format_func=names.__getitem__,
    max_selections=20,
    key="runs",
    bind="query-params",
)
metric = st.pills(
    "Metric",
    ["val_accuracy", "accuracy", "val_loss", "loss", "learning_rate"],
    default="val_accuracy",
    required=True,
    key="metric",
    bind="query-params",
)
running = study.runs.filter(pl.col("status") == "RUNNING").height > 0


@st.fragment(run_every=5 if running else None)
def draw() -> None:
    """Reads and draws again every few seconds while something trains."""
    try:
        curves = known.store.curves(chosen, metric)
    except StoreUnavailable as reason:
        st.info("The tracking store does not answer just now.")
        st.text(str(reason))
        return
    if curves.is_empty():
        st.info("The chosen runs have no metrics yet.")
        return
    show.figure(
        training_curves.chart(curves, names, metric),
        f"{study.name}-{metric}",
        f"{metric} by epoch of {len(chosen)} runs.",
    )


known = snapshot.snapshot(stores.tracking_uri())
if chosen:
    draw()
else:
    st.info("Choose some runs.")
