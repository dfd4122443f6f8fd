"""Figure 3: accuracy against learning rate."""

import polars as pl
import streamlit as st

from explorer import links, show, sidebar
from explorer.figures import appearance, by_learning_rate
from explorer.figures.points import points
from jackpot import settings, wording

st.title("Accuracy vs learning rate")
study = sidebar.chosen()
criteria, which = sidebar.criteria()
runs = study.accuracies(which)
if runs.filter(pl.col("sparsity") > 0).is_empty():
    st.info("No sparse run of this study has finished yet: come back when one has.")
    st.stop()

judgements = study.judged(criteria, which, sidebar.conditions())
criteria = study.read_by(criteria)
sparsities = runs.filter(pl.col("sparsity") > 0)["sparsity"].unique().sort().to_list()
# Where every setting was trained there is something to compare.
compared = [j.sparsity for j in judgements if not j.missing] or sparsities
labels = {wording.sparsity(s): s for s in sparsities}
shown = st.multiselect(
    "Sparsities",
    list(labels),
    default=[label for label, s in labels.items() if s in compared][:6],
    key="sparsities",
    bind="query-params",
)
tickets = [s.name for s in settings.SETTINGS.values() if s.is_ticket]
trained = settings.ordered(runs["setting"])
lines = st.pills(
    "Settings",
    trained,
    selection_mode="multi",
    # Of tickets the one that is judged.
    default=[s for s in trained if s == criteria.ticket or s not in tickets],
    format_func=settings.label,
    key="settings",
    bind="query-params",
)
wanted = links.of_points(runs, sidebar.mlflow_ui()).filter(
    (pl.col("sparsity") == 0) | pl.col("sparsity").is_in([labels[s] for s in shown]),
    pl.col("setting").is_in(lines or [settings.PRETRAIN.name]),
)
if not shown or wanted.filter(pl.col("sparsity") > 0).is_empty():
    st.info("Choose at least one sparsity and one sparse setting.")
    st.stop()
dataset = str(runs["dataset"][0])
data = by_learning_rate.panels(wanted, judgements, criteria, dataset)
show.figure(
    by_learning_rate.chart(data),
    f"{study.name}-accuracy-vs-learning-rate",
    f"Accuracy of every setting of study {study.name} against the learning rate, by sparsity.",
)
means = points(wanted)
trials = means["trials"].to_list()
counted = appearance.span((min(trials), max(trials)))
st.caption(
    f"Points are means over n = {counted} trials, bars one standard deviation; dashed lines are "
    "OMP. The band reaches from the best pretraining accuracy down to the tolerance. Click the "
    "legend to single out a line, Ctrl-click a point to open its "
    "runs in MLflow."
)
numbers = means.select(
    "line",
    "sparsity",
    "learning_rate",
    "accuracy",
    "deviation",
    "trials",
    pl.col("link").alias("MLflow"),
)
with st.expander("Numbers"):
    show.table(
        numbers,
        f"{study.name}-accuracy-vs-learning-rate",
        MLflow=st.column_config.LinkColumn(display_text="open"),
    )
