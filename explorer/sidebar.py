"""What every page asks for in the sidebar: the study, MLflow's address, how to judge."""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Literal, TypeVar

import polars as pl
import streamlit as st

from explorer import asked
from explorer.readers import NoStore, StoreUnavailable
from explorer.readers.frames import launches, of_plan
from explorer.snapshot import REFRESH_S, Snapshot, Study, snapshot
from jackpot import Criteria, settings, stores, wording
from jackpot.conditions import CLEAR_GAP, DECENT, NON_TRIVIAL_SPARSITY, Condition, with_own
from jackpot.contract import Param, Tag

T = TypeVar("T", bound=str)
_Reading = Literal["literal", "joint"]
_Epoch = Literal["last", "best"]
_Images = Literal["test", "heldout"]
_READINGS: dict[_Reading, str] = {"literal": "literal", "joint": "joint"}
_EPOCHS: dict[_Epoch, str] = {"last": "last", "best": "best"}
_IMAGES: dict[_Images, str] = {"test": "test images (paper)", "heldout": "held-out images"}
_FEW = {
    "reading": "Reading",
    "ticket": "Ticket",
    "epoch": "Accuracy of the epoch",
    "rate_by": "Best learning rate by accuracy on",
}
_OF_THE_STUDY = "the study's"
_IN_POINTS = ("tolerance", "gap", "floor")
# Of each number: label, least, most, step, what stands if the reader names none, help.
_NUMBERS: dict[str, tuple[str, float, float, float, str, str | None]] = {
    "tolerance": (
        "Similar: within (points)",
        *(0.0, 20.0, 0.1),
        "the study's, or the paper's",
        "The paper: 0.5 on CIFAR-10, 1 on CIFAR-100 and Tiny-ImageNet, 1.5 on ImageNet-1K.",
    ),
    "gap": (
        "Clear gap: over (points)",
        *(0.0, 20.0, 0.1),
        f"the study's, or {100 * CLEAR_GAP:g}",
        None,
    ),
    "sparsity": (
        "Non-trivial sparsity",
        *(0.0, 1.0, 0.01),
        f"the study's, or {NON_TRIVIAL_SPARSITY:g}",
        None,
    ),
    "epochs": (
        "Sufficient epochs",
        *(1, 1_000_000, 1),
        "the study's, or the paper's",
        "The paper's recipe for the dataset: 160, on ImageNet-1K 90.",
    ),
    "floor": (
        "Decent rate: dense within (points)",
        *(0.0, 100.0, 1.0),
        f"the study's, or {100 * DECENT:g}",
        "Condition 4 counts at rates at which the dense network is that near to its best.",
    ),
}

# All of them, as addresses name them.
_CRITERIA = (*_NUMBERS, *_FEW, "any_rate")


def opened() -> Snapshot:
    """The current snapshot, refreshed; stops the page with a friendly message if that fails."""
    found = snapshot(stores.tracking_uri())
    try:
        found.refresh()
    except StoreUnavailable as reason:
        if found.version == 0:
            if isinstance(reason, NoStore):
                st.info(
                    "There is no tracking store here yet. Train a study first (`make demo`), or "
                    "set MLFLOW_TRACKING_URI to the store that has one and start the explorer "
                    "again."
                )
            else:
                st.error(
                    "The tracking store cannot be read. If MLFLOW_TRACKING_URI names another one "
                    "than you mean, set it and start the explorer again."
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


@st.fragment(run_every=REFRESH_S)
def age(drawn: int) -> None:
    """How old a page is; it is drawn again as soon as the store has something new.

    Args:
        drawn: the version of the store that the page shows.
    """
    known = refreshed()
    if known.version != drawn:
        st.rerun()
    ago = max(time.time() - known.read_at, 0)
    st.caption(f"The store was read {wording.duration(ago)} ago. This page refreshes by itself.")


def refreshed() -> Snapshot:
    """The current snapshot, refreshed if the store answers."""
    found = snapshot(stores.tracking_uri())
    with suppress(StoreUnavailable):
        found.refresh()
    return found


def chosen() -> Study:
    """The study chosen in the sidebar (in the link as `study`), by its newest launch there."""
    found = opened()
    table = launches(found.runs)
    names = table[Tag.STUDY].unique(maintain_order=True).to_list()
    with st.sidebar:
        name = asked.one("Study", names, "study", names[0])
        of_study = table.filter(pl.col(Tag.STUDY) == name)
        labels = dict(zip(of_study["run_id"], _launch_labels(of_study), strict=True))
        launch_id = asked.one(
            "Launch", list(labels), "launch", of_study["run_id"][0], format_func=labels.__getitem__
        )
    try:
        planned = found.plan(launch_id)
    except StoreUnavailable as reason:
        st.info("The plan of this launch cannot be read, so its runs are not known.")
        st.text(str(reason))
        st.stop()
    plan = planned.runs
    runs = of_plan(found.runs, plan)
    key: tuple[object, ...] = (found.id, found.version, launch_id)
    several = runs.select(Param.NETWORK, Param.DATASET).drop_nulls().unique().sort(pl.all()).rows()
    name_of = ""
    if len(several) > 1:
        # Pages are about one of them: accuracies of two networks have no place in one figure.
        names = [f"{network} on {dataset}" for network, dataset in several]
        with st.sidebar:
            name_of = asked.one("Network and dataset", names, "of", names[0])
        of = several[names.index(name_of)]
        runs = runs.filter(pl.col(Param.NETWORK) == of[0], pl.col(Param.DATASET) == of[1])
        plan, key = plan.filter(pl.col(Param.NETWORK) == of[0]), (*key, *of)
    return Study(
        name, labels[launch_id], plan, runs, launch_id, planned.said, planned.looks, name_of, key
    )


def _launch_labels(launches_: pl.DataFrame) -> list[str]:
    """When each launch began: what its own name begins with is the study's."""
    return [
        f"{datetime.fromtimestamp(started / 1000):%Y-%m-%d %H:%M:%S}" if started else name
        for started, name in launches_.select("start_time", "name").rows()
    ]


def shown_uri() -> str:
    """The store's address without a password."""
    return stores.shown(stores.tracking_uri())


def mlflow_ui() -> str:
    """Address of MLflow's own UI, to which points and runs link; changed in the sidebar."""
    uri = stores.tracking_uri()
    default = uri if stores.is_server(uri) else "http://127.0.0.1:5000"
    with st.sidebar.expander("MLflow", expanded=False):
        address = st.text_input(
            "Address of MLflow's UI",
            default,
            key="mlflow",
            bind="query-params",
            help="Where points and runs link to. `python -m mlflow_server` serves it.",
        )
    if stores.is_server(address):
        return address
    st.sidebar.warning("The address must begin with http:// or https://")
    return default


def view(study: Study) -> dict[str, str]:
    """How links name a study and how the reader judges it."""
    named = {key: st.query_params[key] for key in _CRITERIA if key in st.query_params}
    return {**study.view, **named}


def criteria() -> tuple[Criteria, Literal["last", "best"]]:
    """How the definition is read, chosen in the sidebar and kept in the link."""
    tickets = {_OF_THE_STUDY: _OF_THE_STUDY} | {
        name: settings.label(name) for name, row in settings.SETTINGS.items() if row.is_ticket
    }
    shown: tuple[Mapping[Any, str], ...] = (_READINGS, tickets, _EPOCHS, _IMAGES)
    for (key, label), options in zip(_FEW.items(), shown, strict=True):
        # Not below, in what is folded.
        asked.check(label, list(options.values()), key)
    with st.sidebar.expander("Criteria", expanded=False):
        named = {
            name: st.number_input(
                label,
                low,
                high,
                None,
                step,
                key=name,
                bind="query-params",
                placeholder=placeholder,
                help=said,
            )
            for name, (label, low, high, step, placeholder, said) in _NUMBERS.items()
        }
        any_rate = st.toggle(
            "Masks of another rate",
            key="any_rate",
            bind="query-params",
            help="Whether subnetworks count that were trained at another learning rate than their "
            "masks were found at (Table 4). Section 4: any rate makes a ticket.",
        )
        reading: _Reading = _of_few(
            "reading",
            _READINGS,
            "literal: each condition may choose its own learning rate, as the paper's text "
            "has it. joint: one learning rate must meet conditions 3, 4 (and 5).",
        )
        ticket = _of_few(
            "ticket",
            tickets,
            "The study's is LT unless its config says otherwise. WR: weight rewinding "
            "(appendix B). LRR: learning-rate rewinding.",
        )
        which: _Epoch = _of_few("epoch", _EPOCHS)
        rate_by: _Images = _of_few(
            "rate_by",
            _IMAGES,
            "Held-out images count where a study sets dataset.validation_images. The "
            "accuracies compared are those on test images either way.",
        )
    chosen_: dict[str, Any] = {
        name: value / 100 if name in _IN_POINTS else value
        for name, value in named.items()
        if value is not None
    }
    if ticket != _OF_THE_STUDY:
        chosen_["ticket"] = ticket
    return (
        Criteria(
            **chosen_,
            reading=reading,
            rate_by=rate_by,
            any_rate=any_rate,
            stands=frozenset(chosen_),
        ),
        which,
    )


def _of_few(key: str, options: Mapping[T, str], said: str | None = None) -> T:
    """A choice of one of few, all shown; the address names it as it is shown."""
    return st.radio(
        _FEW[key],
        list(options),
        key=key,
        bind="query-params",
        horizontal=True,
        format_func=options.__getitem__,
        help=said,
        on_change=asked.forget,
        args=(key,),
    )


def conditions() -> tuple[Condition, ...]:
    """The conditions of the definition, and those of a user's own that JACKPOT_CONDITIONS names.

    Several names, each `package.module:name`, are separated by commas.
    """
    named = os.environ.get("JACKPOT_CONDITIONS", "")
    try:
        return with_own(name.strip() for name in named.split(",") if name.strip())
    except ValueError as error:
        st.error("JACKPOT_CONDITIONS names a condition that cannot be used.")
        st.text(str(error))
        st.stop()
