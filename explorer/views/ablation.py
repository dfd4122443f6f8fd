"""Table 4: subnetworks trained at another learning rate than the pretraining of their mask."""

import polars as pl
import streamlit as st

from explorer import show, sidebar
from explorer.figures import ablation
from jackpot import wording
from jackpot.settings import LT

st.title("Learning-rate ablation")
study = sidebar.chosen()
finished = study.runs.filter(
    pl.col("status") == "FINISHED",
    pl.col("setting") == LT.name,
    pl.col("val_accuracy").is_not_null(),
)
if finished.is_empty():
    st.info("No lottery ticket of this study has finished yet: come back when one has.")
    st.stop()
labels = {wording.sparsity(s): s for s in finished["sparsity"].unique().sort().to_list()}
label = st.selectbox(
    "Sparsity", list(labels), index=len(labels) - 1, key="ablation_sparsity", bind="query-params"
)
table = (
    finished.filter(pl.col("sparsity") == labels[label])
    .group_by("pretrain_learning_rate", "learning_rate", "pruner")
    .agg((100 * pl.col("val_accuracy")).mean().alias("accuracy"), pl.len().alias("trials"))
    .sort("pretrain_learning_rate", "pruner", "learning_rate")
)
if table.filter(pl.col("pretrain_learning_rate") != pl.col("learning_rate")).is_empty():
    st.caption(
        "Every subnetwork of this study is trained at the learning rate at which its mask was "
        "found, so each mask has one point. The paper's Table 4 crosses the two rates."
    )
show.figure(
    ablation.chart(table),
    f"{study.name}-ablation",
    f"Accuracy of lottery tickets of study {study.name} by both learning rates.",
)
best = pl.col("accuracy").max().over("pretrain_learning_rate", "pruner")
show.table(
    table.with_columns(pl.when(pl.col("accuracy") == best).then(pl.lit("best")).alias("")),
    f"{study.name}-ablation",
    accuracy=st.column_config.NumberColumn(format="%.2f"),
)
