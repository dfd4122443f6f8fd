"""Vega-Lite specifications for print: the sizes of a journal's columns, legible fonts. Pure.

One unit of a specification is `POINTS` points on paper, so that lines and symbols, which are drawn
for the screen, are fine enough for print.
"""

import re
from collections.abc import Callable, Mapping
from textwrap import wrap
from typing import Any

Spec = dict[str, Any]
POINTS = 0.6
ONE_COLUMN, TWO_COLUMNS = 234.0, 486.0
"""Widths in points: 3.25 and 6.75 inches."""
_FONT = 12.5
"""In units: 7.5 points."""
_SMALLEST = 60.0
_ATTEMPTS = 4
_RATIO = 0.62


class NoData(ValueError):
    """A specification that would draw nothing."""


def has_data(spec: Mapping[str, Any]) -> bool:
    """Whether a specification would draw more than a legend."""
    return any(map(len, spec.get("datasets", {}).values()))


def printed(spec: Mapping[str, Any], panel: float, columns: int, footnote: str = "") -> Spec:
    """A specification for print.

    Args:
        spec: for the screen, with its data.
        panel: width of each panel, in units.
        columns: panels in a row, where there are several.
        footnote: a line below, such as the criteria.

    Raises:
        NoData: a specification without any data.
    """
    if not has_data(spec):
        raise NoData("this figure has no data, so that it would be a legend without a plot")
    made: Spec = _without(spec, ("href", "usermeta", "autosize"))
    _narrow(made, panel, columns)
    for several in ("hconcat", "concat", "vconcat"):
        if several in made:
            made["concat"] = made.pop(several)
            made["columns"] = columns
    config = dict(made.get("config", {}))
    fonts = {"labelFontSize": _FONT, "titleFontSize": _FONT}
    for part in ("axis", "legend", "header"):
        config[part] = {**config.get(part, {}), **fonts}
    config["legend"] |= {"columns": 3 * columns, "labelLimit": 180, "gradientLength": panel}
    if isinstance(spec.get("height"), dict):
        # Rows have long names, beside which a legend has little room to the right.
        config["legend"]["layout"] = {"top": {"anchor": "end"}}
    config["title"] = {"fontSize": _FONT}
    config["text"] = {"fontSize": _FONT}
    config["font"] = "Helvetica, Arial, Liberation Sans, sans-serif"
    made["config"] = config
    made["background"] = "white"
    made["padding"] = 4
    if footnote:
        made["title"] = {
            "text": _lines(footnote, columns * panel),
            "fontWeight": "normal",
            "orient": "bottom",
            "anchor": "start",
            "offset": 6,
        }
    return made


def panels(spec: Mapping[str, Any]) -> dict[str, Spec]:
    """The panels of a facet, each a specification without legends, by their titles.

    Args:
        spec: of a facet, with its data. What a click on its legend does is left out.
    """
    name, field = spec["data"]["name"], spec["facet"]["field"]
    by: dict[str, list] = {}
    for row in spec["datasets"][name]:
        by.setdefault(str(row[field]), []).append(row)
    one = _for_panels(spec["spec"])
    about = {key: spec[key] for key in ("$schema", "config") if key in spec}
    return {
        title: {**about, **one, "data": {"name": name}, "datasets": {name: rows}, "title": title}
        for title, rows in by.items()
    }


def _for_panels(spec: Any) -> Any:
    if isinstance(spec, dict):
        if "param" in (spec.get("condition") or {}):
            return {"value": spec["condition"]["value"]}
        # `resolve` has a key "legend" too, by channels.
        return {
            key: value if key == "resolve" else None if key == "legend" else _for_panels(value)
            for key, value in spec.items()
            if key != "params"
        }
    return [_for_panels(item) for item in spec] if isinstance(spec, list) else spec


def fitted(
    spec: Mapping[str, Any], width: float, footnote: str, svg: Callable[[Spec], str]
) -> tuple[Spec, str]:
    """A specification whose drawing is as wide as a column, and its SVG.

    Args:
        spec: for the screen, with its data.
        width: in points.
        footnote: a line below.
        svg: draws a specification.

    Raises:
        NoData: a specification without any data.
    """
    wanted = width / POINTS
    columns = min(_panels(spec), 1 if width < TWO_COLUMNS else 2)
    panel = wanted / columns - 70
    for _ in range(_ATTEMPTS):
        made = printed(spec, panel, columns, footnote)
        drawn = svg(made)
        over = _width(drawn) - wanted
        if abs(over) < 1 or (over > 0 and panel <= _SMALLEST):
            break
        panel = max(panel - over / columns, _SMALLEST)
    return made, _in_points(drawn)


def _lines(text: str, width: float) -> list[str]:
    """Text in lines of about a width, in units: a letter is half as wide as it is high."""
    return wrap(text, max(int(width / (0.5 * _FONT)), 20))


def _narrow(spec: Spec, panel: float, columns: int) -> None:
    if "facet" in spec:
        spec["columns"] = columns
        _narrow(spec["spec"], panel, columns)
        return
    parts = [part for name in ("hconcat", "concat", "vconcat") for part in spec.get(name, [])]
    for part in parts:
        _narrow(part, panel, columns)
    if not parts:
        width, height = spec.get("width"), spec.get("height", 300)
        spec["width"] = panel
        # A chart with a row for each thing is as high as its rows.
        if not isinstance(height, dict):
            spec["height"] = round(panel * min(height / width if width else _RATIO, 1.0))


def _panels(spec: Mapping[str, Any]) -> int:
    if "facet" in spec:
        name = spec["facet"]["field"]
        return len({row.get(name) for rows in spec["datasets"].values() for row in rows}) or 1
    return max(
        (len(spec[name]) for name in ("hconcat", "concat", "vconcat") if name in spec), default=1
    )


def _without(spec: Any, names: tuple[str, ...]) -> Any:
    """Links lead to a server that the reader of a paper does not have."""
    if isinstance(spec, dict):
        return {
            key: value if key == "datasets" else _without(value, names)
            for key, value in spec.items()
            if key not in names
        }
    return [_without(item, names) for item in spec] if isinstance(spec, list) else spec


def _width(svg: str) -> float:
    found = re.search(r'<svg[^>]* width="([0-9.]+)"', svg)
    if found is None:
        raise ValueError("a drawing without a width")
    return float(found[1])


def _in_points(svg: str) -> str:
    """Width and height as points on paper: a program that places the figure takes these."""

    def scaled(found: re.Match) -> str:
        return f'{found[1]}{float(found[2]) * POINTS:.2f}pt"'

    head, tag, rest = svg.partition(">")
    return re.sub(r'( (?:width|height)=")([0-9.]+)"', scaled, head) + tag + rest
