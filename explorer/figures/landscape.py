"""Figures 4 and 5: the loss around a run's final weights, runs side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from explorer.figures import appearance
from explorer.landscape import Landscape, contours, path

_GOLD, _RED = "#d4a20a", "#d62728"


def panels(
    found: Mapping[str, Landscape], levels: Sequence[float], basin: float, width: int = 280
) -> dict[str, appearance.Layers]:
    """Contours of the loss, the basin and the path of training, by the names of the runs.

    Args:
        found: landscapes by the names of their runs.
        levels: of the contours, shared.
        basin: loss up to which the plane is filled.
        width: of one panel, in pixels.
    """
    corners = [
        (axis.min(), axis.max()) for found_ in found.values() for axis in (found_.a, found_.b)
    ]
    # One length of scale for all panels and both axes: sizes compare by eye.
    across = max(high - low for low, high in corners)
    return {
        name: _landscape(name, one, levels, basin, across, width) for name, one in found.items()
    }


def chart(of: Mapping[str, appearance.Layers]) -> alt.HConcatChart:
    """All panels side by side, for print."""
    return alt.hconcat(*of.values()).resolve_scale(color="shared")


def _landscape(
    name: str, one: Landscape, levels: Sequence[float], basin: float, across: float, width: int
) -> appearance.Layers:
    def axis(field: str, grid: np.ndarray, share: float | None) -> dict[str, Any]:
        middle = float(grid.min() + grid.max()) / 2
        explained = "" if share is None else f" ({share:.0%} of the variance)"
        return {
            "title": f"direction {field}{explained}",
            "scale": alt.Scale(domain=[middle - across / 2, middle + across / 2], nice=False),
        }

    shares = one.explained or (None, None)
    along_a, along_b = axis("a", one.a, shares[0]), axis("b", one.b, shares[1])
    x, y = alt.X("a:Q", **along_a), alt.Y("b:Q", **along_b)
    step = [float(np.diff(grid).mean()) / 2 for grid in (one.a, one.b)]
    cells = pl.DataFrame(
        {
            "a": np.tile(one.a, len(one.b)),
            "b": np.repeat(one.b, len(one.a)),
            "loss": one.loss.ravel(),
            "accuracy": 100 * one.accuracy.ravel(),
        }
    ).with_columns(
        **{
            f"{field}{i}": pl.col(field) + sign * half
            for field, half in zip("ab", step, strict=True)
            for i, sign in ((1, -1), (2, 1))
        }
    )
    inside = (
        alt.Chart(cells)
        .mark_rect(clip=True)
        .encode(
            alt.X("a1:Q", **along_a),
            alt.Y("b1:Q", **along_b),
            x2="a2:Q",
            y2="b2:Q",
            color=alt.value(_GOLD),
            opacity=alt.condition(f"datum.loss <= {basin}", alt.value(0.35), alt.value(0)),
            tooltip=[
                alt.Tooltip("loss:Q", format=".4g"),
                alt.Tooltip("accuracy:Q", title="accuracy (%)", format=".1f"),
            ],
        )
    )
    lines = (
        alt.Chart(contours(one, levels))
        .mark_line(strokeWidth=1.4, clip=True)
        .encode(
            x,
            y,
            detail="line:N",
            order="order:Q",
            color=alt.Color(
                "level:Q",
                title="loss",
                scale=alt.Scale(type="log", scheme="viridis", domain=[min(levels), max(levels)]),
                legend=alt.Legend(orient="bottom", format="~g"),
            ),
        )
    )
    edge = (
        alt.Chart(contours(one, [basin]))
        .mark_line(strokeWidth=2.2, clip=True, color=_GOLD)
        .encode(x, y, detail="line:N", order="order:Q")
    )
    way = alt.Chart(path(one)).encode(x, y, tooltip=["epoch:Q"])
    return alt.layer(
        inside,
        lines,
        edge,
        way.mark_line(color=_RED, strokeWidth=2).encode(order="epoch:Q"),
        way.mark_point(color=_RED, filled=True, size=42, opacity=1),
    ).properties(width=width, height=width, title=name)
