"""Figure 6: correlation between initial and trained weights, against learning rate."""

import altair as alt
import polars as pl

from explorer.figures import appearance


def chart(table: pl.DataFrame, p: float) -> alt.LayerChart | alt.FacetChart:
    """Figure 6: R_p against the learning rate, one line per pair; the dashed line is chance.

    Args:
        table: `pair learning_rate correlation low high trials`.
        p: share of the largest weights.
    """
    base = alt.Chart(table)
    x = appearance.learning_rate_axis(table)
    colour = alt.Color("pair:N", title=None, legend=alt.Legend(orient="top", labelLimit=240))
    chance = (
        alt.Chart(pl.DataFrame({"p": [p]}))
        .mark_rule(strokeDash=[4, 3], color=appearance.NEUTRAL)
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
