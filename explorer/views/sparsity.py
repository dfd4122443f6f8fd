"""Figures 1 and A.1: accuracy against sparsity, per learning rate."""

import polars as pl
import streamlit as st

from explorer import lines, links, published, reading, show, sidebar
from explorer.figures import appearance, by_sparsity
from explorer.figures.points import points
from jackpot import Criteria, wording

st.title("Accuracy vs sparsity")
study = sidebar.chosen()
chosen, which = sidebar.criteria()
runs = study.accuracies(which)
if runs.filter(pl.col("sparsity") > 0).is_empty():
    st.info("No sparse run of this study has finished yet: come back when one has.")
    st.stop()
# No criterion bears on this figure but the epoch.
changed = reading.changes(Criteria(), which)
show.chips(changed)
criteria = study.read_by(chosen)
runs = runs.filter(pl.col("setting").is_in(lines.chosen(runs, criteria)))
if runs.filter(pl.col("sparsity") > 0).is_empty():
    st.info("Choose at least one sparse setting.")
    st.stop()
linked = links.of_points(runs, sidebar.view(study))
data = published.asked(by_sparsity.panels(linked), runs)
name = f"{study.name}-accuracy-vs-sparsity"
alone = show.key(appearance.legend(data), name)
show.figure(
    by_sparsity.chart(data),
    name,
    f"Accuracy of every setting of study {study.name} against sparsity, by learning rate.",
    reading.footnote(changed),
    shown=by_sparsity.chart(data, alone) if alone else None,
)
trials = data["trials"].drop_nulls().to_list()
st.caption(
    f"Points are means over n = {wording.span((min(trials), max(trials)))} trials, bars one "
    "standard deviation; broken lines and paler points are pruners other than IMP. The dashed "
    "line across is the dense network at the same learning rate. Click the legend to single out a "
    "line, a point to see what it rests on."
)
published.table(data, runs, name)
show.numbers(points(linked), name)
