"""The four rules of section 3.2, each with the evidence for and against it in the whole store."""

import polars as pl
import streamlit as st

from explorer import show, state
from explorer.guideline import RULES, evidence
from explorer.store import StoreUnavailable, launches, of_plan
from mlflow_server.contract import Tag

st.title("Guideline")
snapshot = state.opened()
criteria, which = state.criteria()
found = []
table = launches(snapshot.runs)
for study in table[Tag.STUDY].unique(maintain_order=True):
    launch_id = table.filter(pl.col(Tag.STUDY) == study)["run_id"][0]
    try:
        runs = of_plan(snapshot.runs, snapshot.plan(launch_id))
    except StoreUnavailable:
        continue
    said = evidence(state.accuracies(runs, which), criteria)
    found.append(said.with_columns(pl.lit(study).alias("study")))
all_found = pl.concat(found) if found else None
for rule, text in RULES.items():
    st.subheader(f"{rule}. {text}")
    if all_found is None or all_found.filter(pl.col("rule") == rule).is_empty():
        st.caption("No study in this store speaks to this rule yet.")
        continue
    rows = all_found.filter(pl.col("rule") == rule)
    counts = rows["supports"].value_counts()
    tally = dict(counts.iter_rows())
    if rule != 3:
        st.caption(f"{tally.get(True, 0)} for it, {tally.get(False, 0)} against it.")
    show.table(
        rows.select("study", "network", "dataset", "residual", "sparsity", "measure", "supports"),
        f"guideline-{rule}",
        sparsity=st.column_config.NumberColumn(format="%.3f"),
    )
