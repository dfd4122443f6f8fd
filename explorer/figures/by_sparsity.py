"""Figures 1 and A.1: accuracy against sparsity, a panel for each learning rate."""

from collections.abc import Sequence

import altair as alt
import polars as pl

from explorer.figures import appearance, curves
from explorer.figures.points import points

TOOLTIP = (
    alt.Tooltip("line:N", title="setting"),
    alt.Tooltip("sparsity:Q", format=".5~r"),
    alt.Tooltip("accuracy:Q", title="accuracy, mean (%)", format=".2f"),
    alt.Tooltip("trials:Q", title="trials"),
)


def panels(runs: pl.DataFrame) -> pl.DataFrame:
    """The points of each panel: as `points`, and `panel`.

    Args:
        runs: runs of one network and dataset, as in `jackpot.means`.
    """
    return (
        points(runs)
        .with_columns(
            pl.format(
                "learning rate {}", pl.col("learning_rate").map_elements("{:g}".format, pl.String)
            ).alias("panel")
        )
        .sort("learning_rate", maintain_order=True)
    )


def panel(
    data: pl.DataFrame, of: pl.DataFrame | None = None, alone: Sequence[str] = ()
) -> appearance.Layers:
    """Lines per setting and pruner over sparsity; the dense network is the line at its height.

    Args:
        data: from `panels`.
        of: all panels of the figure, whose axes this one has, its legend being elsewhere; None:
            it stands alone.
        alone: lines that are singled out; none: all are alike.
    """
    own = of is None
    of = data if of is None else of
    legend, y = appearance.legend(of), curves.accuracy(of)
    base = alt.Chart(data)
    _, fade = appearance.lit(alone)
    dense = (
        base.transform_filter("datum.sparsity == 0")
        .mark_rule(strokeDash=[4, 3], strokeWidth=1.6)
        .encode(y=y, color=legend.colour(), opacity=fade)
    )
    lines = curves.curves(
        base.transform_filter("datum.sparsity > 0"),
        legend,
        curves.sparsity(of),
        y,
        TOOLTIP,
        alone,
        own,
        **appearance.links(data),
    )
    return curves.layered([dense, *lines], width=400, height=320)


def chart(data: pl.DataFrame, alone: Sequence[str] = (), columns: int = 3) -> alt.FacetChart:
    """All panels, for print.

    Args:
        data: from `panels`.
        alone: lines that are singled out; none: all are alike.
        columns: panels in a row.
    """
    return curves.faceted(panel(data, alone=alone), columns)
