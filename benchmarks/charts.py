"""Draws `benchmarks/results/*.json` as the charts of `docs/`.

python -m benchmarks.charts
"""

import json
from pathlib import Path

import altair as alt
import polars as pl

from benchmarks.adaptive import ALL_RATES
from benchmarks.judging import CLEAR
from benchmarks.record import FOLDER

DOCS = Path(__file__).parents[1] / "docs"
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


def steps(rows: pl.DataFrame) -> alt.LayerChart:
    """Ratio to the plain loop by network and variant, with the range over rounds."""
    tidy = (
        rows.filter(pl.col("variant") != "plain")
        .with_columns(
            what=pl.format("{}, batch {}: {} ({})", "network", "batch", "variant", "device"),
            place=pl.col("network").replace_strict({name: i for i, name in enumerate(_ORDER)}),
        )
        .sort("device", "place", "batch", "variant")
    )
    base = alt.Chart(tidy).encode(
        y=alt.Y("what:N", title=None, sort=None, axis=alt.Axis(labelLimit=300)),
        x=alt.X("ratio:Q", title="× images per second of a plain PyTorch loop"),
    )
    bars = base.mark_bar().encode(
        color=alt.when(alt.datum.variant == "ours")
        .then(alt.value("#4c78a8"))
        .otherwise(alt.value("#b9c8da"))
    )
    ranges = base.mark_rule().encode(x="lowest:Q", x2="highest:Q")
    labels = base.mark_text(align="left", dx=4).encode(
        x="highest:Q", text=alt.Text("ratio:Q", format=".2f")
    )
    one = alt.Chart(tidy).mark_rule(strokeDash=[4, 3]).encode(x=alt.datum(1.0))
    return (bars + ranges + labels + one).properties(width=420, height=alt.Step(20))


def study(rows: pl.DataFrame) -> alt.LayerChart:
    """Seconds of a study, of the plain loops, and as the planner estimated."""
    tidy = rows.unpivot(["ours", "plain"], index="device", variable_name="way", value_name="s")
    named = {"ours": "our study", "plain": "plain loops"}
    way = pl.format("{} ({})", pl.col("way").replace_strict(named), "device")
    tidy = tidy.with_columns(way=way)
    base = alt.Chart(tidy).encode(
        x=alt.X("s:Q", title="seconds of the ResNet-20 smoke study"), y=alt.Y("way:N", title=None)
    )
    bars = base.mark_bar().encode(color=alt.Color("way:N", legend=None))
    labels = base.mark_text(align="left", dx=4).encode(text=alt.Text("s:Q", format=",.0f"))
    expected = rows.select("estimate", way=pl.format("our study ({})", "device"))
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
    what = pl.format("{} ({})", pl.col("what").str.strip_suffix(", s"), "device")
    tidy = tidy.with_columns(what=what)
    base = alt.Chart(tidy).encode(
        x=alt.X("s:Q", title="seconds"), y=alt.Y("what:N", title=None, sort=None)
    )
    labels = base.mark_text(align="left", dx=4).encode(text=alt.Text("s:Q", format=".2f"))
    return (base.mark_bar() + labels).properties(width=420, height=alt.Step(22))


def floors(rows: pl.DataFrame) -> alt.VConcatChart:
    """Milliseconds of a step and of what the machine would need at best, network by network."""
    named = {"step_ms": "our step", "arithmetic_ms": "arithmetic", "memory_ms": "memory"}
    charts = []
    for device in rows["device"].unique(maintain_order=True):
        for network in _ORDER:
            one = rows.filter(pl.col("device") == device, pl.col("network") == network)
            if one.is_empty():
                continue
            tidy = one.unpivot(list(named), variable_name="what", value_name="ms").with_columns(
                what=pl.col("what").replace_strict(named)
            )
            base = alt.Chart(tidy).encode(
                x=alt.X("ms:Q", title="ms" if network == _ORDER[-1] else None),
                y=alt.Y("what:N", title=None, sort=list(named.values())),
            )
            bars = base.mark_bar().encode(
                color=alt.Color("what:N", legend=None, sort=list(named.values()))
            )
            labels = base.mark_text(align="left", dx=4).encode(text=alt.Text("ms:Q", format=",.1f"))
            title = f"{network}, batch {one['batch'][0]} ({device}): {one['distance'][0]:.1f} ×"
            charts.append(
                (bars + labels).properties(
                    width=420, height=alt.Step(16), title=alt.Title(title, anchor="start")
                )
            )
    return alt.vconcat(*charts, spacing=8)


def memory(rows: pl.DataFrame) -> alt.Chart:
    """Megabytes by number of runs side by side."""
    return (
        alt.Chart(rows.with_columns(what=pl.format("{} ({})", "network", "device")))
        .mark_line(point=True)
        .encode(
            x=alt.X("together:O", title="runs side by side"),
            y=alt.Y("megabytes:Q", title="MiB at the peak"),
            color=alt.Color("what:N", title=None),
        )
        .properties(width=420, height=220)
    )


def judging(rows: pl.DataFrame) -> alt.HConcatChart:
    """Shares of studies by number of trials: right, left open, wrong; a panel for each truth."""
    clear = rows.filter(pl.col("noise") == "equal", pl.col("truth").is_in(CLEAR))
    tidy = (
        clear.with_columns(open=1 - pl.col("right") - pl.col("wrong"))
        .unpivot(["right", "open", "wrong"], index=["truth", "trials"], variable_name="what")
        .with_columns(order=pl.col("what").replace_strict({"right": 0, "open": 1, "wrong": 2}))
    )
    panels = [
        alt.Chart(tidy.filter(pl.col("truth") == truth))
        .mark_bar()
        .encode(
            x=alt.X("trials:O", title="trials", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("value:Q", title="share of studies", axis=alt.Axis(format="%")),
            color=alt.Color(
                "what:N",
                title=None,
                scale=alt.Scale(
                    domain=["right", "open", "wrong"], range=["#2ca02c", "#c7c7c7", "#d62728"]
                ),
            ),
            order="order:Q",
        )
        .properties(title=truth, width=190, height=180)
        for truth in CLEAR
    ]
    return alt.hconcat(*panels)


def adaptive(rows: pl.DataFrame) -> alt.HConcatChart:
    """What adaptive studies and eight trials everywhere decide, and the runs of the former."""
    some = rows.filter(
        pl.col("noise") == "equal", pl.col("pruner") == "omp", pl.col("rates") == ALL_RATES
    )
    grid, ours = "eight trials everywhere", "until decided"
    said = pl.concat(
        some.select(
            "truth",
            pl.lit(way).alias("way"),
            pl.col(f"{prefix}right").alias("right"),
            pl.col(f"{prefix}wrong").alias("wrong"),
        )
        for way, prefix in ((ours, ""), (grid, "grid_"))
    ).with_columns(open=1 - pl.col("right") - pl.col("wrong"))
    tidy = said.unpivot(
        ["right", "open", "wrong"], index=["truth", "way"], variable_name="what"
    ).with_columns(order=pl.col("what").replace_strict({"right": 0, "open": 1, "wrong": 2}))
    rows_ = alt.Y("truth:N", title=None, sort=None, axis=alt.Axis(labelLimit=260))
    shares = (
        alt.Chart(tidy)
        .mark_bar()
        .encode(
            x=alt.X("value:Q", title="share of studies", axis=alt.Axis(format="%", tickCount=5)),
            y=rows_,
            yOffset=alt.YOffset("way:N", sort=[ours, grid]),
            color=alt.Color(
                "what:N",
                title=None,
                scale=alt.Scale(
                    domain=["right", "open", "wrong"], range=["#2ca02c", "#c7c7c7", "#d62728"]
                ),
            ),
            opacity=alt.Opacity(
                "way:N", title=None, scale=alt.Scale(domain=[ours, grid], range=[1, 0.45])
            ),
            order="order:Q",
        )
        .properties(width=260, height=330)
    )
    base = alt.Chart(some).encode(
        y=alt.Y("truth:N", title=None, sort=None, axis=alt.Axis(labels=False, ticks=False))
    )
    percent = alt.Axis(format="%", values=[0, 0.25, 0.5, 0.75, 1])
    whole = alt.Scale(domain=[0, 1])
    runs = base.mark_bar(color="#4c78a8").encode(
        x=alt.X("runs:Q", title="runs, of those of eight trials", axis=percent, scale=whole)
    )
    between = base.mark_rule().encode(x="runs_low:Q", x2="runs_high:Q")
    half = alt.Chart(some).mark_rule(strokeDash=[4, 3]).encode(x=alt.datum(0.5))
    costs = (runs + between + half).properties(width=200, height=330)
    return alt.hconcat(shares, costs)


def random_masks(rows: pl.DataFrame) -> alt.LayerChart:
    """What condition 3 was said to be, in studies in which it cannot hold."""
    tidy = (
        rows.with_columns(
            what=pl.format(
                "{}, {} trials, gap of {} points",
                pl.col("pruner").str.to_uppercase(),
                "trials",
                (100 * pl.col("gap")).map_elements("{:g}".format, pl.String),
            )
        )
        .unpivot(["fails", "undecided", "holds"], index=["what"], variable_name="said")
        .with_columns(order=pl.col("said").replace_strict({"holds": 0, "undecided": 1, "fails": 2}))
    )
    bars = (
        alt.Chart(tidy)
        .mark_bar()
        .encode(
            x=alt.X("value:Q", title="share of studies", axis=alt.Axis(format="%")),
            y=alt.Y("what:N", title=None, sort=None, axis=alt.Axis(labelLimit=260)),
            color=alt.Color(
                "said:N",
                title="condition 3",
                scale=alt.Scale(
                    domain=["holds", "undecided", "fails"], range=["#d62728", "#c7c7c7", "#2ca02c"]
                ),
            ),
            order="order:Q",
        )
    )
    level = alt.Chart(tidy).mark_rule(strokeDash=[4, 3]).encode(x=alt.datum(0.05))
    return (bars + level).properties(width=420, height=alt.Step(30))


def main() -> None:
    for name, draw in {
        "speed/step": steps,
        "speed/study": study,
        "speed/overhead": overhead,
        "speed/floor": floors,
        "speed/memory": memory,
        "judging": judging,
        "adaptive": adaptive,
        "random-masks": random_masks,
    }.items():
        name_of = name.rpartition("/")[2]
        if list(FOLDER.glob(f"{name_of}-*.json")):
            # Room for a reader's font that is wider than the one this is laid out with.
            room = {"left": 32, "right": 16, "top": 6, "bottom": 6}
            chart = draw(read(name_of)).configure(font="sans-serif", padding=room)
            chart.save(DOCS / f"{name}.svg")
            print(f"docs/{name}.svg")


if __name__ == "__main__":
    main()
