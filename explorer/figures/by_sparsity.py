"""Figures 1 and A.1: accuracy against sparsity, a panel for each learning rate."""

import altair as alt
import polars as pl

from explorer.figures import appearance
from explorer.figures.points import points


def chart(runs: pl.DataFrame, columns: int = 3, width: int = 260) -> alt.FacetChart:
    """Figures 1 and A.1: one panel per learning rate; the dense network is the line at its height.

    Args:
        runs: runs of one network and dataset, as in `jackpot.means`.
        columns: panels in a row.
        width: of one panel, in pixels.
    """
    data = points(runs).with_columns(
        pl.format("learning rate {}", pl.col("learning_rate")).alias("panel")
    )
    legend = appearance.legend(data)
    colour = legend.colour()
    chosen = alt.selection_point(fields=["line"], bind="legend")
    fade = alt.condition(chosen, alt.value(1.0), alt.value(0.12))
    y = alt.Y("accuracy:Q", title="accuracy (%)", scale=alt.Scale(zero=False))
    base = alt.Chart(data)
    dense = (
        base.transform_filter("datum.sparsity == 0")
        .mark_rule(strokeDash=[4, 3])
        .encode(y=y, color=colour)
    )
    sparse = base.transform_filter("datum.sparsity > 0").encode(
        x=alt.X("sparsity:Q", title="sparsity", scale=alt.Scale(zero=False)),
        color=colour,
        opacity=fade,
    )
    spread = sparse.mark_rule().encode(y="low:Q", y2="high:Q")
    line = sparse.mark_line(point=True).encode(
        y=y,
        strokeDash=legend.dash(),
        tooltip=[
            alt.Tooltip("line:N", title="setting"),
            alt.Tooltip("sparsity:Q", format=".5~r"),
            alt.Tooltip("accuracy:Q", title="accuracy, mean (%)", format=".2f"),
            alt.Tooltip("trials:Q", title="trials"),
        ],
        **appearance.links(data),
    )
    return (
        alt.layer(dense, spread, line)
        .add_params(chosen)
        .properties(width=width, height=240)
        .facet(alt.Facet("panel:N", title=None, sort=None), columns=columns)
        .configure_view(strokeOpacity=0.25)
    )
