"""What is lowered computes what Keras computes; a guard for what nobody thought of."""

import keras
import pytest
import torch
from torch import Tensor

from trainer.study.optimizers import SGD
from trainer.training import lowering, verified
from trainer.training.lowering import CannotLower, Lowered, lower
from trainer.training.state import TrainingState
from trainer.training.stepped import Member, SteppedModel

SHAPE = (8, 8, 4)


class Standardised(keras.layers.Conv2D):
    """Weight standardisation (Qiao et al. 2019): a convolution with a kernel of its own making."""

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        mean = keras.ops.mean(kernel, axis=(0, 1, 2), keepdims=True)
        deviation = keras.ops.std(kernel, axis=(0, 1, 2), keepdims=True)
        return super().convolution_op(inputs, (kernel - mean) / (deviation + 1e-5))


class Scaled(keras.layers.Dense):
    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return 3 * super().call(inputs)


class Leaky(keras.layers.ReLU):
    def call(self, inputs: Tensor) -> Tensor:
        return keras.ops.leaky_relu(inputs, 0.3)


class Centred(keras.layers.ZeroPadding2D):
    def call(self, inputs: Tensor) -> Tensor:
        return super().call(inputs) + 1


def head(x: keras.KerasTensor) -> keras.KerasTensor:
    if len(x.shape) == 4:
        x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.layers.Dense(3, name="classifier")(x)


def through(*layers: keras.layers.Layer) -> keras.Model:
    inputs = x = keras.Input(SHAPE)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, head(x))


def broadcast() -> keras.Model:
    inputs = keras.Input(SHAPE)
    mean = keras.layers.GlobalAveragePooling2D(keepdims=True)(inputs)
    return keras.Model(inputs, head(keras.layers.Add()([inputs, mean])))


L = keras.layers
# Each network is made anew: its layers keep their weights.
CASES = {
    "own convolution": lambda: through(Standardised(5, 3)),
    "own dense": lambda: through(L.Flatten(), Scaled(6)),
    "own ReLU before a pooling": lambda: through(Leaky(), L.ZeroPadding2D(1), L.MaxPooling2D(3)),
    "own padding": lambda: through(Centred(1), L.Conv2D(5, 3)),
    "flatten, channels first": lambda: through(L.Flatten(data_format="channels_first")),
    "pooling, channels first": lambda: through(L.MaxPooling2D(2, data_format="channels_first")),
    "mean, channels first": lambda: through(L.GlobalAveragePooling2D(data_format="channels_first")),
    "padding, channels first": lambda: through(
        L.ZeroPadding2D(1, data_format="channels_first"), L.Conv2D(5, 3)
    ),
    "dense on a feature map": lambda: through(L.Dense(7)),
    "dense on a feature map, as wide": lambda: through(L.Dense(8)),
    "a sum that broadcasts": broadcast,
    "leaky ReLU": lambda: through(
        L.ReLU(negative_slope=0.2), L.ZeroPadding2D(1), L.MaxPooling2D(3)
    ),
    "capped ReLU": lambda: through(L.ReLU(max_value=0.5)),
    "convolution in groups": lambda: through(L.Conv2D(4, 3, groups=2)),
    "dilated convolution": lambda: through(L.Conv2D(4, 3, dilation_rate=2)),
    "strided, same": lambda: through(L.Conv2D(4, 3, strides=2, padding="same")),
    "even kernel, same": lambda: through(L.Conv2D(4, 2, padding="same")),
    "convolution with an activation": lambda: through(L.Conv2D(4, 3, activation="relu")),
    "depthwise, wider": lambda: through(L.DepthwiseConv2D(3, depth_multiplier=2)),
    "pooling, same": lambda: through(L.MaxPooling2D(3, padding="same")),
    "pooling, strided": lambda: through(L.MaxPooling2D(3, strides=1)),
    "mean kept": lambda: through(L.GlobalAveragePooling2D(keepdims=True)),
    "Keras's batch norm": lambda: through(L.Conv2D(4, 3), L.BatchNormalization()),
    "batch norm of rows": lambda: through(L.BatchNormalization(axis=1)),
    "layer norm": lambda: through(L.LayerNormalization()),
    "group norm": lambda: through(L.GroupNormalization(2)),
    "separable": lambda: through(L.SeparableConv2D(5, 3)),
    "transposed": lambda: through(L.Conv2DTranspose(5, 3)),
    "dropout": lambda: through(L.Dropout(0.5), L.SpatialDropout2D(0.3)),
    "noise": lambda: through(L.GaussianNoise(0.3)),
    "flips": lambda: through(L.RandomFlip()),
    "crop": lambda: through(L.Cropping2D(1)),
    "upsampling": lambda: through(L.UpSampling2D(2)),
    "mean pooling": lambda: through(L.AveragePooling2D(2)),
    "PReLU": lambda: through(L.PReLU()),
    "ELU": lambda: through(L.ELU()),
    "softmax": lambda: through(L.Softmax()),
    "rescaling": lambda: through(L.Rescaling(0.5, 0.1)),
    "reshape": lambda: through(L.Reshape((4, 16, 4))),
    "permute": lambda: through(L.Permute((2, 1, 3))),
    "einsum": lambda: through(L.EinsumDense("bhwc,cd->bhwd", output_shape=(None, 8, 6))),
}


@pytest.mark.parametrize("case", CASES)
def test_a_layer_is_lowered_as_keras_computes_it_or_left_to_keras(case):
    model = CASES[case]()
    network = lower(model)
    assert isinstance(network, Lowered)
    assert verified.difference(network, [model]) is None


# What reads the images itself, and what Keras computes for each network.
QUICK = ("own convolution", "strided, same", "convolution with an activation", "dropout")


@pytest.mark.parametrize(
    "case",
    [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES],
)
def test_two_side_by_side_too(case):
    models = [CASES[case]() for _ in range(2)]
    try:
        network = lower(*models)
    except CannotLower:
        return  # They are then trained one by one.
    assert verified.difference(network, models) is None


@pytest.mark.parametrize(
    ("case", "by_keras"),
    [
        ("own convolution", "Standardised"),
        ("own dense", "Scaled"),
        ("flatten, channels first", "data_format"),
        ("dense on a feature map", "4-dimensional inputs"),
        ("a sum that broadcasts", "broadcasts"),
    ],
)
def test_what_keras_computes_is_named(case, by_keras, caplog):
    lower(CASES[case]())
    assert by_keras in caplog.text


def test_a_lowered_form_that_is_wrong_is_not_used(monkeypatch, caplog):
    """As if a layer's torch call were wrong in a way that nobody has thought of."""
    right = lowering._dense

    def wrong(layer, joined):
        call = right(layer, joined)
        return lambda training, x: call(training, x) + (0.1 if training else 0.0)

    monkeypatch.setattr(lowering, "_dense", wrong)
    verified._known.clear()
    model = through(L.Conv2D(4, 3))
    member = Member(model, TrainingState.fresh(model, SGD(name="sgd")), lambda step: 0.1)
    stepped = SteppedModel(member)
    assert "whose lowered form is not Keras's: outputs are" in caplog.text
    assert "in training" in caplog.text
    images = torch.randn(3, *SHAPE)
    torch.testing.assert_close(stepped.stepper.lowered(images, True), model(images, training=True))
    with pytest.raises(CannotLower):
        SteppedModel(
            *[
                Member(m, TrainingState.fresh(m, SGD(name="sgd")), lambda step: 0.1)
                for m in (through(L.Conv2D(4, 3)), through(L.Conv2D(4, 3)))
            ]
        )
    verified._known.clear()


def test_a_check_leaves_no_trace():
    model = through(L.Conv2D(4, 3), L.Dropout(0.5), L.BatchNormalization())
    before = [v.value.detach().clone() for v in model.variables]
    random = torch.random.get_rng_state()
    assert verified.difference(lower(model), [model]) is None
    for variable, value in zip(model.variables, before, strict=True):
        assert torch.equal(variable.value, value), variable.path
        assert variable.value.grad is None
    assert torch.equal(torch.random.get_rng_state(), random)


def test_a_structure_is_checked_once(monkeypatch):
    verified._known.clear()
    seen = []
    monkeypatch.setattr(verified, "difference", lambda *_: seen.append(1))
    for _ in range(3):
        model = through(L.Conv2D(4, 3, name="conv"))
        verified.once(lower(model), [model])
    model = through(L.Conv2D(4, 3, dilation_rate=2, name="conv"))
    verified.once(lower(model), [model])
    assert len(seen) == 2
    verified._known.clear()
