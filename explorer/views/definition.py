"""The five conditions as a checklist, at every sparsity."""

import polars as pl
import streamlit as st

from explorer import show, sidebar
from explorer.figures import appearance, definition
from jackpot import settings
from jackpot.conditions import Verdict
from jackpot.contrasts import Decision
from jackpot.definition import Judgement, judge

MARKS = {Decision.HOLDS: "✓", Decision.FAILS: "×", Decision.UNDECIDED: "△", None: "?"}
"""Of conditions; △ is the paper's "at the boundary": the trials do not decide."""


def points(value: float | None) -> float | None:
    """A fraction in percentage points."""
    return None if value is None else round(100 * value, 2)


def row(judgement: Judgement) -> dict:
    """One line of the overview of all sparsities."""
    conditions = {f.condition.symbol: MARKS[f.decision] for f in judgement.conditions}
    return {
        "pruner": appearance.method(judgement.pruner),
        "sparsity": judgement.sparsity,
        **conditions,
        "verdict": str(judgement),
        "by the means": str(judgement.point_verdict),
    }


def cautions(judgement: Judgement) -> list[str]:
    """What a reader of a verdict should know about it, a sentence each."""
    said = []
    if judgement.verdict not in (judgement.point_verdict, Verdict.NOT_ENOUGH_RUNS):
        said.append(f"If more trials came out as these did: {judgement.point_verdict}.")
    if judgement.assumed:
        said.append(
            f"Assumed, as the paper does not name {judgement.dataset}: "
            f"{', '.join(judgement.assumed)}. Set them in the sidebar, or in the study."
        )
    if judgement.diverged:
        rates = ", ".join(f"{settings.label(n)} at {rate:g}" for n, rate in judgement.diverged)
        said.append(f"A trial diverged, so that these rates cannot win: {rates}.")
    if judgement.single and judgement.trials[1] > 1:
        names = ", ".join(settings.label(name) for name in judgement.single)
        said.append(f"One trial somewhere, which borrows the others' variance: {names}.")
    return said


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
for note in cautions(judgement):
    st.text(note)
show.table(
    pl.DataFrame(
        [
            {
                "": c.condition.symbol,
                "condition": c.condition.words,
                "holds": MARKS[c.decision],
                "margin (points)": points(c.margin),
                "from": points(c.low),
                "to": points(c.high),
                "learning rates": " and ".join(f"{rate:g}" for rate in c.learning_rates),
                "missing": ", ".join(settings.label(name) for name in c.missing),
            }
            for c in judgement.conditions
        ],
        schema_overrides={"margin (points)": pl.Float64, "from": pl.Float64, "to": pl.Float64},
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
    "✓ holds, × fails, △ the trials leave it open, ? runs are missing. Margins are in percentage "
    "points; positive is inside the condition. It holds if all from … to is above 0, and fails if "
    "all of it is below: these bounds leave room for the learning rates having been chosen as the "
    f"best, and a verdict is wrong in {100 * criteria.alpha:g} % of studies at most. One trial of "
    "each decides nothing."
)
