"""The four rules of section 3.2, each with the evidence for and against it in the whole store."""

import polars as pl
import streamlit as st

from explorer import links, reading, show, sidebar, snapshot
from jackpot.guideline import RULES, evidence

st.title("Guideline")
known = sidebar.opened()
criteria, which = sidebar.criteria()
conditions = sidebar.conditions()
show.chips(reading.changes(criteria, which))
found = [
    evidence(
        study.accuracies(which, any_rate=criteria.any_rate),
        study.read_by(criteria),
        study.pending,
        conditions,
        study.judged(criteria, which, conditions),
    ).with_columns(
        pl.lit(study.name).alias("study"),
        pl.lit(links.page("learning_rate", **sidebar.view(study))).alias("evidence"),
    )
    for study in snapshot.studies(known)
]
all_found = pl.concat(found)
st.caption(
    "Each study has one vote for a rule, by what is true at more than half of its non-trivial "
    "sparsities: these share its runs. It is for or against a rule where its trials decide that: "
    "the bounds in brackets leave room for rates and pruners having been chosen as the best. "
    "Undecided is also what says nothing: one trial of each, or a network of which it is not known "
    "whether it has residual connections."
)
for rule, text in RULES.items():
    st.subheader(f"{rule}. {text}")
    rows = all_found.filter(pl.col("rule") == rule)
    if rows.is_empty():
        st.caption("No study in this store speaks to this rule yet.")
        continue
    counts = rows["supports"].value_counts()
    tally = dict(counts.iter_rows())
    if rule != 3:
        st.text(
            f"✓ {tally.get(True, 0)} for it, × {tally.get(False, 0)} against it, "
            f"△ {tally.get(None, 0)} undecided."
        )
    vote = pl.when("supports").then(pl.lit("✓")).when(~pl.col("supports")).then(pl.lit("×"))
    show.table(
        rows.select(
            "study",
            vote.otherwise(pl.lit("" if rule == 3 else "△")).alias("supports"),
            "measure",
            "evidence",
            "sparsities",
            "residual",
            "network",
            "dataset",
        ),
        f"guideline-{rule}",
        evidence=st.column_config.LinkColumn(display_text="open"),
    )
