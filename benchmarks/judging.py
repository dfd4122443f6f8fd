"""How often verdicts are right, wrong and left open, on studies whose truth is known.

    python -m benchmarks.judging [--replicates 2000] [--only clear | --only edge]
    python -m benchmarks.judging --tables       # of what was kept, as Markdown

Five learning rates; accuracies are curves with Gaussian noise around them. Results go to
`benchmarks/results/judging-cpu.json`, and are the table and the figure of `docs/judging.md`.
"""

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from jackpot.conditions import Criteria, Verdict
from jackpot.definition import judge

RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
PEAKED, FLAT = np.array([-1.0, -0.3, 0.0, -0.3, -1.0]), np.zeros(5)
EQUAL, FOURFOLD = (0.2,) * 5, (0.1, 0.1, 0.4, 0.1, 0.1)
RIGHT = {
    Verdict.JACKPOT: {Verdict.JACKPOT, Verdict.TICKET, Verdict.UNDECIDED},
    Verdict.SECONDARY: {Verdict.SECONDARY, Verdict.TICKET, Verdict.UNDECIDED},
    Verdict.NONE: {Verdict.NONE, Verdict.UNDECIDED},
}
"""The verdicts that are not wrong, by the true one."""


@dataclass(frozen=True)
class Truth:
    """Accuracies in percent as they would be with endless trials.

    Attributes:
        verdict: that they deserve.
        curves: by setting, one accuracy for each of `RATES`.
    """

    verdict: Verdict
    curves: Mapping[str, np.ndarray]

    def margins(self) -> dict[str, float]:
        """How far inside each condition they are, in points, by its name (CIFAR-10)."""
        lt, dense = self.curves["lt"], self.curves["pretrain"]
        return {
            "2": lt.max() - self.curves["sdt"].max() - 0.5,
            "3": lt.max() - self.curves["rr"].max() - 0.5,
            "4": (lt - dense)[dense >= dense.max() - 5].max() + 0.5,
            "5": lt.max() - dense.max() + 0.5,
        }


def _truth(verdict: Verdict, **curves: np.ndarray) -> Truth:
    return Truth(verdict, {name: np.asarray(curve, float) for name, curve in curves.items()})


_RISING = np.array([-3.0, -2.0, -1.4, 0.0, -0.3])
CLEAR = {
    "jackpot, margins 0.5 or more": _truth(
        Verdict.JACKPOT, pretrain=92 + PEAKED, lt=92 + PEAKED, rr=91 + PEAKED, sdt=90 + PEAKED
    ),
    "secondary, margin of 4 = 0.4": _truth(
        Verdict.SECONDARY,
        pretrain=92 + _RISING,
        lt=92 + np.array([-3.1, -2.1, -1.5, -1.6, -2.5]),
        rr=92 + np.array([-5.0, -4.0, -3.0, -3.0, -4.0]),
        sdt=88 + PEAKED,
    ),
    "none, margin of 3 = −0.4": _truth(
        Verdict.NONE, pretrain=92 + PEAKED, lt=92 + PEAKED, rr=91.9 + PEAKED, sdt=90 + PEAKED
    ),
}
_LESS = 1e-6  # Conditions 4 and 5 hold at their very edge: a little outside.
EDGE = {
    "2 at its edge": _truth(
        Verdict.NONE, pretrain=92 + FLAT, lt=92 + FLAT, rr=90 + FLAT, sdt=91.5 + PEAKED
    ),
    "3 at its edge, LT flat, RR peaked": _truth(
        Verdict.NONE, pretrain=92 + FLAT, lt=92 + FLAT, rr=91.5 + PEAKED, sdt=89 + FLAT
    ),
    "3 at its edge, both flat": _truth(
        Verdict.NONE, pretrain=92 + FLAT, lt=92 + FLAT, rr=91.5 + FLAT, sdt=89 + FLAT
    ),
    "4 at its edge at every rate": _truth(
        Verdict.NONE,
        pretrain=92 + PEAKED,
        lt=91.5 - _LESS + PEAKED,
        rr=89 + PEAKED,
        sdt=88 + PEAKED,
    ),
    "LT 0.7 below dense at every rate": _truth(
        Verdict.NONE, pretrain=92 + FLAT, lt=91.3 + FLAT, rr=89 + FLAT, sdt=88 + FLAT
    ),
    "5 at its edge": _truth(
        Verdict.SECONDARY,
        pretrain=92 + PEAKED,
        lt=91.5 - _LESS + np.array([0.0, 0.0, 0.0, -0.3, -1.0]),
        rr=89 + PEAKED,
        sdt=88 + PEAKED,
    ),
    "a jackpot at the edge of all": _truth(
        Verdict.JACKPOT,
        pretrain=92 + PEAKED,
        lt=91.5 + _LESS + PEAKED,
        rr=91 - _LESS + PEAKED,
        sdt=91 - _LESS + PEAKED,
    ),
}


def drawn(
    truth: Truth,
    trials: Mapping[str, int],
    rng: np.random.Generator,
    *,
    deviations: Sequence[float] = EQUAL,
    correlation: float = 0.0,
    diverge: float = 0.0,
) -> pl.DataFrame:
    """A study of that truth, as `jackpot.judge` takes it.

    Args:
        truth: what to draw around.
        trials: how many, by setting.
        rng: draws.
        deviations: standard deviation at each rate, in points.
        correlation: between two settings' noise in one trial.
        diverge: share of runs at the largest rate that diverge.
    """
    luck = rng.standard_normal(max(trials.values()))
    rows = []
    for setting, curve in truth.curves.items():
        for rate, mean, deviation in zip(RATES, curve, deviations, strict=True):
            for trial in range(trials[setting]):
                own = rng.standard_normal()
                noise = correlation**0.5 * luck[trial] + (1 - correlation) ** 0.5 * own
                lost = rate == RATES[-1] and rng.random() < diverge
                rows.append(
                    {
                        "network": "planted",
                        "dataset": "cifar10",
                        "setting": setting,
                        "pruner": "imp" if setting in ("lt", "rr") else None,
                        "sparsity": 0.0 if setting == "pretrain" else 0.832,
                        "learning_rate": rate,
                        "trial": trial + 1,
                        "accuracy": None if lost else (mean + deviation * noise) / 100,
                        "status": "FAILED" if lost else "FINISHED",
                        "epochs": 160,
                    }
                )
    return pl.DataFrame(rows, schema_overrides={"pruner": pl.String, "accuracy": pl.Float64})


@dataclass(frozen=True)
class Count:
    """What was said in some replicates of one truth.

    Attributes:
        said: how often each verdict.
        wrong: how often a verdict that the truth excludes.
        wrong_by_means: how often the means alone say one.
        covered: how often a condition's bounds held its true margin, of how many.
    """

    said: Counter[Verdict]
    wrong: int
    wrong_by_means: int
    covered: tuple[int, int]


def count(
    truth: Truth,
    trials: int | Mapping[str, int],
    replicates: int,
    seed: int,
    criteria: Criteria | None = None,
    **noise: object,
) -> Count:
    """Judges that many studies; `noise` as in `drawn`."""
    each = dict.fromkeys(truth.curves, trials) if isinstance(trials, int) else trials
    said: Counter[Verdict] = Counter()
    by_means: Counter[Verdict] = Counter()
    covered = conditions = 0
    margins = truth.margins()
    for replicate in range(replicates):
        rng = np.random.default_rng([seed, replicate])
        (judgement,) = judge(drawn(truth, each, rng, **noise), criteria)  # type: ignore[arg-type]
        said[judgement.verdict] += 1
        by_means[judgement.point_verdict] += 1
        for name, margin in margins.items():
            found = judgement.finding(name)
            if found.low is not None and found.high is not None:
                conditions += 1
                covered += found.low <= margin / 100 <= found.high
    wrong, wrong_by_means = (
        sum(n for verdict, n in counts.items() if verdict not in RIGHT[truth.verdict])
        for counts in (said, by_means)
    )
    return Count(said, wrong, wrong_by_means, (covered, conditions))


def tables(rows: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The two tables of `docs/judging.md`, in Markdown: of clear truths, and at the edge.

    Args:
        rows: as kept in `benchmarks/results/judging-cpu.json`.
    """
    found = {(row["truth"], row["trials"], row["noise"]): row for row in rows}
    kinds = ("equal", "correlated 0.5")
    clear = ["| truth | noise | n = 2 | 3 | 5 | 8 | wrong |", "|---|---|---|---|---|---|---|"]
    for truth in CLEAR:
        for kind in kinds:
            each = [found[truth, n, kind] for n in (2, 3, 5, 8)]
            right = " | ".join(f"{100 * row['right']:.0f} %" for row in each)
            wrong = _percent(max(row["wrong"] for row in each))
            clear.append(f"| {truth} | {kind} | {right} | {wrong} |")
    edge = [
        "| truth | deserves | wrong, equal noise | fourfold by rate | correlated 0.5 "
        "| wrong by the means | coverage, lowest |",
        "|---|---|---|---|---|---|---|",
    ]
    for truth in EDGE:
        each = [found[truth, 3, kind] for kind in ("equal", "fourfold by rate", "correlated 0.5")]
        wrong = " | ".join(_percent(row["wrong"]) for row in each)
        by_means = f"{100 * max(row['wrong_by_means'] for row in each):.0f} %"
        coverage = f"{100 * min(row['coverage'] for row in each):.1f} %"
        edge.append(f"| {truth} | {each[0]['verdict']} | {wrong} | {by_means} | {coverage} |")
    return "\n".join(clear), "\n".join(edge)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share else "0 %"


def main() -> None:
    from benchmarks import record

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--only", choices=("clear", "edge"), help="half of it, beside the other")
    parser.add_argument("--tables", action="store_true", help="print those of docs/judging.md")
    options = parser.parse_args()
    if options.tables:
        kept = (record.FOLDER / "judging-cpu.json").read_text()
        print("\n\n".join(tables(json.loads(kept))))
        return
    replicates = options.replicates
    cases = [
        (name, n, kind, noise)
        for name in CLEAR
        for n in (2, 3, 5, 8)
        for kind, noise in (("equal", {}), ("correlated 0.5", {"correlation": 0.5}))
    ]
    cases += [
        (name, 3, kind, noise)
        for name in EDGE
        for kind, noise in (
            ("equal", {}),
            ("fourfold by rate", {"deviations": FOURFOLD}),
            ("correlated 0.5", {"correlation": 0.5}),
        )
    ]
    if options.only:
        wanted = CLEAR if options.only == "clear" else EDGE
        cases = [case for case in cases if case[0] in wanted]
    rows = []
    for name, n, kind, noise in cases:
        truth = (CLEAR | EDGE)[name]
        found = count(truth, n, replicates, 0, **noise)
        share = {str(verdict): n_ / replicates for verdict, n_ in found.said.items()}
        covered, of = found.covered
        row = {
            "truth": name,
            "verdict": str(truth.verdict),
            "trials": n,
            "noise": kind,
            "replicates": replicates,
            "right": share.get(str(truth.verdict), 0.0),
            "wrong": found.wrong / replicates,
            "wrong_by_means": found.wrong_by_means / replicates,
            "coverage": covered / of,
            "said": share,
        }
        rows.append(row)
        print(f"{name:36} n={n} {kind:17} right {row['right']:.3f} wrong {row['wrong']:.3f} "
              f"coverage {row['coverage']:.3f}", flush=True)  # fmt: skip
    record.keep("judging", rows, by=("truth", "trials", "noise"))


if __name__ == "__main__":
    main()
