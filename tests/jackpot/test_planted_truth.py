"""Studies whose truth is known, judged: wrong and certain in 5 % at most.

The whole table is `python -m benchmarks.judging`'s; these are fewer replicates of the same.
"""

import pytest

from benchmarks.judging import CLEAR, EDGE, EQUAL, FOURFOLD, count
from jackpot.conditions import Criteria, Verdict


@pytest.fixture(params=[30, pytest.param(500, marks=pytest.mark.slow)], scope="module")
def replicates(request: pytest.FixtureRequest) -> int:
    return request.param


def most(share: float, of: int) -> float:
    """A share and three Monte-Carlo standard errors, as a count."""
    return of * (share + 3 * (share * (1 - share) / of) ** 0.5)


def least(share: float, of: int, simulated: float = float("inf")) -> float:
    """As `most`, from below; `simulated`: replicates that the share itself was counted in."""
    return of * (share - 3 * (share * (1 - share) * (1 / of + 1 / simulated)) ** 0.5)


@pytest.mark.parametrize("name", EDGE)
@pytest.mark.parametrize("deviations", [EQUAL, FOURFOLD], ids=["equal", "fourfold"])
def test_at_the_edge(name, deviations, replicates):
    found = count(EDGE[name], 3, replicates, 1, deviations=deviations)
    assert found.wrong <= most(0.05, replicates), found.said
    covered, of = found.covered
    assert covered >= least(0.93, of)


@pytest.mark.parametrize("name", EDGE)
def test_in_the_joint_reading(name, replicates):
    # At the edge of two conditions at once the truth is the same in both readings.
    found = count(EDGE[name], 3, replicates, 2, Criteria(reading="joint"))
    assert found.wrong <= most(0.05, replicates), found.said


@pytest.mark.parametrize(
    ("name", "trials", "decided"),
    [
        ("secondary, margin of 4 = 0.4", 3, 0.60),
        ("secondary, margin of 4 = 0.4", 5, 0.80),
        ("none, margin of 3 = −0.4", 3, 0.34),
        ("none, margin of 3 = −0.4", 5, 0.66),
        ("jackpot, margins 0.5 or more", 8, 0.99),
    ],
)
def test_the_truth_is_found(name, trials, decided, replicates):
    truth = CLEAR[name]
    found = count(truth, trials, replicates, 3)
    assert found.said[truth.verdict] >= least(decided, replicates, simulated=2000)
    assert found.wrong <= most(0.01, replicates)


@pytest.mark.parametrize("name", ["3 at its edge, both flat", "4 at its edge at every rate"])
@pytest.mark.parametrize(
    ("trials", "noise"),
    [
        (3, {"correlation": 0.5}),
        ({"pretrain": 5, "lt": 3, "rr": 3, "sdt": 1}, {}),
        ({"pretrain": 2, "lt": 4, "rr": 2, "sdt": 2}, {"correlation": 0.5}),
        (3, {"diverge": 0.5}),
    ],
    ids=["correlated", "unequal trials", "unequal and correlated", "diverged"],
)
def test_at_the_edge_of_odder_studies(name, trials, noise, replicates):
    found = count(EDGE[name], trials, replicates, 4, **noise)
    assert found.wrong <= most(0.05, replicates), found.said


def test_one_trial_is_never_certain():
    for truth in (CLEAR | EDGE).values():
        found = count(truth, 1, 5, 5)
        assert found.said == {Verdict.UNDECIDED: 5}
