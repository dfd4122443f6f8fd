"""A network of a user's own that would be trained otherwise than Keras's is refused by name."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import torch

from trainer import networks
from trainer.networks.layers import BatchNormalization
from trainer.training.lowering import lower


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield
    sys.modules.pop("own", None)


def build(name: str) -> keras.Model:
    return networks.build(f"own:{name}", input_shape=(8, 8, 1), classes=10)


def test_a_fine_one_is_built():
    assert build("fine").output_shape == (None, 10)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "returned NoneType: expected a built keras.Model"),
        ("unbuilt", "is not built: call it on keras.Input"),
        ("two_outputs", "has 1 inputs and 2 outputs: expected one of each"),
        ("too_narrow", r"returns outputs of shape \(None, 9\): expected \(None, 10\)"),
        ("feature_map", r"returns outputs of shape \(None, 6, 6, 10\): expected \(None, 10\)"),
        ("probabilities", "ends in probabilities .'end'.: expected logits"),
        ("softmax_layer", "ends in probabilities .*: expected logits"),
        ("decayed", "has a regularizer on 'conv/kernel' .L2., .* set training.optimizer.weight"),
        ("constrained", "has a constraint on 'conv/kernel' .MaxNorm."),
        ("active", "has an activity regularizer on 'conv'"),
        ("nested_decay", "has a regularizer on 'block/conv/bias' .L1."),
        ("twins", "has several variables called 'conv/kernel'"),
        ("subclassed", "has several variables called"),
        ("other_images", r"takes images of shape \(32, 32, 3\): expected \(8, 8, 1\)"),
    ],
)
def test_what_is_wrong_is_named(name: str, words: str):
    with pytest.raises(ValueError, match=f"network 'own:{name}' {words}"):
        build(name)


def test_a_frozen_batch_norm_keeps_its_statistics():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, BatchNormalization(name="norm")(inputs))
    same = keras.Model(inputs, keras.layers.BatchNormalization(epsilon=1e-5, name="norm")(inputs))
    for network in (model, same):
        norm = network.get_layer("norm")
        norm.trainable = False
        norm.moving_mean.assign([1.0, 2.0, 3.0])
        norm.moving_variance.assign([0.5, 1.0, 2.0])
        norm.epsilon = 1e-5
    images = torch.randn(4, 8, 8, 3)
    expected = same(images, training=True)
    torch.testing.assert_close(model(images, training=True), expected)
    lowered = lower(model)(images, True).permute(0, 2, 3, 1)
    torch.testing.assert_close(lowered, expected)
    np.testing.assert_array_equal(model.get_layer("norm").moving_mean.numpy(), [1, 2, 3])
