"""The paper's figures as Altair charts of tidy polars frames. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from explorer.landscape import Landscape, contours, path
from jackpot.conditions import Criteria, Verdict
from jackpot.definition import Judgement
from jackpot.trials import means

# One colour per setting, readable on white and on dark grey; pruners differ by dash and shape.
COLOURS = {
    "pretrain": "#7f7f7f",
    "LT": "#1f77b4",
    "RR": "#e6863b",
    "WR": "#2ca02c",
    "SDT": "#b279a2",
}
DASHES = {"dense": [1, 0], "IMP": [1, 0], "OMP": [5, 3]}
SHAPES = {"dense": "circle", "IMP": "circle", "OMP": "triangle-up"}
BOXES = {Verdict.JACKPOT: "#2ca02c", Verdict.SECONDARY: "#d4a20a"}
_PANEL_HEIGHT = 300


def curves(runs: pl.DataFrame) -> pl.DataFrame:
    """Mean accuracies as the figures want them.

    Args:
        runs: as in `definitions.means`.

    Returns:
        One row per point: `setting` and `method` as on screen, `line` (their name in the legend),
        `sparsity`, `learning_rate`, `accuracy low high` in percent (mean ± one standard deviation;
        equal to the mean for one trial), `deviation` and `trials`; `link` if `runs` has it.
    """
    deviation = pl.col("deviation").fill_null(0.0)
    return means(runs).select(
        pl.when(pl.col("setting") == "pretrain")
        .then(pl.lit("pretrain"))
        .otherwise(pl.col("setting").str.to_uppercase())
        .alias("setting"),
        pl.col("pruner").str.to_uppercase().fill_null("dense").alias("method"),
        pl.concat_str(
            pl.when(pl.col("setting") == "pretrain")
            .then(pl.lit("pretrain"))
            .otherwise(pl.col("setting").str.to_uppercase()),
            pl.col("pruner").str.to_uppercase(),
            separator="-",
            ignore_nulls=True,
        ).alias("line"),
        "sparsity",
        "learning_rate",
        (100 * pl.col("accuracy")).alias("accuracy"),
        (100 * (pl.col("accuracy") - deviation)).alias("low"),
        (100 * (pl.col("accuracy") + deviation)).alias("high"),
        (100 * pl.col("deviation")).alias("deviation"),
        "trials",
        *(["link"] if "link" in runs.columns else []),
    )


def accuracy_by_learning_rate(
    runs: pl.DataFrame,
    judgements: list[Judgement],
    criteria: Criteria,
    dataset: str,
    columns: int = 2,
    width: int = 380,
) -> alt.Chart:
    """Figure 3: one panel per sparsity; lines per setting and pruner over the learning rate.

    The grey band lies between the best pretraining accuracy and the tolerance below it: a ticket
    that reaches it meets condition 5. Boxes mark the points that make a ticket.

    Args:
        runs: runs of one network and dataset, as in `definitions.means`.
        judgements: of the same runs.
        criteria: with which they were judged.
        dataset: whose tolerance the band shows.
        columns: panels in a row.
        width: of one panel, in pixels.
    """
    points = curves(runs)
    sparse = points.filter(pl.col("sparsity") > 0)
    dense = points.filter(pl.col("setting") == "pretrain")
    panels = sparse["sparsity"].unique().sort().to_list()
    best = dense["accuracy"].max()
    tolerance = 100 * criteria.tolerance_for(dataset)
    frames = []
    for sparsity in panels:
        here = pl.concat([dense, sparse.filter(pl.col("sparsity") == sparsity)])
        boxes = {
            (
                f"{criteria.ticket.upper()}-{j.pruner.upper()}",
                j.learning_rate,
            ): str(j.verdict)
            for j in judgements
            if j.sparsity == sparsity and j.verdict in BOXES
        }
        frames.append(
            here.with_columns(
                pl.lit(f"sparsity {sparsity:.3f}").alias("panel"),
                pl.Series(
                    "ticket",
                    [
                        boxes.get((row["line"], row["learning_rate"]))
                        for row in here.iter_rows(named=True)
                    ],
                    dtype=pl.String,
                ),
                pl.lit(best).alias("best"),
                pl.lit(None if best is None else best - tolerance).alias("similar"),
            )
        )
    data = pl.concat(frames) if frames else points.clear()
    lines = _ordered(data["line"])
    marked = data.height > 0 and "ticket" in data.columns and data["ticket"].is_not_null().any()
    chosen = alt.selection_point(fields=["line"], bind="legend")
    x = alt.X(
        "learning_rate:Q",
        title="learning rate",
        scale=alt.Scale(type="log", nice=False, padding=16),
        axis=alt.Axis(values=data["learning_rate"].unique().sort().to_list(), format="~g"),
    )
    y = alt.Y("accuracy:Q", title="accuracy (%)", scale=alt.Scale(zero=False, nice=True))
    colour = _colour(lines)
    fade = alt.condition(chosen, alt.value(1.0), alt.value(0.12))
    tooltip = [
        alt.Tooltip("line:N", title="setting"),
        alt.Tooltip("learning_rate:Q", title="learning rate", format="~g"),
        alt.Tooltip("accuracy:Q", title="accuracy, mean (%)", format=".2f"),
        alt.Tooltip("deviation:Q", title="standard deviation", format=".2f"),
        alt.Tooltip("trials:Q", title="trials"),
        alt.Tooltip("ticket:N", title="ticket"),
    ]
    base = alt.Chart(data)
    band = base.mark_rect(color="#7f7f7f", opacity=0.15).encode(
        y=alt.Y("min(similar):Q", title="accuracy (%)"), y2="max(best):Q"
    )
    rule = base.mark_rule(color="#7f7f7f", strokeDash=[2, 2]).encode(y="max(best):Q")
    spread = base.mark_rule(strokeWidth=1.2).encode(
        x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour, opacity=fade
    )
    line = base.mark_line(strokeWidth=2).encode(
        x=x, y=y, color=colour, strokeDash=_dash(lines), opacity=fade
    )
    dots = base.mark_point(filled=True, size=52).encode(
        x=x,
        y=y,
        color=colour,
        shape=alt.Shape(
            "method:N",
            legend=None,
            scale=alt.Scale(domain=list(SHAPES), range=list(SHAPES.values())),
        ),
        opacity=fade,
        tooltip=tooltip,
        **_href(data),
    )
    boxes = (
        base.transform_filter("datum.ticket != null")
        .mark_point(shape="square", size=420, strokeWidth=2.2, fill="transparent")
        .encode(
            x=x,
            y=y,
            stroke=alt.Stroke(
                "ticket:N",
                title=None,
                legend=alt.Legend(orient="top") if marked else None,
                scale=alt.Scale(domain=[str(v) for v in BOXES], range=list(BOXES.values())),
            ),
            tooltip=tooltip,
            **_href(data),
        )
    )
    return (
        alt.layer(band, rule, spread, line, dots, boxes)
        .add_params(chosen)
        .properties(width=width, height=_PANEL_HEIGHT)
        .facet(alt.Facet("panel:N", title=None, sort=None), columns=columns)
        .resolve_scale(x="shared", y="shared")
        .configure_view(strokeOpacity=0.25)
    )


def accuracy_by_sparsity(runs: pl.DataFrame, columns: int = 3, width: int = 260) -> alt.Chart:
    """Figures 1 and A.1: one panel per learning rate; the dense network is the line at its height.

    Args:
        runs: runs of one network and dataset, as in `definitions.means`.
        columns: panels in a row.
        width: of one panel, in pixels.
    """
    points = curves(runs).with_columns(
        pl.format("learning rate {}", pl.col("learning_rate")).alias("panel")
    )
    lines = _ordered(points["line"])
    colour = _colour(lines)
    chosen = alt.selection_point(fields=["line"], bind="legend")
    fade = alt.condition(chosen, alt.value(1.0), alt.value(0.12))
    y = alt.Y("accuracy:Q", title="accuracy (%)", scale=alt.Scale(zero=False))
    base = alt.Chart(points)
    dense = (
        base.transform_filter("datum.sparsity == 0")
        .mark_rule(strokeDash=[4, 3])
        .encode(y=y, color=colour)
    )
    sparse = base.transform_filter("datum.sparsity > 0").encode(
        x=alt.X("sparsity:Q", title="sparsity", scale=alt.Scale(zero=False)),
        color=colour,
        opacity=fade,
    )
    spread = sparse.mark_rule().encode(y="low:Q", y2="high:Q")
    line = sparse.mark_line(point=True).encode(
        y=y,
        strokeDash=_dash(lines),
        tooltip=[
            alt.Tooltip("line:N", title="setting"),
            alt.Tooltip("sparsity:Q", format=".3f"),
            alt.Tooltip("accuracy:Q", title="accuracy, mean (%)", format=".2f"),
            alt.Tooltip("trials:Q", title="trials"),
        ],
        **_href(points),
    )
    return (
        alt.layer(dense, spread, line)
        .add_params(chosen)
        .properties(width=width, height=240)
        .facet(alt.Facet("panel:N", title=None, sort=None), columns=columns)
        .configure_view(strokeOpacity=0.25)
    )


def definition(curves_: pl.DataFrame, judgement: Judgement, criteria: Criteria) -> alt.Chart:
    """Figure 2 with a study's own numbers: what each condition compares, and by how much.

    One column per condition: the ticket's accuracy, what it is compared with, and the height that
    it has to reach (the rival plus the gap, or minus the tolerance) as a tick.

    Args:
        curves_: from `curves`.
        judgement: whose comparisons are drawn.
        criteria: with which it was made.
    """
    ticket = f"{judgement.ticket.upper()}-{judgement.pruner.upper()}"
    accuracy = {
        (row["line"], row["learning_rate"]): row["accuracy"]
        for row in curves_.filter(pl.col("sparsity").is_in([0.0, judgement.sparsity])).iter_rows(
            named=True
        )
    }
    rows = []
    for found in judgement.conditions:
        condition = found.condition
        if found.margin is None or condition.rival is None or condition.allowance is None:
            continue
        rival = condition.rival.label
        if condition.rival.is_masked:
            rival = f"{rival}-{judgement.pruner.upper()}"
        own_rate, rival_rate = found.learning_rates
        reached, compared = accuracy[ticket, own_rate], accuracy[rival, rival_rate]
        shared = {
            "condition": f"{condition.symbol} {condition.rival_words}",
            "need": compared + 100 * condition.allowance(criteria, judgement.dataset),
            "verdict": "holds" if found.holds else "fails",
        }
        rows += [
            shared | {"line": ticket, "accuracy": reached, "learning_rate": own_rate},
            shared | {"line": rival, "accuracy": compared, "learning_rate": rival_rate},
        ]
    data = pl.DataFrame(
        rows,
        schema={
            "condition": pl.String,
            "need": pl.Float64,
            "verdict": pl.String,
            "line": pl.String,
            "accuracy": pl.Float64,
            "learning_rate": pl.Float64,
        },
    )
    base = alt.Chart(data)
    x = alt.X("condition:N", title=None, sort=None, axis=alt.Axis(labelAngle=0, labelLimit=200))
    y = alt.Y("accuracy:Q", title="accuracy (%)", scale=alt.Scale(zero=False, padding=12))
    span = base.mark_rule(strokeWidth=7, opacity=0.25).encode(
        x=x,
        y=alt.Y("min(accuracy):Q", title="accuracy (%)"),
        y2="max(accuracy):Q",
        color=alt.value("#7f7f7f"),
    )
    need = base.mark_tick(thickness=3, width=64).encode(
        x=x,
        y="need:Q",
        color=alt.Color(
            "verdict:N",
            title="height to reach",
            scale=alt.Scale(domain=["holds", "fails"], range=["#2ca02c", "#d62728"]),
            legend=alt.Legend(orient="top"),
        ),
    )
    lines = _ordered(data["line"])
    dots = base.mark_point(filled=True, size=150).encode(
        x=x,
        y=y,
        fill=alt.Fill(
            "line:N",
            title=None,
            scale=alt.Scale(domain=lines, range=[COLOURS[line.split("-")[0]] for line in lines]),
            legend=alt.Legend(orient="top"),
        ),
        tooltip=[
            alt.Tooltip("line:N", title="setting"),
            alt.Tooltip("learning_rate:Q", title="learning rate", format="~g"),
            alt.Tooltip("accuracy:Q", title="accuracy (%)", format=".2f"),
            alt.Tooltip("need:Q", title="height to reach (%)", format=".2f"),
        ],
    )
    return alt.layer(span, need, dots).properties(height=320)


def ablation(table: pl.DataFrame) -> alt.Chart:
    """Table 4 as a chart: accuracy by the subnetwork's rate, one line per pretraining rate.

    Args:
        table: `pretrain_learning_rate learning_rate pruner accuracy trials`, accuracy in percent.
    """
    data = table.with_columns(
        pl.format("mask from {}", pl.col("pretrain_learning_rate")).alias("mask"),
        pl.col("pruner").str.to_uppercase(),
    )
    return (
        alt.Chart(data)
        .mark_line(point=True)
        .encode(
            x=alt.X(
                "learning_rate:Q",
                title="learning rate of the subnetwork",
                scale=alt.Scale(type="log", nice=False, padding=16),
                axis=alt.Axis(values=data["learning_rate"].unique().sort().to_list(), format="~g"),
            ),
            y=alt.Y("accuracy:Q", title="accuracy (%)", scale=alt.Scale(zero=False)),
            color=alt.Color("mask:N", title=None, legend=alt.Legend(orient="top")),
            strokeDash=alt.StrokeDash(
                "pruner:N",
                title=None,
                legend=alt.Legend(orient="top", symbolStrokeColor="#7f7f7f"),
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


def training_curves(curves: pl.DataFrame, names: dict[str, str], metric: str) -> alt.Chart:
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


def correlation(table: pl.DataFrame, p: float) -> alt.Chart:
    """Figure 6: R_p against the learning rate, one line per pair; the dashed line is chance.

    Args:
        table: `pair learning_rate correlation low high trials`.
        p: share of the largest weights.
    """
    base = alt.Chart(table)
    x = alt.X(
        "learning_rate:Q",
        title="learning rate",
        scale=alt.Scale(type="log", nice=False, padding=16),
        axis=alt.Axis(values=table["learning_rate"].unique().sort().to_list(), format="~g"),
    )
    colour = alt.Color("pair:N", title=None, legend=alt.Legend(orient="top", labelLimit=240))
    chance = (
        alt.Chart(pl.DataFrame({"p": [p]}))
        .mark_rule(strokeDash=[4, 3], color="#7f7f7f")
        .encode(y="p:Q")
    )
    spread = base.mark_rule().encode(x=x, y="low:Q", y2="high:Q", color=colour)
    line = base.mark_line(point=True).encode(
        x=x,
        y=alt.Y("correlation:Q", title=f"correlation R, p = {p:g}", scale=alt.Scale(domainMin=0)),
        color=colour,
        tooltip=[
            "pair:N",
            alt.Tooltip("learning_rate:Q", title="learning rate", format="~g"),
            alt.Tooltip("correlation:Q", format=".3f"),
            "trials:Q",
        ],
    )
    return alt.layer(chance, spread, line).properties(height=360)


def landscapes(
    found: Mapping[str, Landscape], levels: Sequence[float], basin: float, width: int = 380
) -> alt.HConcatChart:
    """Figures 4 and 5: contours of the loss, the basin and the path of training, side by side.

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
    panels = [_landscape(name, one, levels, basin, across, width) for name, one in found.items()]
    return alt.hconcat(*panels).resolve_scale(color="shared").configure_view(strokeOpacity=0.25)


def _landscape(
    name: str, one: Landscape, levels: Sequence[float], basin: float, across: float, width: int
) -> alt.LayerChart:
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
            color=alt.value("#d4a20a"),
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
                legend=alt.Legend(orient="bottom", gradientLength=2 * width, format="~g"),
            ),
        )
    )
    edge = (
        alt.Chart(contours(one, [basin]))
        .mark_line(strokeWidth=2.2, clip=True, color="#d4a20a")
        .encode(x, y, detail="line:N", order="order:Q")
    )
    way = alt.Chart(path(one)).encode(x, y, tooltip=["epoch:Q"])
    return alt.layer(
        inside,
        lines,
        edge,
        way.mark_line(color="#d62728", strokeWidth=2).encode(order="epoch:Q"),
        way.mark_point(color="#d62728", filled=True, size=42, opacity=1),
    ).properties(width=width, height=width, title=name)


def _href(data: pl.DataFrame) -> dict[str, alt.Href]:
    """Makes marks lead to their runs in MLflow, where the data says where that is."""
    return {"href": alt.Href("link:N")} if "link" in data.columns else {}


def _ordered(lines: pl.Series) -> list[str]:
    """Legend entries: pretrain, LT, RR, WR, SDT, each IMP before OMP."""
    order = list(COLOURS)
    return sorted(set(lines), key=lambda line: (order.index(line.split("-")[0]), line))


def _colour(lines: list[str]) -> alt.Color:
    return alt.Color(
        "line:N",
        title=None,
        scale=alt.Scale(domain=lines, range=[COLOURS[line.split("-")[0]] for line in lines]),
        legend=alt.Legend(orient="top", symbolType="stroke", columns=9, labelLimit=120),
    )


def _dash(lines: list[str]) -> alt.StrokeDash:
    """Dashes in the same legend as the colours."""
    dashes = [DASHES[line.split("-")[1] if "-" in line else "dense"] for line in lines]
    return alt.StrokeDash(
        "line:N",
        title=None,
        scale=alt.Scale(domain=lines, range=dashes),
        legend=alt.Legend(orient="top", symbolType="stroke", columns=9, labelLimit=120),
    )
