"""Figure 6: correlation between initial and trained weights, against learning rate."""

import altair as alt
import polars as pl

from explorer.figures import appearance, curves
from jackpot import settings


def legend(table: pl.DataFrame) -> appearance.Legend:
    """The legend of pairs, which look as their settings do.

    Args:
        table: with `pair` and `setting`.
    """
    pairs = table.select("pair", "setting").unique(maintain_order=True).rows()
    names = [setting for _, setting in pairs]
    colours, shapes = settings.colours(names), settings.shapes(names)
    return appearance.Legend(
        lines=[pair for pair, _ in pairs],
        colours=[colours[name] for name in names],
        dashes=[[1, 0]] * len(pairs),
        shapes=[shapes[name] for name in names],
        fills=[1.0] * len(pairs),
    )


def panel(table: pl.DataFrame, p: float) -> appearance.Layers:
    """R_p against the learning rate, one line per pair; the dashed line is chance.

    Args:
        table: `pair setting learning_rate correlation low high trials`.
        p: share of the largest weights.
    """
    base = alt.Chart(table.with_columns(pl.col("pair").alias("line"), pl.lit(p).alias("chance")))
    title = f"correlation R, p = {p:g}"
    scale = appearance.shared(table.with_columns(zero=0.0), "low", "high", "zero")
    y = alt.Y("correlation:Q", title=title, scale=scale)
    chance = base.mark_rule(strokeDash=[4, 3], color=appearance.NEUTRAL).encode(
        y=alt.Y("mean(chance):Q", title=title)
    )
    tooltip = [
        "pair:N",
        alt.Tooltip("learning_rate:Q", title="learning rate", format="~g"),
        alt.Tooltip("correlation:Q", format=".3f"),
        "trials:Q",
    ]
    x = appearance.learning_rate_axis(table)
    return curves.layered([chance, *curves.curves(base, legend(table), x, y, tooltip)])


def chart(table: pl.DataFrame, p: float) -> alt.FacetChart:
    """A panel for each `panel` of the table, for print."""
    return curves.faceted(panel(table, p))
