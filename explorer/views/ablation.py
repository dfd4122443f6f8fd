"""Table 4: subnetworks trained at another learning rate than the pretraining of their mask."""

import polars as pl
import streamlit as st

from explorer import asked, show, sidebar, tables
from explorer.figures import ablation, appearance
from jackpot import wording
from jackpot.settings import LT, PRETRAIN

st.title("Learning-rate ablation")
study = sidebar.chosen()
done = study.runs.filter(pl.col("status") == "FINISHED", pl.col("val_accuracy").is_finite())
finished = done.filter(
    pl.col("setting") == LT.name,
    pl.col("pretrain_learning_rate").is_not_null(),
    pl.col("learning_rate").is_not_null(),
)
if finished.is_empty():
    planned = study.plan.filter(pl.col("setting") == LT.name).height
    st.info(
        "No lottery ticket of this study has finished yet: come back when one has."
        if planned
        else "This study trains no lottery ticket from θ₀ (lt), of which the table is."
    )
    st.stop()
labels = {wording.sparsity(s): s for s in finished["sparsity"].unique().sort().to_list()}
label = asked.one("Sparsity", list(labels), "ablation_sparsity", list(labels)[-1])
accuracy = 100 * pl.col("val_accuracy")
table = (
    finished.filter(pl.col("sparsity") == labels[label])
    .group_by("pretrain_learning_rate", "learning_rate", "setting", "pruner")
    .agg(
        accuracy.mean().alias("accuracy"),
        accuracy.std().alias("deviation"),
        pl.len().alias("trials"),
    )
    .sort("pretrain_learning_rate", "pruner", "learning_rate")
)
if table.filter(pl.col("pretrain_learning_rate") != pl.col("learning_rate")).is_empty():
    st.caption(
        "Every subnetwork of this study is trained at the learning rate at which its mask was "
        "found, so each mask has one point. The paper's Table 4 crosses the two rates."
    )
name = f"{study.name}-ablation"
data = ablation.panels(table)
alone = show.key(appearance.legend(data), name)
show.figure(
    ablation.chart(data),
    name,
    f"Accuracy of lottery tickets of study {study.name} by both learning rates.",
    shown=ablation.chart(data, alone) if alone else None,
)
st.caption(
    "Bars are one standard deviation over trials; the dotted line is the rate at which the mask "
    "was found. Paler points are pruners other than IMP."
)
pretraining = done.filter(pl.col("setting") == PRETRAIN.name)
dense = dict(pretraining.group_by("learning_rate").agg(accuracy.mean()).rows())
best = pl.col("accuracy").max().over("pretrain_learning_rate", "pruner")
show.table(
    table.drop("setting").with_columns(
        pl.when(pl.col("accuracy") == best).then(pl.lit("best")).alias("")
    ),
    name,
    tables.table_4(table, dense),
    accuracy=st.column_config.NumberColumn(format="%.2f"),
    deviation=st.column_config.NumberColumn(format="%.2f"),
)
