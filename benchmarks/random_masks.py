"""How often the judge is wrong on real training: condition 3 under masks that look at no weight.

    python -m trainer --config benchmarks/random_masks.yaml --tracking-uri sqlite:///random.db
    python -m benchmarks.random_masks sqlite:///random.db

θ₀ and θ₀′ are two draws of one distribution, and the mask depends on neither: the best accuracies
of LT and RR have the same distribution, and any "holds" of condition 3 is an error. The clear gap
of half a point makes such an error rarer than the judge's level; a gap of 0 is its worst case.
"""

import sys

import polars as pl

from benchmarks import record
from explorer.readers import reader
from explorer.readers.frames import trainings
from jackpot import accuracies
from jackpot.conditions import CLEAR_GAP, Criteria
from jackpot.contrasts import Decision
from jackpot.definition import judge

TRIALS = 3


def decided(runs: pl.DataFrame, gap: float) -> pl.DataFrame:
    """Condition 3 in each study of three trials: `pruner`, `decision`, `by the means`.

    Args:
        runs: of one study, as `jackpot.accuracies` gives them.
        gap: that counts as clear, a fraction.
    """
    studies = runs.with_columns(study=(pl.col("trial") - 1) // TRIALS).partition_by("study")
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
    for gap in (0.0, CLEAR_GAP):
        found = decided(runs, gap)
        for (pruner,), here in found.group_by("pruner", maintain_order=True):
            shares = {
                str(decision): round((here["decision"] == decision).mean() or 0.0, 4)
                for decision in Decision
            }
            rows.append(
                {
                    "pruner": pruner,
                    "gap": gap,
                    "studies": here.height,
                    **shares,
                    "holds by the means": round(here["by the means"].mean() or 0.0, 4),
                }
            )
            print(rows[-1])
    record.keep("random-masks", rows, by=("pruner", "gap"))


if __name__ == "__main__":
    main()
