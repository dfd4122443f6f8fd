"""Figure 2 with a study's own numbers: what each condition compares, and by how much."""

import altair as alt
import polars as pl

from explorer.figures import appearance
from explorer.figures.appearance import NEUTRAL
from jackpot import Judgement
from jackpot.contrasts import Decision

_SCHEMA: dict[str, type[pl.DataType]] = {
    "condition": pl.String,
    "need": pl.Float64,
    "verdict": pl.String,
    "setting": pl.String,
    "pruner": pl.String,
    "accuracy": pl.Float64,
    "learning_rate": pl.Float64,
}


def comparisons(judgement: Judgement) -> pl.DataFrame:
    """The two sides of each condition that compares the ticket with a rival.

    Returns:
        Two rows per condition: `condition`, `need` (the height to reach, in percent), `verdict`
        (`holds`, `fails` or `undecided`), `setting pruner method line`, `accuracy` in percent,
        `learning_rate`.
    """
    rows = []
    for finding in judgement.conditions:
        condition = finding.condition
        if finding.margin is None or condition.rival is None:
            continue
        rival = condition.rival.name, judgement.pruner if condition.rival.is_masked else None
        ours, theirs = (
            next(cell for cell in cells if cell.learning_rate == rate)
            for cells, rate in zip(
                (finding.ours, finding.theirs), finding.learning_rates, strict=True
            )
        )
        need = 100 * (ours.accuracy - finding.margin)
        name = f"{condition.symbol} {condition.rival_words}"
        rows += [
            (name, need, str(finding.decision), *side, 100 * cell.accuracy, cell.learning_rate)
            for side, cell in (((judgement.ticket, judgement.pruner), ours), (rival, theirs))
        ]
    return appearance.named(pl.DataFrame(rows, schema=_SCHEMA, orient="row"))


def chart(data: pl.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """One column per condition: both accuracies, and the height to reach as a tick.

    Args:
        data: from `comparisons`.
    """
    base = alt.Chart(data)
    x = alt.X("condition:N", title=None, sort=None, axis=alt.Axis(labelAngle=0, labelLimit=200))
    y = alt.Y("accuracy:Q", title="accuracy (%)", scale=alt.Scale(zero=False, padding=12))
    span = base.mark_rule(strokeWidth=7, opacity=0.25).encode(
        x=x,
        y=alt.Y("min(accuracy):Q", title="accuracy (%)"),
        y2="max(accuracy):Q",
        color=alt.value(NEUTRAL),
    )
    need = base.mark_tick(thickness=3, width=64).encode(
        x=x,
        y="need:Q",
        color=alt.Color(
            "verdict:N",
            title="height to reach",
            scale=alt.Scale(
                domain=[str(decision) for decision in Decision],
                range=["#2ca02c", "#d62728", appearance.NEUTRAL],
            ),
            legend=alt.Legend(orient="top"),
        ),
    )
    legend = appearance.legend(data)
    dots = base.mark_point(filled=True, size=150).encode(
        x=x,
        y=y,
        fill=alt.Fill(
            "line:N",
            title=None,
            scale=alt.Scale(domain=legend.lines, range=legend.colours),
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
