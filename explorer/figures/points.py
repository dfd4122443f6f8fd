"""Mean accuracies as the figures want them."""

import polars as pl

from explorer.figures import appearance
from jackpot import means


def points(runs: pl.DataFrame) -> pl.DataFrame:
    """Mean accuracies over trials, with the names that legends show.

    Args:
        runs: as in `jackpot.means`.

    Returns:
        One row per point: `setting`, `method` and `line` (`explorer.figures.appearance`),
        `sparsity`, `learning_rate`, `accuracy low high` in percent (mean ± one standard deviation;
        equal to the mean for one trial), `deviation` and `trials`; `link` if `runs` has it.
    """
    deviation = pl.col("deviation").fill_null(0.0)
    return appearance.named(means(runs)).select(
        "setting",
        "method",
        "line",
        "sparsity",
        "learning_rate",
        (100 * pl.col("accuracy")).alias("accuracy"),
        (100 * (pl.col("accuracy") - deviation)).alias("low"),
        (100 * (pl.col("accuracy") + deviation)).alias("high"),
        (100 * pl.col("deviation")).alias("deviation"),
        "trials",
        *(["link"] if "link" in runs.columns else []),
    )
