"""Residual connections: of the paper's networks as it describes them, and of others by hand."""

import keras
import pytest

from trainer import networks
from trainer.networks.residual import has_residuals

PAPER = {
    "lenet-300-100": False,
    "mobilenet-v1": False,
    "resnet18": True,
    "resnet20": True,
    "resnet20-no-residual": False,
    "resnet32": True,
    "resnet32-no-residual": False,
    "resnet50": True,
    "vgg16": False,
    "vit-small": True,
}


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_networks(name: str):
    with keras.device("meta"):
        model = networks.build(name, input_shape=(32, 32, 3), classes=10)
    assert has_residuals(model) is PAPER[name]


def test_every_network_is_among_them():
    assert set(PAPER) == set(networks.names())


def inputs() -> keras.KerasTensor:
    return keras.Input((8, 8, 4))


def conv(x: keras.KerasTensor) -> keras.KerasTensor:
    return keras.layers.Conv2D(4, 3, padding="same")(x)


def summed_by_an_operator() -> keras.Model:
    x = inputs()
    return keras.Model(x, x + conv(x))


def with_a_projection() -> keras.Model:
    x = inputs()
    return keras.Model(x, keras.layers.Add()([conv(x), conv(keras.layers.ReLU()(conv(x)))]))


def inside_another_model() -> keras.Model:
    x = inputs()
    return keras.Model(x, keras.layers.Flatten()(summed_by_an_operator()(conv(x))))


def attention() -> keras.Model:
    x = keras.Input((6, 8))
    y = keras.layers.MultiHeadAttention(2, 4)(x, x)
    return keras.Model(x, keras.layers.LayerNormalization()(keras.layers.Add()([x, y])))


def two_towers() -> keras.Model:
    x = inputs()
    return keras.Model(x, keras.layers.Add()([conv(x), conv(x)]))


def concatenated() -> keras.Model:
    x = inputs()
    return keras.Model(x, keras.layers.Concatenate()([x, conv(x)]))


def a_constant_added() -> keras.Model:
    x = inputs()
    return keras.Model(x, conv(x) + 1.0)


class OfItsOwn(keras.Model):
    def call(self, x):
        return x + 1


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (summed_by_an_operator, True),
        (with_a_projection, True),
        (inside_another_model, True),
        (attention, True),
        (two_towers, False),
        (concatenated, False),
        (a_constant_added, False),
        (OfItsOwn, None),
    ],
)
def test_own_networks(make, expected):
    assert has_residuals(make()) is expected
