"""What each condition asks, and how far the ticket is from it: figure 2 with a study's numbers."""

import altair as alt
import polars as pl

from explorer.figures import appearance
from jackpot import Judgement, settings
from jackpot.contrasts import Decision

_SCHEMA: dict[str, type[pl.DataType]] = {
    "condition": pl.String,
    "decision": pl.String,
    "margin": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "ours": pl.String,
    "ours_accuracy": pl.Float64,
    "ours_rate": pl.Float64,
    "theirs": pl.String,
    "theirs_accuracy": pl.Float64,
    "theirs_rate": pl.Float64,
}
_SHAPES = {Decision.HOLDS: "circle", Decision.FAILS: "cross", Decision.UNDECIDED: "triangle-up"}


def comparisons(judgement: Judgement) -> pl.DataFrame:
    """The conditions that compare the ticket with a rival.

    Returns:
        A row per condition: `condition` in plain words, `decision`, `margin low high` in percentage
        points, positive inside the condition (`low` and `high` are null where no trials tell the
        noise); `ours ours_accuracy ours_rate`, `theirs …`: what was compared, accuracy in percent.
    """
    rows = []
    for finding in judgement.conditions:
        condition = finding.condition
        ours, theirs = finding.own, finding.other
        if finding.margin is None or condition.rival is None or ours is None or theirs is None:
            continue
        pruner = judgement.pruner if condition.rival.is_masked else None
        rows.append(
            (
                appearance.asked(condition),
                str(finding.decision),
                100 * finding.margin,
                None if finding.low is None else 100 * finding.low,
                None if finding.high is None else 100 * finding.high,
                settings.line(judgement.ticket, judgement.pruner),
                100 * ours.accuracy,
                ours.learning_rate,
                f"{condition.rival_words}: {settings.line(condition.rival.name, pruner)}",
                100 * theirs.accuracy,
                theirs.learning_rate,
            )
        )
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


def chart(data: pl.DataFrame) -> appearance.Layers:
    """A row per condition: the margin, and the bounds that decide.

    Args:
        data: from `comparisons`.
    """
    # A bound without end has no place on an axis: it reaches to the chart's edge.
    finite = [pl.when(pl.col(name).is_finite()).then(name).alias(name) for name in ("low", "high")]
    drawn = data.with_columns(finite)
    extent = appearance.shared(drawn.with_columns(zero=0.0), "margin", "low", "high", "zero")
    edges = extent.to_dict().get("domain", [-1.0, 1.0])
    has_bounds = data["low"].is_not_null()
    drawn = drawn.with_columns(
        pl.when(has_bounds).then(pl.col("low").fill_null(edges[0])).alias("low"),
        pl.when(has_bounds).then(pl.col("high").fill_null(edges[1])).alias("high"),
    )
    base = alt.Chart(drawn)
    y = alt.Y("condition:N", title=None, sort=None, axis=alt.Axis(labelLimit=240))
    x = alt.X("margin:Q", title="margin (percentage points)", scale=extent)
    colour = alt.Color(
        "decision:N",
        title=None,
        scale=alt.Scale(
            domain=list(map(str, Decision)), range=[appearance.DECISIONS[d] for d in Decision]
        ),
        legend=alt.Legend(orient="top"),
    )
    zero = (
        alt.Chart(pl.DataFrame({"margin": [0.0]}))
        .mark_rule(strokeDash=[4, 3], color=appearance.NEUTRAL)
        .encode(x="margin:Q")
    )
    whiskers = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title="margin (percentage points)", scale=extent),
        x2="high:Q",
        y=y,
        color=colour,
    )
    ends = [
        base.mark_tick(thickness=2, size=14).encode(
            x=alt.X(f"{name}:Q", title="margin (percentage points)", scale=extent),
            y=y,
            color=colour,
        )
        for name in ("low", "high")
    ]
    dots = base.mark_point(filled=True, size=150, opacity=1).encode(
        x=x,
        y=y,
        color=colour,
        shape=alt.Shape(
            "decision:N",
            title=None,
            scale=alt.Scale(domain=list(map(str, Decision)), range=[_SHAPES[d] for d in Decision]),
            legend=alt.Legend(orient="top"),
        ),
        tooltip=[
            alt.Tooltip("condition:N"),
            alt.Tooltip("decision:N"),
            alt.Tooltip("margin:Q", title="margin (points)", format="+.2f"),
            alt.Tooltip("low:Q", title="from", format="+.2f"),
            alt.Tooltip("high:Q", title="to", format="+.2f"),
            alt.Tooltip("ours:N", title="ticket"),
            alt.Tooltip("ours_accuracy:Q", title="its accuracy (%)", format=".2f"),
            alt.Tooltip("ours_rate:Q", title="at learning rate", format="~g"),
            alt.Tooltip("theirs:N", title="compared with"),
            alt.Tooltip("theirs_accuracy:Q", title="its accuracy (%)", format=".2f"),
            alt.Tooltip("theirs_rate:Q", title="at learning rate", format="~g"),
        ],
    )
    return alt.layer(zero, whiskers, *ends, dots).properties(height=alt.Step(34))
