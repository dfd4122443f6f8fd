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


def panel(
    data: pl.DataFrame, of: pl.DataFrame | None = None, alone: Sequence[str] = ()
) -> appearance.Layers:
    """Accuracy by the subnetwork's rate, a line per pruner; the rule is the mask's own rate.

    Args:
        data: from `panels`.
        of: all panels of the figure, whose axes this one has, its legend being elsewhere; None:
            it stands alone.
        alone: lines that are singled out; none: all are alike.
    """
    own = of is None
    of = data if of is None else of
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
    x = appearance.learning_rate_axis(of, title)
    legend, y = appearance.legend(of), curves.accuracy(of)
    return curves.layered([mask, *curves.curves(base, legend, x, y, tooltip, alone, own)])


def chart(data: pl.DataFrame, alone: Sequence[str] = ()) -> alt.FacetChart:
    """All panels, for print; see `panel`."""
    return curves.faceted(panel(data, alone=alone))
