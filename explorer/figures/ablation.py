"""Table 4 as a chart: masks of one learning rate, trained at another."""

import altair as alt
import polars as pl

from explorer.figures import appearance


def chart(table: pl.DataFrame) -> alt.Chart:
    """Table 4 as a chart: accuracy by the subnetwork's rate, one line per pretraining rate.

    Args:
        table: `pretrain_learning_rate learning_rate pruner accuracy trials`, accuracy in percent.
    """
    data = table.with_columns(
        pl.format("mask from {}", pl.col("pretrain_learning_rate")).alias("mask"),
        pl.Series("pruner", [appearance.method(pruner) for pruner in table["pruner"]]),
    )
    return (
        alt.Chart(data)
        .mark_line(point=True)
        .encode(
            x=appearance.learning_rate_axis(data, "learning rate of the subnetwork"),
            y=alt.Y("accuracy:Q", title="accuracy (%)", scale=alt.Scale(zero=False)),
            color=alt.Color("mask:N", title=None, legend=alt.Legend(orient="top")),
            strokeDash=alt.StrokeDash(
                "pruner:N",
                title=None,
                legend=alt.Legend(orient="top", symbolStrokeColor=appearance.NEUTRAL),
            ),
            tooltip=[
                "mask:N",
                "pruner:N",
                alt.Tooltip("learning_rate:Q", format="~g"),
                alt.Tooltip("accuracy:Q", format=".2f"),
                "trials:Q",
            ],
        )
        .properties(height=340)
    )
