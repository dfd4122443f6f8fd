"""One metric of some runs by epoch."""

import altair as alt
import polars as pl


def chart(curves: pl.DataFrame, names: dict[str, str], metric: str) -> alt.Chart:
    """One metric of some runs by epoch.

    Args:
        curves: `run_id step value`.
        names: of the runs by id, as in the legend.
        metric: which one it is.
    """
    data = curves.with_columns(
        pl.col("run_id").replace_strict(names, default=pl.col("run_id")).alias("run"),
        (pl.col("value") * (100 if metric.endswith("accuracy") else 1)).alias("value"),
    )
    unit = " (%)" if metric.endswith("accuracy") else ""
    return (
        alt.Chart(data)
        .mark_line()
        .encode(
            x=alt.X("step:Q", title="epoch"),
            y=alt.Y("value:Q", title=f"{metric}{unit}", scale=alt.Scale(zero=False)),
            color=alt.Color("run:N", title=None, legend=alt.Legend(labelLimit=320)),
            tooltip=["run:N", "step:Q", alt.Tooltip("value:Q", format=".4g")],
        )
        .properties(height=360)
    )
