"""Every study: how far it is, and what its tickets are worth."""

import polars as pl
import streamlit as st

from explorer import show, sidebar, snapshot
from explorer.figures import appearance
from jackpot import settings, wording
from jackpot.conditions import Verdict
from jackpot.marks import NAMES, PUBLISHED, marks

st.title("Does your winning ticket really win?")
studies = snapshot.studies(sidebar.opened())
criteria, which = sidebar.criteria()
conditions = sidebar.conditions()
judged = [
    (study, study.accuracies(which), study.judged(criteria, which, conditions)) for study in studies
]

st.subheader("Studies")
progress = []
for study in studies:
    counts = dict(study.runs.group_by("status").len().iter_rows())
    progress.append(
        {
            "study": study.name,
            "launch": study.launch if study.plan.height else f"{study.launch} (its plan is gone)",
            "finished": counts.get("FINISHED", 0),
            "running": counts.get("RUNNING", 0),
            "failed": counts.get("FAILED", 0) + counts.get("KILLED", 0),
            "planned": study.plan.height,
            "done": counts.get("FINISHED", 0) / max(study.plan.height, 1),
        }
    )
show.table(
    pl.DataFrame(progress),
    "studies",
    done=st.column_config.ProgressColumn("done", min_value=0, max_value=1, format="percent"),
)

st.subheader("Marks of the paper's Table 3")
summary = [
    {
        "study": study.name,
        "network": network,
        "dataset": dataset,
        "own marks": str(own),
        "published": str(PUBLISHED.get((network, dataset), "")),
        "ticket up to sparsity": "–" if highest is None else wording.sparsity(highest),
    }
    for study, runs, _ in judged
    for (network, dataset), (own, highest) in marks(
        runs, study.read_by(criteria), study.pending, conditions
    ).items()
]
if not summary:
    st.info("No run has finished yet.")
    st.stop()
show.table(pl.DataFrame(summary), "table-3")
st.caption(
    f"In this order: {', '.join(NAMES)}. ✓ yes, × no, △ the trials leave it open, ? not enough "
    f"runs. A ticket exists if there is one at any sparsity of {criteria.sparsity:g} or more; the "
    "more are looked at, the surer each must be (Holm). A small learning rate is preferred where, "
    "at most of these sparsities, the best ticket is trained at a smaller one than the best dense "
    f"network; IMP where at most of them the best LT-IMP is over {100 * criteria.gap:g} points "
    "better than the best LT-OMP. The published marks are for the paper's recipe and all its "
    "sparsities."
)

st.subheader("Verdicts")
verdicts = [
    {
        "study": study.name,
        "network": j.network,
        "dataset": j.dataset,
        "pruner": appearance.method(j.pruner),
        "sparsity": j.sparsity,
        "verdict": str(j),
        "by the means": str(j.point_verdict),
        "trials": appearance.span(j.trials),
        "missing": ", ".join(settings.label(name) for name in j.missing),
    }
    for study, _, judgements in judged
    for j in judgements
]
if not verdicts:
    st.info("No sparse run has finished yet.")
    st.stop()
frame = pl.DataFrame(verdicts)
decided = frame.filter(~pl.col("verdict").str.starts_with(Verdict.NOT_ENOUGH_RUNS))
show.table(
    decided.drop("missing") if decided.height else frame,
    "verdicts",
)
st.caption(
    "Sparsities at which a setting was not trained are left out; the page Definition names what "
    "is missing."
)
