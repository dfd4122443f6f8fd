"""Training curves of chosen runs, live while they train."""

import polars as pl
import streamlit as st

from explorer import charts, show, state
from explorer.store import StoreUnavailable
from jackpot.contract import tracking_uri

st.title("Training curves")
study = state.chosen()
if study.runs.is_empty():
    st.info("No run of this study has begun yet.")
    st.stop()
names = dict(study.runs.sort("start_time").select("run_id", "name").rows())
chosen = st.multiselect(
    "Runs",
    list(names),
    default=list(names)[-3:],
    format_func=names.get,
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
        curves = snapshot.store.curves(chosen, metric)
    except StoreUnavailable as reason:
        st.info("The tracking store does not answer just now.")
        st.text(str(reason))
        return
    if curves.is_empty():
        st.info("The chosen runs have no metrics yet.")
        return
    show.figure(
        charts.training_curves(curves, names, metric),
        f"{study.name}-{metric}",
        f"{metric} by epoch of {len(chosen)} runs.",
    )


snapshot = state.snapshot(tracking_uri())
if chosen:
    draw()
else:
    st.info("Choose some runs.")
