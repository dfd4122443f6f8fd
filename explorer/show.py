"""Figures and tables on a page, each with its downloads."""

import io
import re
from functools import partial
from typing import Any

import altair as alt
import polars as pl
import streamlit as st

from jackpot import wording

Chart = alt.Chart | alt.LayerChart | alt.FacetChart | alt.HConcatChart


def figure(chart: Chart, name: str, description: str) -> None:
    """Draws a chart, with downloads as SVG and PNG.

    Args:
        chart: the chart.
        name: of the files.
        description: what a reader who cannot see it is told.
    """
    st.altair_chart(chart, alt=description)
    with st.container(horizontal=True):
        for kind, mime in (("svg", "image/svg+xml"), ("png", "image/png")):
            st.download_button(
                kind.upper(),
                partial(exported, chart, kind),
                f"{name}.{kind}",
                mime,
                key=f"{name}-{kind}",
                icon=":material/download:",
            )


def exported(chart: Chart, kind: str) -> bytes:
    """The chart as an SVG, or a PNG at 300 dots per inch, on white."""
    printed = chart.configure_axis(labelFontSize=11, titleFontSize=12).properties(
        background="white"
    )
    # Links lead to a server that the reader of a paper does not have.
    plain = alt.Chart.from_dict(_without_links(printed.to_dict()))
    if kind == "png":
        image = io.BytesIO()
        plain.save(image, format="png", ppi=300)
        return image.getvalue()
    drawing = io.StringIO()
    plain.save(drawing, format="svg")
    return drawing.getvalue().encode()


def _without_links(spec: Any) -> Any:
    if isinstance(spec, dict):
        return {key: _without_links(value) for key, value in spec.items() if key != "href"}
    return [_without_links(item) for item in spec] if isinstance(spec, list) else spec


def table(frame: pl.DataFrame, name: str, **columns: Any) -> None:
    """Shows a table, with downloads as CSV and LaTeX.

    Args:
        frame: the table.
        name: of the files.
        columns: Streamlit column configs by column.
    """
    shown = _in_words(frame)
    st.dataframe(shown, hide_index=True, column_config=columns or None)
    with st.container(horizontal=True):
        st.download_button(
            "CSV",
            lambda: _harmless(frame).write_csv(),
            f"{name}.csv",
            "text/csv",
            key=f"{name}-csv",
            icon=":material/download:",
        )
        st.download_button(
            "LaTeX",
            lambda: latex(shown),
            f"{name}.tex",
            "text/x-tex",
            key=f"{name}-tex",
            icon=":material/download:",
        )


def _in_words(frame: pl.DataFrame) -> pl.DataFrame:
    """Sparsities as they are written everywhere; other columns as they are."""
    if frame.schema.get("sparsity") != pl.Float64:
        return frame
    return frame.with_columns(
        pl.col("sparsity").map_elements(lambda s: wording.sparsity(s) if s else "0", pl.String)
    )


def _harmless(frame: pl.DataFrame) -> pl.DataFrame:
    """Text that a spreadsheet would compute, such as `=1+1`, begins with an apostrophe."""
    return frame.with_columns(
        pl.when(pl.col(pl.String).str.contains(r"^[=+\-@\t\r]"))
        .then(pl.format("'{}", pl.col(pl.String)))
        .otherwise(pl.col(pl.String))
        .name.keep()
        if pl.String in frame.dtypes
        else pl.all()
    )


def latex(frame: pl.DataFrame) -> str:
    """The table as a LaTeX tabular with booktabs rules, its text escaped."""
    kinds = "".join("r" if kind.is_numeric() else "l" for kind in frame.dtypes)
    lines = [
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        " & ".join(_escaped(name) for name in frame.columns) + r" \\",
        r"\midrule",
        *(" & ".join(_escaped(value) for value in row) + r" \\" for row in frame.iter_rows()),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _escaped(value: object) -> str:
    if value is None:
        return "--"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    text = text.replace("\\", r"\textbackslash ")
    return re.sub(r"([&%$#_{}])", r"\\\1", text).replace("~", r"\textasciitilde ")
