"""How settings and pruners look in legends: names, colours, dashes, shapes, and their order.

Settings take theirs from the table (`jackpot.settings`). Whatever else a store names gets a colour,
a dash and a shape of its own: nothing that was trained is left out of a figure.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import altair as alt
import polars as pl

from jackpot import plugins, settings
from jackpot.conditions import Verdict

DENSE = "dense"
BOXES = {Verdict.JACKPOT: "#2ca02c", Verdict.TICKET: "#8fae1b", Verdict.SECONDARY: "#d4a20a"}
NEUTRAL = "#7f7f7f"
# Of networks without a mask, of the paper's two pruners, and of whatever else there is.
_DASHES = {DENSE: [1, 0], "IMP": [1, 0], "OMP": [5, 3]}
_SHAPES = {DENSE: "circle", "IMP": "circle", "OMP": "triangle-up"}
_OTHER_DASHES = ([2, 2], [8, 3, 2, 3], [1, 3], [10, 4], [6, 2, 1, 2, 1, 2])
_OTHER_SHAPES = ("square", "diamond", "cross", "triangle-down", "triangle-right")


def method(pruner: str | None) -> str:
    """What a pruner is called on screen; `dense` where there is none.

    >>> method("imp"), method("mypackage.mymodule:lamp"), method(None)
    ('IMP', 'LAMP', 'dense')
    """
    return DENSE if pruner is None else plugins.short(pruner).upper()


def line(setting: str, pruner: str | None = None) -> str:
    """The legend entry of a setting under a pruner's mask.

    >>> line("lt", "imp"), line("sdt")
    ('LT-IMP', 'SDT')
    """
    label = settings.label(setting)
    return label if pruner is None else f"{label}-{method(pruner)}"


def named(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame with `setting` and `pruner`, and how these are called: `method` and `line`."""
    pairs = frame.select("setting", "pruner").unique()
    names = pairs.with_columns(
        pl.Series("method", [method(pruner) for _, pruner in pairs.rows()], dtype=pl.String),
        pl.Series("line", [line(*pair) for pair in pairs.rows()], dtype=pl.String),
    )
    return frame.join(
        names, on=["setting", "pruner"], how="left", nulls_equal=True, maintain_order="left"
    )


@dataclass(frozen=True)
class Legend:
    """The legend of the lines in a figure.

    Attributes:
        lines: its entries, in order: settings as in the table, each dense, IMP, OMP, others.
        colours, dashes: of each entry.
        methods: pruners, as on screen.
        shapes: of the points of each.
    """

    lines: list[str]
    colours: list[str]
    dashes: list[list[int]]
    methods: list[str]
    shapes: list[str]

    def colour(self) -> alt.Color:
        """Colour by `line`."""
        return alt.Color(
            "line:N",
            title=None,
            scale=alt.Scale(domain=self.lines, range=self.colours),
            legend=_entries(),
        )

    def dash(self) -> alt.StrokeDash:
        """Dashes by `line`, in the same legend as the colours."""
        return alt.StrokeDash(
            "line:N",
            title=None,
            scale=alt.Scale(domain=self.lines, range=self.dashes),
            legend=_entries(),
        )

    def shape(self) -> alt.Shape:
        """Shapes by `method`."""
        scale = alt.Scale(domain=self.methods, range=self.shapes)
        return alt.Shape("method:N", legend=None, scale=scale)


def legend(points: pl.DataFrame) -> Legend:
    """The legend of points with `setting method line`."""
    names = settings.ordered(points["setting"])
    colours = settings.colours(names)
    methods = _ordered_methods(points["method"])
    rows = sorted(
        points.select("setting", "method", "line").unique().rows(),
        key=lambda row: (names.index(row[0]), methods.index(row[1])),
    )
    others = [found for found in methods if found not in _DASHES]
    dashes = _DASHES | {m: _OTHER_DASHES[i % len(_OTHER_DASHES)] for i, m in enumerate(others)}
    shapes = _SHAPES | {m: _OTHER_SHAPES[i % len(_OTHER_SHAPES)] for i, m in enumerate(others)}
    return Legend(
        lines=[entry for _, _, entry in rows],
        colours=[colours[setting] for setting, _, _ in rows],
        dashes=[dashes[found] for _, found, _ in rows],
        methods=methods,
        shapes=[shapes[found] for found in methods],
    )


def _ordered_methods(methods: Iterable[str]) -> list[str]:
    found = set(methods)
    return [*(m for m in _DASHES if m in found), *sorted(found - set(_DASHES))]


def _entries() -> alt.Legend:
    return alt.Legend(orient="top", symbolType="stroke", columns=9, labelLimit=120)


def links(data: pl.DataFrame) -> dict[str, alt.Href]:
    """Links marks to their runs in MLflow, if the data has their addresses."""
    return {"href": alt.Href("link:N")} if "link" in data.columns else {}


def learning_rate_axis(data: pl.DataFrame, title: str = "learning rate") -> alt.X:
    """A logarithmic axis with a tick at each of the data's learning rates."""
    rates = data["learning_rate"].unique().sort().to_list()
    return alt.X(
        "learning_rate:Q",
        title=title,
        scale=alt.Scale(type="log", nice=False, padding=16),
        axis=alt.Axis(values=rates, format="~g"),
    )


def span(counts: tuple[int, int]) -> str:
    """The fewest and the most of something: "3", or "1 to 3"."""
    few, many = counts
    return f"{few}" if few == many else f"{few} to {many}"
