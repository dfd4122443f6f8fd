import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jackpot.conditions import Criteria, Verdict
from jackpot.definition import judge
from jackpot.trials import means


def runs(
    curves: dict[str, dict[float, float | list[float]]],
    sparsity: float = 0.914,
    dataset: str = "cifar10",
    epochs: int = 160,
    pruner: str = "imp",
) -> pl.DataFrame:
    """One row per trial from {setting: {learning rate: accuracy in percent, or one per trial}}."""
    rows = [
        {
            "network": "resnet20",
            "dataset": dataset,
            "setting": setting,
            "pruner": pruner if setting in ("lt", "rr", "wr") else None,
            "sparsity": 0.0 if setting == "pretrain" else sparsity,
            "learning_rate": rate,
            "trial": trial,
            "accuracy": accuracy / 100,
            "epochs": epochs,
        }
        for setting, curve in curves.items()
        for rate, accuracies in curve.items()
        for trial, accuracy in enumerate(
            accuracies if isinstance(accuracies, list) else [accuracies], start=1
        )
    ]
    return pl.DataFrame(rows, schema_overrides={"pruner": str})


def three_trials(
    curves: dict[str, dict[float, float]], deviation: float = 0.1, seed: int = 0
) -> dict[str, dict[float, list[float]]]:
    """Trials around means in percent that keep these means exactly."""
    rng = np.random.default_rng(seed)

    def around(mean: float) -> list[float]:
        drawn = deviation * rng.standard_normal(3)
        return (mean + drawn - drawn.mean()).tolist()

    return {
        setting: {rate: around(mean) for rate, mean in curve.items()}
        for setting, curve in curves.items()
    }


def verdict(frame: pl.DataFrame, **criteria: object) -> Verdict:
    (judgement,) = judge(frame, Criteria(**criteria))
    return judgement.verdict


def conditions(frame: pl.DataFrame, **criteria: object) -> list[bool | None]:
    (judgement,) = judge(frame, Criteria(**criteria))
    return [c.holds for c in judgement.conditions]


# Section 2.1, ResNet-20 at s = 0.914, learning rate 0.005; SDT is not given there.
SHORT = {"pretrain": {0.005: 88.0}, "lt": {0.005: 87.1}, "rr": {0.005: 80.3}, "sdt": {0.005: 80.0}}
LONG = {
    "pretrain": {0.005: 89.6, 0.1: 92.3},
    "lt": {0.005: 87.4},
    "rr": {0.005: 82.9},
    "sdt": {0.005: 80.0},
}


def test_section_2_1_no_ticket_once_the_network_is_well_trained():
    assert verdict(runs(LONG)) == Verdict.NONE
    assert conditions(runs(LONG)) == [True, True, True, False, False]


def test_section_2_1_the_short_recipe_is_no_sufficient_training():
    # A reader for whom 0.9 points are close, as the text says of these numbers, finds a ticket
    # only by ignoring condition 1.
    near = {"tolerance": 0.01}
    assert conditions(runs(SHORT, epochs=78), **near) == [False, True, True, True, True]
    assert verdict(runs(SHORT, epochs=78), **near) == Verdict.NONE
    assert verdict(runs(SHORT, epochs=78), epochs=78, **near) == Verdict.JACKPOT
    # Against the best pretraining accuracy it is a secondary prize at most.
    well_trained = SHORT | {"pretrain": {0.005: 88.0, 0.1: 92.3}}
    assert verdict(runs(well_trained, epochs=78), epochs=78, **near) == Verdict.SECONDARY


def test_section_3_1_no_gap_to_reinitialisation_no_ticket():
    # VGG-16 at s = 0.914: LT equals pretraining, but RR is less than half a point behind.
    curves = {
        "pretrain": {0.05: 93.5, 0.1: 93.8},
        "lt": {0.05: 93.3, 0.1: 93.6},
        "rr": {0.05: 93.2, 0.1: 93.4},
        "sdt": {0.05: 91.0, 0.1: 91.5},
    }
    assert conditions(runs(curves)) == [True, True, False, True, True]
    assert verdict(runs(curves)) == Verdict.NONE


def test_section_3_1_the_boundary():
    # MobileNet-v1 at s = 0.832: both gaps are around half a point; the trials do not decide.
    curves = {
        "pretrain": {0.1: [92.3, 92.5, 92.4]},
        "lt": {0.1: [91.8, 92.0, 91.9]},
        "rr": {0.1: [91.3, 91.5, 91.4]},
        "sdt": {0.1: [89.0, 89.2, 89.1]},
    }
    (judgement,) = judge(runs(curves, sparsity=0.832))
    assert judgement.boundary
    assert judgement.finding("3").boundary
    assert judgement.finding("5").boundary
    assert not judgement.finding("2").boundary


@pytest.mark.parametrize(
    ("pretrain_rate", "dense", "imp"),
    [
        (0.01, 90.3, {0.001: 87.5, 0.005: 89.7, 0.01: 89.4, 0.05: 87.9}),
        (0.1, 92.4, {0.01: 85.3, 0.05: 86.6, 0.1: 87.3, 0.15: 86.7}),
    ],
)
def test_table_4_is_no_jackpot_at_any_rate(pretrain_rate, dense, imp):
    curves = {
        "pretrain": {0.01: 90.3, 0.1: 92.4},
        "lt": imp,
        "rr": dict.fromkeys(imp, 80.0),
        "sdt": dict.fromkeys(imp, 80.0),
    }
    (judgement,) = judge(runs(curves))
    best = max(imp.values())
    assert judgement.finding("5").holds is False
    assert judgement.finding("5").margin == pytest.approx((best - 92.4 + 0.5) / 100)
    assert judgement.verdict != Verdict.JACKPOT


SECONDARY = {
    "pretrain": {0.01: 90.0, 0.1: 92.4},
    "lt": {0.01: 89.8, 0.1: 88.0},
    "rr": {0.01: 86.0, 0.1: 87.9},
    "sdt": {0.01: 84.0, 0.1: 85.0},
}


def test_a_secondary_prize():
    (judgement,) = judge(runs(SECONDARY))
    assert judgement.verdict == Verdict.SECONDARY
    _, second, third, fourth, fifth = judgement.conditions
    assert second.margin == pytest.approx(0.898 - 0.85 - 0.005)
    assert third.margin == pytest.approx(0.898 - 0.879 - 0.005)
    assert third.learning_rates == (0.01, 0.1)
    assert fourth.margin == pytest.approx(0.898 - 0.9 + 0.005)
    assert fifth.margin == pytest.approx(0.898 - 0.924 + 0.005)


def test_literal_lets_conditions_choose_their_rates_and_joint_does_not():
    # The clear gap is at 0.1, similarity to the dense network only at 0.01.
    curves = {
        "pretrain": {0.01: 85.0, 0.1: 92.4},
        "lt": {0.01: 85.0, 0.1: 90.0},
        "rr": {0.01: 84.0, 0.1: 89.0},
        "sdt": {0.01: 80.0, 0.1: 80.0},
    }
    assert verdict(runs(curves)) == Verdict.SECONDARY
    assert verdict(runs(curves), reading="joint") == Verdict.NONE
    assert verdict(runs(SECONDARY), reading="joint") == Verdict.SECONDARY


@pytest.mark.parametrize(
    ("sparsity", "holds"), [(0.5904, True), (0.59, True), (0.488, False), (0.832, True)]
)
def test_about_sixty_percent_counts_the_papers_0_590(sparsity: float, holds: bool):
    assert conditions(runs(SECONDARY, sparsity=sparsity))[0] is holds


def test_tolerances_are_the_datasets_own():
    close = SECONDARY | {"lt": {0.01: 89.2, 0.1: 88.0}}
    assert conditions(runs(close))[3] is False
    assert conditions(runs(close, dataset="cifar100"))[3] is True


@pytest.mark.parametrize("gone", ["pretrain", "rr", "sdt"])
def test_a_missing_setting_is_no_guess(gone: str):
    curves = {name: curve for name, curve in SECONDARY.items() if name != gone}
    (judgement,) = judge(runs(curves))
    assert judgement.verdict == Verdict.NOT_ENOUGH_RUNS
    assert judgement.missing == (gone,)
    for condition in judgement.conditions:
        assert (condition.holds is None) == bool(condition.missing)


def test_weight_rewinding_is_judged_in_the_tickets_place():
    curves = SECONDARY | {"wr": {0.01: 89.9, 0.1: 92.3}}
    assert verdict(runs(curves)) == Verdict.SECONDARY
    assert verdict(runs(curves), ticket="wr") == Verdict.JACKPOT


def test_intervals_are_welchs():
    from scipy import stats

    lt, rr = [89.7, 89.9, 90.1], [86.0, 86.2, 85.5]
    curves = SECONDARY | {"lt": {0.01: lt}, "rr": {0.01: rr}}
    (judgement,) = judge(runs(curves))
    third = judgement.finding("3")
    oracle = stats.ttest_ind(lt, rr, equal_var=False).confidence_interval(0.95)
    assert 100 * (third.low + 0.005) == pytest.approx(oracle.low)
    assert 100 * (third.high + 0.005) == pytest.approx(oracle.high)
    # With one trial on either side there is none.
    (single,) = judge(runs(SECONDARY))
    assert all(c.low is None and not c.boundary for c in single.conditions)


def test_means_are_over_trials():
    table = means(runs({"pretrain": {0.1: [90.0, 92.0, 94.0]}}))
    assert table["accuracy"].to_list() == pytest.approx([0.92])
    assert table["deviation"].to_list() == pytest.approx([0.02])
    assert table["trials"].to_list() == [3]


accuracies = st.floats(0, 100)
curve = st.dictionaries(st.sampled_from([0.01, 0.05, 0.1]), accuracies, min_size=1)


@given(st.fixed_dictionaries(dict.fromkeys(("pretrain", "lt", "rr", "sdt"), curve)))
def test_verdicts_follow_from_the_definition(curves):
    frame = runs(curves)
    (literal,) = judge(frame)
    (joint,) = judge(frame, Criteria(reading="joint"))
    lt, dense = curves["lt"], curves["pretrain"]
    shared = [rate for rate in lt if rate in dense]
    eps = 1e-9
    second = max(lt.values()) - max(curves["sdt"].values()) > 0.5 + eps
    third = max(lt.values()) - max(curves["rr"].values()) > 0.5 + eps
    fourth = any(lt[rate] >= dense[rate] - 0.5 - eps for rate in shared)
    fifth = max(lt.values()) >= max(dense.values()) - 0.5 - eps
    borders = [
        max(lt.values()) - max(curves["sdt"].values()) - 0.5,
        max(lt.values()) - max(curves["rr"].values()) - 0.5,
        max(lt.values()) - max(dense.values()) + 0.5,
        *(lt[rate] - dense[rate] + 0.5 for rate in shared),
    ]
    if any(math.isclose(border, 0, abs_tol=1e-6) for border in borders):
        return  # Rounding decides.
    if not shared:
        assert literal.verdict == joint.verdict == Verdict.NOT_ENOUGH_RUNS
        return
    expected = Verdict.NONE
    if second and third and fourth:
        expected = Verdict.JACKPOT if fifth else Verdict.SECONDARY
    assert literal.verdict == expected
    # One rate that meets all is harder to find than one for each.
    order = [Verdict.NONE, Verdict.SECONDARY, Verdict.JACKPOT]
    assert order.index(joint.verdict) <= order.index(literal.verdict)


def test_the_rate_of_a_ticket_is_that_of_the_condition_that_makes_it():
    curves = {
        "pretrain": {0.005: 89.6, 0.1: 92.4},
        "lt": {0.005: 90.0, 0.1: 92.3},
        "rr": {0.1: 87.0},
        "sdt": {0.1: 87.0},
    }
    (judgement,) = judge(runs(curves))
    assert (judgement.verdict, judgement.learning_rate) == (Verdict.JACKPOT, 0.1)
    (judgement,) = judge(runs(curves), Criteria(reading="joint"))
    assert (judgement.verdict, judgement.learning_rate) == (Verdict.JACKPOT, 0.1)
    (judgement,) = judge(runs(curves | {"pretrain": {0.005: 89.6, 0.1: 94.0}}))
    assert (judgement.verdict, judgement.learning_rate) == (Verdict.SECONDARY, 0.005)
