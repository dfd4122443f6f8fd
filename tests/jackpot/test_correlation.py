import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jackpot.correlation
import jackpot.definition
from jackpot.correlation import by_layer, indicator


def layers(seed: int, sizes: tuple[int, ...] = (400, 90, 7)) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {f"layer{i}": rng.normal(size=size) for i, size in enumerate(sizes)}


@given(st.integers(0, 999), st.integers(0, 999), st.sampled_from([0.05, 0.1, 0.5, 1.0]))
def test_the_overlap_is_that_of_sorted_sets(a: int, b: int, p: float):
    first, second = layers(a), layers(b)
    table = by_layer(first, second, p)
    for row, (x, y) in zip(
        table.iter_rows(named=True), zip(first.values(), second.values(), strict=True), strict=True
    ):
        top = max(1, int(p * x.size + 0.5))
        largest = [set(np.argsort(-np.abs(array))[:top].tolist()) for array in (x, y)]
        assert (row["weights"], row["top"]) == (x.size, top)
        assert row["overlap"] == len(largest[0] & largest[1])
        assert row["counts"] == (p * x.size >= 5)
    counted = [row for row in table.iter_rows(named=True) if p * row["weights"] >= 5]
    expected = sum(row["overlap"] for row in counted) / sum(row["top"] for row in counted)
    assert indicator(first, second, p) == pytest.approx(expected)
    if a == b or p == 1.0:
        assert indicator(first, second, p) == 1.0


@pytest.mark.parametrize("p", [0.1, 0.3])
def test_independent_weights_give_about_p(p: float):
    first, second = layers(1, (200_000, 50_000)), layers(2, (200_000, 50_000))
    assert indicator(first, second, p) == pytest.approx(p, abs=0.01)


def test_layers_of_few_survivors_do_not_lift_independent_weights_above_p():
    # As in a sparse VGG-16: most layers keep next to nothing.
    sizes = (5_000, *[3] * 400)
    found = [indicator(layers(i, sizes), layers(1000 + i, sizes), 0.1) for i in range(40)]
    # Hypergeometric: mean p, variance of one value (1 − p)² · n / (n − 1) / n.
    error = 0.9 / np.sqrt(5_000 * len(found))
    assert abs(np.mean(found) - 0.1) < 4 * error
    pooled = by_layer(layers(0, sizes), layers(1000, sizes), 0.1)
    everything = pooled["overlap"].sum() / pooled["top"].sum()
    assert everything > 0.15, "which counting them would have given"
    with pytest.raises(ValueError, match="no layer has enough weights left"):
        indicator(layers(0, (3, 40)), layers(1, (3, 40)), 0.1)


def test_signs_do_not_matter_and_order_of_scale_does():
    weights = layers(3)
    assert indicator(weights, {k: -2 * v for k, v in weights.items()}, 0.1) == 1.0


def test_what_cannot_be_compared_says_why():
    weights = layers(0)
    with pytest.raises(ValueError, match="layers differ"):
        indicator(weights, {"other": np.ones(3)}, 0.1)
    with pytest.raises(ValueError, match="shapes"):
        indicator(weights, weights | {"layer2": np.ones(8)}, 0.1)
    for number in (np.nan, np.inf):
        with pytest.raises(ValueError, match="layer 'layer2' has weights that are no finite"):
            indicator(weights, weights | {"layer2": np.full(7, number)}, 0.1)
    with pytest.raises(ValueError, match=r"p in \(0, 1\]"):
        indicator(weights, weights, 0.0)


@pytest.mark.parametrize("module", [jackpot.correlation, jackpot.definition])
def test_analysis_is_pure(module):
    imported = {
        name
        for node in ast.walk(ast.parse(Path(module.__file__).read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    # Of our own, only the names that trainer and explorer share.
    allowed = {"collections", "copy", "dataclasses", "enum", "typing", "numpy", "polars", "scipy"}
    allowed |= {"jackpot"}
    assert {name.split(".")[0] for name in imported} <= allowed
