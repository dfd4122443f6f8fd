"""Figure 3: accuracy against learning rate, a panel for each sparsity (or network)."""

from collections.abc import Sequence

import altair as alt
import polars as pl

from explorer.figures import appearance, curves, published
from explorer.figures.appearance import NEUTRAL, OPEN, PRIZES
from explorer.figures.points import points
from jackpot import Criteria, Judgement, settings, wording
from jackpot.trials import able, best, curve, means

_BOXES = [f"{prize}{more}" for prize in PRIZES for more in ("", OPEN)]


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
        As `explorer.figures.points.points`, and `panel`, `box` (the prize that the means give, at
        the learning rate of the ticket; and whether the trials leave it open), `best` (accuracy
        of pretraining at the rate that is chosen) and `similar` (the tolerance below it).
    """
    found = points(runs)
    dense, sparse = found.filter(pl.col("sparsity") == 0), found.filter(pl.col("sparsity") > 0)
    pretraining = able(
        curve(means(runs.filter(pl.col("setting") == settings.PRETRAIN.name)), criteria.rate_by)
    )
    highest = 100 * best(pretraining).accuracy if pretraining else None
    similar = None if highest is None else highest - 100 * criteria.tolerance_for(dataset)
    boxes = pl.DataFrame(
        [
            (
                settings.line(j.ticket, j.pruner),
                j.sparsity,
                j.learning_rate,
                f"{box[0]}{'' if box[1] else OPEN}",
            )
            for j in judgements
            # Points have masks of their own rate: a ticket with another's is none of them.
            if not criteria.any_rate and (box := appearance.box(j)) is not None
        ],
        schema={
            "line": pl.String,
            "sparsity": pl.Float64,
            "learning_rate": pl.Float64,
            "box": pl.String,
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
        boxes, on=["line", "sparsity", "learning_rate"], how="left", maintain_order="left"
    ).with_columns(
        pl.lit(highest, pl.Float64).alias("best"), pl.lit(similar, pl.Float64).alias("similar")
    )


def boxes(data: pl.DataFrame) -> list[str]:
    """The boxes that are in a figure."""
    return [name for name in _BOXES if name in data["box"].unique().to_list()]


def chart(
    data: pl.DataFrame, alone: Sequence[str] = (), *, has_shared_axes: bool = True
) -> alt.FacetChart:
    """Lines per setting and pruner over the learning rate, a panel for each `panel`.

    The grey band lies between the best pretraining accuracy and the tolerance below it: a ticket
    that reaches it meets condition 5. Boxes mark the points that make a ticket: solid where the
    trials decide that, dashed where only the means say so.

    Args:
        data: from `panels`, maybe `overlaid` with published accuracies.
        alone: lines that are singled out; none: all are alike.
        has_shared_axes: whether all panels have the same axes; else each has its own.
    """
    x = appearance.learning_rate_axis(data, is_shared=has_shared_axes)
    y = curves.accuracy(data, is_shared=has_shared_axes, is_cut=True)
    tooltip = [
        alt.Tooltip("line:N", title="setting"),
        alt.Tooltip("learning_rate:Q", title="learning rate", format="~g"),
        alt.Tooltip("accuracy:Q", title="accuracy, mean (%)", format=".2f"),
        alt.Tooltip("deviation:Q", title="standard deviation", format=".2f"),
        alt.Tooltip("trials:Q", title="trials"),
        alt.Tooltip("box:N", title="ticket"),
    ]
    everything, links = alt.Chart(data), appearance.links(data)
    base = published.own(everything, data)
    band = base.mark_rect(color=NEUTRAL, opacity=0.15, clip=True).encode(
        y=alt.Y("min(similar):Q", title=y["title"]), y2="max(best):Q"
    )
    rule = base.mark_rule(color=NEUTRAL, strokeDash=[2, 2], clip=True).encode(y="max(best):Q")
    legend = appearance.legend(data, boxes(data))
    layers = [
        band,
        rule,
        *curves.curves(base, legend, x, y, tooltip, alone, curves.lower_end(y), **links),
    ]
    if legend.boxes:
        layers.append(
            base.transform_filter("isValid(datum.box)")
            .mark_point(size=420, strokeWidth=2.2, opacity=1)
            .encode(x=x, y=y, tooltip=tooltip, **legend.points("box"), **links)
        )
    layers += published.marks(everything, data, x)
    drawn = curves.faceted(curves.layered(layers))
    return drawn if has_shared_axes else drawn.resolve_scale(x="independent", y="independent")
