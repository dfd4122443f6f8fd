"""Figure 3: accuracy against learning rate."""

import polars as pl
import streamlit as st

from explorer import charts, links, show, state
from jackpot.definition import judge

st.title("Accuracy vs learning rate")
study = state.chosen()
criteria, which = state.criteria()
runs = study.accuracies(which)
if runs.filter(pl.col("setting") != "pretrain").is_empty():
    st.info("No sparse run of this study has finished yet: come back when one has.")
    st.stop()

judgements = judge(runs, criteria, study.pending)
sparsities = runs.filter(pl.col("sparsity") > 0)["sparsity"].unique().sort().to_list()
# Where every setting was trained there is something to compare.
compared = [j.sparsity for j in judgements if not j.missing] or sparsities
labels = {f"{s:.3f}": s for s in sparsities}
shown = st.multiselect(
    "Sparsities",
    list(labels),
    default=[label for label, s in labels.items() if s in compared][:6],
    key="sparsities",
    bind="query-params",
)
lines = st.pills(
    "Settings",
    ["pretrain", "lt", "rr", "wr", "sdt"],
    selection_mode="multi",
    default=[s for s in ("pretrain", "lt", "rr", "sdt") if s in runs["setting"]],
    format_func=lambda name: name if name == "pretrain" else name.upper(),
    key="settings",
    bind="query-params",
)
wanted = links.of_points(runs, state.mlflow_ui()).filter(
    (pl.col("sparsity") == 0) | pl.col("sparsity").is_in([labels[s] for s in shown]),
    pl.col("setting").is_in(lines or ["pretrain"]),
)
if not shown or wanted.filter(pl.col("sparsity") > 0).is_empty():
    st.info("Choose at least one sparsity and one sparse setting.")
    st.stop()
dataset = str(runs["dataset"][0])
chart = charts.accuracy_by_learning_rate(wanted, judgements, criteria, dataset)
show.figure(
    chart,
    f"{study.name}-accuracy-vs-learning-rate",
    f"Accuracy of every setting of study {study.name} against the learning rate, by sparsity.",
)
trials = wanted.group_by("setting", "pruner", "sparsity", "learning_rate").len()["len"]
counted = f"{trials.min()}" if trials.min() == trials.max() else f"{trials.min()} to {trials.max()}"
st.caption(
    f"Points are means over n = {counted} trials, bars one standard deviation; dashed lines are "
    "OMP. The band reaches from the best pretraining accuracy down to the tolerance. Click the "
    "legend to single out a line, Ctrl-click a point to open its "
    "runs in MLflow."
)
points = charts.curves(wanted).select(
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
        points,
        f"{study.name}-accuracy-vs-learning-rate",
        MLflow=st.column_config.LinkColumn(display_text="open"),
    )
