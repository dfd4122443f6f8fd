"""What one point of a figure rests on: its runs, their curves, the conditions it is part of."""

import polars as pl
import streamlit as st

from explorer import links, reading, show, sidebar, snapshot
from explorer.figures import appearance, training_curves
from explorer.readers import StoreUnavailable
from jackpot import settings, stores, wording
from jackpot.contrasts import MARKS
from jackpot.definition import Finding, Judgement
from jackpot.trials import OWN_RATE


def part(judgement: Judgement, found: Finding) -> str:
    """What the point is to a condition: each compares settings at one learning rate each."""
    is_ticket = setting == judgement.ticket
    of = "the ticket" if is_ticket else "what it is compared with"
    if not found.learning_rates:
        return of
    at = found.learning_rates[0 if is_ticket else -1]
    return of if abs(at / rate - 1) < 1e-9 else f"none: {of} is taken at {at:g}"


st.title("One point")
study = sidebar.chosen()
chosen, which = sidebar.criteria()
ui = sidebar.mlflow_ui()
setting, pruner = st.query_params.get("setting"), st.query_params.get("pruner")
try:
    sparsity = float(st.query_params.get("s") or 0)
    rate = float(st.query_params.get("lr") or "")
except ValueError:
    setting = None
if setting is None:
    st.info("Click a point of a figure, or a row's “open”, to see here what it rests on.")
    st.stop()
points = study.runs.filter(OWN_RATE).with_columns(pl.col("sparsity").fill_null(0.0))
here = points.filter(
    pl.col("setting") == setting,
    pl.col("pruner").eq_missing(pl.lit(pruner, pl.String)),
    (pl.col("sparsity") - sparsity).abs() < 1e-9,
    (pl.col("learning_rate") / rate - 1).abs() < 1e-9,
)
depth = f" at sparsity {wording.sparsity(sparsity)}" if sparsity else ""
title = f"{settings.line(setting, pruner)}{depth}, learning rate {rate:g}"
st.subheader(show.plain(title), anchor=False)
if here.is_empty():
    st.warning("The link names a point that this launch of the study does not have.")
    st.stop()
criteria = study.read_by(chosen)
show.chips(reading.changes(criteria, which, study.said))
accuracy = "val_accuracy" if which == "last" else "best_val_accuracy"
values = here.filter(pl.col("status") == "FINISHED")[accuracy].drop_nulls().drop_nans()
if len(values):
    spread = f" ± {100 * float(values.std() or 0):.2f}" if len(values) > 1 else ""  # type: ignore[arg-type]
    mean = 100 * float(values.mean())  # type: ignore[arg-type]
    st.text(f"{mean:.2f}{spread} % on test images, mean over {len(values)} trials ({which} epoch).")
show.table(
    here.sort("trial").select(
        "name",
        "status",
        "trial",
        "val_accuracy",
        "best_val_accuracy",
        "failure",
        # Its files are there once it has finished.
        pl.when(pl.col("status") == "FINISHED")
        .then(links.to_ticket(sidebar.view(study)))
        .alias("ticket"),
        links.of_run(ui).alias("MLflow"),
    ),
    f"{study.name}-point",
    ticket=st.column_config.LinkColumn(display_text="open"),
    MLflow=st.column_config.LinkColumn(display_text="open"),
    val_accuracy=st.column_config.NumberColumn(format="percent"),
    best_val_accuracy=st.column_config.NumberColumn(format="percent"),
)
by_experiment = here.group_by("experiment_id", maintain_order=True).agg("run_id")
for experiment, ids in by_experiment.rows():
    st.link_button("Compare these runs in MLflow", links.address(ui, experiment, ids))

st.subheader("What it decides", anchor=False)
judgements = [
    j
    for j in study.judged(chosen, which, sidebar.conditions())
    if (pruner is None or j.pruner == pruner)
    and (not sparsity or abs(j.sparsity - sparsity) < 1e-9)
]
rows = [
    {
        "ticket": appearance.ticket(j),
        "condition": f"{found.condition.symbol} {found.condition.words}",
        "holds": MARKS[found.decision],
        "margin (points)": None if found.margin is None else round(100 * found.margin, 2),
        "part": part(j, found),
        "trials": wording.span(j.trials),
        "verdict": str(j),
        "evidence": links.page("definition", **sidebar.view(study), detail=appearance.ticket(j)),
    }
    for j in judgements
    for found in j.conditions
    if found.condition.rival is not None and setting in (j.ticket, found.condition.rival.name)
]
if rows:
    show.table(
        pl.DataFrame(rows, infer_schema_length=None),
        f"{study.name}-point-conditions",
        evidence=st.column_config.LinkColumn(display_text="open"),
    )
else:
    st.text("No condition compares this setting.")

st.subheader("Training curves", anchor=False)
# Beside it, what the conditions compare it with: the same rate, mask and sparsity.
beside = points.filter(
    (pl.col("learning_rate") / rate - 1).abs() < 1e-9,
    (pl.col("sparsity") == 0) | ((pl.col("sparsity") - sparsity).abs() < 1e-9),
    pl.col("pruner").is_null() | pl.col("pruner").eq_missing(pl.lit(pruner, pl.String)),
)
metric = st.pills(
    "Metric",
    ["val_accuracy", "accuracy", "val_loss", "loss"],
    default="val_accuracy",
    required=True,
    key="point_metric",
    bind="query-params",
)
try:
    curves = snapshot.snapshot(stores.tracking_uri()).store.curves(
        beside["run_id"].to_list(), metric
    )
except StoreUnavailable as reason:
    st.info("The tracking store does not answer just now.")
    st.text(str(reason))
    st.stop()
data = training_curves.bands(curves, beside, metric)
if data.is_empty():
    st.info("These runs have no metrics.")
    st.stop()
show.figure(
    training_curves.chart(data, metric),
    f"{study.name}-point-{metric}",
    f"{metric} by epoch of {settings.line(setting, pruner)} and what it is compared with.",
)
with st.expander("Numbers"):
    show.table(data.select(training_curves.COLUMNS), f"{study.name}-point-{metric}")
names = ", ".join(settings.label(name) for name in settings.ordered(beside["setting"]))
st.caption(show.plain(f"Means over trials of {names}, and one standard deviation."))
