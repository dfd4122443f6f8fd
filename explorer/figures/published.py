"""Published accuracies laid over figures 1 and 3."""

import altair as alt
import polars as pl

from explorer.figures import appearance
from jackpot import wording

_SHADES = {"agrees": "#1a8f5a", "disagrees": "#d62728", "not comparable": appearance.NEUTRAL}


def overlaid(data: pl.DataFrame, beside: pl.DataFrame) -> pl.DataFrame:
    """A figure's points, followed by published ones in the panels that it has.

    Args:
        data: points with `panel`, which is named by sparsity or by learning rate.
        beside: from `jackpot.literature.beside`.

    Returns:
        The points, with `published source says why`: null of one's own, which alone have an
        `accuracy`.
    """
    panels = data["panel"].unique(maintain_order=True).to_list()
    rows = []
    for row in appearance.named(beside).iter_rows(named=True):
        names = (
            f"sparsity {wording.sparsity(row['sparsity'])}",
            f"learning rate {row['learning_rate']:g}",
        )
        value = 100 * row["accuracy"]
        point = {name: row[name] for name in ("setting", "method", "line", "sparsity")}
        point |= {name: row[name] for name in ("learning_rate", "source", "says", "why")}
        point |= {"published": value, "low": value, "high": value}
        # A dense network is in each panel of figure 3.
        dense = row["sparsity"] == 0
        rows += [
            point | {"panel": panel}
            for panel in panels
            if panel in names or (dense and panel.startswith("sparsity"))
        ]
    texts = ("source", "says", "why")
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        name: pl.String if name in texts else data.schema.get(name, pl.Float64())
        for name in (rows[0] if rows else {})
    }
    found = pl.DataFrame(rows, schema=schema)
    return pl.concat([data, found], how="diagonal")


def own(base: alt.Chart, data: pl.DataFrame) -> alt.Chart:
    """What lines are drawn of: one's own points."""
    return base.transform_filter("isValid(datum.accuracy)") if _has(data) else base


def marks(base: alt.Chart, data: pl.DataFrame, x: alt.X) -> list[alt.Chart]:
    """A saltire for each published accuracy, coloured by whether one's own agrees with it."""
    if not _has(data):
        return []
    return [
        base.transform_filter("isValid(datum.published)")
        .mark_point(shape="cross", angle=45, size=110, filled=True, opacity=1, clip=True)
        .encode(
            x=x,
            y=alt.Y("published:Q"),
            color=alt.Color(
                "says:N",
                title="published",
                scale=alt.Scale(domain=list(_SHADES), range=list(_SHADES.values())),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=[
                alt.Tooltip("line:N", title="setting"),
                alt.Tooltip("published:Q", title="published (%)", format=".2f"),
                alt.Tooltip("source:N"),
                alt.Tooltip("says:N", title="ours"),
                alt.Tooltip("why:N"),
            ],
        )
    ]


def _has(data: pl.DataFrame) -> bool:
    return "published" in data.columns
