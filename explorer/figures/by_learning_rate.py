"""Figure 3: accuracy against learning rate, a panel for each sparsity."""

from collections.abc import Sequence

import altair as alt
import polars as pl

from explorer.figures import appearance
from explorer.figures.appearance import BOXES, NEUTRAL
from explorer.figures.points import points
from jackpot import Criteria, Judgement, settings, wording
from jackpot.trials import best, curve, means

_PANEL_HEIGHT = 300


def panels(
    runs: pl.DataFrame, judgements: Sequence[Judgement], criteria: Criteria, dataset: str
) -> pl.DataFrame:
    """The points of each panel; those of dense networks are in all of them.

    Args:
        runs: runs of one network and dataset, as in `jackpot.means`.
        judgements: of the same runs.
        criteria: with which they were judged.
        dataset: whose tolerance counts.

    Returns:
        As `explorer.figures.points.points`, and `panel`, `ticket` (its verdict, at the learning
        rate of a ticket), `best` (accuracy of pretraining at the rate that is chosen) and
        `similar` (the tolerance below it).
    """
    found = points(runs)
    dense, sparse = found.filter(pl.col("sparsity") == 0), found.filter(pl.col("sparsity") > 0)
    pretraining = curve(
        means(runs.filter(pl.col("setting") == settings.PRETRAIN.name)), criteria.rate_by
    )
    highest = 100 * best(pretraining).accuracy if pretraining else None
    similar = None if highest is None else highest - 100 * criteria.tolerance_for(dataset)
    tickets = pl.DataFrame(
        [
            (appearance.line(j.ticket, j.pruner), j.sparsity, j.learning_rate, str(j.verdict))
            for j in judgements
            if j.verdict in BOXES
        ],
        schema={
            "line": pl.String,
            "sparsity": pl.Float64,
            "learning_rate": pl.Float64,
            "ticket": pl.String,
        },
        orient="row",
    )
    shown = [
        pl.concat([dense, sparse.filter(pl.col("sparsity") == sparsity)]).with_columns(
            pl.lit(f"sparsity {wording.sparsity(sparsity)}").alias("panel")
        )
        for sparsity in sparse["sparsity"].unique().sort()
    ]
    data = pl.concat(shown) if shown else found.clear().with_columns(panel=pl.lit("", pl.String))
    return data.join(
        tickets, on=["line", "sparsity", "learning_rate"], how="left", maintain_order="left"
    ).with_columns(
        pl.lit(highest, pl.Float64).alias("best"), pl.lit(similar, pl.Float64).alias("similar")
    )


def chart(data: pl.DataFrame, columns: int = 2, width: int = 380) -> alt.FacetChart:
    """Lines per setting and pruner over the learning rate.

    The grey band lies between the best pretraining accuracy and the tolerance below it: a ticket
    that reaches it meets condition 5. Boxes mark the points that make a ticket.

    Args:
        data: from `panels`.
        columns: panels in a row.
        width: of one panel, in pixels.
    """
    legend = appearance.legend(data)
    marked = data["ticket"].is_not_null().any()
    chosen = alt.selection_point(fields=["line"], bind="legend")
    x, colour = appearance.learning_rate_axis(data), legend.colour()
    y = alt.Y("accuracy:Q", title="accuracy (%)", scale=alt.Scale(zero=False, nice=True))
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
    band = base.mark_rect(color=NEUTRAL, opacity=0.15).encode(
        y=alt.Y("min(similar):Q", title="accuracy (%)"), y2="max(best):Q"
    )
    rule = base.mark_rule(color=NEUTRAL, strokeDash=[2, 2]).encode(y="max(best):Q")
    spread = base.mark_rule(strokeWidth=1.2).encode(
        x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour, opacity=fade
    )
    line = base.mark_line(strokeWidth=2).encode(
        x=x, y=y, color=colour, strokeDash=legend.dash(), opacity=fade
    )
    dots = base.mark_point(filled=True, size=52).encode(
        x=x,
        y=y,
        color=colour,
        shape=legend.shape(),
        opacity=fade,
        tooltip=tooltip,
        **appearance.links(data),
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
            **appearance.links(data),
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
