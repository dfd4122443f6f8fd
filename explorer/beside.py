"""Draws a ticket beside its kin: masks of other trials and pruners, signs, lines to others."""

from collections.abc import Mapping
from typing import Any

import polars as pl
import streamlit as st

from explorer import diagnosing, show, sidebar
from explorer.figures import diagnostics
from explorer.readers import StoreUnavailable
from explorer.snapshot import Study
from jackpot import artifacts, settings, stores
from jackpot.connectivity import STABLE


def shown(study: Study, run: Mapping[str, Any], mask: artifacts.Mask) -> None:
    """All that is known of a ticket beside others.

    Args:
        study: of the ticket.
        run: its row.
        mask: its mask.
    """
    _masks(study, run, mask)
    _signs(study, run)
    _lines(study, run)


def _masks(study: Study, run: Mapping[str, Any], mask: artifacts.Mask) -> None:
    found = diagnosing.kin(stores.tracking_uri(), run, study.runs, mask)
    if found.overlaps.height:
        st.subheader("Beside other masks", anchor=False)
        show.table(
            found.overlaps,
            f"{study.name}-overlap",
            iou=st.column_config.NumberColumn("survivors in common", format="percent"),
            by_chance=st.column_config.NumberColumn("by chance", format="percent"),
        )
        st.caption(
            "Of the weights that survive in either mask, the share that survives in both: at this "
            "learning rate, with other trials' masks and with other pruners' in this trial. By "
            "chance: of independent masks with these densities by layer."
            + (f" {found.left_out} more are left out." if found.left_out else "")
        )
        if found.densities["mask"].n_unique() > 1:
            show.figure(
                diagnostics.densities(found.densities),
                f"{study.name}-densities",
                f"Density by layer of {run['name']} and of other pruners' masks.",
            )
    for line in found.gone:
        st.text(line)


def _signs(study: Study, run: Mapping[str, Any]) -> None:
    try:
        kept = diagnosing.signs(stores.tracking_uri(), run["run_id"])
    except (StoreUnavailable, artifacts.ArtifactError, LookupError, ValueError) as reason:
        st.text(f"Signs cannot be compared: {reason}")
        return
    whole = kept["same_sign"][-1]
    if whole is None:
        return
    st.subheader("Signs", anchor=False)
    st.text(f"Training kept the sign of {100 * whole:.1f} % of the survivors.")
    with st.expander("By layer"):
        show.table(
            kept,
            f"{study.name}-signs",
            same_sign=st.column_config.NumberColumn("same sign", format="percent"),
        )


def _lines(study: Study, run: Mapping[str, Any]) -> None:
    st.subheader("Connected with", anchor=False)
    names = dict(study.runs.select("run_id", "name").rows())
    measured = diagnosing.lines(stores.tracking_uri(), run, names)
    drawn = {name: found for name, found in measured.items() if not isinstance(found, str)}
    for name, found in measured.items():
        if isinstance(found, str):
            st.text(f"The line to {name} cannot be read: {found}")
    if not drawn:
        _how_to_measure(study, run)
        return
    rows = [
        {
            "to": name,
            "barrier (points)": round(100 * line.barrier.height, 2),
            "at α": line.barrier.alpha,
            "error here": round(100 * line.barrier.ends[0], 2),
            "error there": round(100 * line.barrier.ends[1], 2),
            "": line.words,
        }
        for name, line in drawn.items()
    ]
    show.table(pl.DataFrame(rows), f"{study.name}-connectivity")
    show.figure(
        diagnostics.lines({name: line.points for name, line in drawn.items()}),
        f"{study.name}-connectivity",
        f"Test error on the lines from {run['name']} to other networks.",
    )
    st.caption(
        "Barrier: the highest error on the line minus the mean of both ends'. Below "
        f"{100 * STABLE:g} points, networks count as connected (Frankle et al. 2020)."
    )


def _how_to_measure(study: Study, run: Mapping[str, Any]) -> None:
    twin = f"{run['setting']}_twin"
    is_known = twin in settings.SETTINGS
    twins = study.runs.filter(
        pl.col("status") == "FINISHED",
        pl.col("setting") == twin,
        pl.col("pruner") == run["pruner"],
        (pl.col("sparsity") - run["sparsity"]).abs() < 1e-9,
        pl.col("learning_rate") == run["learning_rate"],
        pl.col("trial") == run["trial"],
    )["run_id"].to_list()
    order = f", or the same ticket with images in another order (setting {twin})"
    st.text(
        "Not measured yet: the line to another run's final weights. That may be the next IMP round"
        f"{order if is_known else ''}."
    )
    other = twins[0] if twins else "<run id>"
    st.code(
        f"python -m trainer.landscape --run {run['run_id']} --to {other}"
        f" --tracking-uri {sidebar.shown_uri()}",
        language="sh",
        wrap_lines=True,
    )
