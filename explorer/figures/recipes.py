"""Figure 1: accuracy against sparsity under several recipes, or at several learning rates."""

import altair as alt
import polars as pl

from explorer.figures import appearance, by_sparsity, curves

_DASHES = [
    *([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [1, 3], [10, 4]),
    *([10, 3, 2, 3, 2, 3], [4, 2, 1, 2], [14, 3]),
]


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
            orient="top",
            symbolType="stroke",
            symbolStrokeColor=appearance.NEUTRAL,
            symbolSize=300,
            columns=5 if max(map(len, names), default=0) < 8 else 2,
            labelLimit=180,
        ),
    )
    y = curves.accuracy(whole, is_cut=True)
    base = alt.Chart(data)
    dense = (
        base.transform_filter("datum.sparsity == 0")
        .mark_rule(strokeWidth=1.6, clip=True)
        .encode(y=y, color=legend.colour(), strokeDash=dash)
    )
    sparse = base.transform_filter("datum.sparsity > 0").encode(detail=f"{by}:N")
    spread, line, dots = curves.curves(
        sparse,
        legend,
        curves.sparsity(whole),
        y,
        [*by_sparsity.TOOLTIP, alt.Tooltip(f"{by}:N")],
        (),
        curves.lower_end(y),
        **appearance.links(data),
    )
    layers = [dense, spread, line.encode(strokeDash=dash), dots]
    return curves.layered(layers).resolve_legend(strokeDash="shared")


def chart(of: dict[str, appearance.Layers]) -> alt.HConcatChart:
    """All panels, for print.

    Args:
        of: by their titles.
    """
    titled = [one.properties(title=title) for title, one in of.items()]
    return alt.hconcat(*titled).resolve_scale(strokeDash="independent")
