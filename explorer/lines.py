"""Which settings a figure shows, chosen by the reader."""

import polars as pl
import streamlit as st

from explorer import show
from jackpot import settings
from jackpot.conditions import CONDITIONS, Criteria, with_beside
from jackpot.definition import compared


def chosen(runs: pl.DataFrame, criteria: Criteria) -> list[str]:
    """The settings whose lines are drawn; at first those that are judged, and a user's own.

    Args:
        runs: of the study.
        criteria: say which setting is the ticket.
    """
    trained = settings.ordered(runs["setting"])
    judged = compared(criteria, with_beside(CONDITIONS, trained, criteria.ticket))
    # Other tickets, and controls that no condition compares, are shown when they are asked for.
    aside = {s.name for s in settings.SETTINGS.values() if s.is_ticket or s in settings.CONTROLS}
    found = st.pills(
        "Settings",
        trained,
        selection_mode="multi",
        default=[name for name in trained if name in judged or name not in aside],
        format_func=lambda name: show.plain(settings.label(name)),
        key="settings",
        bind="query-params",
    )
    return list(found) or [settings.PRETRAIN.name]
