"""Figures and tables on a page, each with its downloads."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import altair as alt
import polars as pl
import streamlit as st
from altair.utils.schemapi import disable_debug_mode

from explorer import tables
from explorer.figures import appearance, printing

Chart = alt.Chart | alt.LayerChart | alt.FacetChart | alt.HConcatChart
_WIDTHS = {"one column": printing.ONE_COLUMN, "two columns": printing.TWO_COLUMNS}
_MIMES: dict[Literal["svg", "png"], str] = {"svg": "image/svg+xml", "png": "image/png"}
_DOTS_PER_INCH = 300
# Of the version that wrote the specification; the converter has several.
_VEGA_LITE = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
# Specifications hold their data: nothing else is shared by threads.
alt.data_transformers.enable("default", max_rows=None)
# Altair would check every part of a chart as it is made, and the whole again: half of a page's
# time. The tests check the specification of each figure.
disable_debug_mode()
_PAGE = """<style>
/* Panels side by side, as many as the window has room for. */
[class*="st-key-panels-"] {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 23rem), 1fr));
}
[class*="st-key-panels-"] > div { min-width: 0; width: 100%; }
/* White on the dark theme's primary colour would have a contrast of 3 : 1. */
[data-tag] { background-color: #1a5f94 !important; color: #ffffff !important; }
</style>
<script>
// Vega follows a mark's link by an anchor of its own. Those to pages of this app open beside it.
if (!window.linksOpenBeside) {
  window.linksOpenBeside = true;
  const follow = HTMLAnchorElement.prototype.dispatchEvent;
  HTMLAnchorElement.prototype.dispatchEvent = function (event) {
    if (!this.isConnected && (this.getAttribute("href") || "").startsWith("./")) {
      this.target = "_blank";
    }
    return follow.call(this, event);
  };
}
</script>"""


def page() -> None:
    """What every page needs once: how panels share a window, and where links open."""
    st.html(_PAGE, unsafe_allow_javascript=True)


def figure(
    chart: Chart,
    name: str,
    description: str,
    footnote: str = "",
    panels: Mapping[str, Chart] | None = None,
    is_square: bool = False,
    shown: Chart | None = None,
) -> None:
    """Draws a chart, with downloads as SVG and PNG at print size.

    Args:
        chart: the chart; of several panels, if it has them.
        name: of the files.
        description: what a reader who cannot see it is told.
        footnote: a line below the figure in print, such as criteria that are not the default.
        panels: the chart's panels by their titles, which share a window's width as they find room;
            None: those of the chart, if it is a facet.
        is_square: whether panels keep their own size.
        shown: the chart whose panels are drawn, where lines are singled out; None: the chart.
    """
    # Everything is made in the page's own thread; the converter gets a plain dict.
    spec = chart.to_dict(validate=False)
    if panels is not None:
        made = {title: one.to_dict(validate=False) for title, one in panels.items()}
        grid(made, name, description, is_square)
    elif "facet" in spec:
        of = spec if shown is None else shown.to_dict(validate=False)
        grid(printing.panels(of), name, description)
    else:
        _draw(spec, description)
    if not printing.has_data(spec):
        st.text("No download: this figure has no data.")
        return
    with st.popover("Download figure", icon=":material/download:"):
        for width, points in _WIDTHS.items():
            with st.container(horizontal=True):
                for kind, mime in _MIMES.items():
                    st.download_button(
                        f"{kind.upper()}, {width} ({points / 72:g} in)",
                        partial(exported, spec, kind, points, footnote),
                        f"{name}.{kind}",
                        mime,
                        key=f"{name}-{kind}-{width}",
                        # A rerun would take the button away under a second click.
                        on_click="ignore",
                    )


def grid(
    panels: Mapping[str, printing.Spec], name: str, description: str, is_square: bool = False
) -> None:
    """Specifications side by side, as many in a row as the window has room for."""
    with st.container(key=f"panels-{_as_key(name)}"):
        for title, panel in panels.items():
            spec = {**panel, "title": title}
            if is_square:
                # Streamlit would fit axes and legend into the panel's own size.
                spec["autosize"] = "pad"
            _draw(spec, f"{description} {title}", "content" if is_square else "stretch")


def key(legend: appearance.Legend, name: str) -> list[str]:
    """The legend above panels; see `explorer.figures.appearance.key`.

    Returns:
        The lines that a click in it has singled out; none: all are alike.
    """
    state = st.vega_lite_chart(
        spec=_on_page(appearance.key(legend).to_dict(validate=False)),
        key=f"legend-{_as_key(name)}",
        on_select="rerun",
        selection_mode="line",
        width="content",
        alt="Legend. Click an entry to single its line out.",
    )
    chosen = [point.get("line") for point in state["selection"].get("line", [])]
    return [line for line in chosen if line in legend.lines]


def _draw(
    spec: printing.Spec, description: str, width: Literal["stretch", "content"] = "stretch"
) -> None:
    st.vega_lite_chart(spec=_on_page(spec), width=width, alt=description)


def _on_page(spec: printing.Spec) -> printing.Spec:
    """Streamlit's theme decides what the specification does not."""
    own = {name: value for name, value in spec.get("config", {}).items() if name != "view"}
    made = {**spec, "config": own}
    if isinstance(spec.get("height"), dict):
        # A chart with a row for each thing is as high as its rows.
        made["autosize"] = {"type": "fit-x", "contains": "padding"}
    return made


def exported(
    spec: printing.Spec, kind: Literal["svg", "png"], width: float, footnote: str = ""
) -> bytes:
    """A figure for print, on white: SVG, or PNG at 300 dots per inch.

    Args:
        spec: with its data.
        kind: of the file.
        width: in points.
        footnote: a line below the figure.

    Raises:
        explorer.figures.printing.NoData: a specification without any data.
    """
    import vl_convert

    draw = partial(vl_convert.vegalite_to_svg, vl_version=_VEGA_LITE)
    made, svg = printing.fitted(spec, width, footnote, draw)
    if kind == "svg":
        return svg.encode()
    return bytes(
        vl_convert.vegalite_to_png(
            made, vl_version=_VEGA_LITE, scale=printing.POINTS, ppi=_DOTS_PER_INCH
        )
    )


def table(frame: pl.DataFrame, name: str, tex: str | None = None, **columns: Any) -> None:
    """Shows a table, with downloads as CSV and LaTeX.

    Args:
        frame: the table.
        name: of the files.
        tex: the table in LaTeX, if it is laid out otherwise there.
        columns: Streamlit column configs by column.
    """
    shown = tables.in_words(frame)
    st.dataframe(shown, hide_index=True, column_config=columns or None)
    # Made when they are asked for: the LaTeX of ten thousand rows takes a while.
    files = (
        ("CSV", "csv", partial(tables.csv, frame)),
        ("LaTeX", "tex", partial(tables.latex, shown) if tex is None else tex),
    )
    with st.container(horizontal=True):
        for label, kind, made in files:
            st.download_button(
                label,
                made,
                f"{name}.{kind}",
                f"text/{'csv' if kind == 'csv' else 'x-tex'}",
                key=f"{name}-{kind}",
                icon=":material/download:",
                on_click="ignore",
            )


def numbers(points: pl.DataFrame, name: str) -> None:
    """The numbers of a figure: the points' means and deviations, and what each rests on.

    Args:
        points: as `explorer.figures.points.points` has them, with links.
        name: of the files.
    """
    columns = ("line", "sparsity", "learning_rate", "accuracy", "deviation", "trials")
    with st.expander("Numbers"):
        table(
            points.select(*columns, evidence="link"),
            name,
            evidence=st.column_config.LinkColumn(display_text="open"),
            accuracy=st.column_config.NumberColumn(format="%.2f"),
            deviation=st.column_config.NumberColumn(format="%.2f"),
        )


def chips(said: Sequence[str]) -> None:
    """What a reader has changed, where it cannot be overlooked."""
    if said:
        with st.container(horizontal=True):
            for text in said:
                st.badge(plain(text), icon=":material/tune:", color="orange")


def plain(text: str) -> str:
    """Text that Markdown shows as it is: names come from stores and links.

    >>> print(plain("a_b *c* ![x](y)"))
    a\\_b \\*c\\* \\!\\[x\\]\\(y\\)
    """
    marked = "\\`*_{}[]()<>#+-.!|$:~"
    return "".join(f"\\{c}" if c in marked else c for c in text if c.isprintable())


def _as_key(name: str) -> str:
    """A name as part of a CSS class; different names have different ones."""
    told = hashlib.sha256(name.encode()).hexdigest()[:8]
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name) + f"-{told}"
