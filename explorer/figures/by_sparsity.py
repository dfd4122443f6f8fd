"""Figures 1 and A.1: accuracy against sparsity, a panel for each learning rate."""

from collections.abc import Sequence

import altair as alt
import polars as pl

from explorer.figures import appearance, curves, published
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


def chart(data: pl.DataFrame, alone: Sequence[str] = ()) -> alt.FacetChart:
    """Lines per setting and pruner over sparsity; the dense network is the line at its height.

    Args:
        data: from `panels`, maybe `overlaid` with published accuracies.
        alone: lines that are singled out; none: all are alike.
    """
    legend, y = appearance.legend(data), curves.accuracy(data, is_cut=True)
    everything = alt.Chart(data)
    base = published.own(everything, data)
    _, fade = appearance.lit(alone)
    dense = (
        base.transform_filter("datum.sparsity == 0")
        .mark_rule(strokeDash=[4, 3], strokeWidth=1.6, clip=True)
        .encode(y=y, color=legend.colour(), opacity=fade)
    )
    x = curves.sparsity(data)
    lines = curves.curves(
        base.transform_filter("datum.sparsity > 0"),
        legend,
        x,
        y,
        TOOLTIP,
        alone,
        curves.lower_end(y),
        **appearance.links(data),
    )
    others = published.marks(everything.transform_filter("datum.sparsity > 0"), data, x)
    return curves.faceted(curves.layered([dense, *lines, *others], width=400, height=320))
