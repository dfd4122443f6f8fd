"""What all pages share: the store's snapshot, the chosen study, and how the definition is read."""

import re
import time
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal

import polars as pl
import streamlit as st

from explorer.store import (
    PLAN_SCHEMA,
    SCHEMA,
    Store,
    StoreUnavailable,
    different,
    launches,
    merged,
    of_plan,
    pending,
)
from jackpot.conditions import CLEAR_GAP, NON_TRIVIAL_SPARSITY, Criteria
from jackpot.contract import Tag, tracking_uri
from jackpot.trials import accuracies

REFRESH_S = 10.0
# Through the API a run of which the store learns late is seen only by reading all of it.
WHOLE_S = 120.0
# More runs than this are read faster with all others.
MANY = 500


@dataclass
class Snapshot:
    """What is known of a store. Frames are replaced, never changed: sessions share them."""

    store: Store
    runs: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SCHEMA))
    version: int = 0
    _read_at: float = -1e9
    _whole_at: float = -1e9
    _since: int | None = None
    _plans: dict[str, pl.DataFrame] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def refresh(self, force: bool = False) -> None:
        """Asks the store for what changed, at most every few seconds; `force` reads all anew.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        with self._lock:
            now = time.monotonic()
            if not force and now - self._read_at < REFRESH_S:
                return
            # A little overlap: clocks of trainer and store may differ.
            asked = int(time.time() * 1000) - 60_000
            runs = None if force or self._since is None else self._changed(self._since, now)
            if runs is None:
                runs, self._whole_at = self.store.runs(), now
            if not runs.equals(self.runs):
                self.runs, self.version = runs, self.version + 1
            self._read_at, self._since = now, asked

    def _changed(self, since: int, now: float) -> pl.DataFrame | None:
        """What is known, brought up to date; None where reading all of it is the better way."""
        listing = self.store.listing()
        if listing is None:
            if now - self._whole_at > WHOLE_S:
                return None
            return merged(self.runs, self.store.changed_since(since))
        ids = different(self.runs, listing)
        if len(ids) > MANY:
            return None
        return merged(self.runs, self.store.runs(ids.to_list()), listing["run_id"])

    def plan(self, launch_id: str) -> pl.DataFrame:
        """The plan of a launch, read once. Raises: StoreUnavailable."""
        if launch_id not in self._plans:
            self._plans[launch_id] = self.store.plan(launch_id)
        return self._plans[launch_id]


@st.cache_resource
def snapshot(uri: str) -> Snapshot:
    """One snapshot per store for all sessions."""
    return Snapshot(Store(uri))


@dataclass(frozen=True)
class Chosen:
    """A study, as one of its launches planned it.

    Attributes:
        name: of the study.
        launch: name of the launch.
        plan: the runs that the launch planned; empty if its plan cannot be read.
        runs: of those, what the store has: one row per run key, whatever its status.
    """

    name: str
    launch: str
    plan: pl.DataFrame
    runs: pl.DataFrame

    @property
    def pending(self) -> pl.DataFrame:
        """Planned runs that may yet finish."""
        return pending(self.plan, self.runs)

    def accuracies(self, which: Literal["last", "best"] = "last") -> pl.DataFrame:
        """Finished runs as `jackpot.definition` wants them, by last or best epoch."""
        return accuracies(self.runs, which)


def opened() -> Snapshot:
    """The current snapshot, refreshed; stops the page with a calm word if that fails."""
    uri = tracking_uri()
    found = snapshot(uri)
    try:
        found.refresh()
    except StoreUnavailable as reason:
        if found.version == 0:
            st.info(
                "The tracking store cannot be read yet. Train a study first (`make demo`), or set "
                "MLFLOW_TRACKING_URI to the store that has one and start the explorer again."
            )
            st.text(f"{shown_uri()}\n{reason}")
            st.stop()
        st.warning("The tracking store does not answer: this is what was read before.")
        st.text(str(reason))
    if launches(found.runs).is_empty():
        st.info("This store has no study of the trainer yet. `make demo` trains a small one.")
        st.text(shown_uri())
        st.stop()
    return found


def chosen() -> Chosen:
    """The study chosen in the sidebar (in the link as `study`), by its newest launch there."""
    found = opened()
    table = launches(found.runs)
    names = table[Tag.STUDY].unique(maintain_order=True).to_list()
    with st.sidebar:
        name = st.selectbox("Study", names, key="study", bind="query-params")
        of_study = table.filter(pl.col(Tag.STUDY) == name)
        labels = dict(zip(of_study["run_id"], of_study["name"], strict=True))
        launch_id = st.selectbox(
            "Launch", list(labels), format_func=labels.get, key="launch", bind="query-params"
        )
    try:
        plan = found.plan(launch_id)
    except StoreUnavailable as reason:
        st.info("The plan of this launch cannot be read, so its runs are not known.")
        st.text(str(reason))
        st.stop()
    return Chosen(name, labels[launch_id], plan, of_plan(found.runs, plan))


def studies(found: Snapshot) -> list[Chosen]:
    """Every study in the store, by its newest launch."""
    newest = launches(found.runs).unique(Tag.STUDY, keep="first", maintain_order=True)
    known = []
    for launch in newest.iter_rows(named=True):
        try:
            plan = found.plan(launch["run_id"])
        except StoreUnavailable:
            plan = pl.DataFrame(schema=PLAN_SCHEMA)
        runs = of_plan(found.runs, plan)
        known.append(Chosen(launch[Tag.STUDY], launch["name"], plan, runs))
    return known


def shown_uri() -> str:
    """The store's address without a password."""
    return re.sub(r"://([^:@/]+):[^@/]+@", r"://\1:***@", tracking_uri())


def mlflow_ui() -> str:
    """Address of MLflow's own UI, to which points and runs link; changed in the sidebar."""
    uri = tracking_uri()
    default = uri if uri.startswith(("http://", "https://")) else "http://127.0.0.1:5000"
    with st.sidebar.expander("MLflow", expanded=False):
        address = st.text_input(
            "Address of MLflow's UI",
            default,
            key="mlflow",
            bind="query-params",
            help="Where points and runs link to. `python -m mlflow_server` serves it.",
        )
    if address.startswith(("http://", "https://")):
        return address
    st.sidebar.warning("The address must begin with http:// or https://")
    return default


def criteria() -> tuple[Criteria, Literal["last", "best"]]:
    """How the definition is read, chosen in the sidebar and kept in the link."""
    with st.sidebar.expander("Definition", expanded=False):
        own = st.toggle("Own tolerance", key="own", bind="query-params")
        tolerance = st.number_input(
            "Similar: within (points)",
            0.0,
            20.0,
            0.5,
            0.1,
            key="tolerance",
            bind="query-params",
            disabled=not own,
            help="The paper: 0.5 on CIFAR-10, 1 on CIFAR-100 and Tiny-ImageNet, "
            "1.5 on ImageNet-1K.",
        )
        gap = st.number_input(
            "Clear gap: over (points)",
            0.0,
            20.0,
            100 * CLEAR_GAP,
            0.1,
            key="gap",
            bind="query-params",
        )
        sparsity = st.number_input(
            "Non-trivial sparsity",
            0.0,
            1.0,
            NON_TRIVIAL_SPARSITY,
            0.01,
            key="sparsity",
            bind="query-params",
        )
        reading = st.radio(
            "Reading",
            ["literal", "joint"],
            key="reading",
            bind="query-params",
            horizontal=True,
            help="literal: each condition may choose its own learning rate, as the paper's text "
            "has it. joint: one learning rate must meet conditions 3, 4 (and 5).",
        )
        ticket = st.radio(
            "Ticket",
            ["lt", "wr"],
            key="ticket",
            bind="query-params",
            horizontal=True,
            format_func={"lt": "LT", "wr": "WR (appendix B)"}.get,
        )
        which = st.radio(
            "Accuracy of the epoch",
            ["last", "best"],
            key="epoch",
            bind="query-params",
            horizontal=True,
        )
        rate_by = st.radio(
            "Best learning rate by accuracy on",
            ["test", "heldout"],
            key="rate_by",
            bind="query-params",
            horizontal=True,
            format_func={"test": "test images (paper)", "heldout": "held-out images"}.get,
            help="Held-out images count where a study sets dataset.validation_images. The "
            "accuracies compared are those on test images either way.",
        )
    return (
        Criteria(
            tolerance=tolerance / 100 if own else None,
            gap=gap / 100,
            sparsity=sparsity,
            reading=reading,
            ticket=ticket,
            rate_by=rate_by,
        ),
        which,
    )
