"""Looks, what they may spend, and what an open verdict needs: by arithmetic and by drawing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats import t as student

from jackpot.conditions import Criteria, Verdict
from jackpot.contrasts import Decision
from jackpot.definition import judge
from jackpot.looks import Looks, LookThen
from jackpot.settling import chance, needed
from tests.jackpot.test_definition import SECONDARY, runs, three_trials
from tests.jackpot.test_settling import NEAR


@given(st.integers(2, 50), st.integers(0, 100))
def test_looks_spend_all_of_the_level_and_no_more(first: int, more: int):
    looks = Looks(first, first + more)
    assert looks.trials[0] == first
    assert looks.trials[-1] == first + more
    assert list(looks.trials) == sorted(set(looks.trials))
    shares = [looks.share(number) for number in range(1, len(looks.trials) + 1)]
    assert min(shares) > 0
    assert sum(shares) == pytest.approx(1)


@pytest.mark.parametrize(("first", "last"), [(1, 4), (0, 2), (5, 4)])
def test_looks_that_say_nothing_are_refused(first: int, last: int):
    with pytest.raises(ValueError, match=f"received {first} and {last}"):
        Looks(first, last)


def test_a_look_judges_at_its_share_of_the_level():
    frame = runs(three_trials(NEAR, deviation=0.2))
    (whole,) = judge(frame, Criteria(alpha=0.0125))
    (shared,) = judge(frame, Criteria(share=0.25))
    for one, other in zip(whole.conditions, shared.conditions, strict=True):
        assert (one.low, one.high) == (other.low, other.high)
    assert shared.criteria.alpha == 0.05
    assert shared.criteria.level == pytest.approx(0.0125)


def test_an_open_verdict_needs_the_rates_that_may_be_best():
    # Condition 3 is 0.25 points inside at a noise of 0.2, and the only one that is open. LT is as
    # good at both rates, RR 3 points lower at 0.01.
    (judgement,) = judge(runs(three_trials(NEAR, deviation=0.2)))
    assert [f.condition.name for f in judgement.conditions if f.undecided] == ["3"]
    assert needed(judgement) == {"lt": (0.01, 0.1), "rr": (0.1,)}


def test_at_the_same_rate_pairs_matter_that_may_meet_the_condition():
    # By 0.2 points to either side of what is allowed at 0.01, and surely outside at 0.1.
    curves = NEAR | {"lt": {0.01: 89.45, 0.1: 90.2}, "rr": {0.1: 85.0}, "sdt": {0.1: 84.0}}
    (judgement,) = judge(runs(three_trials(curves, deviation=0.2)))
    assert [f.condition.name for f in judgement.conditions if f.undecided] == ["4"]
    assert needed(judgement) == {"lt": (0.01,), "pretrain": (0.01,)}


def test_a_decided_verdict_needs_nothing():
    (judgement,) = judge(runs(three_trials(SECONDARY, deviation=0.02)))
    assert judgement.verdict is Verdict.SECONDARY
    assert needed(judgement) == {}
    assert chance(judgement, 8, 0.05) == 1


def test_without_a_second_trial_nothing_tells_the_chance():
    (judgement,) = judge(runs(SECONDARY))
    assert judgement.verdict is Verdict.UNDECIDED
    assert chance(judgement, 8, 0.05) == 1
    assert needed(judgement)["lt"] == (0.01, 0.1)


def test_the_chance_of_a_decision_by_hand():
    (judgement,) = judge(runs(three_trials(NEAR, deviation=0.2)))
    known = judgement.noise
    variance = known.variance[0.01] + known.variance[0.1]
    parts = [known.variance[rate] ** 2 / known.freedom[rate] for rate in (0.01, 0.1)]
    free = min(variance**2 / sum(parts), known.total) * (8 - 1) / (3 - 1)
    later = (variance / 8) ** 0.5
    spread = (variance / 3 - variance / 8) ** 0.5
    # Two rates of LT share the level of "holds", three conditions and two rates of RR "fails".
    holds = norm.cdf((0.0025 - student.ppf(1 - 0.02 / 2, free) * later) / spread)
    fails = norm.cdf((-0.0025 - student.ppf(1 - 0.02 / 6, free) * later) / spread)
    assert chance(judgement, 8, 0.02) == pytest.approx(max(holds, fails), rel=1e-6)
    assert chance(judgement, 3, 0.02) == 0, "no more trials than there are"


def test_the_chance_is_the_share_that_is_decided():
    """Margin and noise as estimated; the trials to come are drawn, and judged as eight are."""
    (judgement,) = judge(runs(three_trials(NEAR, deviation=0.2)))
    found, known = judgement.finding("3"), judgement.noise
    error, freedom = known.of_difference(found.own, found.other)
    rng, count = np.random.default_rng(0), 200_000
    truth = found.margin + error * rng.standard_normal(count)
    more = truth + error * (3 / 5) ** 0.5 * rng.standard_normal(count)
    eight = (3 * found.margin + 5 * more) / 8
    later, free = error * (3 / 8) ** 0.5, freedom * 7 / 2
    holds = (eight > student.ppf(1 - 0.02 / 2, free) * later).mean()
    fails = (eight < -student.ppf(1 - 0.02 / 6, free) * later).mean()
    assert chance(judgement, 8, 0.02) == pytest.approx(max(holds, fails), abs=0.005)


RECORDED = {
    "number": 1, "trials": 2, "share": 0.25, "runs": 40, "rates": [0.01, 0.1], "grown": [0.1],
    "tickets": [
        {
            "pruner": "imp", "sparsity": 0.59, "verdict": "undecided", "standing": "more trials",
            "look": 1,
            "decisions": {"1": "holds", "2": None}, "margins": {"1": None, "2": 0.01},
            "needs": {"lt": [0.1]},
        }
    ],
    "why": "",
}  # fmt: skip


def test_a_recorded_look_is_read_back():
    found = LookThen.of(RECORDED)
    assert found.rates == (0.01, 0.1)
    assert found.tickets[0].needs == {"lt": (0.1,)}
    assert found.tickets[0].decisions == {"1": Decision.HOLDS, "2": None}


@pytest.mark.parametrize(
    "wrong",
    [
        {"share": 0}, {"share": 1.5}, {"share": float("nan")}, {"share": "all"}, {"tickets": [{}]},
        {"rates": None}, {"tickets": 1},
        {"tickets": [RECORDED["tickets"][0] | {"decisions": {"1": "maybe"}}]},
        {"tickets": [RECORDED["tickets"][0] | {"standing": "sitting"}]},
    ],
)  # fmt: skip
def test_a_damaged_look_is_refused(wrong: dict):
    with pytest.raises((KeyError, TypeError, ValueError)):
        LookThen.of(RECORDED | wrong)
