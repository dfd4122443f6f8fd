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
    least: float | None = None,
    **points: Any,
) -> list[alt.Chart]:
    """Bars from `low` to `high`, lines and points by `line`.

    Args:
        base: of data with `line low high`.
        legend: of the lines.
        x, y: of lines and points.
        tooltip: of points.
        alone: lines that are singled out; none: those that a click on the legend chooses.
        least: accuracy below which points have no bars: the axis may be cut above them.
        points: further encodings of points, such as their links.
    """
    chosen, fade = appearance.lit(alone)
    barred = base if least is None else base.transform_filter(alt.datum.accuracy >= least)
    spread = barred.mark_rule(strokeWidth=1.2, clip=True).encode(
        x=x, y=alt.Y("low:Q"), y2="high:Q", color=legend.colour(), opacity=fade
    )
    line = base.mark_line(strokeWidth=2, clip=True).encode(
        x=x, y=y, color=legend.colour(), strokeDash=legend.dash(), opacity=fade
    )
    dots = base.mark_point(size=62, strokeWidth=1.6, clip=True).encode(
        x=x, y=y, opacity=fade, tooltip=list(tooltip), **legend.points(), **points
    )
    return [spread, line, dots.add_params(chosen)]


def layered(layers: Sequence[alt.Chart], width: int = 440, height: int = 360) -> appearance.Layers:
    """Layers over each other, in the size of a panel on a page."""
    return (
        alt.layer(*layers)
        # Published marks have colours of their own, and Vega-Lite would take lines' having no
        # legend for points' having none.
        .resolve_scale(color="independent")
        .resolve_legend(color="independent", strokeDash="independent")
        .properties(width=width, height=height)
    )


def lower_end(y: alt.Y) -> float | None:
    """Where an axis begins; None where each panel's has an end of its own."""
    domain = y["scale"]["domain"]
    return float(domain[0]) if isinstance(domain, list) else None


def accuracy(of: pl.DataFrame, *, is_shared: bool = True, is_cut: bool = False) -> alt.Y:
    """The axis of accuracies in percent; the same for all panels of a figure, if it is shared.

    Args:
        of: data of all panels, with `panel line accuracy low high`.
        is_shared: whether panels share it.
        is_cut: whether a shared one leaves out networks that a learning rate has destroyed, which
            would press all others together. Its title says so.
    """
    title = "accuracy (%)"
    if not is_shared:
        return alt.Y("accuracy:Q", title=title, scale=alt.Scale(zero=False))
    kept = of.with_columns(pl.col("low", "high").clip(0.0, 100.0))
    if is_cut and of["accuracy"].count():
        kept = _trained(kept)
    if kept.height < of.height:
        title += ", cut below"
        # Bars and published accuracies do not undo it.
        least = pl.col("accuracy").min()
        kept = kept.with_columns(pl.col("low").clip(least)).filter(pl.col("high") >= least)
    return alt.Y("accuracy:Q", title=title, scale=appearance.shared(kept, "low", "high"))


def _trained(of: pl.DataFrame) -> pl.DataFrame:
    """Without networks that a learning rate has destroyed.

    These are less than half as accurate as the best, or their trials are that far apart, and they
    are outliers: below Tukey's outer fence. A line that is so at every rate is no matter of rates,
    and stays.
    """
    accuracy = pl.col("accuracy")
    first, third = (accuracy.quantile(q, "linear") for q in (0.25, 0.75))
    half = accuracy.max() / 2
    lost = (accuracy < half) | (pl.col("high") - pl.col("low") > half)
    low = lost & (accuracy < first - 3 * (third - first))
    # Published ones have no accuracy of ours.
    marked = of.with_columns(low.fill_null(False).alias("destroyed"))
    everywhere = pl.col("destroyed").all().over("line", "sparsity")
    return marked.filter(~pl.col("destroyed") | everywhere).drop("destroyed")


def sparsity(of: pl.DataFrame) -> alt.X:
    """The axis of sparsities, with a tick at each."""
    depths = of.filter(pl.col("sparsity") > 0)["sparsity"].unique().sort().to_list()
    return alt.X(
        "sparsity:Q",
        title="sparsity",
        scale=alt.Scale(zero=False, padding=10),
        axis=alt.Axis(values=depths, format=".3~f", labelOverlap="greedy"),
    )


def faceted(one: appearance.Layers) -> alt.FacetChart:
    """A panel for each value of `panel`; how many stand in a row, page and print decide.

    Args:
        one: drawn from the data of all panels.
    """
    # An axis below the last row would be drawn where a panel is missing there, too.
    return one.facet(alt.Facet("panel:N", title=None, sort=None), columns=2).resolve_axis(
        x="independent"
    )
