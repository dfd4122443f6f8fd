"""Accuracies that others have published, to be laid over one's own. Pure.

From the authors' own data, restated; the files are theirs. A point of one's own agrees with one of
these or not only if it was trained by the same recipe: the same data, epochs, batch size and
learning rate.
"""

from dataclasses import dataclass, replace

import polars as pl
from scipy.stats import ttest_ind_from_stats

from jackpot.published import OWN_RATE, PRINTED
from jackpot.trials import means

RENDA = "Renda et al. 2020, authors' data, on 8,000 test images"
TANAKA = "Tanaka et al. 2020, authors' data"
MA = "Ma et al. 2021, section 2.1 and Table 4"
LEVEL = 0.05
"""Two means differ if Welch's test says so at this level."""


@dataclass(frozen=True)
class Recipe:
    """What a published accuracy was trained with.

    Attributes:
        source: who published it, and where.
        epochs, batch_size: of each training.
        trials: over which it is a mean.
        deviation: standard deviation over trials, in points; None if none is given.
    """

    source: str
    epochs: int
    batch_size: int
    trials: int
    deviation: float | None


_RENDA = Recipe(RENDA, 182, 128, 3, 0.27)
_TANAKA_10 = Recipe(TANAKA, 160, 128, 3, 0.16)
_TANAKA_100 = Recipe(TANAKA, 160, 128, 3, 0.29)
_RATE = 0.1
"""The learning rate of both."""
_DEEPEST_SPREAD = 0.9
"""Their spread is pooled over sparsities up to this one."""
# Accuracies in percent by sparsity, for each (setting, pruner).
_RENDA_SPARSITIES = (0.590, 0.672, 0.790, 0.832, 0.893)
_RENDA_RESNET20 = {
    ("rr", "omp"): (90.27, 89.75, 88.43, 87.73, 86.90),
    ("lt", "omp"): (90.75, 90.24, 89.13, 88.63, 87.13),
    ("lt", "imp"): (90.39, 89.97, 89.05, 88.51, 86.74),
    ("wr", "imp"): (91.86, 91.94, 91.74, 91.40, 90.96),
    ("lrr", "imp_lrr"): (92.28, 92.12, 91.90, 91.74, 91.04),
    ("lrr", "omp"): (91.52, 91.42, 90.83, 90.60, 89.20),
}
_TANAKA_SPARSITIES = (0.684, 0.9, 0.968, 0.99)
_TANAKA_TABLES: dict[tuple[str, str], tuple[Recipe, dict[str, tuple[float, ...]]]] = {
    ("vgg16", "cifar10"): (
        _TANAKA_10,
        {
            "snip": (93.28, 92.26, 91.08, 89.15),
            "grasp": (93.09, 91.84, 90.17, 87.49),
            "synflow": (93.54, 93.26, 92.12, 90.08),
            "magnitude_init": (93.33, 93.12, 91.95, 89.80),
            "random": (93.05, 91.15, 87.52, 79.14),
        },
    ),
    ("resnet18", "cifar10"): (
        _TANAKA_10,
        {
            "snip": (94.82, 94.29, 93.23, 90.80),
            "grasp": (94.38, 93.78, 92.09, 89.71),
            "synflow": (94.78, 94.07, 92.66, 90.36),
            "magnitude_init": (94.91, 94.40, 10.0, 10.0),
            "random": (94.42, 92.92, 89.57, 82.98),
        },
    ),
    ("vgg16", "cifar100"): (
        _TANAKA_100,
        {
            "snip": (72.95, 70.83, 68.39, 61.28),
            "grasp": (72.82, 70.66, 67.68, 61.14),
            "synflow": (73.50, 72.08, 68.97, 63.51),
            "magnitude_init": (73.06, 72.23, 68.50, 60.94),
            "random": (72.04, 68.83, 63.43, 52.33),
        },
    ),
}
_SCHEMA = {
    **dict.fromkeys(("source", "network", "dataset", "setting", "pruner"), pl.String),
    **dict.fromkeys(("sparsity", "learning_rate", "accuracy", "deviation"), pl.Float64),
    **dict.fromkeys(("trials", "epochs", "batch_size"), pl.Int64),
}


def points(network: str, dataset: str) -> pl.DataFrame:
    """What is published of a network on a dataset.

    Returns:
        `source network dataset setting pruner sparsity learning_rate accuracy deviation trials
        epochs batch_size`; accuracies and deviations are fractions.

    >>> points("resnet20", "cifar10").filter(setting="lrr", pruner="omp")["accuracy"].max()
    0.9152
    """
    rows: list[tuple[object, ...]] = []

    def add(
        recipe: Recipe,
        setting: str,
        pruner: str | None,
        sparsity: float,
        percent: float,
        rate: float,
    ) -> None:
        spread = None if recipe.deviation is None else round(recipe.deviation / 100, 6)
        what = (recipe.source, network, dataset, setting, pruner, sparsity, rate)
        how = (recipe.trials, recipe.epochs, recipe.batch_size)
        rows.append((*what, round(percent / 100, 6), spread, *how))

    if (network, dataset) == ("resnet20", "cifar10"):
        for (setting, pruner), curve in _RENDA_RESNET20.items():
            for sparsity, percent in zip(_RENDA_SPARSITIES, curve, strict=True):
                add(_RENDA, setting, pruner, sparsity, percent, _RATE)
        printed = PRINTED[OWN_RATE]
        recipe = Recipe(MA, printed.epochs, 64, 3, None)
        for (setting, of), curve_ in printed.curves.items():
            for rate, percent in curve_.items():
                add(recipe, setting, of, printed.sparsity if of else 0.0, percent, rate)
    recipe, tables = _TANAKA_TABLES.get((network, dataset), (_TANAKA_10, {}))
    for pruner, accuracies in tables.items():
        for sparsity, percent in zip(_TANAKA_SPARSITIES, accuracies, strict=True):
            known = sparsity <= _DEEPEST_SPREAD
            here = recipe if known else replace(recipe, deviation=None)
            add(here, "lt", pruner, sparsity, percent, _RATE)
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


def beside(runs: pl.DataFrame) -> pl.DataFrame:
    """Published accuracies beside one's own, of what a study has trained.

    Args:
        runs: of one network and dataset, as in `jackpot.means`, with `batch_size`, and
            `train_images` or `validation_images` if it is a part of the data.

    Returns:
        As `points`, and `own` (the study's mean at that setting, pruner, sparsity and learning
        rate; null if it has none), `says` (`agrees`, `disagrees` or `not comparable`) and `why`.
    """
    known = ("", "") if runs.is_empty() else runs.select("network", "dataset").row(0)
    published = points(*map(str, known))
    schema = {"own": pl.Float64, "says": pl.String, "why": pl.String}
    if published.is_empty():
        return published.hstack(pl.DataFrame(schema=schema))
    trained = runs.select("setting", "pruner").unique()
    published = published.join(trained, on=["setting", "pruner"], how="semi", nulls_equal=True)
    facts = {
        name: runs[name].drop_nulls().unique().to_list() if name in runs.columns else []
        for name in ("epochs", "batch_size", "train_images", "validation_images")
    }
    own = means(runs)
    rows = [_said(row, own, facts) for row in published.iter_rows(named=True)]
    return published.hstack(pl.DataFrame(rows, schema=schema, orient="row"))


def _said(
    row: dict[str, object], own: pl.DataFrame, facts: dict[str, list[object]]
) -> tuple[float | None, str, str]:
    rate, sparsity = float(str(row["learning_rate"])), float(str(row["sparsity"]))
    cell = own.filter(
        pl.col("setting") == row["setting"],
        pl.col("pruner").eq_missing(pl.lit(row["pruner"], pl.String)),
        # Published sparsities are rounded to three decimals.
        (pl.col("sparsity") - sparsity).abs() <= 0.0005 if sparsity else pl.col("sparsity") == 0,
        (pl.col("learning_rate") / rate - 1).abs() < 1e-6,
    )
    mine = float(cell["accuracy"][0]) if cell.height else None
    other = []
    if facts["train_images"]:
        other.append(f"trained on {facts['train_images'][0]} images")
    if held_out := [count for count in facts["validation_images"] if count]:
        other.append(f"{held_out[0]} images held out")
    if facts["epochs"] and row["epochs"] not in facts["epochs"]:
        other.append(f"{facts['epochs'][0]} epochs, not {row['epochs']}")
    if facts["batch_size"] and _number(facts["batch_size"][0]) != row["batch_size"]:
        other.append(f"batches of {facts['batch_size'][0]}, not {row['batch_size']}")
    if not cell.height:
        other.append(f"no run at learning rate {rate:g} and sparsity {sparsity:g}")
    if other:
        return mine, "not comparable", "; ".join(other)
    spread, trials = cell["deviation"][0], int(cell["trials"][0])
    away = 100 * (float(mine or 0) - float(str(row["accuracy"])))
    if row["deviation"] is None or spread is None or trials < 2:
        return mine, "not comparable", f"{away:+.2f} points, but a spread is not known of both"
    p = ttest_ind_from_stats(
        mine, spread, trials, row["accuracy"], row["deviation"], row["trials"], equal_var=False
    ).pvalue
    return mine, "disagrees" if p < LEVEL else "agrees", f"{away:+.2f} points, p = {p:.2g}"


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdigit() else value
