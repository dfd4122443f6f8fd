"""How everything looks, on screen and in print: one palette, the same in every chart and theme.

Settings take colour and shape from their table (`jackpot.settings`). Whatever else a store names
gets its own: nothing that was trained is left out of a figure. Pruners differ by dashes, and by
how much points are filled. Colours are at least 3 : 1 against white and against the dark theme,
and stay apart to colour-blind eyes; no colour is alone in saying anything.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import altair as alt
import polars as pl

from jackpot import settings, wording
from jackpot.conditions import Condition, Verdict
from jackpot.contrasts import Decision
from jackpot.definition import Judgement

Layers = alt.LayerChart | alt.FacetChart
"""What `alt.layer` says that it gives."""
NEUTRAL = "#949494"
# The paper's box of a secondary prize is green.
PRIZES = {Verdict.JACKPOT: "#c08a00", Verdict.SECONDARY: "#1a8f5a"}
DECISIONS = {Decision.HOLDS: "#1f6fd0", Decision.FAILS: "#c8501e", Decision.UNDECIDED: NEUTRAL}
UNDECIDED_DASH = [3, 2]
OPEN = ", undecided"
"""After a prize that the means give and the trials leave open."""
# Of networks without a mask, of the paper's two pruners, and of whatever else there is.
_DASHES = {settings.DENSE: [1, 0], "IMP": [1, 0], "OMP": [5, 3]}
_OTHER_DASHES = ([2, 2], [8, 3, 2, 3], [1, 3], [10, 4], [6, 2, 1, 2, 1, 2])
_FILLS = {settings.DENSE: 1.0, "IMP": 1.0, "OMP": 0.0}
_OTHER_FILLS = (0.4, 0.7, 0.2)
# Shapes that Vega-Lite has no name for, as paths in a square from -1 to 1.
_PATHS = {
    "pentagon": "M0,-1L0.95,-0.31L0.59,0.81L-0.59,0.81L-0.95,-0.31Z",
    "star": "M0,-1L0.29,-0.4L0.95,-0.31L0.48,0.15L0.59,0.81L0,0.5L-0.59,0.81L-0.48,0.15L-0.95,-0.31"
    "L-0.29,-0.4Z",
    "hexagon": "M0,-1L0.87,-0.5L0.87,0.5L0,1L-0.87,0.5L-0.87,-0.5Z",
    "bow tie": "M-0.9,-0.8L0,-0.15L0.9,-0.8L0.9,0.8L0,0.15L-0.9,0.8Z",
    "hourglass": "M-0.8,-0.9L0.8,-0.9L0.15,0L0.8,0.9L-0.8,0.9L-0.15,0Z",
    "kite": "M0,-1L0.7,-0.2L0,1L-0.7,-0.2Z",
    "chevron": "M-0.9,-0.9L0,-0.35L0.9,-0.9L0.9,0.3L0,0.9L-0.9,0.3Z",
    "octagon": "M-0.38,-0.92L0.38,-0.92L0.92,-0.38L0.92,0.38L0.38,0.92L-0.38,0.92L-0.92,0.38"
    "L-0.92,-0.38Z",
}
# A dashed square. Dashes of its own would be taken for those of the lines.
_DASHED = "".join(
    f"M{sign * start},{side}L{sign * end},{side}M{side},{sign * start}L{side},{sign * end}"
    for side in (-1, 1)
    for sign in (-1, 1)
    for start, end in ((0.08, 0.36), (0.64, 1))
)


def ticket(judgement: Judgement) -> str:
    """A ticket's short name within a study: pruner and sparsity."""
    return f"{settings.method(judgement.pruner)} at {wording.sparsity(judgement.sparsity)}"


def asked(condition: Condition) -> str:
    """A condition's row in charts.

    Its number is in plain digits: few fonts for print have them in circles.
    """
    return f"({condition.name}) {condition.plain or condition.words}"


def named(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame with `setting` and `pruner`, and how these are called: `method` and `line`."""
    pairs = frame.select("setting", "pruner").unique()
    names = pairs.with_columns(
        pl.Series("method", [settings.method(p) for _, p in pairs.rows()], dtype=pl.String),
        pl.Series("line", [settings.line(*pair) for pair in pairs.rows()], dtype=pl.String),
    )
    return frame.join(
        names, on=["setting", "pruner"], how="left", nulls_equal=True, maintain_order="left"
    )


@dataclass(frozen=True)
class Legend:
    """The legend of the lines in a figure.

    Attributes:
        lines: its entries, in order: settings as in the table, each dense, IMP, OMP, others.
        colours, dashes, shapes: of each entry.
        fills: opacity of the inside of its points, in [0, 1].
        boxes: of tickets, as `by_learning_rate.boxes` names them: entries after those of lines.
    """

    lines: list[str]
    colours: list[str]
    dashes: list[list[int]]
    shapes: list[str]
    fills: list[float]
    boxes: Sequence[str] = ()

    def colour(self) -> alt.Color:
        """Colour of lines by `line`; the legend is that of points."""
        scale = alt.Scale(domain=self.lines, range=self.colours)
        return alt.Color("line:N", scale=scale, legend=None)

    def dash(self) -> alt.StrokeDash:
        """Dashes by `line`."""
        scale = alt.Scale(domain=self.lines, range=self.dashes)
        return alt.StrokeDash("line:N", scale=scale, legend=None)

    def points(self, of: str = "line") -> dict[str, Any]:
        """Encodings of points by `line` or `box`, with the legend: shape, stroke and fill."""
        entries = [*self.lines, *self.boxes]
        prizes = [PRIZES[Verdict(name.removesuffix(OPEN))] for name in self.boxes]
        around = [_DASHED if name.endswith(OPEN) else "square" for name in self.boxes]
        # One row, while it fits into a page.
        columns = 5 if len(entries) > 6 else alt.Undefined
        entry = alt.Legend(
            orient="top",
            labelLimit=180,
            symbolSize=90,
            symbolStrokeWidth=1.6,
            symbolOpacity=1,
            columns=columns,
        )
        fills = [
            f"{colour}{round(255 * fill):02x}"
            for colour, fill in zip(self.colours, self.fills, strict=True)
        ]

        def scale(values: list[str]) -> alt.Scale:
            return alt.Scale(domain=entries, range=values)

        strokes = scale([*self.colours, *prizes])
        fillings = scale([*fills, *("transparent" for _ in self.boxes)])
        shapes = scale([*self.shapes, *around])
        return {
            "stroke": alt.Stroke(f"{of}:N", title=None, scale=strokes, legend=entry),
            "fill": alt.Fill(f"{of}:N", title=None, scale=fillings, legend=entry),
            "shape": alt.Shape(f"{of}:N", title=None, scale=shapes, legend=entry),
        }


def legend(points: pl.DataFrame, boxes: Sequence[str] = ()) -> Legend:
    """The legend of points with `setting method line`, and of boxes around them."""
    names = settings.ordered(points["setting"])
    colours, shapes = settings.colours(names), settings.shapes(names)
    methods = _ordered_methods(points["method"])
    rows = sorted(
        points.select("setting", "method", "line").unique().rows(),
        key=lambda row: (names.index(row[0]), methods.index(row[1])),
    )
    others = [found for found in methods if found not in _DASHES]
    dashes = _DASHES | dict(zip(others, cycle(_OTHER_DASHES), strict=False))
    fills = _FILLS | dict(zip(others, cycle(_OTHER_FILLS), strict=False))
    return Legend(
        lines=[entry for _, _, entry in rows],
        colours=[colours[setting] for setting, _, _ in rows],
        dashes=[dashes[found] for _, found, _ in rows],
        shapes=[_PATHS.get(shapes[setting], shapes[setting]) for setting, _, _ in rows],
        fills=[fills[found] for _, found, _ in rows],
        boxes=boxes,
    )


def _ordered_methods(methods: Iterable[str]) -> list[str]:
    found = set(methods)
    return [*(m for m in _DASHES if m in found), *sorted(found - set(_DASHES))]


def lit(alone: Sequence[str] = ()) -> tuple[alt.Parameter, Any]:
    """The selection that a click on the legend makes, and the opacity that it gives: others fade.

    Args:
        alone: lines that are singled out from elsewhere; none: by the click.
    """
    chosen = alt.selection_point(name="single_out", fields=["line"], bind="legend")
    one = alt.FieldOneOfPredicate("line", list(alone)) if alone else chosen
    return chosen, alt.condition(one, alt.value(1.0), alt.value(0.12))


def links(data: pl.DataFrame) -> dict[str, alt.Href]:
    """Links marks to their evidence, if the data has its addresses."""
    return {"href": alt.Href("link:N")} if "link" in data.columns else {}


def learning_rate_axis(
    data: pl.DataFrame, title: str = "learning rate", *, is_shared: bool = True
) -> alt.X:
    """A logarithmic axis with a tick at each of the data's learning rates.

    Args:
        data: of all panels.
        title: of the axis.
        is_shared: whether all panels have the same axis, from the lowest rate to the highest.
    """
    rates = data["learning_rate"].unique().sort().to_list()
    ends = [rates[0], rates[-1]] if is_shared and len(rates) > 1 else alt.Undefined
    return alt.X(
        "learning_rate:Q",
        title=title,
        scale=alt.Scale(type="log", nice=False, padding=16, domain=ends),
        axis=alt.Axis(values=rates, format="~g", labelOverlap="greedy"),
    )


def shared(data: pl.DataFrame, *columns: str) -> alt.Scale:
    """A scale over all of some columns, a little wider: the same in each panel of a figure."""
    values = data.select(pl.concat_list(*columns).explode().alias("value"))["value"].drop_nulls()
    values = values.filter(values.is_finite())
    if values.is_empty():
        return alt.Scale(zero=False)
    low, high = float(values.min()), float(values.max())  # type: ignore[arg-type]
    margin = 0.05 * (high - low) or 0.5
    return alt.Scale(domain=[low - margin, high + margin], nice=False, zero=False)


def key(legend: Legend) -> alt.Chart:
    """The legend alone, above panels that have none; a click on an entry chooses it.

    Returns:
        A chart with the selection `line`.
    """
    chosen = alt.selection_point(name="line", fields=["line"], bind="legend")
    return (
        alt.Chart(pl.DataFrame({"line": [*legend.lines, *legend.boxes]}))
        .mark_point(opacity=0)
        .encode(**legend.points())
        .add_params(chosen)
        .properties(width=20, height=1, autosize="pad", padding=0, view=alt.ViewConfig(stroke=None))
    )


def box(judgement: Judgement) -> tuple[Verdict, bool] | None:
    """The prize that a ticket has by the means, and whether the trials decide it; None: no prize.

    A verdict `ticket` is decided to be a secondary prize at least.
    """
    prize = judgement.point_verdict
    if prize not in PRIZES or judgement.verdict is Verdict.NONE:
        return None
    decided = {
        Verdict.JACKPOT: judgement.verdict is Verdict.JACKPOT,
        Verdict.SECONDARY: judgement.wins,
    }
    return prize, decided[prize] and not judgement.pending
