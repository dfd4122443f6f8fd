"""How many trials would decide: by arithmetic, and by drawing that many."""

import polars as pl
import pytest
from scipy.stats import t as student

from benchmarks.judging import CLEAR, count
from jackpot.definition import judge
from jackpot.settling import MOST, End, at_an_end, settle
from tests.jackpot.test_definition import SECONDARY, runs, three_trials

NEAR = {
    "pretrain": {0.01: 90.0, 0.1: 92.4},
    "lt": {0.01: 89.8, 0.1: 89.7},
    "rr": {0.01: 86.0, 0.1: 89.05},
    "sdt": {0.01: 84.0, 0.1: 85.0},
}


def test_trials_by_hand():
    (judgement,) = judge(runs(three_trials(NEAR, deviation=0.2)))
    (found,) = [s for s in settle(judgement) if s.finding.condition.name == "3"]
    known, margin = judgement.noise, found.finding.margin
    assert margin == pytest.approx(0.0025)
    variance = known.variance[0.01] + known.variance[0.1]
    parts = [known.variance[rate] ** 2 / known.freedom[rate] for rate in (0.01, 0.1)]
    freedom = min(variance**2 / sum(parts), known.total)

    def is_enough(n: int) -> bool:
        # Two rates of LT: level 0.05 / 2. Degrees of freedom grow from those of three trials.
        free = freedom * (n - 1) / 2
        needed = student.ppf(1 - 0.025, free) + student.ppf(0.8, free)
        return margin >= needed * (variance / n) ** 0.5

    assert found.trials == next(n for n in range(4, MOST + 1) if is_enough(n))
    # LT may be best at either rate, RR at one alone.
    assert found.rates == {"lt": (0.01, 0.1), "rr": (0.1,)}


def test_what_is_at_the_boundary_is_not_asked_for():
    (judgement,) = judge(runs(three_trials(NEAR | {"rr": {0.1: 89.299}}, deviation=0.2)))
    (found,) = [s for s in settle(judgement) if s.finding.condition.name == "3"]
    assert found.trials is None


def test_what_is_decided_needs_nothing():
    (judgement,) = judge(runs(three_trials(SECONDARY, deviation=0.02)))
    assert settle(judgement) == []
    # Nothing tells the noise of single trials.
    (judgement,) = judge(runs(SECONDARY))
    assert settle(judgement) == []


@pytest.mark.slow
def test_that_many_trials_do_decide_it_in_most_studies():
    truth = CLEAR["none, margin of 3 = −0.4"]
    curves = {
        setting: dict(zip((0.01, 0.03, 0.1, 0.3, 1.0), curve.tolist(), strict=True))
        for setting, curve in truth.curves.items()
    }
    (judgement,) = judge(runs(three_trials(curves, deviation=0.4)))
    (found,) = [s for s in settle(judgement) if s.finding.condition.name == "3"]
    said = count(truth, found.trials, 60, 7, deviations=(0.4,) * 5).said
    # 80 % were aimed at; the noise that it reckons with is an estimate.
    assert 0.6 <= said[truth.verdict] / 60 <= 1


RISING = {
    "pretrain": {0.01: 90.0, 0.1: 92.0, 1.0: 93.0},
    "lt": {0.01: 90.0, 0.1: 92.0, 1.0: 91.0},
    "rr": {0.01: 89.0, 0.1: 88.0, 1.0: 87.0},
    "sdt": {0.01: 84.0, 0.1: 85.0, 1.0: 85.0},
}


def test_a_maximum_at_an_end_is_told():
    (judgement,) = judge(runs(three_trials(RISING, deviation=0.1)))
    # LT is best inside, and SDT as good inside as at its end.
    assert set(at_an_end(judgement)) == {End("pretrain", 1.0, True), End("rr", 0.01, False)}


def test_an_end_that_diverges_is_none():
    frame = runs(three_trials(RISING, deviation=0.1))
    beyond = frame.filter(pl.col("learning_rate") == 1.0, setting="pretrain").with_columns(
        learning_rate=pl.lit(10.0), status=pl.lit("FAILED")
    )
    finished = frame.with_columns(status=pl.lit("FINISHED"))
    (judgement,) = judge(pl.concat([finished, beyond]))
    assert at_an_end(judgement) == [End("rr", 0.01, False)]


def test_one_rate_has_no_ends():
    (judgement,) = judge(runs(three_trials({n: {0.1: c[0.1]} for n, c in RISING.items()}, 0.1)))
    assert at_an_end(judgement) == []
