"""Figures and tables for print: sizes, fonts, colours, and LaTeX that compiles."""

import io
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from explorer import show, snapshot, tables
from explorer.figures import (
    ablation,
    appearance,
    by_learning_rate,
    by_sparsity,
    correlation,
    curves,
    definition,
    landscape,
    printing,
    training_curves,
    verdicts,
)
from explorer.figures.printing import ONE_COLUMN, POINTS, TWO_COLUMNS, NoData
from explorer.landscape import levels
from jackpot import settings
from jackpot.conditions import Criteria
from jackpot.definition import judge
from tests.explorer.test_landscape import bowl
from tests.explorer.test_pages import PAGES
from tests.jackpot.test_definition import SECONDARY, runs, three_trials


def judged(deviation: float = 0.05) -> tuple[pl.DataFrame, list]:
    frame = pl.concat(
        [
            runs(three_trials(SECONDARY, deviation=deviation)),
            runs(three_trials({"lt": SECONDARY["lt"]}, deviation=deviation, seed=1), pruner="omp"),
        ]
    )
    return frame, judge(frame)


def figures() -> dict[str, dict]:
    """A specification of every kind of figure, with real data in it."""
    frame, judgements = judged()
    table = pl.DataFrame(
        {
            "pretrain_learning_rate": [0.01, 0.01, 0.1, 0.1],
            "learning_rate": [0.01, 0.1, 0.01, 0.1],
            "setting": ["lt"] * 4,
            "pruner": ["imp", "imp", "omp", "omp"],
            "accuracy": [89.4, 87.9, 85.3, 87.2],
            "deviation": [0.1, 0.2, 0.3, None],
            "trials": [3, 3, 3, 1],
        }
    )
    pairs = pl.DataFrame(
        {
            "pair": ["dense: θ₀ and θ_T", "dense: θ₀ and θ_T", "RR: θ₀′⊙m and θ_T⊙m"],
            "setting": ["pretrain", "pretrain", "rr"],
            "learning_rate": [0.01, 0.1, 0.1],
            "correlation": [0.9, 0.3, 0.1],
            "low": [0.88, 0.25, 0.09],
            "high": [0.92, 0.35, 0.11],
            "trials": [3, 3, 3],
        }
    )
    trained = pl.DataFrame(
        {
            "run_id": ["a", "a", "b", "b"],
            "step": [1, 2, 1, 2],
            "value": [0.5, 0.8, 0.6, 0.7],
        }
    )
    of = pl.DataFrame(
        {
            "run_id": ["a", "b"],
            "setting": ["pretrain", "lt"],
            "pruner": [None, "imp"],
            "sparsity": [0.0, 0.9],
            "learning_rate": [0.1, 0.1],
        }
    )
    bowls = {"one": bowl(), "two": bowl(curvature=9.0)}
    lined = by_learning_rate.panels(frame, judgements, Criteria(), "cifar10")
    view = {"study": "s", "launch": "l"}
    charts = {
        "figure 3": by_learning_rate.chart(lined),
        "figure 1": by_sparsity.chart(by_sparsity.panels(frame)),
        "definition": definition.chart(definition.comparisons(judgements[0])),
        "verdicts": verdicts.chart(verdicts.cells(judgements, view)),
        "ablation": ablation.chart(ablation.panels(table)),
        "correlation": correlation.panel(pairs, 0.1),
        "curves": training_curves.chart(
            training_curves.bands(trained, of, "val_accuracy"), "val_accuracy"
        ),
        "landscape": landscape.chart(landscape.panels(bowls, levels(bowls.values(), 5), 0.5)),
    }
    return {name: chart.to_dict() for name, chart in charts.items()}


FIGURES = figures()


@pytest.mark.parametrize("width", [ONE_COLUMN, pytest.param(TWO_COLUMNS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_as_wide_as_a_column_and_legible(name: str, width: float):
    svg = show.exported(FIGURES[name], "svg", width, "Criteria other than the paper’s: joint.")
    text = svg.decode()
    found = float(re.search(r'<svg[^>]* width="([0-9.]+)pt"', text)[1])
    assert found == pytest.approx(width, abs=1.0)
    units = [float(size) for size in re.findall(r'font-size="([0-9.]+)px"', text)]
    assert min(units) * POINTS >= 7
    # In as many lines as it needs.
    said = re.sub(r"<[^>]*>|\s", "", text)
    assert "Criteriaotherthanthepaper’s:joint." in said
    assert "href" not in text.replace("xmlns:xlink", ""), "a figure for print has no links"


@pytest.mark.parametrize("name", ["figure 3", "definition"])
def test_a_png_has_300_dots_per_inch(name: str):
    with Image.open(io.BytesIO(show.exported(FIGURES[name], "png", ONE_COLUMN))) as image:
        assert image.width == pytest.approx(ONE_COLUMN / 72 * 300, abs=4)
        assert image.info["dpi"][0] == pytest.approx(300, abs=1)
        # Not blank: axes, lines and text in several colours.
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 50


def test_a_legend_without_a_plot_is_refused():
    empty = by_sparsity.chart(by_sparsity.panels(runs({"lt": {0.1: 90.0}}).clear())).to_dict()
    with pytest.raises(NoData, match="no data"):
        show.exported(empty, "svg", ONE_COLUMN)


def test_panels_of_a_facet_have_its_data_and_no_legend():
    spec = FIGURES["figure 1"]
    (rows,) = spec["datasets"].values()
    found = printing.panels(spec)
    assert list(found) == list(dict.fromkeys(row["panel"] for row in rows))
    shared = [row for one in found.values() for data in one["datasets"].values() for row in data]
    assert len(shared) == len(rows)
    for title, one in found.items():
        assert one["title"] == title
        text = json.dumps(one["layer"])
        assert '"legend": null' in text
        assert "single_out" not in text, "a selection that no panel has"
        assert one["resolve"] == spec["spec"]["resolve"]
    # The facet itself is as it was.
    assert "single_out" in json.dumps(spec)


def test_networks_side_by_side_have_axes_of_their_own_on_the_page_and_in_print():
    frame, judgements = judged()
    lined = by_learning_rate.panels(frame, judgements, Criteria(), "cifar10")
    shared = by_learning_rate.chart(lined).to_dict()
    own = by_learning_rate.chart(lined, has_shared_axes=False).to_dict()
    assert own["resolve"]["scale"] == {"x": "independent", "y": "independent"}

    def domains(spec: dict) -> list:
        return [
            layer["encoding"][axis]["scale"].get("domain")
            for layer in spec["layer"]
            for axis in ("x", "y")
            if "scale" in layer["encoding"].get(axis, {})
        ]

    assert None not in domains(shared["spec"])
    for spec in (own["spec"], *printing.panels(own).values()):
        assert set(domains(spec)) == {None}


def test_where_masks_of_another_rate_count_no_point_is_boxed():
    frame, judgements = judged()
    for any_rate in (False, True):
        read = Criteria(any_rate=any_rate)
        data = by_learning_rate.panels(frame, judgements, read, "cifar10")
        assert bool(by_learning_rate.boxes(data)) is not any_rate


def test_boxes_are_in_the_one_legend_of_all_panels():
    frame, judgements = judged()
    data = by_learning_rate.panels(frame, judgements, Criteria(), "cifar10")
    of_one = pl.col("panel") == data["panel"][0]
    several = pl.concat(
        [
            data,
            data.with_columns(pl.lit("another").alias("panel")),
            # One that the trials leave open, in place of each that they decide.
            data.filter(of_one).with_columns(
                pl.lit("a third").alias("panel"),
                pl.when(pl.col("box").is_not_null()).then(pl.col("box") + ", undecided"),
            ),
        ]
    )
    found = by_learning_rate.boxes(several)
    assert found == ["secondary", "secondary, undecided"]
    svg = show.exported(by_learning_rate.chart(several).to_dict(), "svg", TWO_COLUMNS).decode()
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    for entry in (*found, "LT-IMP", "LT-OMP", "pretrain"):
        assert texts.count(entry) == 1


def test_destroyed_networks_do_not_press_the_others_together():
    """Those of a rate that is too large guess; RR far below LT is what the figure is about."""
    rates = (0.01, 0.02, 0.04, 0.08)
    means = {
        "pretrain": dict(zip(rates, (97.0, 97.8, 98.1, 98.2), strict=True)),
        "lt": dict(zip(rates, (97.1, 97.9, 98.2, 98.0), strict=True)),
        "rr": dict(zip(rates, (60.0, 97.0, 97.3, 97.1), strict=True)),
    }
    for chance, (low, title) in {
        10.0: (60.0, "accuracy (%), cut below"),
        55.0: (55.0, "accuracy (%)"),
    }.items():
        with_one_more = {name: curve | {0.16: chance} for name, curve in means.items()}
        frame = runs(three_trials(with_one_more, deviation=0.0))
        data = by_learning_rate.panels(frame, [], Criteria(), "mnist")
        (panel,) = printing.panels(by_learning_rate.chart(data).to_dict()).values()
        axes = [layer["encoding"]["y"] for layer in panel["layer"]]
        assert {axis["title"] for axis in axes if "title" in axis} == {title}
        (domain,) = {tuple(axis["scale"]["domain"]) for axis in axes if "scale" in axis}
        assert low - 3 < domain[0] < low
        assert 98.2 < domain[1] <= 101


def test_what_no_rate_trains_is_not_cut_and_published_accuracies_undo_no_cut():
    rates = (0.01, 0.02, 0.04, 0.08)
    fine = dict(zip(rates, (97.0, 97.8, 98.1, 98.2), strict=True))
    lost = pl.DataFrame(
        {"sparsity": 0.5, "line": "a", "accuracy": list(fine.values()), "low": 96.9, "high": 98.3}
    )
    collapsed = pl.DataFrame(
        {"sparsity": 0.5, "line": "b", "accuracy": 10.0, "low": 10.0, "high": 10.0}
    )
    published = collapsed.with_columns(accuracy=None, line=pl.lit("c"))
    of_rates = collapsed.with_columns(line=pl.lit("a"))

    def axis(*parts: pl.DataFrame) -> tuple[str, float]:
        y = curves.accuracy(pl.concat(parts, how="vertical_relaxed"), is_cut=True).to_dict()
        return y["title"], y["scale"]["domain"][0]

    title, low = axis(lost, collapsed)
    assert title == "accuracy (%)"
    assert low < 10
    one_of_two = of_rates.with_columns(accuracy=54.6, low=0.0, high=100.0)
    title, low = axis(lost, one_of_two)
    assert title == "accuracy (%), cut below"
    assert low > 96
    title, low = axis(lost, of_rates, published)
    assert title == "accuracy (%), cut below"
    assert low > 96


def test_exports_in_a_hurry_are_whole():
    """Several sessions draw pages while the exports of others are made."""
    some = ("figure 3", "definition", "correlation")
    wanted = {name: show.exported(FIGURES[name], "svg", ONE_COLUMN) for name in some}
    found: list[tuple[str, bytes]] = []
    stop = threading.Event()

    def draw() -> None:
        while not stop.is_set():
            figures()

    def export(name: str) -> None:
        found.append((name, show.exported(FIGURES[name], "svg", ONE_COLUMN)))

    drawing = threading.Thread(target=draw)
    exports = [threading.Thread(target=export, args=(name,)) for name in some * 4]
    drawing.start()
    for thread in exports:
        thread.start()
    for thread in exports:
        thread.join()
    stop.set()
    drawing.join()
    assert len(found) == len(exports)

    def without_ids(svg: bytes) -> bytes:
        return re.sub(rb"clip\d+|gradient_\d+", b"", svg)

    for name, svg in found:
        assert without_ids(svg) == without_ids(wanted[name])


# Machado, Oliveira and Fernandes (2009), severity 1: from linear RGB to what is seen.
SEEN = {
    "normal": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(colour: str, eye: str) -> np.ndarray:
    """CIE L*a*b* of a colour as an eye sees it."""
    seen = np.clip(np.asarray(SEEN[eye]) @ linear(colour), 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.asarray(to_xyz) @ seen / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eye", SEEN)
@pytest.mark.parametrize(
    "palette",
    [
        {
            row.name: row.colour
            for row in settings.SETTINGS.values()
            if row not in settings.CONTROLS
        },
        {row.name: row.colour for row in (settings.LT, settings.RR, settings.SH)},
        appearance.PRIZES,
        appearance.DECISIONS,
    ],
    ids=["settings", "mask", "prizes", "decisions"],
)
def test_colours_stay_apart_for_every_eye(palette: dict, eye: str):
    # 2.3 is just noticeable; on thin lines and small points it takes much more.
    for one, other in combinations(palette.values(), 2):
        assert np.linalg.norm(lab(one, eye) - lab(other, eye)) > 18, (one, other)


@pytest.mark.parametrize("eye", SEEN)
def test_colours_of_controls_are_apart_as_well(eye: str):
    """Less far, sixteen being many: shapes tell them apart too."""
    colours = [row.colour for row in settings.SETTINGS.values()]
    for one, other in combinations(colours, 2):
        assert np.linalg.norm(lab(one, eye) - lab(other, eye)) > 10, (one, other)


@pytest.mark.parametrize("ground", ["#ffffff", "#0e1117", "#171716"])
def test_colours_stand_out_on_both_themes(ground: str):
    """WCAG 2.1, 1.4.11: graphics have a contrast of 3 : 1."""

    def luminance(colour: str) -> float:
        return float(np.dot([0.2126, 0.7152, 0.0722], linear(colour)))

    colours = [row.colour for row in settings.SETTINGS.values()]
    for colour in (*colours, *appearance.PRIZES.values(), *appearance.DECISIONS.values()):
        low, high = sorted([luminance(colour), luminance(ground)])
        assert (high + 0.05) / (low + 0.05) >= 3, colour


def test_shapes_tell_settings_apart_without_any_colour():
    shapes = [row.shape for row in settings.SETTINGS.values()]
    assert len(set(shapes)) == len(shapes)
    frame, _ = judged()
    panels = by_sparsity.panels(frame)
    # LT-IMP and LT-OMP differ by their fill, and up to three further pruners from both.
    others = [
        panels.with_columns(method=pl.lit(name), line=pl.format("{}-{}", "setting", pl.lit(name)))
        for name in ("SNIP", "ERK", "GRASP")
    ]
    for frame in (panels, pl.concat([panels, *others])):
        legend = appearance.legend(frame)
        looks = list(zip(legend.shapes, legend.fills, strict=True))
        assert len(set(looks)) == len(looks) == len(legend.lines)


def test_tables_3_and_4_have_the_papers_layout():
    table = tables.table_3(
        [("mine", "resnet20", "cifar10", "△ ✓ ? ×"), ("mine", "a_net", "digits", "× × × ×")]
    )
    assert table.columns == ["dataset", "source", "resnet20", "a_net"]
    assert table.rows() == [
        ("cifar10", "mine", "△ ✓ ? ×", None),
        ("cifar10", tables.PAPER, "× ✓ ✓ ✓", None),
        ("digits", "mine", None, "× × × ×"),
    ]
    lines = tables.table_3_latex(table).splitlines()
    assert lines[3].startswith("Dataset &")
    assert lines[6].startswith(" & Ma et al. (2021) & ")
    # The paper's Table 4, left block: IMP and OMP at two of its rates.
    printed = pl.DataFrame(
        {
            "pretrain_learning_rate": [0.01] * 4,
            "learning_rate": [0.005, 0.01, 0.005, 0.01],
            "pruner": ["imp", "imp", "omp", "omp"],
            "accuracy": [89.7, 89.4, 85.3, 86.5],
        }
    )
    text = tables.table_4(printed, {0.01: 90.3})
    assert r"\multicolumn{3}{c}{pretraining at 0.01 (acc. 90.3 {\%})} \\" in text
    assert r"\cmidrule(lr){1-3}" in text
    assert r"0.005 & \textbf{89.7} & 85.3 \\" in text
    assert r"0.01 & 89.4 & \textbf{86.5} \\" in text


@pytest.fixture
def every_table(trained: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The LaTeX of every table of every page on a real study."""
    found: list[str] = []

    def record(frame: pl.DataFrame, name: str, tex: str | None = None, **columns: object) -> None:
        found.append(tables.latex(tables.in_words(frame)) if tex is None else tex)

    monkeypatch.setattr(show, "table", record)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", trained)
    snapshot.snapshot.clear()
    for page in PAGES:
        app = AppTest.from_file(str(page), default_timeout=60)
        if page.stem == "point":
            for name, value in {"setting": "pretrain", "s": "0", "lr": "0.1"}.items():
                app.query_params[name] = value
        app.run()
        assert not app.exception
    return found


HOSTILE = [
    *("=1+1", "a & b", "50 % of $x_1^2$", "\\input{/etc/passwd}", "{}}{", "#1 ~ \"quoted\" 'a'"),
    *("① ② ⑤ △ ✓ × θ₀⊙m − ± → ≥ … – † ′", "naïve Ångström ß", "中文 🎰 \u202e", "a\nb\tc\x00d"),
    *("<script>|", "--- `` ?`", "[1] *2"),
]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs Debian's texlive")
def test_every_table_compiles(every_table: list[str], tmp_path: Path):
    hostile = tables.latex(pl.DataFrame({"=name": HOSTILE, "sparsity": [0.9] * len(HOSTILE)}))
    assert len(every_table) >= 20
    body = "\n\n\\clearpage\n".join([*every_table, hostile])
    document = (
        "\\documentclass{article}\n\\usepackage{amssymb,booktabs}\n\\begin{document}\n"
        f"{body}\n\\end{{document}}\n"
    )
    (tmp_path / "tables.tex").write_text(document, encoding="utf-8")
    ran = subprocess.run(
        [
            "pdflatex",
            "-interaction=nonstopmode",
            "-halt-on-error",
            "-no-shell-escape",
            "tables.tex",
        ],
        cwd=tmp_path,
        capture_output=True,
        timeout=200,
        check=False,
    )
    said = ran.stdout.decode(errors="replace")
    assert ran.returncode == 0, said[-2000:]
    assert "Missing character" not in said


def test_what_latex_would_run_is_text():
    text = tables.latex(pl.DataFrame({"name": HOSTILE}))
    body = text.partition(r"\midrule")[2]
    assert r"\input" not in body
    assert len(body.strip().splitlines()) == len(HOSTILE) + 2
    # A character that pdflatex does not have is named by its code point.
    assert "U+4E2D" in body


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_computes_no_cell(cell: str):
    text = tables.csv(pl.DataFrame({"name": [cell], "number": [-1.5]}))
    read = pl.read_csv(io.StringIO(text))
    assert read["name"][0] == f"'{cell}"
    assert read["number"][0] == -1.5, "numbers are no text"
