"""Figure 6: correlation between initial and trained weights, against learning rate."""

from collections.abc import Sequence

import altair as alt
import polars as pl

from explorer.figures import appearance
from jackpot import settings

_HEIGHT, _WIDTH = 360, 420


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
        filled=[True] * len(pairs),
    )


def panel(
    table: pl.DataFrame, p: float, of: pl.DataFrame | None = None, alone: Sequence[str] = ()
) -> appearance.Layers:
    """R_p against the learning rate, one line per pair; the dashed line is chance.

    Args:
        table: `pair setting learning_rate correlation low high trials`.
        p: share of the largest weights.
        of: all panels of the figure, whose axes this one has, its legend being elsewhere; None:
            it stands alone.
        alone: pairs that are singled out; none: all are alike.
    """
    own = of is None
    of = table if of is None else of
    look = legend(of)
    chosen, fade = appearance.lit(alone)
    base = alt.Chart(table.with_columns(pl.col("pair").alias("line"), pl.lit(p).alias("chance")))
    x = appearance.learning_rate_axis(of)
    scale = appearance.shared(of.with_columns(zero=0.0), "low", "high", "zero")
    y = alt.Y("correlation:Q", title=f"correlation R, p = {p:g}", scale=scale)
    chance = base.mark_rule(strokeDash=[4, 3], color=appearance.NEUTRAL).encode(
        y=alt.Y("mean(chance):Q", title=f"correlation R, p = {p:g}")
    )
    spread = base.mark_rule().encode(x=x, y="low:Q", y2="high:Q", color=look.colour(), opacity=fade)
    line = base.mark_line(strokeWidth=2).encode(x=x, y=y, color=look.colour(), opacity=fade)
    dots = base.mark_point(size=62, strokeWidth=1.6).encode(
        x=x,
        y=y,
        opacity=fade,
        **look.points(shown=own),
        tooltip=[
            "pair:N",
            alt.Tooltip("learning_rate:Q", title="learning rate", format="~g"),
            alt.Tooltip("correlation:Q", format=".3f"),
            "trials:Q",
        ],
    )
    return (
        alt.layer(chance, spread, line, dots.add_params(chosen))
        # Else Vega-Lite takes lines' having no legend for points' having none.
        .resolve_legend(color="independent")
        .properties(width=_WIDTH, height=_HEIGHT)
    )


def chart(table: pl.DataFrame, p: float) -> alt.FacetChart:
    """A panel for each `panel` of the table, for print."""
    return panel(table, p).facet(alt.Facet("panel:N", title=None, sort=None), columns=2)
