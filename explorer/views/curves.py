"""Training curves by setting, live while runs train."""

import polars as pl
import streamlit as st

from explorer import asked, show, sidebar, snapshot
from explorer.figures import training_curves
from explorer.readers import StoreUnavailable
from jackpot import settings, stores, wording
from jackpot.trials import OWN_RATE

METRICS = ["val_accuracy", "accuracy", "val_loss", "loss", "learning_rate"]


def _best(runs: pl.DataFrame) -> list[float]:
    """The learning rate at which some run ended best, or the smallest while none has ended."""
    ended = runs.filter(pl.col("val_accuracy").is_finite()).sort("val_accuracy", descending=True)
    return [*ended["learning_rate"].drop_nulls(), *runs["learning_rate"].drop_nulls().sort()][:1]


st.title("Training curves")
study = sidebar.chosen()
if study.runs.is_empty():
    st.info("No run of this study has begun yet.")
    st.stop()
runs = study.runs.filter(OWN_RATE).with_columns(pl.col("sparsity").fill_null(0.0))
trained = settings.ordered(runs["setting"])
rates = runs["learning_rate"].drop_nulls().unique().sort().to_list()
depths = runs.filter(pl.col("sparsity") > 0)["sparsity"].unique().sort().to_list()
labels = {wording.sparsity(s): s for s in depths}
left, middle, right = st.columns(3)
with left:
    names = asked.some("Settings", trained, "curves_settings", trained, settings.label)
with middle:
    shown = asked.some("Sparsities", list(labels), "curves_sparsities", list(labels)[-1:])
with right:
    at = asked.some("Learning rates", rates, "curves_rates", _best(runs), "{:g}".format)
metric = st.pills(
    "Metric",
    METRICS,
    default="val_accuracy",
    required=True,
    key="metric",
    bind="query-params",
)
chosen = runs.filter(
    pl.col("setting").is_in(names),
    (pl.col("sparsity") == 0) | pl.col("sparsity").is_in([labels[s] for s in shown]),
    pl.col("learning_rate").is_in(at),
)
running = study.runs.filter(pl.col("status") == "RUNNING").height > 0


@st.fragment(run_every=5 if running else None)
def draw() -> None:
    """Reads and draws again every few seconds while something trains."""
    try:
        curves = known.store.curves(chosen["run_id"].to_list(), metric)
    except StoreUnavailable as reason:
        st.info("The tracking store does not answer just now.")
        st.text(str(reason))
        return
    data = training_curves.bands(curves, chosen, metric)
    if data.is_empty():
        st.info("The chosen runs have no metrics yet.")
        return
    name = f"{study.name}-{metric}"
    show.figure(
        training_curves.chart(data, metric),
        name,
        f"{metric} by epoch of {chosen.height} runs.",
    )
    st.caption(
        f"{chosen.height} runs; lines are means over trials, bands one standard deviation. Lines "
        "of one setting differ in sparsity or learning rate."
    )
    with st.expander("Numbers"):
        show.table(data.select(training_curves.COLUMNS), name)


known = snapshot.snapshot(stores.tracking_uri())
if chosen.is_empty():
    st.info("Choose a setting, a sparsity and a learning rate that were trained together.")
else:
    draw()
