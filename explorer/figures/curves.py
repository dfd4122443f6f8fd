"""Lines with points and bars, by setting and pruner: what most figures are made of."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from explorer.figures import appearance


def curves(
    base: alt.Chart,
    legend: appearance.Legend,
    x: alt.X,
    y: alt.Y,
    tooltip: Sequence[Any],
    alone: Sequence[str] = (),
    **points: Any,
) -> list[alt.Chart]:
    """Bars from `low` to `high`, lines and points by `line`.

    Args:
        base: of data with `line low high`.
        legend: of the lines.
        x, y: of lines and points.
        tooltip: of points.
        alone: lines that are singled out; none: those that a click on the legend chooses.
        points: further encodings of points, such as their links.
    """
    chosen, fade = appearance.lit(alone)
    spread = base.mark_rule(strokeWidth=1.2).encode(
        x=x, y=alt.Y("low:Q"), y2="high:Q", color=legend.colour(), opacity=fade
    )
    line = base.mark_line(strokeWidth=2).encode(
        x=x, y=y, color=legend.colour(), strokeDash=legend.dash(), opacity=fade
    )
    dots = base.mark_point(size=62, strokeWidth=1.6).encode(
        x=x, y=y, opacity=fade, tooltip=list(tooltip), **legend.points(), **points
    )
    return [spread, line, dots.add_params(chosen)]


def layered(layers: Sequence[alt.Chart], width: int = 440, height: int = 360) -> appearance.Layers:
    """Layers over each other, in the size of a panel on a page."""
    return (
        alt.layer(*layers)
        # Boxes have colours of their own, and Vega-Lite would take lines' having no legend for
        # points' having none.
        .resolve_scale(color="independent")
        .resolve_legend(color="independent", strokeDash="independent")
        .properties(width=width, height=height)
    )


def accuracy(of: pl.DataFrame, *, is_shared: bool = True) -> alt.Y:
    """The axis of accuracies in percent; the same for all panels of a figure, if it is shared."""
    scale = appearance.shared(of, "low", "high") if is_shared else alt.Scale(zero=False)
    return alt.Y("accuracy:Q", title="accuracy (%)", scale=scale)


def sparsity(of: pl.DataFrame) -> alt.X:
    """The axis of sparsities, with a tick at each."""
    depths = of.filter(pl.col("sparsity") > 0)["sparsity"].unique().sort().to_list()
    return alt.X(
        "sparsity:Q",
        title="sparsity",
        scale=alt.Scale(zero=False),
        axis=alt.Axis(values=depths, format=".3~f", labelOverlap="greedy"),
    )


def faceted(one: appearance.Layers) -> alt.FacetChart:
    """A panel for each value of `panel`; how many stand in a row, page and print decide.

    Args:
        one: drawn from the data of all panels.
    """
    return one.facet(alt.Facet("panel:N", title=None, sort=None), columns=2)
