"""Figure 1: accuracy against sparsity under several recipes, or at several learning rates."""

import altair as alt
import polars as pl

from explorer.figures import appearance

_HEIGHT, _WIDTH = 340, 420
_DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [1, 3], [10, 4]]


def panel(data: pl.DataFrame, by: str, of: pl.DataFrame | None = None) -> appearance.Layers:
    """Lines by setting in colour and shape, and by something else in dashes.

    Args:
        data: `line setting method sparsity accuracy low high trials panel` and `by`; as
            `explorer.figures.points.points` has them. The dense network's sparsity is 0.
        by: column that dashes tell apart, as text: learning rates, or studies.
        of: all panels of the figure, whose axes this one has; None: of `data`.
    """
    whole = data if of is None else of
    legend = appearance.legend(whole)
    names = data[by].unique(maintain_order=True).to_list()
    dash = alt.StrokeDash(
        f"{by}:N",
        title=None,
        scale=alt.Scale(
            domain=names, range=[_DASHES[i % len(_DASHES)] for i, _ in enumerate(names)]
        ),
        legend=alt.Legend(
            orient="top", symbolType="stroke", symbolStrokeColor=appearance.NEUTRAL, symbolSize=300
        ),
    )
    depths = whole.filter(pl.col("sparsity") > 0)["sparsity"].unique().sort().to_list()
    scale = appearance.shared(whole, "low", "high")
    y = alt.Y("accuracy:Q", title="accuracy (%)", scale=scale)
    base = alt.Chart(data)
    dense = (
        base.transform_filter("datum.sparsity == 0")
        .mark_rule(strokeWidth=1.6)
        .encode(y=y, color=legend.colour(), strokeDash=dash)
    )
    sparse = base.transform_filter("datum.sparsity > 0").encode(
        x=alt.X(
            "sparsity:Q",
            title="sparsity",
            scale=alt.Scale(zero=False),
            axis=alt.Axis(values=depths, format=".3~f", labelOverlap="greedy"),
        ),
        detail=f"{by}:N",
    )
    spread = sparse.mark_rule().encode(y="low:Q", y2="high:Q", color=legend.colour())
    line = sparse.mark_line(strokeWidth=2).encode(y=y, color=legend.colour(), strokeDash=dash)
    dots = sparse.mark_point(size=50, strokeWidth=1.6).encode(
        y=y,
        **legend.points(),
        tooltip=[
            alt.Tooltip("line:N", title="setting"),
            alt.Tooltip(f"{by}:N"),
            alt.Tooltip("sparsity:Q", format=".5~r"),
            alt.Tooltip("accuracy:Q", title="accuracy, mean (%)", format=".2f"),
            alt.Tooltip("trials:Q", title="trials"),
        ],
        **appearance.links(data),
    )
    return (
        alt.layer(dense, spread, line, dots)
        # Else Vega-Lite takes lines' having no legend for points' having none.
        .resolve_legend(color="independent")
        .properties(width=_WIDTH, height=_HEIGHT)
    )


def chart(of: dict[str, appearance.Layers]) -> alt.HConcatChart:
    """All panels, for print.

    Args:
        of: by their titles.
    """
    titled = [one.properties(title=title) for title, one in of.items()]
    return alt.hconcat(*titled).resolve_scale(strokeDash="independent")
