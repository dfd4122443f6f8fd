"""Figures 1 and A.1: accuracy against sparsity, per learning rate."""

import polars as pl
import streamlit as st

from explorer import links, show, sidebar
from explorer.figures import by_sparsity

st.title("Accuracy vs sparsity")
study = sidebar.chosen()
_, which = sidebar.criteria()
runs = study.accuracies(which)
if runs.filter(pl.col("sparsity") > 0).is_empty():
    st.info("No sparse run of this study has finished yet: come back when one has.")
    st.stop()
show.figure(
    by_sparsity.chart(links.of_points(runs, sidebar.mlflow_ui())),
    f"{study.name}-accuracy-vs-sparsity",
    f"Accuracy of every setting of study {study.name} against sparsity, by learning rate.",
)
st.caption(
    "The dashed line is the dense network at the same learning rate. Ctrl-click a point to "
    "open its runs in MLflow."
)
