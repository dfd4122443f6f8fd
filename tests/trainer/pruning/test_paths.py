"""Effective sparsity, against what changes a network's output."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer import stored
from trainer import networks
from trainer.pruning import masks
from trainer.pruning.paths import active


@settings(max_examples=40)
@given(
    st.integers(0, 10**6), st.lists(st.integers(1, 6), min_size=2, max_size=5), st.floats(0.3, 0.95)
)
def test_dense_networks_against_boolean_matrices(seed: int, widths: list[int], sparsity: float):
    rng = np.random.default_rng(seed)
    inputs = x = keras.Input((5,))
    for i, width in enumerate(widths):
        x = keras.layers.Dense(width, "relu", name=f"dense{i}")(x)
    model = keras.Model(inputs, x)
    kept = [rng.random(tuple(layer.kernel.shape)) >= sparsity for layer in model.layers[1:]]
    mask = {f"dense{i}/kernel": entry for i, entry in enumerate(kept)}
    reached, read = [np.ones(5, bool)], [np.ones(widths[-1], bool)]
    for entry in kept:
        reached.append((reached[-1][:, None] & entry).any(0))
    for entry in reversed(kept):
        read.insert(0, (entry & read[0]).any(1))
    on_path = [entry & r[:, None] & w for entry, r, w in zip(kept, reached, read[1:], strict=False)]
    found = active(model, mask)
    assert list(found.weights.values()) == [int(entry.sum()) for entry in on_path]
    assert found.constant == (not reached[-1].any())
    total = sum(entry.size for entry in kept)
    assert found.sparsity == pytest.approx(1 - sum(e.sum() for e in on_path) / total)


def changed_outputs(model: keras.Model, mask: dict[str, np.ndarray]) -> dict[str, int]:
    """Weights whose change changes the output of a network of positive weights, one by one."""
    rng = np.random.default_rng(1)
    for variable in model.variables:
        scale = mask.get(variable.path, 1.0)
        positive = rng.uniform(0.5, 1.5, variable.shape) * scale
        variable.assign(positive if variable.path.endswith("kernel") else np.zeros(variable.shape))
    image = np.ones((1, *model.input_shape[1:]), np.float32)
    before = np.asarray(model(image, training=False).detach())
    counts = {}
    for variable in model.variables:
        if variable.path not in mask:
            continue
        own = np.asarray(variable.value.detach().cpu()).copy()
        counts[variable.path] = 0
        for index in np.argwhere(mask[variable.path]):
            other = own.copy()
            other[tuple(index)] *= 2
            variable.assign(other)
            after = np.asarray(model(image, training=False).detach())
            counts[variable.path] += not np.array_equal(after, before)
        variable.assign(own)
    return counts


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.97])
def test_a_convolutional_network_against_its_own_outputs(sparsity: float):
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, padding="same", name="one")(inputs)
    y = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="linear", name="two")(x)
    z = keras.layers.Conv2D(4, 1, strides=2, name="three")(x)
    x = keras.layers.AveragePooling2D(3)(keras.layers.Add()([y, z]))
    x = keras.layers.Dense(3, name="four")(keras.layers.Flatten()(x))
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(int(100 * sparsity))
    mask = {
        f"{name}/kernel": rng.random(tuple(model.get_layer(name).kernel.shape)) >= sparsity
        for name in ("one", "two", "three", "four")
    }
    found = active(model, mask)
    assert dict(found.weights) == changed_outputs(model, mask)
    assert found.collapsed == tuple(p for p, n in found.weights.items() if n == 0)


def test_paths_through_attention_are_not_defined():
    model = networks.build("vit-small", input_shape=(16, 16, 3), classes=10)
    paths = masks.pruned_paths(model, ["*", "*/*"], ["stem", "classifier"])
    kernels = masks.kernels(model, paths)
    assert active(model, {path: np.ones(k.shape, bool) for path, k in kernels.items()}) is None


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name == "resnet50" else name
        for name in networks.names()
        if name != "vit-small"
    ],
)
def test_every_network_of_the_trainer_is_known(name: str):
    model = networks.build(name, input_shape=(32, 32, 3), classes=10)
    kept = networks.find(name).kept
    shapes = {
        path: kernel.shape
        for path, kernel in masks.kernels(model, masks.pruned_paths(model, kept=kept)).items()
    }
    before = [np.asarray(v.numpy()).copy() for v in model.variables]
    whole = active(model, {path: np.ones(shape, bool) for path, shape in shapes.items()})
    assert (whole.sparsity, whole.collapsed, whole.constant, whole.warning) == (0, (), False, "")
    none = active(model, {path: np.zeros(shape, bool) for path, shape in shapes.items()})
    assert none.sparsity == 1
    assert none.empty == tuple(shapes)
    assert "have no weight left" in none.warning
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(np.asarray(variable.numpy()), value)


def test_attention_is_not_known():
    inputs = keras.Input((4, 8))
    x = keras.layers.MultiHeadAttention(2, 4)(inputs, inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, name="last")(keras.layers.Flatten()(x)))
    assert active(model, {"last/kernel": np.ones((32, 3), bool)}) is None


def test_a_collapse_is_said_logged_and_shown(write_config, store_uri: str, train, capsys):
    """Five of 49,200 weights are left."""
    config = write_config(settings="[lt]", pruners="[omp]", pruning="{sparsities: [0.5, 0.9999]}")
    assert train(config) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "lt-omp s=0.9999 lr=0.05 trial=1: layer collapse: " in said
    assert "the output no longer depends on the image" in said
    assert "† Layer collapse in 1 runs" in said
    runs = stored.labelled(store_uri)
    metrics = runs["lt-omp s=0.9999"].data.metrics
    assert metrics["effective_sparsity"] == 1
    assert metrics["collapsed_layers"] == 2
    other = runs["lt-omp s=0.500"].data.metrics
    assert other["collapsed_layers"] == 0
    assert 0.5 <= other["effective_sparsity"] < 0.6
    assert train(config) == 0
    assert "† Layer collapse in 1 runs" in " ".join(capsys.readouterr().out.split())
