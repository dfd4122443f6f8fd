"""Table 4 as a chart: masks of one learning rate, trained at another."""

from collections.abc import Sequence

import altair as alt
import polars as pl

from explorer.figures import appearance, curves


def panels(table: pl.DataFrame) -> pl.DataFrame:
    """The points of each panel.

    Args:
        table: `pretrain_learning_rate learning_rate setting pruner accuracy deviation trials`,
            accuracy in percent.

    Returns:
        The same, and `method line panel low high`.
    """
    deviation = pl.col("deviation").fill_null(0.0)
    rate = pl.col("pretrain_learning_rate").map_elements("{:g}".format, pl.String)
    return appearance.named(table).with_columns(
        pl.format("mask of pretraining at {}", rate).alias("panel"),
        (pl.col("accuracy") - deviation).alias("low"),
        (pl.col("accuracy") + deviation).alias("high"),
    )


def chart(data: pl.DataFrame, alone: Sequence[str] = ()) -> alt.FacetChart:
    """Accuracy by the subnetwork's rate, a line per pruner; the rule is the mask's own rate.

    Args:
        data: from `panels`.
        alone: lines that are singled out; none: all are alike.
    """
    title = "learning rate of the subnetwork"
    base = alt.Chart(data)
    mask = base.mark_rule(strokeDash=[2, 2], color=appearance.NEUTRAL).encode(
        x=alt.X("pretrain_learning_rate:Q", title=title)
    )
    tooltip = [
        alt.Tooltip("line:N", title="setting"),
        alt.Tooltip("pretrain_learning_rate:Q", title="mask's rate", format="~g"),
        alt.Tooltip("learning_rate:Q", title="learning rate", format="~g"),
        alt.Tooltip("accuracy:Q", title="accuracy, mean (%)", format=".2f"),
        alt.Tooltip("trials:Q", title="trials"),
    ]
    x = appearance.learning_rate_axis(data, title)
    legend, y = appearance.legend(data), curves.accuracy(data)
    lines = curves.curves(base, legend, x, y, tooltip, alone)
    return curves.faceted(curves.layered([mask, *lines]))
