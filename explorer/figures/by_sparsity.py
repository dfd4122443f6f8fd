"""Figures 1 and A.1: accuracy against sparsity, a panel for each learning rate."""

from collections.abc import Sequence

import altair as alt
import polars as pl

from explorer.figures import appearance
from explorer.figures.points import points

_HEIGHT, _WIDTH = 320, 400


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
    legend = appearance.legend(of)
    colour = legend.colour()
    chosen, fade = appearance.lit(alone)
    y = alt.Y("accuracy:Q", title="accuracy (%)", scale=appearance.shared(of, "low", "high"))
    depths = of.filter(pl.col("sparsity") > 0)["sparsity"].unique().sort().to_list()
    base = alt.Chart(data)
    dense = (
        base.transform_filter("datum.sparsity == 0")
        .mark_rule(strokeDash=[4, 3], strokeWidth=1.6)
        .encode(y=y, color=colour, opacity=fade)
    )
    sparse = base.transform_filter("datum.sparsity > 0").encode(
        x=alt.X(
            "sparsity:Q",
            title="sparsity",
            scale=alt.Scale(zero=False),
            axis=alt.Axis(values=depths, format=".3~f", labelOverlap="greedy"),
        ),
        opacity=fade,
    )
    spread = sparse.mark_rule().encode(y="low:Q", y2="high:Q", color=colour)
    line = sparse.mark_line(strokeWidth=2).encode(y=y, color=colour, strokeDash=legend.dash())
    dots = sparse.mark_point(size=50, strokeWidth=1.6).encode(
        y=y,
        **legend.points(shown=own),
        tooltip=[
            alt.Tooltip("line:N", title="setting"),
            alt.Tooltip("sparsity:Q", format=".5~r"),
            alt.Tooltip("accuracy:Q", title="accuracy, mean (%)", format=".2f"),
            alt.Tooltip("trials:Q", title="trials"),
        ],
        **appearance.links(data),
    )
    return (
        alt.layer(dense, spread, line, dots.add_params(chosen))
        # Else Vega-Lite takes lines' having no legend for points' having none.
        .resolve_legend(color="independent", strokeDash="independent")
        .properties(width=_WIDTH, height=_HEIGHT)
    )


def chart(data: pl.DataFrame, columns: int = 3) -> alt.FacetChart:
    """All panels, for print.

    Args:
        data: from `panels`.
        columns: panels in a row.
    """
    return panel(data).facet(alt.Facet("panel:N", title=None, sort=None), columns=columns)
