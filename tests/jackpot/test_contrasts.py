"""Three-valued decisions about maxima over learning rates: arithmetic, and error rates."""

import numpy as np
import pytest
from scipy.stats import t as student

from jackpot import noise
from jackpot.contrasts import (
    Contrast,
    Decision,
    bounds,
    exceeds,
    possibly_best,
    some,
)
from jackpot.noise import Noise
from jackpot.preferences import prefers_small
from jackpot.trials import Cell
from tests.jackpot.test_definition import runs

TRIALS = frozenset({1, 2, 3})
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
# A standard deviation of 0.2 points, known from 30 degrees of freedom.
KNOWN = Noise(dict.fromkeys(RATES, 4e-6), dict.fromkeys(RATES, 30.0), (4e-6, 30.0), 150.0, 0.0)
ERROR = (2 * 4e-6 / 3) ** 0.5


def cells(*percent: float) -> list[Cell]:
    return [
        Cell(rate, value / 100, TRIALS, value / 100, rate)
        for rate, value in zip(RATES, percent, strict=False)
    ]


def test_bounds_by_hand():
    found = exceeds(cells(91.0, 92.0), cells(90.0, 91.0, 90.5), 0.005, KNOWN)
    assert found.value == pytest.approx(0.92 - 0.91 - 0.005)
    # The best of both are at one rate, which has one estimate of 30 degrees of freedom.
    assert found.low == pytest.approx(0.005 - student.ppf(1 - 0.05 / 2, 30) * ERROR)
    assert found.high == pytest.approx(0.005 + student.ppf(1 - 0.05 / 3, 30) * ERROR)
    assert found.decision is Decision.HOLDS


def test_degrees_of_freedom_count_each_estimate_once():
    one, two = cells(91.0, 92.0)
    # Two independent estimates of 30: Welch and Satterthwaite's 60. One, used twice: 30.
    assert KNOWN.of_difference(one, two)[1] == pytest.approx(60)
    assert KNOWN.of_difference(one, one)[1] == 30
    # One estimate that all rates share has what they have together.
    pooled = Noise(dict.fromkeys(RATES, 4e-6), dict.fromkeys(RATES, 38.0), (4e-6, 38.0), 38.0, 0.0)
    assert pooled.of_difference(one, two)[1] == 38


def test_at_one_rate_by_hand():
    found = some(bounds(cells(91.0, 92.0), cells(91.4, 93.0), -0.005, KNOWN, same_rate=True))
    assert found.value == pytest.approx(0.001)
    assert found.low == pytest.approx(0.001 - student.ppf(1 - 0.05 / 2, 30) * ERROR)
    assert found.high == pytest.approx(0.001 + student.ppf(1 - 0.05, 30) * ERROR)
    assert bounds(cells(91.0), [Cell(7.0, 0.9, TRIALS, 0.9, 7.0)], 0, KNOWN, same_rate=True) == []


@pytest.mark.parametrize(
    ("low", "high", "decision"),
    [
        (0.001, 0.01, Decision.HOLDS),
        (-0.01, -0.001, Decision.FAILS),
        (-0.01, 0.01, Decision.UNDECIDED),
        (None, None, Decision.UNDECIDED),
    ],
)
def test_bounds_decide(low, high, decision):
    assert Contrast(0.5, low, high).decision is decision


def test_without_noise_nothing_is_decided():
    assert exceeds(cells(99.0), cells(50.0), 0.0, None).decision is Decision.UNDECIDED
    assert len(possibly_best(cells(90, 91, 50), None, 0.05)) == 3
    assert prefers_small(cells(92, 90), cells(90, 92), None).decision is Decision.UNDECIDED


def test_what_is_surely_exceeded_cannot_be_best():
    assert [c.learning_rate for c in possibly_best(cells(90, 92.0, 91.9), KNOWN, 0.05)] == [
        0.03,
        0.1,
    ]


def test_a_preference_by_hand():
    small, large = cells(92, 90, 88), cells(88, 90, 92)
    assert prefers_small(small, large, KNOWN).decision is Decision.HOLDS
    assert prefers_small(large, large, KNOWN).decision is Decision.FAILS
    assert prefers_small(cells(90, 90, 90), large, KNOWN).decision is Decision.UNDECIDED
    # Either of two rates may be the dense network's best, which matters here and not there.
    flat = cells(88, 92.0, 91.95)
    assert prefers_small(cells(88, 92, 88), flat, KNOWN).decision is Decision.UNDECIDED
    assert prefers_small(small, flat, KNOWN).decision is Decision.HOLDS
    # Its best is the smallest rate: nothing can be smaller.
    assert prefers_small(small, cells(92, 90, 88), KNOWN).decision is Decision.FAILS


def drawn(rng: np.random.Generator, means: dict[str, list[float]], scale: list[float]) -> dict:
    return {
        setting: {
            rate: (mean + sd * rng.standard_normal(3)).tolist()
            for rate, mean, sd in zip(RATES, curve, scale, strict=True)
        }
        for setting, curve in means.items()
    }


FLAT = [90.0] * 5
PEAKED = [89.0, 89.5, 90.0, 89.5, 89.0]


@pytest.mark.parametrize("scale", [[0.2] * 5, [0.1, 0.1, 0.4, 0.1, 0.1]], ids=["equal", "fourfold"])
@pytest.mark.parametrize("theirs", [FLAT, PEAKED], ids=["flat", "peaked"])
def test_at_the_edge_of_a_claim_it_is_wrong_in_5_percent_at_most(theirs, scale):
    """LT is exactly half a point better than RR: neither "holds" nor "fails" would be right."""
    rng = np.random.default_rng(0)
    said = []
    for _ in range(200):
        curves = drawn(
            rng, {"lt": [90.5] * 5, "rr": theirs, "pretrain": FLAT, "sdt": [87.0] * 5}, scale
        )
        known = noise.of(runs(curves))
        ours, others = (
            [Cell(r, np.mean(v) / 100, TRIALS, 0.0, r) for r, v in curves[name].items()]
            for name in ("lt", "rr")
        )
        said.append(exceeds(ours, others, 0.005, known).decision)
    # Two standard errors of a share of 5 % among 200.
    most = 0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5
    assert said.count(Decision.HOLDS) / 200 <= most
    assert said.count(Decision.FAILS) / 200 <= most


def test_where_the_truth_is_clear_it_is_found():
    rng = np.random.default_rng(1)
    means = {"lt": FLAT, "rr": [88.5] * 5, "pretrain": FLAT, "sdt": [87.0] * 5}
    said = []
    for _ in range(100):
        curves = drawn(rng, means, [0.2] * 5)
        known = noise.of(runs(curves))
        ours, others = (
            [Cell(r, np.mean(v) / 100, TRIALS, 0.0, r) for r, v in curves[name].items()]
            for name in ("lt", "rr")
        )
        said.append(exceeds(ours, others, 0.005, known).decision)
    assert said.count(Decision.HOLDS) >= 95
