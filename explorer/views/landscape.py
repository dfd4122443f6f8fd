"""Figures 4 and 5: the way of training over the loss surface, two runs side by side."""

import numpy as np
import polars as pl
import streamlit as st

from explorer import landscape, show, sidebar
from explorer.figures import landscape as figure
from explorer.readers import StoreUnavailable
from jackpot import artifacts
from jackpot.contract import Tag, landscape_artifact

st.title("Loss landscape")
study = sidebar.chosen()
measured = study.runs.filter(pl.col(Tag.LANDSCAPE).is_not_null())
if measured.is_empty():
    st.info(
        "No run of this study has a measured landscape. Set trajectory_every in the config, train, "
        "and measure with: python -m trainer.landscape --run <run id>"
    )
    st.stop()
names = dict(measured.select("run_id", "name").rows())
chosen = st.multiselect(
    "Runs",
    list(names),
    default=list(names)[:2],
    format_func=names.__getitem__,
    max_selections=4,
    key="landscapes",
    bind="query-params",
)
directions = st.radio(
    "Directions",
    ["pca", "random"],
    format_func={"pca": "principal (Lorch 2016)", "random": "random (Li et al. 2018)"}.__getitem__,
    key="directions",
    bind="query-params",
    horizontal=True,
)
store = sidebar.opened().store
found: dict[str, landscape.Landscape] = {}
for run_id in chosen:
    kinds = measured.row(by_predicate=pl.col("run_id") == run_id, named=True)[Tag.LANDSCAPE]
    if directions not in kinds.split(","):
        st.text(f"Not measured along these directions: {names[run_id]}")
        continue
    try:
        with store.artifact(run_id, landscape_artifact(directions)) as path:
            arrays, _ = artifacts.read(path)
        found[names[run_id]] = landscape.Landscape.from_arrays(arrays)
    except (StoreUnavailable, artifacts.ArtifactError, KeyError, ValueError) as reason:
        st.warning("A landscape cannot be read.")
        st.text(str(reason))
if not found:
    st.stop()
at = landscape.levels(found.values())
lowest = min(float(np.nanmin(one.loss)) for one in found.values())
basin = st.slider(
    "Basin: loss up to", lowest, max(at), min(lowest + 0.1 * (max(at) - lowest), max(at))
)
show.figure(
    figure.chart(found, at, basin),
    f"{study.name}-landscape",
    f"Loss around the final weights of {len(found)} runs of study {study.name}.",
)
rows = [
    {
        "run": name,
        "lowest loss": float(np.nanmin(one.loss)),
        "basin (area)": landscape.basin(one, basin),
        "variance along a and b": "–"
        if one.explained is None
        else " and ".join(f"{share:.0%}" for share in one.explained),
    }
    for name, one in found.items()
]
show.table(pl.DataFrame(rows), f"{study.name}-landscape")
st.caption(
    "Lines join equal loss on training images, on the same levels for all runs; the filled area "
    "is the basin. The path is that of training, projected on the plane, its end at the origin: "
    "the loss drawn under a point is the plane's, not that of the weights there. Batch norm uses "
    "the running statistics of the final weights."
)
