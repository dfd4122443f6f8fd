"""A grid of eight trials against the adaptive study of the same config, both trained for real.

    python -m benchmarks.adaptive_digits [--folder FOLDER]

Each is a launch into a store of its own, in `FOLDER`; started again, it goes on. What came out goes
to `benchmarks/results/digits-adaptive-cpu.json`, and is a table of `docs/adaptive.md`.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from explorer.readers import reader
from explorer.readers.frames import launches, of_plan
from explorer.snapshot import Study
from jackpot import wording
from jackpot.conditions import Criteria
from jackpot.definition import Judgement

CONFIG = Path(__file__).parent / "adaptive.yaml"
GRID = ("--set", "trials=8", "--set", "until=null")
_NAME, RESULTS = "adaptive-digits", "digits-adaptive"


def trained(folder: Path, *more: str) -> Study:
    """Trains the study into a store in `folder`, and reads it as the explorer does."""
    folder.mkdir(parents=True, exist_ok=True)
    uri = f"sqlite:///{folder.absolute()}/mlflow.db"
    command = [sys.executable, "-m", "trainer", "--config", str(CONFIG), "--tracking-uri", uri]
    subprocess.run([*command, *more], check=True, stdout=subprocess.DEVNULL)
    store = reader(uri)
    runs = store.runs()
    launch = launches(runs).row(0, named=True)
    planned = store.planned(launch["run_id"])
    return Study(
        _NAME, "", planned.runs, of_plan(runs, planned.runs), said=planned.said, looks=planned.looks
    )


def hours(grid: Study, keys: pl.Series) -> float:
    """What these runs took in the grid, one after another: the same runs, on the same day."""
    took = pl.col("end_time") - pl.col("start_time")
    return (
        float(grid.runs.filter(pl.col("run_key").is_in(keys.implode())).select(took.sum()).item())
        / 3.6e6
    )


def compared(grid: Study, adaptive: Study) -> list[dict[str, Any]]:
    """A row for each ticket, and a last one for all together."""

    def verdicts(study: Study) -> dict[tuple[str, float], Judgement]:
        judged = study.judged(Criteria(), "last")
        return {(j.pruner, j.sparsity): j for j in judged if not j.missing}

    ours, theirs = verdicts(adaptive), verdicts(grid)
    rows: list[dict[str, Any]] = [
        {
            "ticket": f"{pruner.upper()} at {wording.sparsity(sparsity)}",
            "grid": str(theirs[pruner, sparsity]),
            "grid_trials": list(theirs[pruner, sparsity].trials),
            "adaptive": str(judgement),
            "adaptive_trials": list(judgement.trials),
        }
        for (pruner, sparsity), judgement in ours.items()
    ]
    return [
        *rows,
        {
            "ticket": "all",
            "grid": f"{grid.runs.height} runs",
            "grid_hours": hours(grid, grid.runs["run_key"]),
            "adaptive": f"{adaptive.runs.height} runs",
            "adaptive_hours": hours(grid, adaptive.runs["run_key"]),
            "looks": len(adaptive.looks),
            "why": adaptive.looks[-1].why,
        },
    ]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """As Markdown, of what was kept."""
    lines = ["| ticket | eight trials everywhere | adaptive | its trials |", "|---|---|---|---|"]
    for row in rows[:-1]:
        few, most = row["adaptive_trials"]
        trials = f"{few}" if few == most else f"{few} to {most}"
        lines.append(f"| {row['ticket']} | {row['grid']} | {row['adaptive']} | {trials} |")
    total = rows[-1]
    lines.append(
        f"| all | {total['grid']}, {wording.duration(3600 * total['grid_hours'])} | "
        f"{total['adaptive']}, {wording.duration(3600 * total['adaptive_hours'])} | "
        f"{wording.count(total['looks'], 'look')} |"
    )
    return "\n".join(lines)


def main() -> None:
    from benchmarks import record

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("tests-output/adaptive-digits"))
    parser.add_argument("--table", action="store_true", help="print that of docs/adaptive.md")
    options = parser.parse_args()
    if options.table:
        print(table(json.loads((record.FOLDER / f"{RESULTS}-cpu.json").read_text())))
        return
    adaptive = trained(options.folder / "adaptive")
    grid = trained(options.folder / "grid", *GRID)
    rows = compared(grid, adaptive)
    print(table(rows))
    record.keep(RESULTS, rows)


if __name__ == "__main__":
    main()
