"""What adaptive studies decide, and with how many runs, where the truth is known.

    python -m benchmarks.adaptive [--replicates 1000] [--processes 2]
    python -m benchmarks.adaptive --tables      # of what was kept, as Markdown

The planner is the trainer's own (`trainer.study.adaptive`); only its trainings are replaced, by
draws around the truths of `benchmarks.judging`. Each study is compared with the one that has eight
trials of everything, judged once, on the same draws. Results go to
`benchmarks/results/adaptive-cpu.json`, and are the table and the figure of `docs/adaptive.md`.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from multiprocessing import Pool
from typing import Any

import numpy as np
import polars as pl

from benchmarks.judging import CLEAR, EDGE, EQUAL, FOURFOLD, RATES, RIGHT, Truth
from jackpot.conditions import Verdict
from jackpot.definition import judge
from trainer.study.adaptive import Result, simulated, table, worst
from trainer.study.config import Study
from trainer.study.plan import RunSpec

MOST = 8
ALL_RATES, GROWING = "five rates", "three rates, which grow"
NOISES: Mapping[str, Mapping[str, Any]] = {
    "equal": {},
    "fourfold by rate": {"deviations": FOURFOLD},
    "correlated 0.5": {"correlation": 0.5},
}
_DECIDED = (Verdict.JACKPOT, Verdict.SECONDARY, Verdict.NONE)


def config(pruner: str = "omp", rates: str = ALL_RATES) -> Study:
    """Looks at 2, 3, 5 and 8 trials of the truths' settings at one sparsity, 0.832."""
    # The best rate of most truths is the third, at the end of the range.
    chosen = {"from": 0.01, "to": 0.1, "count": 3} if rates == GROWING else list(RATES)
    return Study.model_validate(
        {
            "study": "planted",
            "network": "resnet20",
            "dataset": "cifar10",
            "settings": ["pretrain", "lt", "rr", "sdt"],
            "pruners": [pruner],
            "learning_rates": chosen,
            "trials": {"from": 2, "to": MOST},
            "until": "decided",
            "pruning": {"sparsities": [0.832]},
            "training": {"epochs": 160, "batch_size": 64},
        }
    )


def drawing(
    truth: Truth, seed: int, deviations: Sequence[float] = EQUAL, correlation: float = 0.0
) -> Callable[[Sequence[RunSpec]], dict[str, Result]]:
    """Gives results of runs: a trial's is the same whoever asks for it, and when.

    Args:
        truth: what to draw around; at rates between or beyond its own, that of the nearest.
        seed: of the study.
        deviations: standard deviation at each of the truth's rates, in points.
        correlation: between two settings' noise in one trial.
    """
    luck = np.random.default_rng([seed, 1]).standard_normal(MOST)

    @cache
    def own(name: str, round_: int, rate: float) -> np.ndarray:
        """Of one setting at one rate, and of each of IMP's rounds: by trial."""
        about = [seed, 2, list(truth.curves).index(name), round_, round(1e6 * rate)]
        return np.random.default_rng(about).standard_normal(MOST)

    def result(run: RunSpec) -> Result:
        name, place = run.setting.name, run.trial - 1
        at = int(np.abs(np.log(np.array(RATES) / run.learning_rate)).argmin())
        noise = (1 - correlation) ** 0.5 * own(name, run.round or 0, run.learning_rate)[place]
        noise += correlation**0.5 * luck[place]
        return Result(float(truth.curves[name][at] + deviations[at] * noise) / 100)

    return lambda runs: {run.key: result(run) for run in runs}


def once(case: tuple[str, str, str, str], seed: int) -> dict[str, float]:
    """One adaptive study, and the grid of eight trials on the same draws.

    Args:
        case: truth, noise, pruner and rates.
        seed: of the draws.
    """
    name, noise, pruner, rates = case
    truth = (CLEAR | EDGE)[name]
    draw = drawing(truth, seed, **NOISES[noise])
    course = simulated(config(pruner, rates), draw)
    grid = worst(config(pruner)).runs
    (ticket,) = course.looks[-1].tickets
    verdict = ticket.verdict
    everywhere = next(j for j in judge(table(grid, draw(grid))) if j.sparsity == ticket.sparsity)
    return {
        "runs": len(course.plan.runs) / len(grid),
        "looks": len(course.looks),
        "decided": verdict in _DECIDED,
        "right": verdict is truth.verdict,
        "wrong": verdict not in RIGHT[truth.verdict],
        "grid_decided": everywhere.verdict in _DECIDED,
        "grid_right": everywhere.verdict is truth.verdict,
        "grid_wrong": everywhere.verdict not in RIGHT[truth.verdict],
    }


def tables(rows: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The two tables of `docs/adaptive.md`, in Markdown: each truth, and all together.

    Args:
        rows: as kept in `benchmarks/results/adaptive-cpu.json`.
    """
    each = [
        "| truth | noise | pruner, rates | runs | looks | right | right, everywhere | wrong |",
        "|---|---|---|---|---|---|---|---|",
    ]
    each += [
        f"| {r['truth']} | {r['noise']} | {r['pruner'].upper()}, {r['rates']} | "
        f"{100 * r['runs']:.0f} % ({100 * r['runs_low']:.0f} to {100 * r['runs_high']:.0f}) | "
        f"{r['looks']:.1f} | {_share(r, 'right')} | {_share(r, 'grid_right')} | "
        f"{100 * r['wrong']:.1f} % |"
        for r in rows
    ]
    total = [
        "| scenarios | runs | right | right, everywhere | ratio | wrong, most |",
        "|---|---|---|---|---|---|",
    ]
    for words, truths in (("clear truths", CLEAR), ("at the edge", EDGE), ("all", CLEAR | EDGE)):
        here = [r for r in rows if r["truth"] in truths and r["rates"] == ALL_RATES]
        right, grid = (np.mean([r[name] for r in here]) for name in ("right", "grid_right"))
        ratio = f"{right / grid:.2f}" if truths is not EDGE else "–"
        total.append(
            f"| {words} | {100 * np.mean([r['runs'] for r in here]):.0f} % | {100 * right:.0f} % | "
            f"{100 * grid:.0f} % | {ratio} | {100 * max(r['wrong'] for r in here):.1f} % |"
        )
    return "\n".join(total), "\n".join(each)


def _share(row_: Mapping[str, Any], name: str) -> str:
    return f"{100 * row_[name]:.0f} %"


def cases() -> list[tuple[str, str, str, str]]:
    """Truth, noise, pruner and rates of each row."""
    found = [(name, noise, "omp", ALL_RATES) for name in CLEAR | EDGE for noise in NOISES]
    found += [(name, "equal", "imp", ALL_RATES) for name in CLEAR]
    return found + [(name, "equal", "omp", GROWING) for name in CLEAR | EDGE]


def main() -> None:
    from benchmarks import record

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--tables", action="store_true", help="print those of docs/adaptive.md")
    options = parser.parse_args()
    if options.tables:
        kept = (record.FOLDER / "adaptive-cpu.json").read_text()
        print("\n\n".join(tables(json.loads(kept))))
        return
    rows = []
    with Pool(options.processes) as pool:
        for case in cases():
            found = pl.DataFrame(pool.map(partial(once, case), range(options.replicates), 10))
            runs = found["runs"]
            means = found.select(pl.all().cast(pl.Float64).mean()).row(0, named=True)
            rows.append(
                dict(zip(("truth", "noise", "pruner", "rates"), case, strict=True))
                | {"replicates": options.replicates, **means}
                | {"runs_low": runs.quantile(0.1), "runs_high": runs.quantile(0.9)}
            )
            last = rows[-1]
            print(f"{' / '.join(case):75} runs {last['runs']:.2f} right {last['right']:.3f} "
                  f"of {last['grid_right']:.3f} wrong {last['wrong']:.3f}", flush=True)  # fmt: skip
    record.keep("adaptive", rows, by=("truth", "noise", "pruner", "rates"))


if __name__ == "__main__":
    main()
