"""Overlaps, signs and barriers: by hand, and as properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jackpot.connectivity import barrier
from jackpot.overlaps import densities, overlap, sign_agreement


def test_overlap_by_hand():
    """6 weights: survivors {0, 1, 2} and {1, 2, 3}; 2 in common of 4. By chance 1.5 of 4.5."""
    one = {"a/kernel": np.array([1, 1, 1, 0, 0, 0], bool), "b/kernel": np.zeros((2, 2), bool)}
    two = {"a/kernel": np.array([0, 1, 1, 1, 0, 0], bool), "b/kernel": np.ones((2, 2), bool)}
    table = overlap(one, two)
    assert table.rows() == [
        ("a/kernel", 2, 0.5, 1.5 / 4.5),
        ("b/kernel", 0, 0.0, 0.0),
        ("all", 2, 2 / 8, pytest.approx(1.5 / 8.5)),
    ]
    assert densities({"mine": one}).rows() == [("a", "mine", 0.5), ("b", "mine", 0.0)]
    with pytest.raises(ValueError, match="masks of different layers"):
        overlap(one, {"a/kernel": two["a/kernel"]})


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_independent_masks_overlap_by_chance(seed: int, density: float):
    rng = np.random.default_rng(seed)
    one, two = ({"a": rng.random(20_000) < density} for _ in range(2))
    row = overlap(one, two).row(0, named=True)
    assert abs(row["iou"] - row["by_chance"]) < 0.03
    whole = overlap(one, one).row(0, named=True)
    assert whole["iou"] == 1


def test_signs_by_hand():
    initial = {"a/kernel": np.array([1.0, -1.0, 2.0, -3.0]), "b/kernel": np.array([1.0])}
    trained = {"a/kernel": np.array([0.5, 1.0, 4.0, -9.0]), "b/kernel": np.array([-1.0])}
    mask = {"a/kernel": np.array([1, 1, 0, 1], bool), "b/kernel": np.array([0], bool)}
    assert sign_agreement(initial, trained, mask).rows() == [
        ("a", 3, 2 / 3),
        ("b", 0, None),
        ("all", 3, 2 / 3),
    ]


def test_a_barrier_is_over_the_mean_of_the_ends():
    found = barrier(np.linspace(0, 1, 5), np.array([0.1, 0.2, 0.35, 0.3, 0.2]))
    assert found.height == pytest.approx(0.35 - 0.15)
    assert (found.alpha, found.ends) == (0.5, (0.1, 0.2))
    flat = barrier(np.array([0.0, 0.5, 1.0]), np.array([0.2, 0.1, 0.2]))
    assert flat.height == 0, "networks between may be better"
    for alpha, error in (([0.0, 0.9], [0.1, 0.1]), ([0.0, 1.0], [0.1, np.nan])):
        with pytest.raises(ValueError, match=r"line from 0 to 1|no number"):
            barrier(np.array(alpha), np.array(error))
