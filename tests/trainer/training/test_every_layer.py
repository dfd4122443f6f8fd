"""Every layer of Keras that takes images or features, lowered, side by side and recorded.

Each option is set to a value other than its default, one at a time, and what the lowered network
computes is held against the Keras call: outputs in training and inference, gradients, statistics.
"""

import inspect
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import keras
import numpy as np
import pytest
import torch

from tests.trainer.training.tape import Tape
from trainer.datasets import Augmentation, Source, Split
from trainer.datasets.batches import DeviceBatches, Recordable
from trainer.study.optimizers import SGD
from trainer.training import verified
from trainer.training.lowering import CannotLower, Lowered, lower
from trainer.training.state import TrainingState
from trainer.training.stepped import Member, SteppedModel

SHAPE = (8, 8, 4)
L = keras.layers

# What a layer cannot be made without.
_REQUIRED: dict[str, dict[str, Any]] = {
    "Activation": {"activation": "gelu"},
    "AlphaDropout": {"rate": 0.4},
    "CenterCrop": {"height": 6, "width": 5},
    "Dense": {"units": 6},
    "Dropout": {"rate": 0.4},
    "EinsumDense": {"equation": "bhwc,cd->bhwd", "output_shape": (8, 8, 6)},
    "GaussianDropout": {"rate": 0.4},
    "GaussianNoise": {"stddev": 0.3},
    "GroupNormalization": {"groups": 2},
    "GroupedQueryAttention": {"head_dim": 4, "num_query_heads": 2, "num_key_value_heads": 1},
    "Lambda": {"function": keras.ops.square},
    "MultiHeadAttention": {"num_heads": 2, "key_dim": 4},
    "Permute": {"dims": (2, 1, 3)},
    "RandomBrightness": {"factor": 0.3},
    "RandomColorDegeneration": {"factor": 0.3},
    "RandomContrast": {"factor": 0.3},
    "RandomCrop": {"height": 6, "width": 5},
    "RandomHue": {"factor": 0.3},
    "RandomPosterization": {"factor": 4},
    "RandomRotation": {"factor": 0.2},
    "RandomSaturation": {"factor": 0.3},
    "RandomSharpness": {"factor": 0.3},
    "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.2},
    "RandomZoom": {"height_factor": 0.2},
    "RepeatVector": {"n": 3},
    "Rescaling": {"scale": 0.5},
    "Reshape": {"target_shape": (4, 16, 4)},
    "Resizing": {"height": 6, "width": 5},
}
_FILTERS = {"filters": 6, "kernel_size": 3}
# Options by name, with a value other than the default.
_OTHERS: dict[str, list[Any]] = {
    **{"activation": ["relu"], "recurrent_activation": ["tanh"], "alpha": [0.7], "axis": [1]},
    **{"antialias": [True], "bias_axes": ["d"], "bins": [16], "center": [False]},
    **{"clip_limit": [2.0], "crop_to_aspect_ratio": [True], "data_format": ["channels_first"]},
    **{"depth_multiplier": [2], "dilation_rate": [2], "dropout": [0.3], "epsilon": [0.1]},
    **{"factor": [0.3], "fill_mode": ["constant"], "fill_value": [0.5], "groups": [2]},
    **{"interpolation": ["nearest"], "keepdims": [True], "kernel_size": [2], "max_value": [0.5]},
    **{"mode": ["horizontal"], "momentum": [0.5], "negative_slope": [0.2], "offset": [0.2]},
    **{"output_padding": [1], "pad_to_aspect_ratio": [True], "padding": ["same"]},
    **{"pool_size": [3], "renorm": [True], "scale": [False], "strides": [2], "size": [3]},
    **{"threshold": [0.1], "use_bias": [False], "value_dim": [3], "value_range": [(0, 1)]},
    **{"return_sequences": [True], "go_backwards": [True], "unroll": [True]},
    **{"reset_after": [False], "recurrent_dropout": [0.3], "shared_axes": [(1, 2)]},
    **{"noise_shape": [(None, 1, 1, 4)], "cropping": [2], "x_factor": [0.3], "y_factor": [0.3]},
    **{"power_iterations": [2], "invert": [True], "mask_value": [0.1], "score_mode": ["concat"]},
    **{"use_scale": [True], "merge_mode": ["sum"], "addition_factor": [0.2], "seed": [5]},
    **{"threshold_factor": [0.2], "num_ops": [1], "num_chains": [2], "chain_depth": [2]},
    **{"all_ops": [False], "brightness_factor": [0.3], "contrast_factor": [0.3]},
    **{"saturation_factor": [0.3], "hue_factor": [0.3], "sigma": [2.0], "tile_grid_size": [(2, 2)]},
    **{"width_factor": [0.3], "use_gate": [True], "attention_axes": [(1, 2)], "output_shape": [5]},
    **{"unit_forget_bias": [False], "height": [4], "width": [4], "rate": [0.1], "stddev": [0.1]},
    **{
        "units": [3],
        "filters": [4],
        "synchronized": [],
        "renorm_clipping": [],
        "normalize": [True],
    },
    **{"trainable": [False], "mean": [0.2], "use_cudnn": [False]},
}
# Where the value above is none of this layer's.
_OWN: dict[str, dict[str, list[Any]]] = {
    "Conv1DTranspose": {"output_padding": [], "strides": [2]},
    "Conv2DTranspose": {"output_padding": [], "strides": [2]},
    "Conv3DTranspose": {"output_padding": [], "strides": [2]},
    "Cropping3D": {"cropping": [1]},
    "EinsumDense": {"output_shape": []},
    "GroupNormalization": {"groups": [4], "axis": [-1]},
    "Lambda": {"output_shape": [], "mask": []},
    "LayerNormalization": {"axis": [(1, 2, 3)]},
    "Normalization": {"axis": [-1], "mean": []},
    "RandomCrop": {"height": [4]},
    "RMSNormalization": {"axis": [-1]},
    "RandomElasticTransform": {"scale": [0.5]},
    "RandomErasing": {"scale": [(0.1, 0.2)]},
    "RandomGaussianBlur": {"kernel_size": [5], "sigma": [0.5]},
    "RandomPerspective": {"scale": [0.5]},
    "Rescaling": {"scale": [3.0]},
    "Softmax": {"axis": [1]},
    "UnitNormalization": {"axis": [1]},
    "ZeroPadding1D": {"padding": [2], "data_format": ["channels_first"]},
    "ZeroPadding2D": {"padding": [2, (1, 2), ((0, 1), (1, 0))]},
    "ZeroPadding3D": {"padding": [2]},
}
# Options that are not set here, and why.
_NOT_SET = (
    *("name", "dtype", "autocast", "weights", "arguments"),  # Compute nothing of their own.
    *("return_state", "stateful"),  # Several outputs; batches of one size.
    *("lora_rank", "lora_alpha"),  # Refused: test_verified.
    *("quantization_config", "gptq_unpacked_column_size"),  # Of inference alone.
    *("flash_attention", "sliding_window"),  # GPUs; longer sequences.
)
_LEFT_OUT = {
    **dict.fromkeys(("Layer", "Wrapper", "InputLayer", "Pipeline"), "computes nothing itself"),
    **dict.fromkeys(("RNN", "StackedRNNCells"), "made of cells"),
    **dict.fromkeys(("GRUCell", "LSTMCell", "SimpleRNNCell"), "steps of a sequence, in an RNN"),
    **dict.fromkeys(
        ("CategoryEncoding", "Discretization", "HashedCrossing", "Hashing"), "takes categories"
    ),
    **dict.fromkeys(("IntegerLookup", "StringLookup", "TextVectorization"), "takes text"),
    **dict.fromkeys(("Embedding", "ReversibleEmbedding"), "takes numbers of categories"),
    **dict.fromkeys(("MelSpectrogram", "STFTSpectrogram"), "takes sound"),
    **dict.fromkeys(("FlaxLayer", "JaxLayer", "TFSMLayer"), "of another backend"),
    **dict.fromkeys(("CutMix", "MixUp", "MaxNumBoundingBoxes"), "takes labels or boxes too"),
    "ActivityRegularization": "refused by trainer.networks.usable",
    "TorchModuleWrapper": "its variables have no shapes that Keras knows before it is called",
}
# Computed on features too.
_FEATURES = (
    *("Activation", "Dense", "ReLU", "LeakyReLU", "ELU", "PReLU", "Softmax", "Identity", "Lambda"),
    *("Dropout", "GaussianDropout", "GaussianNoise", "AlphaDropout", "Flatten", "Rescaling"),
    *("BatchNormalization", "LayerNormalization", "RMSNormalization", "GroupNormalization"),
    *("UnitNormalization", "Normalization"),
)
_SEQUENCES = ("GRU", "LSTM", "SimpleRNN", "Bidirectional", "Masking", "TimeDistributed")
_MERGES = ("Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract")
_ATTENTION = ("AdditiveAttention", "Attention", "GroupedQueryAttention", "MultiHeadAttention")


def classes() -> dict[str, type[keras.layers.Layer]]:
    """Layer classes by name, those with two names once."""
    found: dict[type, str] = {}
    for _name, kind in sorted(vars(L).items()):
        if inspect.isclass(kind) and issubclass(kind, keras.layers.Layer):
            found.setdefault(kind, kind.__name__)
    return {name: kind for kind, name in found.items()}


def required(name: str) -> dict[str, Any]:
    if name in _REQUIRED:
        return _REQUIRED[name]
    if "Conv" in name:
        return {"kernel_size": 3} if "Depthwise" in name else _FILTERS
    if name.startswith("Adaptive"):
        return {"output_size": 2}
    if "Pooling" in name and "Global" not in name:
        return {"pool_size": 2}
    if name.startswith("SpatialDropout"):
        return {"rate": 0.4}
    if name in ("GRU", "LSTM", "SimpleRNN"):
        return {"units": 6}
    if name == "Dot":
        return {"axes": -1}
    if name == "TimeDistributed":
        return {"layer": L.Dense(6)}
    if name == "Bidirectional":
        return {"layer": L.GRU(6)}
    return {"layer": L.Conv2D(6, 3)} if name == "SpectralNormalization" else {}


def settings(name: str, kind: type[keras.layers.Layer]) -> Iterator[dict[str, Any]]:
    """The defaults, and each option at another value, one at a time."""
    base = required(name)
    yield base
    for option in inspect.signature(kind.__init__).parameters:
        if option in _NOT_SET or option.endswith(("_initializer", "_regularizer", "_constraint")):
            continue  # What it starts from; refused by trainer.networks.usable.
        if option in base and option not in ("strides", "groups", "kernel_size", "pool_size"):
            continue
        for value in _OWN.get(name, {}).get(option, _OTHERS.get(option, [])):
            yield {**base, option: value}


def through(
    name: str, kind: type[keras.layers.Layer], options: dict[str, Any], features: bool = False
) -> keras.Model:
    """A network with the layer behind a lowered convolution, and in front of a classifier."""
    inputs = keras.Input(SHAPE)
    # Layers that augment images take colours.
    colours = name.startswith("Rand") or name in ("AugMix", "AutoContrast", "Equalization")
    x = L.Conv2D(3 if colours else 4, 1)(inputs)
    if "layer" in options:  # A layer has one set of weights.
        options = {
            **options,
            "layer": type(options["layer"]).from_config(options["layer"].get_config()),
        }
    layer = kind(**options)
    if features:
        y = layer(L.Dense(4)(L.Flatten()(x)))
    elif name in _SEQUENCES or (name.endswith(("1D", "1DTranspose")) and "LSTM" not in name):
        y = layer(L.Reshape((16, 16))(x))
    elif name == "RepeatVector":
        y = layer(L.Flatten()(x))
    elif name == "ConvLSTM1D":
        y = layer(L.Reshape((4, 8, 8))(x))
    elif name == "ConvLSTM2D" or (name.endswith(("3D", "3DTranspose")) and "LSTM" not in name):
        y = layer(L.Reshape((4, 8, 8, 1) if name == "ConvLSTM2D" else (4, 4, 4, 4))(x))
    elif name == "ConvLSTM3D":
        y = layer(L.Reshape((2, 4, 4, 4, 2))(x))
    elif name in _MERGES:
        one, two = (x, L.Conv2D(4, 1)(inputs))
        y = layer([L.Flatten()(one), L.Flatten()(two)] if name == "Dot" else [one, two])
    elif name in _ATTENTION:
        x = L.Reshape((64, 4))(x)
        if name == "MultiHeadAttention" and "attention_axes" in options:
            x = L.Reshape((8, 8, 4))(x)
        y = layer(x, x) if "Query" in name or "Multi" in name else layer([x, x])
    else:
        y = layer(x)
    return keras.Model(inputs, L.Dense(3, name="classifier")(L.Flatten()(y)))


def refused_by_keras(model: keras.Model) -> bool:
    """Whether Keras itself cannot compute what a layer's options ask for."""
    try:
        for training in (True, False):
            model(torch.randn(2, *SHAPE), training=training)
    except Exception:
        return True
    return False


def swept(name: str) -> Iterator[tuple[str, Callable[[], keras.Model]]]:
    """Each setting of a layer that Keras takes, as words and what makes its network."""
    kind = classes()[name]
    on = (False, True) if name in _FEATURES else (False,)
    for options, features in product(settings(name, kind), on):
        said = ", ".join(f"{k}={v}" for k, v in options.items() if k != "layer")

        def make(options: dict[str, Any] = options, features: bool = features) -> keras.Model:
            return through(name, kind, options, features)

        try:
            model = make()
        except Exception:
            continue  # Refused by Keras, such as sizes that do not fit.
        if not refused_by_keras(model):
            yield f"{name}({said}){' on features' * features}", make


# Keras 3.15 computes neither on torch: shapes that it does not know, and sizes in inference.
_LEFT_OUT |= dict.fromkeys(("Equalization", "RandomCrop"), "Keras fails")
# They draw operations of which some take colours or grey alone.
_LEFT_OUT |= dict.fromkeys(("AugMix", "RandAugment"), "Keras fails for some draws")
NAMES = [name for name in classes() if name not in _LEFT_OUT]


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_computes_what_keras_does(name):
    said = []
    for case, make in swept(name):
        model = make()
        network = lower(model)
        assert isinstance(network, Lowered), case
        assert verified.difference(network, [model]) is None, case
        said.append(case)
    assert said, "Keras takes none of these settings"


# Keras writes to the inputs of these, which are parts of one tensor side by side: the guard sees
# that it fails, and they are trained one by one.
_IN_PLACE = ("RandomBrightness", "RandomColorJitter")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_side_by_side_too(name):
    for case, make in swept(name):
        models = [make(), make()]
        try:
            network = lower(*models)
        except CannotLower:
            continue  # These are trained one by one.
        found = verified.difference(network, models)
        assert found is None or name in _IN_PLACE, f"{case}: {found}"


def test_a_layer_that_writes_to_its_inputs_is_trained_one_by_one():
    models = [through("RandomBrightness", L.RandomBrightness, {"factor": 0.3}) for _ in range(2)]
    assert str(verified.difference(lower(*models), models)).startswith("it fails (")


def steps(model: keras.Model, tape: Tape | None) -> list[np.ndarray]:
    """The variables of a network after 18 steps, recorded or not."""
    state = TrainingState.fresh(model, SGD(name="sgd"))
    stepped = SteppedModel(Member(model, state, lambda step: 0.5**step), recorder=tape)
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (24, *SHAPE), np.uint8), rng.integers(0, 3, 24))
    source = Source(
        "", (0.5,) * 4, (0.25,) * 4, 3, SHAPE, 24, 24, augmentation=Augmentation(1, True)
    )
    batches: Any = DeviceBatches(split, source, 4, "cpu", epoch_seed=lambda epoch: epoch)
    batches = Recordable(batches) if tape else batches
    for _ in range(3):
        batches.on_epoch_begin()
        for data in batches.get_torch_dataloader():
            stepped.train_step(data)
    return list(model.get_weights())


# Networks with a layer that Keras computes are not recorded.
RECORDED = ("Add", "Conv2D", "Dense", "DepthwiseConv2D", "Flatten", "MaxPooling2D", "ReLU")


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_steps_compute_the_same(name):
    seen = 0
    for case, make in swept(name):
        if lower(make()).by_keras:
            continue
        plain, recorded, tape = make(), make(), Tape()
        recorded.set_weights(plain.get_weights())
        for one, two in zip(steps(plain, None), steps(recorded, tape), strict=True):
            np.testing.assert_array_equal(one, two, err_msg=case)
        assert tape.replayed, case
        seen += 1
    assert seen


APPLICATIONS = {
    "MobileNet": {"alpha": 0.25},
    "MobileNetV2": {"alpha": 0.35},
    "MobileNetV3Small": {"include_preprocessing": False},
    "EfficientNetB0": {},
    "EfficientNetV2B0": {"include_preprocessing": False},
    "DenseNet121": {},
    "ConvNeXtTiny": {"include_preprocessing": False},
    "ResNet50": {},
    "ResNet50V2": {},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
@pytest.mark.parametrize("count", [1, 2])
def test_networks_of_keras_are_computed_as_keras_does(name, count):
    def make() -> keras.Model:
        return getattr(keras.applications, name)(
            input_shape=(32, 32, 3),
            weights=None,
            classes=10,
            classifier_activation=None,
            **APPLICATIONS[name],
        )

    models = [make() for _ in range(count)]
    try:
        network = lower(*models)
    except CannotLower:
        assert count > 1
        return
    assert verified.difference(network, models) is None
