"""A cached copy of a store for all sessions, kept up to date, and the studies in it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, Literal
from uuid import uuid4

import polars as pl
import streamlit as st

from explorer.readers import ApiReader, StoreUnavailable, reader
from explorer.readers.frames import (
    IMAGES_TOLD_APART,
    SCHEMA,
    Planned,
    different,
    launches,
    merged,
    of_plan,
    pending,
)
from jackpot import accuracies
from jackpot.conditions import CONDITIONS, Condition, Criteria, with_beside, with_said
from jackpot.contract import Param, Tag
from jackpot.definition import Judgement, judge
from jackpot.looks import LookThen, Standing

REFRESH_S = 10.0
# Through the API a run of which the store learns late is seen only by reading all of it.
WHOLE_S = 120.0
# More runs than this are read faster with all others.
MANY = 500


@dataclass
class Snapshot:
    """A cached copy of a store. Frames are replaced, never changed: sessions share them.

    Attributes:
        store: the store.
        runs: its runs.
        version: how often they have changed.
        read_at: when the store was last asked, in seconds since 1970.
        id: of this copy: another of the same store has another.
    """

    store: ApiReader
    runs: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SCHEMA))
    version: int = 0
    read_at: float = 0.0
    id: str = field(default_factory=lambda: uuid4().hex)
    _read_at: float = -1e9
    _whole_at: float = -1e9
    _since: int | None = None
    _plans: dict[str, tuple[tuple[list[Any], int], Planned]] = field(default_factory=dict)
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
            self.read_at = time.time()

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

    def plan(self, launch_id: str) -> Planned:
        """What a launch planned: read again when the launch changed, or runs of an adaptive study.

        Raises:
            StoreUnavailable: it cannot be read.
        """
        launch = self.runs.filter(run_id=launch_id).select("status", "end_time").rows()
        (then, version), known = self._plans.get(launch_id, ((launch, self.version), None))
        if known is None or launch != then or (known.looks and version != self.version):
            known = self.store.planned(launch_id)
            self._plans[launch_id] = (launch, self.version), known
        return known


@st.cache_resource
def snapshot(uri: str) -> Snapshot:
    """One snapshot per store for all sessions."""
    return Snapshot(reader(uri))


@dataclass(frozen=True)
class Study:
    """A study, as one of its launches planned it.

    Attributes:
        name: of the study.
        launch: name of the launch.
        plan: the runs that the launch planned; empty if its plan cannot be read.
        runs: of those, what the store has: one row per run key, whatever its status.
        launch_id: run id of the launch.
        said: the criteria that its config asks to be read by.
        looks: of an adaptive study, so far.
        of: network and dataset, as links name them, where the study has several; else empty.
        key: what names its contents: judgements of equal keys are made once. Empty: they are not
            kept.
    """

    name: str
    launch: str
    plan: pl.DataFrame
    runs: pl.DataFrame
    launch_id: str = ""
    said: Mapping[str, float | str] = field(default_factory=dict)
    looks: tuple[LookThen, ...] = ()
    of: str = ""
    key: tuple[object, ...] = ()

    @property
    def view(self) -> dict[str, str]:
        """How links name it."""
        view = {"study": self.name, "launch": self.launch_id}
        return {**view, "of": self.of} if self.of else view

    @property
    def pending(self) -> pl.DataFrame:
        """Planned runs that may yet finish, by the names that the runs' datasets have."""
        waiting = pending(self.plan, self.runs)
        told_apart = self.runs.select(
            dataset_name=Param.DATASET,
            dataset=pl.col(Param.DATASET).str.replace(IMAGES_TOLD_APART, ""),
        ).unique()
        return (
            waiting.join(told_apart, on=Param.DATASET, how="left")
            .with_columns(pl.coalesce("dataset_name", Param.DATASET).alias(Param.DATASET))
            .drop("dataset_name")
        )

    @property
    def decided(self) -> dict[tuple[str, float], tuple[int, float]]:
        """Of tickets, by pruner and sparsity, that a look has decided: that look, and its share."""
        shares = {look.number: look.share for look in self.looks}
        judged = [look.tickets for look in self.looks if look.tickets][-1:]
        return {
            (ticket.pruner, ticket.sparsity): (ticket.look, shares[ticket.look])
            for tickets in judged
            for ticket in tickets
            if ticket.standing is Standing.DECIDED
        }

    def until(self, runs: pl.DataFrame, look: int) -> pl.DataFrame:
        """Those of its runs that had been asked for at a look."""
        asked = self.plan.filter(pl.col("look") <= look)["run_key"]
        return runs.filter(pl.col(Tag.RUN_KEY).is_in(asked.implode()))

    def accuracies(
        self, which: Literal["last", "best"] = "last", *, any_rate: bool = False
    ) -> pl.DataFrame:
        """Runs as `jackpot.judge` wants them, by last or best epoch."""
        return accuracies(self.runs, which, any_rate=any_rate)

    def judged(
        self,
        criteria: Criteria,
        which: Literal["last", "best"],
        conditions: Sequence[Condition] = CONDITIONS,
    ) -> list[Judgement]:
        """Its judgements, by the reader's criteria and the study's own (`read_by`)."""
        read = self.read_by(criteria)
        conditions = with_beside(conditions, self.runs[Param.SETTING].drop_nulls(), read.ticket)
        if not self.key:
            return _judge(self, read, which, conditions)
        asked = (repr(read), which, tuple(condition.name for condition in conditions))
        return _judged(repr((self.key, asked)), self, read, which, conditions)

    def read_by(self, criteria: Criteria) -> Criteria:
        """The reader's criteria, with what the study says where the reader says nothing."""
        read = with_said(criteria, self.said)
        if self.looks:
            judged = [look for look in self.looks if look.tickets] or self.looks
            read = replace(read, share=judged[-1].share)
        if read.rate_by == "heldout" and self.runs["heldout_accuracy"].drop_nulls().is_empty():
            # It held none out: its rates are chosen on test images, and that is what pages say.
            read = replace(read, rate_by="test")
        return read


def _judge(
    study: Study,
    read: Criteria,
    which: Literal["last", "best"],
    conditions: Sequence[Condition],
) -> list[Judgement]:
    runs = study.accuracies(which, any_rate=read.any_rate)
    judged = judge(runs, read, study.pending, conditions)
    decided = study.decided
    if not decided:
        return judged
    # A verdict that a look has decided stands, with the trials and at the level of that look.
    then = {
        number: _by_ticket(
            judge(study.until(runs, number), replace(read, share=share), None, conditions)
        )
        for number, share in {decided[key] for key in decided}
    }
    return [
        then[decided[key][0]].get(key, judgement) if key in decided else judgement
        for key, judgement in _by_ticket(judged).items()
    ]


def _by_ticket(judgements: Sequence[Judgement]) -> dict[tuple[str, float], Judgement]:
    return {(judgement.pruner, judgement.sparsity): judgement for judgement in judgements}


@st.cache_resource(max_entries=100, show_spinner=False)
def _judged(
    key: str,
    _study: Study,
    _read: Criteria,
    _which: Literal["last", "best"],
    _conditions: Sequence[Condition],
) -> list[Judgement]:
    """As `_judge`, once for each key: a large study takes half a second on every page."""
    return _judge(_study, _read, _which, _conditions)


def studies(found: Snapshot) -> list[Study]:
    """Every study in the store, by its newest launch."""
    newest = launches(found.runs).unique(Tag.STUDY, keep="first", maintain_order=True)
    known = []
    for launch in newest.iter_rows(named=True):
        try:
            planned = found.plan(launch["run_id"])
        except StoreUnavailable:
            planned = Planned()
        runs = of_plan(found.runs, planned.runs)
        # What could not be read may be there the next time.
        key = (found.id, found.version, launch["run_id"]) if planned.runs.height else ()
        known.append(
            Study(
                launch[Tag.STUDY],
                launch["name"],
                planned.runs,
                runs,
                launch["run_id"],
                planned.said,
                planned.looks,
                key=key,
            )
        )
    return known
