"""Survivors by layer, by hand and as a property."""

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.pruning import densities

SHAPES = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.one_of(
        st.tuples(st.integers(1, 60), st.integers(1, 60)),
        st.tuples(*[st.sampled_from([1, 3, 5])] * 2, *[st.integers(1, 20)] * 2),
    ),
    min_size=1,
)


@given(SHAPES, st.floats(0, 1), st.sampled_from(["uniform", "erk", "balanced"]))
def test_survivors_add_up_and_fit_their_layers(shapes: dict, density: float, name: str):
    total = sum(map(prod, shapes.values()))
    survivors = round(density * total)
    found = getattr(densities, name)(shapes, survivors)
    assert list(found) == list(shapes)
    assert sum(found.values()) == survivors
    assert all(0 <= found[path] <= prod(shape) for path, shape in shapes.items())


@given(SHAPES, st.floats(0, 1))
def test_uniform_is_within_one_weight_of_the_share(shapes: dict, density: float):
    total = sum(map(prod, shapes.values()))
    survivors = round(density * total)
    for path, kept in densities.uniform(shapes, survivors).items():
        assert abs(kept - prod(shapes[path]) * survivors / total) < 1 + 1e-6


def test_erk_by_hand():
    """LeNet-300-100 on MNIST: ε solved with the last layer clamped, as RigL's code does it.

    Raw densities: (784+300)/235200 = 0.004609, (300+100)/30000 = 0.013333, (100+10)/1000 = 0.11.
    At a density of 0.2, ε = 53240 / (1084 + 400 + 110) = 33.4: the last would be 3.67, so it is
    dense; then ε = (53240 − 1000) / 1484 = 35.20, and the others keep 35.20 · (1084, 400).
    """
    shapes = {"a": (784, 300), "b": (300, 100), "c": (100, 10)}
    found = densities.erk(shapes, 53240)
    epsilon = (53240 - 1000) / 1484
    assert found["c"] == 1000
    assert found["a"] == pytest.approx(epsilon * 1084, abs=1)
    assert found["b"] == pytest.approx(epsilon * 400, abs=1)


def test_erk_counts_the_sides_of_a_kernel():
    """(3 + 3 + 16 + 32) / (3 · 3 · 16 · 32) against (3 + 3 + 32 + 32) / (3 · 3 · 32 · 32)."""
    shapes = {"a": (3, 3, 16, 32), "b": (3, 3, 32, 32)}
    found = densities.erk(shapes, 1240)
    assert np.array(list(found.values())) == pytest.approx([540, 700], abs=1)


def test_balanced_layers_hand_on_what_they_cannot_hold():
    assert densities.balanced({"a": (10,), "b": (30,), "c": (200,)}, 120) == {
        "a": 10,
        "b": 30,
        "c": 80,
    }
