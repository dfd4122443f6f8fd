import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trainer.pruning import masks
from trainer.pruning.scores import magnitude

# Few distinct values, so that ties are the rule.
values = st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.0, 1e-30])
arrays = hnp.arrays(np.float32, hnp.array_shapes(max_dims=4, max_side=4), elements=values)
weights = st.lists(arrays, min_size=1, max_size=4).map(
    lambda found: {f"layer{i}/kernel": array for i, array in enumerate(found)}
)
sparsities = st.floats(0, 0.999)


def oracle(weights: dict[str, np.ndarray], count: int, alive: np.ndarray) -> np.ndarray:
    """Sorts every weight one by one: pruned ones first, then by magnitude, later index first."""
    flat = [float(abs(w)) for array in weights.values() for w in array.ravel().tolist()]
    order = sorted(range(len(flat)), key=lambda i: (bool(alive[i]), flat[i], -i))
    kept = np.ones(len(flat), bool)
    for i in order[:count]:
        kept[i] = False
    return kept


def flat(mask: masks.Mask) -> np.ndarray:
    return np.concatenate([entry.ravel() for entry in mask.values()])


@given(weights, sparsities)
def test_one_shot_pruning_equals_the_oracle(weights: dict, sparsity: float):
    mask = masks.prune(magnitude(weights), sparsity)
    size = flat(mask).size
    count = masks.pruned_count(size, sparsity)
    assert count == int(np.floor(sparsity * size + 0.5))
    np.testing.assert_array_equal(flat(mask), oracle(weights, count, np.ones(size, bool)))
    assert {path: entry.shape for path, entry in mask.items()} == {
        path: array.shape for path, array in weights.items()
    }


@given(weights, st.lists(sparsities, min_size=2, max_size=5).map(sorted), st.randoms())
def test_iterative_masks_nest_and_equal_the_oracle(weights: dict, steps: list[float], random):
    mask = None
    alive = np.ones(sum(a.size for a in weights.values()), bool)
    for sparsity in steps:
        # Training between rounds moves the survivors and leaves pruned weights at 0.
        moved = {
            path: array * np.float32(random.choice([0.5, 1.0, 3.0]))
            for path, array in weights.items()
        }
        if mask is not None:
            moved = {path: array * mask[path] for path, array in moved.items()}
        new = masks.prune(magnitude(moved), sparsity, mask)
        expected = oracle(moved, masks.pruned_count(alive.size, sparsity), alive)
        np.testing.assert_array_equal(flat(new), expected)
        assert not (flat(new) & ~alive).any(), "a pruned weight came back"
        mask, alive = new, flat(new)


@given(weights, sparsities)
def test_survivors_are_the_largest(weights: dict, sparsity: float):
    mask = masks.prune(magnitude(weights), sparsity)
    kept = np.concatenate([np.abs(weights[p])[mask[p]] for p in weights])
    lost = np.concatenate([np.abs(weights[p])[~mask[p]] for p in weights])
    assert not lost.size or not kept.size or lost.max() <= kept.min()


def test_equal_scores_lose_the_later_index():
    mask = masks.prune({"a": np.ones((2, 2)), "b": np.ones(4)}, 0.5)
    assert flat(mask).tolist() == [True] * 4 + [False] * 4


def built(*sizes: int, names: bool = False) -> keras.Sequential:
    layers = [keras.layers.Dense(n, name=f"d{i}" if names else None) for i, n in enumerate(sizes)]
    return keras.Sequential([keras.Input((4,)), *layers])


def shapes(model: keras.Model) -> dict[str, tuple[int, ...]]:
    return {v.path: tuple(v.shape) for v in model.variables}


def some_mask(model: keras.Model, layers: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    paths = [v.path for v in model.variables if v.path.endswith("kernel")][:layers]
    return {path: rng.random(shapes(model)[path]) < 0.5 for path in paths}


def test_a_mask_fits_a_network_that_is_built_again_nested_or_loaded(tmp_path):
    model = built(4, 4, 2, names=True)
    mask = some_mask(model, 2)
    outer = keras.Sequential([keras.Input((4,)), built(4, 4, 2, names=True)])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for other in (outer, loaded):
        found = masks.fitted(mask, shapes(other))
        assert [p.split("/")[-2:] for p in found] == [["d0", "kernel"], ["d1", "kernel"]]
        for entry, before in zip(found.values(), mask.values(), strict=True):
            np.testing.assert_array_equal(entry, before)
    back = masks.fitted(masks.fitted(mask, shapes(outer)), shapes(model))
    assert list(back) == list(mask)


def test_layers_without_a_name_are_matched_in_order():
    """`dense_1` of the first build is not `dense_1` of the second, which is its first layer."""
    first, second = built(4, 4, 2), built(4, 4, 2)
    mask = some_mask(first, 2)
    found = masks.fitted(mask, shapes(second))
    expected = [v.path for v in second.variables if v.path.endswith("kernel")][:2]
    assert list(found) == expected
    np.testing.assert_array_equal(found[expected[1]], list(mask.values())[1])


def test_a_mask_that_may_be_matched_in_two_ways_is_refused():
    first, second = built(4, 4, 2), built(4, 4, 2)
    with pytest.raises(masks.MaskError, match="there is not one way to match them"):
        masks.fitted(some_mask(first, 1), shapes(second))


def test_a_pattern_that_keeps_nothing_is_named():
    model = built(4, 2, names=True)
    with pytest.raises(masks.MaskError, match="'haed' matches no layer"):
        masks.pruned_paths(model, kept=["haed"])
    (path,) = masks.pruned_paths(model, kept=["d1"])
    assert path.endswith("d0/kernel")


@pytest.mark.parametrize(
    ("size", "sparsity", "count"),
    [(10, 0.25, 3), (10, 0.0, 0), (3, 0.5, 2), (269_824, 0.2, 53_965), (5, 0.99, 5)],
)
def test_counts_are_rounded_to_nearest(size: int, sparsity: float, count: int):
    assert masks.pruned_count(size, sparsity) == count
    assert (~flat(masks.prune(magnitude({"w": np.arange(size)}), sparsity))).sum() == count


def test_what_cannot_be_pruned_says_why():
    ones = {"w": np.ones(4)}
    with pytest.raises(masks.MaskError, match=r"sparsity in \[0, 1\)"):
        masks.prune(magnitude(ones), 1.0)
    with pytest.raises(masks.MaskError, match="not finite"):
        masks.prune(magnitude({"w": np.array([1.0, np.nan])}), 0.5)
    half = masks.prune(magnitude(ones), 0.5)
    with pytest.raises(masks.MaskError, match="already prunes 2 of 4"):
        masks.prune(magnitude(ones), 0.25, half)
    with pytest.raises(masks.MaskError, match="which the network lacks"):
        masks.prune(magnitude({"v": np.ones(4)}), 0.5, half)
    with pytest.raises(masks.MaskError, match="has shape"):
        masks.prune(magnitude({"w": np.ones((2, 2))}), 0.5, half)
    with pytest.raises(masks.MaskError, match="must be boolean"):
        masks.check_fits({"w": np.ones(4)}, {"w": (4,)})
