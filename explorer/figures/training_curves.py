"""One metric by epoch: mean and standard deviation over trials, by setting."""

import altair as alt
import polars as pl

from explorer.figures import appearance

COLUMNS = ["line", "sparsity", "learning_rate", "step", "mean", "low", "high", "trials"]
"""Of its table."""


def bands(curves: pl.DataFrame, runs: pl.DataFrame, metric: str) -> pl.DataFrame:
    """Means over the trials of each point of a study.

    Args:
        curves: `run_id step value`.
        runs: of the curves: `run_id setting pruner sparsity learning_rate`.
        metric: which one it is; accuracies come out in percent.

    Returns:
        `setting pruner sparsity learning_rate method line step mean low high trials`: mean ± one
        standard deviation, over the trials that have the epoch.
    """
    scale = 100 if metric.endswith("accuracy") else 1
    point = ("setting", "pruner", "sparsity", "learning_rate")
    deviation = pl.col("value").std().fill_null(0.0)
    return (
        curves.join(runs.select("run_id", *point), on="run_id")
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
    chosen, fade = appearance.lit()
    unit = " (%)" if metric.endswith("accuracy") else ""
    base = alt.Chart(data).encode(
        x=alt.X("step:Q", title="epoch", axis=alt.Axis(tickMinStep=1)),
        detail=["sparsity:Q", "learning_rate:Q"],
    )
    y = alt.Y("mean:Q", title=f"{metric}{unit}", scale=appearance.shared(data, "low", "high"))
    band = base.mark_area(opacity=0.18).encode(
        y=alt.Y("low:Q", title=f"{metric}{unit}"), y2="high:Q", color=legend.colour()
    )
    line = base.mark_line(strokeWidth=2).encode(
        y=y, color=legend.colour(), strokeDash=legend.dash(), opacity=fade
    )
    dots = base.mark_point(size=40, strokeWidth=1.4).encode(
        y=y,
        opacity=fade,
        **legend.points(),
        tooltip=[
            alt.Tooltip("line:N", title="setting"),
            alt.Tooltip("sparsity:Q", format=".5~r"),
            alt.Tooltip("learning_rate:Q", title="learning rate", format="~g"),
            alt.Tooltip("step:Q", title="epoch"),
            alt.Tooltip("mean:Q", format=".4g"),
            alt.Tooltip("low:Q", title="− s.d.", format=".4g"),
            alt.Tooltip("high:Q", title="+ s.d.", format=".4g"),
            "trials:Q",
        ],
    )
    return (
        alt.layer(band, line, dots.add_params(chosen))
        # Else Vega-Lite takes lines' having no legend for points' having none.
        .resolve_legend(color="independent", strokeDash="independent")
        .properties(height=400)
    )
