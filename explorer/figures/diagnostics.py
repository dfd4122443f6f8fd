"""Figures of a ticket: densities by layer beside other pruners', and lines to other networks."""

from collections.abc import Mapping

import altair as alt
import polars as pl

# Named, so that a page's theme and a file for print have the same.
_COLOURS = alt.Scale(scheme="dark2")


def densities(table: pl.DataFrame) -> alt.Chart:
    """Density by layer, a line for each mask.

    Args:
        table: `layer mask density`, layers in the network's order.
    """
    layers = table["layer"].unique(maintain_order=True).to_list()
    names = table["mask"].unique(maintain_order=True).to_list()
    return (
        alt.Chart(table)
        .mark_line(point=True)
        .encode(
            x=alt.X("layer:N", sort=layers, title=None, axis=alt.Axis(labelAngle=-40)),
            y=alt.Y("density:Q", title="density", axis=alt.Axis(format="%")),
            color=alt.Color("mask:N", title=None, sort=names, scale=_COLOURS),
            strokeDash=alt.StrokeDash("mask:N", title=None, sort=names),
            tooltip=["mask", "layer", alt.Tooltip("density:Q", format=".2%")],
        )
        .properties(height=240)
    )


def lines(found: Mapping[str, pl.DataFrame]) -> alt.Chart:
    """Test error on the lines to other networks.

    Args:
        found: `alpha error` by the name of the other end.
    """
    table = pl.concat(
        points.with_columns(pl.lit(name).alias("to")) for name, points in found.items()
    )
    percent, at = alt.Axis(format="%"), alt.Tooltip("alpha:Q", format=".2f")
    return (
        alt.Chart(table)
        .mark_line(point=True)
        .encode(
            x=alt.X("alpha:Q", title="share of the way (α)"),
            y=alt.Y("error:Q", title="test error", axis=percent, scale=alt.Scale(zero=False)),
            color=alt.Color(
                "to:N",
                title="to",
                scale=_COLOURS,
                legend=alt.Legend(orient="top", labelLimit=300),
            ),
            strokeDash=alt.StrokeDash("to:N", title="to"),
            tooltip=["to", at, alt.Tooltip("error:Q", format=".2%")],
        )
        .properties(height=240)
    )
