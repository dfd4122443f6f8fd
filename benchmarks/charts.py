"""Draws `benchmarks/results/*.json` as the charts of `docs/speed.md`.

python -m benchmarks.charts
"""

import json
from pathlib import Path

import altair as alt
import polars as pl

from benchmarks.record import FOLDER

DOCS = Path(__file__).parents[1] / "docs" / "speed"
_ORDER = ["resnet20", "resnet32", "vgg16", "mobilenet-v1", "resnet18", "resnet50"]


def read(name: str) -> pl.DataFrame:
    """All rows of a benchmark, with a column `device`."""
    frames = [
        pl.DataFrame(json.loads(path.read_text())).with_columns(
            device=pl.lit(path.stem.rpartition("-")[2].upper())
        )
        for path in sorted(FOLDER.glob(f"{name}-*.json"))
    ]
    return pl.concat(frames, how="diagonal_relaxed")


def steps(rows: pl.DataFrame) -> alt.FacetChart:
    """Ratio to the plain loop by network and variant, with the range over rounds."""
    tidy = rows.filter(pl.col("variant") != "plain").with_columns(
        network=pl.format("{} ({})", "network", "batch")
    )
    base = alt.Chart(tidy).encode(
        y=alt.Y("variant:N", title=None),
        x=alt.X("ratio:Q", title="× images per second of a plain PyTorch loop"),
    )
    bars = base.mark_bar().encode(color=alt.Color("variant:N", legend=None))
    ranges = base.mark_rule().encode(x="lowest:Q", x2="highest:Q")
    labels = base.mark_text(align="left", dx=4).encode(
        x="highest:Q", text=alt.Text("ratio:Q", format=".2f")
    )
    one = alt.Chart(tidy).mark_rule(strokeDash=[4, 3]).encode(x=alt.datum(1.0))
    return (
        (bars + ranges + labels + one)
        .properties(width=420, height=alt.Step(18))
        .facet(
            row=alt.Row(
                "network:N",
                title="network (batch)",
                sort=[f"{name} ({batch})" for name in _ORDER for batch in (64, 128)],
                header=alt.Header(labelAngle=0, labelAlign="left"),
            ),
            column=alt.Column("device:N", title=None),
            spacing=6,
        )
        .resolve_scale(y="independent")
    )


def study(rows: pl.DataFrame) -> alt.LayerChart:
    """Seconds of a study, of the plain loops, and as the planner estimated."""
    tidy = rows.unpivot(["ours", "plain"], index="device", variable_name="way", value_name="s")
    tidy = tidy.with_columns(
        way=pl.col("way").replace_strict({"ours": "our study", "plain": "plain loops"})
    )
    base = alt.Chart(tidy).encode(
        x=alt.X("s:Q", title="seconds of the ResNet-20 smoke study"), y=alt.Y("way:N", title=None)
    )
    bars = base.mark_bar().encode(color=alt.Color("way:N", legend=None))
    labels = base.mark_text(align="left", dx=4).encode(text=alt.Text("s:Q", format=",.0f"))
    expected = rows.select("device", "estimate", way=pl.lit("our study"))
    ticks = (
        alt.Chart(expected)
        .mark_tick(color="black", thickness=3, size=26)
        .encode(x="estimate:Q", y="way:N")
    )
    return (bars + labels + ticks).properties(
        width=420, height=alt.Step(30), title="the black mark is the planner's estimate"
    )


def overhead(rows: pl.DataFrame) -> alt.LayerChart:
    """Seconds of the start and between runs."""
    columns = [name for name in rows.columns if name.endswith(", s") and "steps" not in name]
    tidy = rows.unpivot(columns, index="device", variable_name="what", value_name="s")
    base = alt.Chart(tidy).encode(
        x=alt.X("s:Q", title="seconds"), y=alt.Y("what:N", title=None, sort=None)
    )
    labels = base.mark_text(align="left", dx=4).encode(text=alt.Text("s:Q", format=".2f"))
    return (base.mark_bar() + labels).properties(width=420, height=alt.Step(22))


def floors(rows: pl.DataFrame) -> alt.FacetChart:
    """Milliseconds of a step and of what the machine would need at best."""
    named = {"step_ms": "our step", "arithmetic_ms": "arithmetic", "memory_ms": "memory"}
    tidy = rows.unpivot(
        list(named), index=["network", "device"], variable_name="what", value_name="ms"
    ).with_columns(what=pl.col("what").replace_strict(named))
    base = alt.Chart(tidy).encode(
        x=alt.X("ms:Q", title="milliseconds at batch 64"),
        y=alt.Y("what:N", title=None, sort=list(named.values())),
    )
    bars = base.mark_bar().encode(color=alt.Color("what:N", legend=None, sort=list(named.values())))
    labels = base.mark_text(align="left", dx=4).encode(text=alt.Text("ms:Q", format=",.1f"))
    return (
        (bars + labels)
        .properties(width=420, height=alt.Step(16))
        .facet(
            row=alt.Row(
                "network:N",
                title=None,
                sort=_ORDER,
                header=alt.Header(labelAngle=0, labelAlign="left"),
            ),
            column=alt.Column("device:N", title=None),
            spacing=6,
        )
        .resolve_scale(x="independent")
    )


def memory(rows: pl.DataFrame) -> alt.Chart:
    """Megabytes by number of runs side by side."""
    return (
        alt.Chart(rows)
        .mark_line(point=True)
        .encode(
            x=alt.X("together:O", title="runs side by side"),
            y=alt.Y("megabytes:Q", title="MiB at the peak"),
            color=alt.Color("network:N", title=None),
            strokeDash=alt.StrokeDash("device:N", title=None),
        )
        .properties(width=420, height=220)
    )


def main() -> None:
    DOCS.mkdir(parents=True, exist_ok=True)
    for name, draw in {
        "step": steps,
        "study": study,
        "overhead": overhead,
        "floor": floors,
        "memory": memory,
    }.items():
        if list(FOLDER.glob(f"{name}-*.json")):
            draw(read(name)).configure(font="sans-serif").save(DOCS / f"{name}.svg")
            print(f"docs/speed/{name}.svg")


if __name__ == "__main__":
    main()
