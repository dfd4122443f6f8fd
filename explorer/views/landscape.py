"""Figures 4 and 5: the way of training over the loss surface, two runs side by side."""

import numpy as np
import polars as pl
import streamlit as st

from explorer import asked, landscape, show, sidebar
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
names = {
    run_id: f"{name} ({run_id[:6]})" for run_id, name in measured.select("run_id", "name").rows()
}
chosen = asked.some(
    "Runs", list(names), "landscapes", list(names)[:2], names.__getitem__, max_selections=4
)
kinds = {
    "pca": "principal directions (Lorch 2016)",
    "random": "random directions (Li et al. 2018)",
    "pca-fixed": "principal, fixed batch norm",
    "random-fixed": "random, fixed batch norm",
}
tags = {run_id: tag.split(",") for run_id, tag in measured.select("run_id", Tag.LANDSCAPE).rows()}
stored = [kind for kind in kinds if any(kind in tags[run_id] for run_id in chosen)]
if not stored:
    st.info("Choose a run." if not chosen else "None of these has a landscape that is known here.")
    st.stop()
kind = st.radio(
    "Measured along",
    stored,
    format_func=kinds.__getitem__,
    key="directions",
    bind="query-params",
    horizontal=True,
)
store = sidebar.opened().store
found: dict[str, landscape.Landscape] = {}
for run_id in chosen:
    if kind not in tags[run_id]:
        st.text(f"Not measured along these: {names[run_id]}")
        continue
    try:
        with store.artifact(run_id, landscape_artifact(*kind.split("-"))) as path:
            found[names[run_id]] = landscape.Landscape.from_arrays(*artifacts.read(path))
    except (StoreUnavailable, artifacts.ArtifactError, LookupError, ValueError) as reason:
        st.warning("A landscape cannot be read.")
        st.text(str(reason))
if not found:
    st.stop()
at = landscape.levels(found.values())
lowest = min(float(np.nanmin(one.loss)) for one in found.values())
basin = st.slider(
    "Basin: loss up to", lowest, max(at), min(lowest + 0.1 * (max(at) - lowest), max(at))
)
panels = figure.panels(found, at, basin)
show.figure(
    figure.chart(panels),
    f"{study.name}-landscape",
    f"Loss around the final weights of {len(found)} runs of study {study.name}.",
    panels=panels,
    # One length of scale for both axes.
    is_square=True,
)


def area(one: landscape.Landscape) -> str | None:
    """The basin's, and whether it goes on beyond the grid."""
    if not one.compares:
        return None
    found = f"{landscape.basin(one, basin):.4g}"
    return f"≥ {found} (cut off by the grid)" if landscape.is_cut_off(one, basin) else found


rows = [
    {
        "run": name,
        "lowest loss": float(np.nanmin(one.loss)),
        "basin (area)": area(one),
        "batch-norm statistics": one.batch_norm,
        "variance along a and b": "–"
        if one.explained is None
        else " and ".join(f"{share:.0%}" for share in one.explained),
    }
    for name, one in found.items()
]
show.table(pl.DataFrame(rows), f"{study.name}-landscape")
said = [
    "Lines join equal loss on training images, on the same levels for all runs; the filled area "
    "is the basin. The path is that of training, projected on the plane, its end at the origin: "
    "the loss drawn under a point is the plane's, not that of the weights there."
]
if any(one.compares for one in found.values()):
    said.append(
        "Coordinates, and the areas of basins, are in lengths of the filters: at distance 1 the "
        "filters have moved by their own lengths, in root mean square. A basin that reaches the "
        "edge of the grid is at least as large as what is counted."
    )
if not all(one.compares for one in found.values()):
    said.append(
        "A run without an area was measured by an earlier version, in units of the weights: these "
        "tell the scale of its weights, which batch norm makes arbitrary. Measure it again to "
        "compare it."
    )
if any(one.batch_norm == "re-estimated" for one in found.values()):
    said.append("The statistics of batch norm are re-estimated at every point.")
if any(one.batch_norm == "fixed" for one in found.values()):
    said.append(
        "Fixed statistics of batch norm are those of the final weights everywhere: they fit "
        "nothing but these, and the loss beside them is far too high."
    )
st.caption(" ".join(said))
