"""A ticket beside its kin: masks of other trials and pruners, signs, lines to other networks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import streamlit as st

from explorer import snapshot
from explorer.readers import StoreUnavailable
from jackpot import artifacts, overlaps, settings
from jackpot.connectivity import STABLE, Barrier, barrier
from jackpot.contract import Artifact, Tag, connectivity_artifact

MOST = 12
"""Masks, and lines, that a ticket is compared with: each is a file to fetch."""
_KIND = re.compile(r"[0-9a-zA-Z]{1,64}(-fixed)?")


@dataclass(frozen=True)
class Kin:
    """Masks of other trials of a ticket's pruner, and of other pruners in its trial.

    Attributes:
        overlaps: one row each: `with common iou by_chance`.
        densities: see `jackpot.overlaps.densities`; the ticket first.
        gone: why masks could not be read, a line each.
        left_out: how many more there are.
    """

    overlaps: pl.DataFrame
    densities: pl.DataFrame
    gone: list[str] = field(default_factory=list)
    left_out: int = 0


def kin(uri: str, run: Mapping[str, Any], runs: pl.DataFrame, mask: artifacts.Mask) -> Kin:
    """Compares a ticket's mask with those of its kin.

    Args:
        uri: of the store.
        run: row of the ticket.
        runs: of its study.
        mask: of the ticket.
    """
    rate = run["pretrain_learning_rate"] or run["learning_rate"]
    other_trial = (pl.col("pruner") == run["pruner"]) & (pl.col("trial") != run["trial"])
    other_pruner = (pl.col("pruner") != run["pruner"]) & (pl.col("trial") == run["trial"])
    found = runs.filter(
        pl.col("status") == "FINISHED",
        pl.col("setting") == run["setting"],
        (pl.col("sparsity") - run["sparsity"]).abs() < 1e-9,
        pl.col("learning_rate") == run["learning_rate"],
        # Where each rate was also trained under the masks of others; those at θ₀ have none.
        pl.col("pretrain_learning_rate").fill_null(rate) == rate,
        other_trial | other_pruner,
    ).sort("pruner", "trial")
    rows, gone = [], []
    own = settings.method(run["pruner"])
    masks = {own: mask}
    for other in found.head(MOST).iter_rows(named=True):
        try:
            theirs = mask_of(uri, other["run_id"])
            whole = overlaps.overlap(mask, theirs).row(-1, named=True)
        except (StoreUnavailable, artifacts.ArtifactError, ValueError) as reason:
            gone.append(f"{other['name']}: {reason}")
            continue
        rows.append({"with": other["name"], **whole})
        if other["pruner"] != run["pruner"]:
            masks[settings.method(other["pruner"])] = theirs
    table = pl.DataFrame(rows, infer_schema_length=None)
    return Kin(
        table.drop("layer") if rows else table,
        overlaps.densities(masks),
        gone,
        max(found.height - MOST, 0),
    )


@st.cache_resource(max_entries=200, show_spinner=False)
def mask_of(uri: str, run_id: str) -> artifacts.Mask:
    """The mask of a run. Raises: StoreUnavailable, ArtifactError."""
    with snapshot.snapshot(uri).store.artifact(run_id, Artifact.TICKET_MASK) as path:
        return artifacts.read_mask(path)[0]


@st.cache_data(max_entries=200, show_spinner=False)
def signs(uri: str, run_id: str) -> pl.DataFrame:
    """Whose sign a run's training has kept. Raises: StoreUnavailable, ArtifactError, KeyError."""
    mask, store = mask_of(uri, run_id), snapshot.snapshot(uri).store
    with store.artifact(run_id, Artifact.TICKET_INITIAL) as path:
        initial, _ = artifacts.read_weights(path, mask)
    with store.artifact(run_id, Artifact.WEIGHTS_FINAL) as path:
        trained, _ = artifacts.read_weights(path, mask)
    return overlaps.sign_agreement(initial, trained, mask)


@dataclass(frozen=True)
class Line:
    """The line from a ticket's final weights to those of another run.

    Attributes:
        points: `alpha` and `error` on test images.
        barrier: what it comes to.
    """

    points: pl.DataFrame
    barrier: Barrier

    @property
    def words(self) -> str:
        """What the barrier says."""
        stable = self.barrier.height < STABLE
        return "connected" if stable else "a barrier between them"


def lines(uri: str, run: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Line | str]:
    """The lines that were measured from a run, by the name of the other end; or why one is gone.

    Args:
        uri: of the store.
        run: its row.
        names: of runs, by id.
    """
    found: dict[str, Line | str] = {}
    kinds = [k for k in (run[Tag.CONNECTIVITY] or "").split(",") if _KIND.fullmatch(k)]
    for kind in kinds[:MOST]:
        other, _, batch_norm = kind.partition("-")
        name = names.get(other, other) + (" (fixed batch norm)" if batch_norm else "")
        try:
            found[name] = _line(uri, run["run_id"], other, batch_norm or "re-estimated")
        except (StoreUnavailable, artifacts.ArtifactError, LookupError, ValueError) as reason:
            found[name] = str(reason)
    return found


# A line may be measured again, under the same name.
@st.cache_data(ttl=60, max_entries=200, show_spinner=False)
def _line(uri: str, run_id: str, other: str, batch_norm: str) -> Line:
    store = snapshot.snapshot(uri).store
    with store.artifact(run_id, connectivity_artifact(other, batch_norm)) as path:
        arrays, _ = artifacts.read(path)
    alpha, error = arrays["alpha"], 1 - arrays["accuracy"]
    found = barrier(alpha, error)
    return Line(pl.DataFrame({"alpha": alpha, "error": error}), found)
