"""One metric by epoch: mean and standard deviation over trials, by setting."""

import altair as alt
import polars as pl

from explorer.figures import appearance, curves

COLUMNS = ["line", "sparsity", "learning_rate", "step", "mean", "low", "high", "trials"]
"""Of its table."""


def bands(points: pl.DataFrame, runs: pl.DataFrame, metric: str) -> pl.DataFrame:
    """Means over the trials of each point of a study.

    Args:
        points: `run_id step value`.
        runs: of the points: `run_id setting pruner sparsity learning_rate`.
        metric: which one it is; accuracies come out in percent.

    Returns:
        `setting pruner sparsity learning_rate method line step mean low high trials`: mean ± one
        standard deviation, over the trials that have the epoch.
    """
    scale = 100 if metric.endswith("accuracy") else 1
    point = ("setting", "pruner", "sparsity", "learning_rate")
    deviation = pl.col("value").std().fill_null(0.0)
    return (
        points.join(runs.select("run_id", *point), on="run_id")
        .with_columns((pl.col("value") * scale).alias("value"))
        .filter(pl.col("value").is_finite())
        .group_by(*point, "step", maintain_order=True)
        .agg(
            pl.col("value").mean().alias("mean"),
            (pl.col("value").mean() - deviation).alias("low"),
            (pl.col("value").mean() + deviation).alias("high"),
            pl.len().alias("trials"),
        )
        .pipe(appearance.named)
        .sort("line", "sparsity", "learning_rate", "step")
    )


def chart(data: pl.DataFrame, metric: str) -> appearance.Layers:
    """A line per point of a study, its band one standard deviation.

    Points of one setting that differ in sparsity or rate have one colour; the tooltip tells them
    apart.

    Args:
        data: from `bands`.
        metric: which one it is.
    """
    legend = appearance.legend(data)
    title = f"{metric}{' (%)' if metric.endswith('accuracy') else ''}"
    base = alt.Chart(data).encode(detail=["sparsity:Q", "learning_rate:Q"])
    x = alt.X("step:Q", title="epoch", axis=alt.Axis(tickMinStep=1), scale=alt.Scale(padding=8))
    y = alt.Y("mean:Q", title=title, scale=appearance.shared(data, "low", "high"))
    tooltip = [
        alt.Tooltip("line:N", title="setting"),
        alt.Tooltip("sparsity:Q", format=".5~r"),
        alt.Tooltip("learning_rate:Q", title="learning rate", format="~g"),
        alt.Tooltip("step:Q", title="epoch"),
        alt.Tooltip("mean:Q", format=".4g"),
        alt.Tooltip("low:Q", title="− s.d.", format=".4g"),
        alt.Tooltip("high:Q", title="+ s.d.", format=".4g"),
        "trials:Q",
    ]
    band = base.mark_area(opacity=0.18).encode(
        x=x, y=alt.Y("low:Q", title=title), y2="high:Q", color=legend.colour()
    )
    _, line, dots = curves.curves(base, legend, x, y, tooltip)
    return curves.layered([band, line, dots], height=400)
