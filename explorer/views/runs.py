"""All runs of a study, and one ticket in detail."""

from functools import partial

import polars as pl
import streamlit as st

from explorer import asked, beside, hub, links, show, sidebar, snapshot
from explorer.readers import StoreUnavailable
from jackpot import artifacts, stores, wording
from jackpot.contract import Artifact

COLUMNS = [
    *("name", "status", "val_accuracy", "failure"),
    *("setting", "pruner", "sparsity", "round", "learning_rate", "trial"),
    *("best_val_accuracy", "trainable_parameters", "measured_sparsity"),
    *("effective_sparsity", "collapsed_layers"),
    *("images_per_second", "run_id"),
]
FILTERS = ["status", "setting", "pruner", "sparsity", "learning_rate", "trial"]


def shown_as(name: str, value: object) -> str:
    """A value of a filter, in words."""
    if isinstance(value, float):
        return wording.sparsity(value) if name == "sparsity" else f"{value:.4g}"
    return str(value)


st.title("Runs and tickets")
study = sidebar.chosen()
if study.runs.is_empty():
    st.info("No run of this study has begun yet.")
    st.stop()
shown = study.runs
for column, name in zip(st.columns(len(FILTERS)), FILTERS, strict=True):
    values = study.runs[name].drop_nulls().unique().sort().to_list()
    with column:
        wanted = asked.some(
            name.replace("_", " "),
            values,
            f"runs_{name}",
            format_func=partial(shown_as, name),
            placeholder="all",
        )
    if wanted:
        shown = shown.filter(pl.col(name).is_in(wanted))
st.caption(f"{shown.height} of {study.runs.height} runs")
ui = sidebar.mlflow_ui()
show.table(
    links.of_points(shown, sidebar.view(study)).select(
        *COLUMNS, pl.col("link").alias("evidence"), links.of_run(ui).alias("MLflow")
    ),
    f"{study.name}-runs",
    evidence=st.column_config.LinkColumn(display_text="open"),
    MLflow=st.column_config.LinkColumn(display_text="open"),
    val_accuracy=st.column_config.NumberColumn(format="percent"),
    best_val_accuracy=st.column_config.NumberColumn(format="percent"),
)
tickets = shown.filter(pl.col("status") == "FINISHED")
# Sparse ones first: they are what the page is opened for.
tickets = tickets.sort(pl.col("pruner").is_null(), maintain_order=True)
names = dict(tickets.select("run_id", "name").rows())
if not names:
    st.info("None of these runs has finished.")
    st.stop()
run_id = asked.one(
    "Ticket", list(names), "ticket_run", next(iter(names)), format_func=names.__getitem__
)
run = tickets.row(by_predicate=pl.col("run_id") == run_id, named=True)
st.subheader("Lineage")
by_id = dict(study.runs.select("run_id", "name").rows())
lineage = [
    ("initial weights from", run["init_run_id"]),
    ("mask pruned from the final weights of", run["mask_run_id"]),
]
parents = [
    f"{words} {by_id.get(parent, 'a run that is not in this plan')} ({parent})"
    for words, parent in lineage
    if parent
]
for said in parents:
    st.text(said)
st.text(f"this run {run['name']} ({run_id})")

store = snapshot.snapshot(stores.tracking_uri()).store
if run["pruner"]:
    try:
        with store.artifact(run_id, Artifact.TICKET_MASK) as path:
            mask, _ = artifacts.read_mask(path)
    except StoreUnavailable as reason:
        st.info(
            "The ticket's files are not to be had: this store does not have them, or does not "
            "answer. What was measured is."
        )
        st.text(str(reason))
        st.stop()
    except artifacts.ArtifactError as reason:
        st.info("The ticket's mask cannot be read.")
        st.text(str(reason))
    else:
        st.subheader("Density by layer")
        if run["effective_sparsity"] is not None:
            st.text(
                f"Sparsity {wording.sparsity(run['measured_sparsity'] or 0.0)}; effective sparsity "
                f"{wording.sparsity(run['effective_sparsity'])}, which counts weights as pruned "
                "that are on no path from input to output."
            )
        if run["collapsed_layers"]:
            st.warning(
                f"Layer collapse: {run['collapsed_layers']:.0f} of {len(mask)} pruned layers have "
                "no weight on a path from input to output."
            )
        density = pl.DataFrame(
            {
                "layer": [path.removesuffix("/kernel") for path in mask],
                "weights": [entry.size for entry in mask.values()],
                "survivors": [int(entry.sum()) for entry in mask.values()],
            }
        ).with_columns((pl.col("survivors") / pl.col("weights")).alias("density"))
        show.table(
            density,
            f"{study.name}-density",
            density=st.column_config.ProgressColumn(min_value=0, max_value=1, format="percent"),
        )
        beside.shown(study, run, mask)


def content(name: str) -> bytes:
    """An artifact of the run, fetched when its download is asked for."""
    with store.artifact(run_id, name) as path:
        return path.read_bytes()


st.subheader("Download")
files = {"initial weights": Artifact.TICKET_INITIAL}
if run["pruner"]:
    files["mask"] = Artifact.TICKET_MASK
with st.container(horizontal=True):
    for label, name in files.items():
        st.download_button(
            label,
            partial(content, name),
            name.rpartition("/")[2],
            key=f"download-{label}",
            icon=":material/download:",
        )
    st.download_button(
        "folder for a model hub",
        lambda: hub.zipped(
            study, run, [f"study {study.name}, run {run_id}", *parents], [*files.values()], content
        ),
        "ticket.zip",
        key="download-hub",
        icon=":material/folder_zip:",
        help="The ticket's files, and a card with lineage, verdict and how to load them.",
    )
st.text("The same folder, with the ticket as plain PyTorch and in Keras's own layers:")
st.code(
    f"python -m trainer.export {run_id} my-ticket --tracking-uri {sidebar.shown_uri()}",
    language="sh",
    wrap_lines=True,
)
st.text("In Python:")
st.code(
    f"""from trainer.pruning.callbacks import ApplyMask
from trainer.store.ticket import load_ticket

model, mask = load_ticket("{run_id}", tracking_uri="{sidebar.shown_uri()}")
model.compile("sgd", loss=...)
model.fit(images, labels, callbacks=[ApplyMask(mask)])""",
    language="python",
    wrap_lines=True,
)
