"""What trials vary by: against least squares by NumPy, known priors and simple arithmetic."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import polygamma

from jackpot import noise
from jackpot.noise import _inverse_trigamma, _two_way, moderated
from jackpot.trials import Cell
from tests.jackpot.test_definition import runs


def test_residuals_are_those_of_numpys_least_squares():
    rng = np.random.default_rng(0)
    # Cells of two to five trials, some of which are missing.
    layout = [(cell, trial) for cell in range(12) for trial in range(5) if rng.random() < 0.7]
    cells, trials = np.array(layout).T
    values = rng.standard_normal(len(cells))
    design = np.concatenate([np.eye(12)[cells], np.eye(5)[trials]], axis=1)
    fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    residuals, _ = _two_way(values, cells, trials)
    np.testing.assert_allclose(residuals, values - fitted, atol=1e-9)


def test_two_rates_have_their_own_variances():
    # Two cells of two trials at one rate. Residuals of the two-way layout by hand: ±0.25 points
    # each, so s² = 4 · 0.25² over one degree of freedom.
    found = noise.of(runs({"pretrain": {0.1: [90.0, 91.0]}, "lt": {0.1: [90.0, 90.0]}}))
    assert found.variance[0.1] == pytest.approx(0.25e-4)
    assert found.freedom[0.1] == pytest.approx(1)
    # What the trials share: ±0.25 points.
    assert found.shared == pytest.approx(2 * 0.0025**2)
    a, b = (
        Cell(0.1, 0.9, frozenset({1, 2}), 0.9, 0.1),
        Cell(0.1, 0.9, frozenset({1, 2, 3, 4}), 0.9, 0.1),
    )
    error, _ = found.of_difference(a, a)
    assert error == pytest.approx((0.25e-4) ** 0.5)
    # Trials 3 and 4 are in one of the means alone: (1/2 − 1/4)² twice, (1/4)² twice.
    error, _ = found.of_difference(a, b)
    assert error == pytest.approx((0.25e-4 * (1 / 2 + 1 / 4) + found.shared * 4 / 16) ** 0.5)


def test_degrees_of_freedom_are_what_the_layout_leaves():
    rng = np.random.default_rng(1)
    rates = (0.01, 0.1, 1.0)
    curve = {rate: rng.normal(90, 0.2, 3).tolist() for rate in rates}
    found = noise.of(runs({"pretrain": curve, "lt": curve, "rr": curve, "sdt": curve}))
    # 12 cells of 3 trials: 24 within cells, less 2 for the trials; a third of that at each rate,
    # or all of it where the rates tell one variance.
    assert set(found.freedom.values()) <= {22 / 3, 22.0}


@pytest.mark.parametrize(
    "curves",
    [
        {"pretrain": {0.1: 90.0}, "lt": {0.1: 91.0}},
        {"pretrain": {0.1: [90.0, 91.0]}},
    ],
    ids=["one trial", "one cell"],
)
def test_where_trials_tell_no_noise_there_is_none(curves):
    assert noise.of(runs(curves)) is None


@pytest.mark.parametrize("lt", [[92.0, 93.0], [92.0, 92.0]], ids=["alike", "the same"])
def test_trials_that_agree_to_the_last_digit_still_vary(lt):
    first = [90.0, 91.0] if lt[0] != lt[1] else [90.0, 90.0]
    found = noise.of(runs({"pretrain": {0.1: first}, "lt": {0.1: lt}}))
    assert found.variance[0.1] == pytest.approx(1e-10)


def test_a_rate_of_single_trials_takes_what_the_others_tell():
    rng = np.random.default_rng(2)
    several = {rate: rng.normal(90, 0.2, 3).tolist() for rate in (0.01, 0.1)}
    found = noise.of(runs({"pretrain": several | {1.0: 80.0}, "lt": several, "rr": several}))
    assert set(found.variance) == {0.01, 0.1}
    single = Cell(1.0, 0.8, frozenset({1}), 0.8, 1.0)
    assert found.of_difference(single, single)[0] ** 2 == pytest.approx(2 * found.elsewhere[0])


@given(st.floats(1e-4, 1e4))
def test_the_inverse_of_the_trigamma_function(value: float):
    assert polygamma(1, _inverse_trigamma(value)) == pytest.approx(value, rel=1e-6)


def test_the_prior_of_many_variances_is_found():
    # σ² drawn as Smyth (2004) has it: d₀s₀² / σ² is χ² with d₀ degrees of freedom.
    rng = np.random.default_rng(3)
    prior, scale, groups = 8.0, 0.04, 20_000
    true = prior * scale / rng.chisquare(prior, groups)
    freedom = np.full(groups, 6.0)
    variances = true * rng.chisquare(freedom) / freedom
    shrunk, left, (own, prior_freedom) = moderated(variances, freedom)
    assert own == pytest.approx(scale, rel=0.05)
    assert prior_freedom == pytest.approx(prior, rel=0.1)
    drawn_in = (prior_freedom * own + 6 * variances) / (prior_freedom + 6)
    kept = shrunk == variances
    np.testing.assert_allclose(shrunk[~kept], drawn_in[~kept], rtol=1e-9)
    # Outliers of F(6, d₀) beyond its 90 % quantile keep their own.
    assert kept.mean() == pytest.approx(0.1, abs=0.01)
    assert variances[kept].min() > variances[~kept].max()
    assert (left == 6).all()
    # It is nearer to the truth than the groups' own estimates, and than one for all.
    error = {
        name: np.mean((np.log(estimate) - np.log(true)) ** 2)
        for name, estimate in (
            ("own", variances),
            ("one", np.full(groups, own)),
            ("shrunk", shrunk),
        )
    }
    assert error["shrunk"] < min(error["own"], error["one"])


def test_variances_that_differ_by_less_than_chance_become_one():
    freedom, variances = np.full(3, 20.0), np.array([0.04, 0.041, 0.043])
    shrunk, left, elsewhere = moderated(variances, freedom)
    np.testing.assert_allclose(shrunk, variances.mean())
    np.testing.assert_allclose(left, 60)
    assert elsewhere == (pytest.approx(variances.mean()), 60)


def test_the_noisiest_rate_is_not_drawn_down():
    freedom = np.full(5, 7.6)
    variances = np.array([0.011, 0.009, 0.16, 0.012, 0.008])
    shrunk, _, _ = moderated(variances, freedom)
    assert shrunk[2] == 0.16
    assert np.ptp(np.delete(shrunk, 2)) < np.ptp(np.delete(variances, 2))


def test_a_studys_order_of_rows_does_not_matter():
    rng = np.random.default_rng(5)
    curve = {rate: rng.normal(90, 0.2, 3).tolist() for rate in (0.01, 0.1)}
    frame = runs({"pretrain": curve, "lt": curve | {0.1: [91.0, 91.1, 91.3]}})
    found, again = noise.of(frame), noise.of(frame.sample(fraction=1, shuffle=True, seed=0))
    assert found.variance == pytest.approx(again.variance)
    assert isinstance(frame, pl.DataFrame)
