"""How much an accuracy varies from trial to trial, by learning rate. Pure.

A cell's own three trials say too little of its variance. Here the cells of a study tell it
together, one variance for each learning rate, and the rates tell each other's (Smyth 2004).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import fdtrc, polygamma, psi

from jackpot.trials import CELL, Cell, tidy

# A thousandth of a point, squared: trials that agree to the last digit still vary.
_LEAST = 1e-10
# Levels of F tests: of the largest variance against the others, and against what the prior expects.
_STANDING_OUT, _OUTLYING = 0.2, 0.1


@dataclass(frozen=True)
class Noise:
    """Variances of a trial's accuracy around the mean of its cell, accuracies as fractions.

    Attributes:
        variance: by learning rate.
        freedom: degrees of freedom of each.
        elsewhere: variance and degrees of freedom at a rate where no cell has two trials.
        total: degrees of freedom of all rates together.
        shared: variance of what trials of one number have in common in all cells, such as the
            order of images. It counts where two cells have not the same trials.
    """

    variance: Mapping[float, float]
    freedom: Mapping[float, float]
    elsewhere: tuple[float, float]
    total: float
    shared: float

    def of_differences(
        self, ours: Sequence[Cell], theirs: Sequence[Cell]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Standard errors of the differences of cells' means, and their degrees of freedom.

        Those are Welch and Satterthwaite's between two rates, whose variances are two estimates. At
        one rate there is one estimate, which does not become two by being used twice; and where all
        rates tell one variance, it has no more degrees of freedom than all of them.

        Args:
            ours, theirs: I and J cells.

        Returns:
            Two arrays of shape (I, J).
        """
        first, first_freedom = self._of_means(ours)
        second, second_freedom = self._of_means(theirs)
        total = first[:, None] + second
        freedom = total**2 / ((first**2 / first_freedom)[:, None] + second**2 / second_freedom)
        same = np.equal.outer(
            [cell.learning_rate for cell in ours], [cell.learning_rate for cell in theirs]
        )
        freedom = np.minimum(np.where(same, first_freedom[:, None], freedom), self.total)
        if any(a.trials != b.trials for a in ours for b in theirs):
            apart = [[_difference(a.trials, b.trials) for b in theirs] for a in ours]
            total = total + self.shared * np.array(apart)
        return np.sqrt(total), freedom

    def of_difference(self, first: Cell, second: Cell) -> tuple[float, float]:
        """See `of_differences`."""
        error, freedom = self.of_differences([first], [second])
        return float(error[0, 0]), float(freedom[0, 0])

    def _of_means(self, cells: Sequence[Cell]) -> tuple[np.ndarray, np.ndarray]:
        rates = [cell.learning_rate for cell in cells]
        known = [
            (self.variance[rate], self.freedom[rate]) if rate in self.variance else self.elsewhere
            for rate in rates
        ]
        variance, freedom = np.array(known).T
        return variance / [len(cell.trials) for cell in cells], freedom


def of(runs: pl.DataFrame) -> Noise | None:
    """The noise of the runs of one network and dataset; None if no two trials tell it.

    Residuals are those of a two-way layout of cells and trials, by least squares: trials of one
    number share seeds, so they share luck. Squared residuals are pooled over all cells at one
    learning rate.

    Args:
        runs: see `jackpot.trials.tidy`.
    """
    table = (
        tidy(runs)
        .drop_nulls("accuracy")
        .with_columns(pl.struct(CELL).rank("dense").alias("cell"))
        .filter(pl.len().over("cell") > 1)
    )
    if table.is_empty():
        return None
    cells = table["cell"].rank("dense").to_numpy().astype(int) - 1
    trials = table["trial"].rank("dense").to_numpy().astype(int) - 1
    accuracy = table["accuracy"].to_numpy()
    residuals, luck = _two_way(accuracy, cells, trials)
    within = len(cells) - (cells.max() + 1)
    left = within - (trials.max() + 1 - _components(cells, trials))
    if left < 1:
        return None
    pooled = (
        pl.DataFrame(
            {"rate": table["learning_rate"], "cell": cells, "square": residuals**2},
        )
        .group_by("rate", maintain_order=True)
        .agg(pl.col("square").sum(), (pl.len() - pl.col("cell").n_unique()).alias("within"))
        # Fitting what trials share has taken its part of the degrees of freedom.
        .with_columns((pl.col("within") * left / within).alias("freedom"))
    )
    freedom = pooled["freedom"].to_numpy()
    variances = np.maximum(pooled["square"].to_numpy() / freedom, _LEAST)
    variance, freedoms, elsewhere = moderated(variances, freedom)
    rates = pooled["rate"].to_list()
    return Noise(
        variance=dict(zip(rates, variance.tolist(), strict=True)),
        freedom=dict(zip(rates, freedoms.tolist(), strict=True)),
        elsewhere=elsewhere,
        total=float(freedom.sum()),
        shared=float(np.var(luck, ddof=1)),
    )


def moderated(
    variances: np.ndarray, freedom: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Variances drawn towards each other, as far as they seem to be of one distribution.

    Unless one stands out, they are one variance. Else they get the empirical Bayes estimate of
    Smyth (2004, section 6), as limma's `fitFDist` has it, but for two points. A variance far above
    the others is kept: the noisiest rate is the one that luck makes best, and drawing it down would
    make that luck look sure (Phipson et al. 2016 treat such outliers alike). And variances that
    differ keep their own degrees of freedom: a prior that five rates tell is not known well enough
    to add to them.

    Args:
        variances: s² > 0, shape (groups,).
        freedom: their degrees of freedom ν, shape (groups,).

    Returns:
        The variances and their degrees of freedom; and what a group without data would have: s₀²
        and d₀, at most Σν.
    """
    total = float(freedom.sum())
    pooled = float(variances @ freedom) / total
    one = np.full_like(variances, pooled), np.full_like(freedom, total), (pooled, total)
    if len(variances) == 1:
        return one
    others = (total * pooled - variances * freedom) / (total - freedom)
    stands_out = fdtrc(freedom, total - freedom, variances / others).min() * len(variances)
    logs = np.log(variances) - psi(freedom / 2) + np.log(freedom / 2)
    spread = logs.var(ddof=1) - polygamma(1, freedom / 2).mean()
    if stands_out > _STANDING_OUT or spread <= 0:
        return one
    prior = 2 * _inverse_trigamma(float(spread))
    own = float(np.exp(logs.mean() + psi(prior / 2) - np.log(prior / 2)))
    posterior = (prior * own + freedom * variances) / (prior + freedom)
    # s² / s₀² has an F distribution under the prior.
    outlying = (variances > posterior) & (fdtrc(freedom, prior, variances / own) < _OUTLYING)
    return np.where(outlying, variances, posterior), freedom, (own, min(prior, total))


def _inverse_trigamma(value: float) -> float:
    """x with ψ′(x) = value, by Newton's method on 1/ψ′, which is convex (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-10 * x:
            break
    return x


def _two_way(
    values: np.ndarray, cells: np.ndarray, trials: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Residuals of values = cell + trial, by least squares, and what each trial adds.

    By turns: exact after one turn where every cell has every trial.
    """
    per_cell, per_trial = np.bincount(cells), np.bincount(trials)
    luck = np.zeros(len(per_trial))
    for _ in range(1000):
        means = np.bincount(cells, values - luck[trials]) / per_cell
        found = np.bincount(trials, values - means[cells]) / per_trial
        found -= found.mean()
        change, luck = np.abs(found - luck).max(), found
        if change < 1e-12:
            break
    means = np.bincount(cells, values - luck[trials]) / per_cell
    return values - means[cells] - luck[trials], luck


def _components(cells: np.ndarray, trials: np.ndarray) -> int:
    """Into how many parts the layout falls that share neither a cell nor a trial."""
    groups: list[set[int]] = []
    for cell in range(cells.max() + 1):
        here = set(trials[cells == cell].tolist())
        touched = [group for group in groups if group & here]
        groups = [group for group in groups if not group & here] + [here.union(*touched)]
    return len(groups)


def _difference(first: frozenset[int], second: frozenset[int]) -> float:
    """Σ over trials of (its weight in one mean − its weight in the other)²."""
    return sum(
        ((trial in first) / len(first) - (trial in second) / len(second)) ** 2
        for trial in first | second
    )
