"""The five conditions as a checklist, at every sparsity."""

import polars as pl
import streamlit as st

from explorer import show, sidebar
from explorer.figures import appearance, definition
from jackpot import settings
from jackpot.conditions import Verdict
from jackpot.definition import Finding, Judgement, judge


def mark(found: Finding) -> str:
    """✓, × or ?, with the paper's △ where the trials do not decide."""
    known = {True: "✓", False: "×", None: "?"}[found.holds]
    return f"{known} △" if found.boundary else known


def points(value: float | None) -> float | None:
    """A fraction in percentage points."""
    return None if value is None else round(100 * value, 2)


def row(judgement: Judgement) -> dict:
    """One line of the overview of all sparsities."""
    conditions = {f.condition.symbol: mark(f) for f in judgement.conditions}
    return {
        "pruner": appearance.method(judgement.pruner),
        "sparsity": judgement.sparsity,
        **conditions,
        "verdict": str(judgement),
    }


st.title("Definition")
study = sidebar.chosen()
criteria, which = sidebar.criteria()
judgements = judge(study.accuracies(which), criteria, study.pending, sidebar.conditions())
if not judgements:
    st.info("No sparse run of this study has finished yet: come back when one has.")
    st.stop()
show.table(
    pl.DataFrame([row(j) for j in judgements]),
    f"{study.name}-conditions",
    sparsity=st.column_config.NumberColumn(format="%.3f"),
)
labels = {f"{appearance.method(j.pruner)} at {j.sparsity:.3f}": j for j in judgements}
complete = [label for label, j in labels.items() if not j.missing]
label = st.selectbox(
    "Ticket in detail",
    list(labels),
    index=list(labels).index(complete[-1]) if complete else 0,
    key="detail",
    bind="query-params",
)
judgement = labels[label]
st.subheader("Verdict", anchor=False)
st.text(f"{label}: {judgement}")
show.table(
    pl.DataFrame(
        [
            {
                "": c.condition.symbol,
                "condition": c.condition.words,
                "holds": mark(c),
                "margin (points)": points(c.margin),
                "95 % from": points(c.low),
                "to": points(c.high),
                "learning rates": " and ".join(f"{rate:g}" for rate in c.learning_rates),
                "missing": ", ".join(settings.label(name) for name in c.missing),
            }
            for c in judgement.conditions
        ],
        schema_overrides={"margin (points)": pl.Float64, "95 % from": pl.Float64, "to": pl.Float64},
    ),
    f"{study.name}-{label.replace(' ', '-')}",
)
if any(c.margin is not None for c in judgement.conditions):
    show.figure(
        definition.chart(definition.comparisons(study.accuracies(which), judgement, criteria)),
        f"{study.name}-definition-{label.replace(' ', '-')}",
        f"What the conditions compare for {label}.",
    )
if judgement.verdict == Verdict.NOT_ENOUGH_RUNS:
    st.info(
        "Not enough runs. Add to the config: "
        f"settings {', '.join(judgement.missing)}, and sparsity {judgement.sparsity:.3f} to "
        "pruning.sparsities; then launch the study again, which trains only what is new."
    )
st.caption(
    "Margins are in percentage points; positive is inside the condition. Intervals are Welch's t "
    "over trials at the two learning rates named; they do not account for those having been "
    "chosen as the best. With one trial there is no interval."
)
