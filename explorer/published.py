"""The switch that lays published accuracies over a figure, and their table."""

import polars as pl
import streamlit as st

from explorer import show
from explorer.figures import appearance
from explorer.figures.published import overlaid
from jackpot import literature


def asked(data: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """A figure's points, with published ones if the reader asks for them and there are any.

    Args:
        data: with `panel`.
        runs: that the figure is of.
    """
    beside = literature.beside(runs)
    if beside.is_empty():
        return data
    wanted = st.toggle(
        "Published accuracies",
        key="published",
        bind="query-params",
        help=f"Of {', '.join(beside['source'].unique(maintain_order=True))}.",
    )
    return overlaid(data, beside) if wanted else data


def table(data: pl.DataFrame, runs: pl.DataFrame, name: str) -> None:
    """Published accuracies beside one's own, if they are drawn."""
    if "published" not in data.columns:
        return
    st.caption(
        "Saltires are published accuracies: green where the study's own mean agrees (Welch's test "
        "at 5 %), red where it does not, grey where the recipes differ or a spread is not known."
    )
    found = appearance.named(literature.beside(runs)).select(
        *("line", "sparsity", "learning_rate"),
        (100 * pl.col("accuracy")).alias("published (%)"),
        (100 * pl.col("own")).round(2).alias("own (%)"),
        *("says", "why", "source", "epochs", "batch_size", "trials"),
    )
    with st.expander("Published accuracies"):
        show.table(found, f"{name}-published")
