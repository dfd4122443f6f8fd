"""Every study: how far it is, and what its tickets are worth."""

import polars as pl
import streamlit as st

from explorer import show, state
from explorer.definitions import Verdict, judge
from explorer.store import StoreUnavailable, launches, of_plan
from mlflow_server.contract import Tag

# Table 3 of the paper: jackpot, secondary, prefers a small learning rate, prefers IMP.
PUBLISHED = {
    ("resnet20", "cifar10"): "× ✓ ✓ ✓",
    ("resnet32", "cifar10"): "× ✓ ✓ ✓",
    ("mobilenet-v1", "cifar10"): "△ ✓ × ×",
    ("resnet18", "cifar10"): "× ✓ ✓ ×",
    ("vgg16", "cifar10"): "× × × ×",
    ("resnet20", "cifar100"): "× ✓ ✓ ✓",
    ("resnet32", "cifar100"): "× ✓ ✓ ✓",
    ("mobilenet-v1", "cifar100"): "× × × ×",
    ("resnet18", "cifar100"): "△ ✓ ✓ ✓",
    ("vgg16", "cifar100"): "× × × ×",
}

st.title("Does your winning ticket really win?")
snapshot = state.opened()
criteria, which = state.criteria()

progress, verdicts = [], []
table = launches(snapshot.runs)
for study in table[Tag.STUDY].unique(maintain_order=True):
    launch = table.filter(pl.col(Tag.STUDY) == study).row(0, named=True)
    try:
        plan = snapshot.plan(launch["run_id"])
    except StoreUnavailable:
        progress.append({"study": study, "launch": f"{launch['name']} (its plan is gone)"})
        continue
    runs = of_plan(snapshot.runs, plan)
    counts = dict(runs.group_by("status").len().iter_rows())
    finished = counts.get("FINISHED", 0)
    progress.append(
        {
            "study": study,
            "launch": launch["name"],
            "finished": finished,
            "running": counts.get("RUNNING", 0),
            "failed": counts.get("FAILED", 0) + counts.get("KILLED", 0),
            "planned": plan.height,
            "done": finished / max(plan.height, 1),
        }
    )
    verdicts += [
        {
            "study": study,
            "network": j.network,
            "dataset": j.dataset,
            "pruner": j.pruner.upper(),
            "sparsity": j.sparsity,
            "verdict": f"{j.verdict}{' △' if j.boundary else ''}",
            "missing": ", ".join(name.upper() for name in j.missing),
            "paper (Table 3)": PUBLISHED.get((j.network, j.dataset), ""),
        }
        for j in judge(state.accuracies(runs, which), criteria)
    ]

st.subheader("Studies")
show.table(
    pl.DataFrame(progress),
    "studies",
    done=st.column_config.ProgressColumn("done", min_value=0, max_value=1, format="percent"),
)
st.subheader("Verdicts")
if verdicts:
    frame = pl.DataFrame(verdicts)
    decided = frame.filter(~pl.col("verdict").str.starts_with(Verdict.NOT_ENOUGH_RUNS))
    show.table(
        decided if decided.height else frame,
        "verdicts",
        sparsity=st.column_config.NumberColumn(format="%.3f"),
    )
    st.caption(
        "△: the trials do not decide a condition (its 95 % interval straddles 0). The paper's "
        "marks are, in this order: jackpot, secondary, prefers a small learning rate, prefers "
        "IMP, over all its sparsities. Sparsities at which a setting was not trained are left "
        "out; the page Definition names what is missing."
    )
else:
    st.info("No sparse run has finished yet.")
