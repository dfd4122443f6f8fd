"""How often the judge is wrong on real training: condition 3 under masks that look at no weight.

    python -m trainer --config benchmarks/random_masks.yaml --tracking-uri sqlite:///random.db
    python -m benchmarks.random_masks sqlite:///random.db

θ₀ and θ₀′ are two draws of one distribution, and the mask depends on neither: the best accuracies
of LT and RR have the same distribution, and any "holds" of condition 3 is an error. The clear gap
of half a point makes such an error rarer than the judge's level; a gap of 0 is its worst case.
"""

import sys
from itertools import product

import polars as pl

from benchmarks import record
from explorer.readers import reader
from explorer.readers.frames import trainings
from jackpot import accuracies
from jackpot.conditions import CLEAR_GAP, Criteria
from jackpot.contrasts import Decision
from jackpot.definition import judge

TRIALS = (3, 10)
"""Of each study that the 300 trials are parted into: 100 studies, or 30."""


def decided(runs: pl.DataFrame, gap: float, trials: int) -> pl.DataFrame:
    """Condition 3 in each study of so many trials: `pruner`, `decision`, `by the means`.

    Args:
        runs: of one study, as `jackpot.accuracies` gives them.
        gap: that counts as clear, a fraction.
        trials: of each of the studies that it is parted into.
    """
    studies = runs.with_columns(study=(pl.col("trial") - 1) // trials).partition_by("study")
    rows = [
        (judgement.pruner, str(found.decision), bool(found.holds))
        for study in studies
        for judgement in judge(study, Criteria(gap=gap))
        for found in [judgement.finding("3")]
    ]
    schema = {"pruner": pl.String, "decision": pl.String, "by the means": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row")


def main() -> None:
    runs = accuracies(trainings(reader(sys.argv[1]).runs()))
    rows = []
    for gap, trials in product((0.0, CLEAR_GAP), TRIALS):
        found = decided(runs, gap, trials)
        for (pruner,), here in found.group_by("pruner", maintain_order=True):
            shares = {
                str(decision): round((here["decision"] == decision).mean() or 0.0, 4)
                for decision in Decision
            }
            rows.append(
                {
                    "pruner": pruner,
                    "gap": gap,
                    "trials": trials,
                    "studies": here.height,
                    **shares,
                    "holds by the means": round(here["by the means"].mean() or 0.0, 4),
                }
            )
            print(rows[-1])
    record.keep("random-masks", rows, by=("pruner", "gap", "trials"))


if __name__ == "__main__":
    main()
