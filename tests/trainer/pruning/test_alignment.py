"""A permuted copy of a network recovers its permutation; its mask follows, to the bit."""

import keras
import numpy as np
import pytest
import torch

from trainer import networks
from trainer.pruning import alignment, masks
from trainer.pruning.scores import magnitude


def random_orders(network: keras.Model, seed: int) -> dict[int, np.ndarray]:
    rng, units = np.random.default_rng(seed), alignment._units(network)
    widths = {}
    for tensor, group in units.seen:
        widths[group] = tensor.shape[-1]
    return {
        group: np.arange(n) if group in units.fixed else rng.permutation(n)
        for group, n in widths.items()
    }


def permuted_copy(network: keras.Model, copy: keras.Model, orders: dict[int, np.ndarray]) -> None:
    """Gives `copy` the weights of `network`, unit i being unit orders[i] of it."""
    units = alignment._units(network)
    values = {v.path: v.numpy() for v in network.variables}
    new = alignment.permuted({path: values[path] for path in units.sides}, network, orders)
    outputs = {path.rpartition("/")[0]: sides for path, sides in units.sides.items()}
    norms = {
        layer.name: group
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization)
        for tensor, group in units.seen
        if tensor is layer.output
    }
    for variable in copy.variables:
        layer, _, kind = variable.path.rpartition("/")
        value = values[variable.path]
        if variable.path in new:
            value = new[variable.path]
        elif layer in norms:
            value = value[orders[norms[layer]]]
        elif kind == "bias" and layer in outputs:
            value = value[orders[outputs[layer][1]]]
        variable.assign(value)


def randomised(network: keras.Model, images: torch.Tensor) -> None:
    """Scales and offsets drawn, and running statistics those of the images: as after training."""
    generator = torch.Generator().manual_seed(0)
    for variable in network.trainable_variables:
        if not variable.path.endswith("kernel"):
            variable.assign(torch.rand(variable.shape, generator=generator) + 0.5)
    with torch.no_grad():
        for _ in range(30):
            network(images, training=True)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("lenet-300-100", (8, 8, 1)),
        ("resnet20", (16, 16, 3)),
        pytest.param("vgg16", (32, 32, 3), marks=pytest.mark.slow),
        pytest.param("mobilenet-v1", (32, 32, 3), marks=pytest.mark.slow),
        ("examples.small_cnn:build", (8, 8, 1)),
    ],
)
def test_a_permuted_copy_recovers_its_permutation(name: str, shape: tuple[int, int, int]):
    network = networks.build(name, input_shape=shape, classes=10, seed=1)
    copy = networks.build(name, input_shape=shape, classes=10, seed=2)
    images = [torch.randn(32, *shape, generator=torch.Generator().manual_seed(i)) for i in (1, 2)]
    randomised(network, images[0])
    orders = random_orders(network, 3)
    permuted_copy(network, copy, orders)
    # The copy computes the same: the test's own permutation is a symmetry.
    torch.testing.assert_close(copy(images[0]), network(images[0]), rtol=1e-3, atol=1e-3)
    found = alignment.matched(network, copy, images)
    for group, order in orders.items():
        np.testing.assert_array_equal(found[group], order)
    # The aligned mask is the mask of the copy's own magnitudes, to the bit: LT in other units.
    paths = list(alignment._units(network).sides)
    first, second = (masks.kernels(model, paths) for model in (network, copy))
    mask = masks.prune(magnitude(first), 0.8)
    aligned = alignment.permuted(mask, network, found)
    ticket = alignment.permuted({p: first[p] * mask[p] for p in paths}, network, orders)
    for path in paths:
        np.testing.assert_array_equal(second[path] * aligned[path], ticket[path])


def test_the_same_network_is_matched_with_itself():
    network = networks.build("resnet20", input_shape=(16, 16, 3), classes=10, seed=1)
    images = [torch.randn(32, 16, 16, 3, generator=torch.Generator().manual_seed(1))]
    for order in alignment.matched(network, network, images).values():
        np.testing.assert_array_equal(order, np.arange(len(order)))


def test_a_layer_whose_units_are_not_known_is_refused_by_name():
    inputs = keras.Input((4, 6))
    x = keras.layers.MultiHeadAttention(2, 3, name="attention")(inputs, inputs)
    x = keras.layers.Dense(3, name="head")(keras.layers.Flatten()(x))
    model = keras.Model(inputs, x, name="vit")
    with pytest.raises(masks.MaskError, match=r"units of network 'vit'.*'attention' \(Multi"):
        alignment.matched(model, model, [torch.zeros(2, 4, 6)])


def test_a_grouped_convolution_is_refused_by_name():
    inputs = keras.Input((6, 6, 4))
    x = keras.layers.Conv2D(4, 3, groups=2, name="grouped")(inputs)
    x = keras.layers.Dense(3, name="head")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, x, name="mine")
    with pytest.raises(masks.MaskError, match="'grouped'"):
        alignment.check(model, ["grouped/kernel"])
