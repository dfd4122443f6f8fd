"""The paper's networks against what the paper and its code say of them: weights, layers, steps."""

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.trainer.networks.twins import TWINS, Twin
from trainer import networks
from trainer.keras_internals import in_float64
from trainer.study.optimizers import SGD
from trainer.training.lowering import lower
from trainer.training.state import TrainingState
from trainer.training.stepped import Member, SteppedModel

# Initial weights (the authors' code): of convolutions, of the classifier.
LAWS = {
    "resnet20": ((32, 32, 3), "fan_out", "torch"),
    "resnet20-no-residual": ((32, 32, 3), "fan_out", "torch"),
    "resnet32": ((32, 32, 3), "fan_out", "normal"),
    "resnet32-no-residual": ((32, 32, 3), "fan_out", "normal"),
    "vgg16": ((32, 32, 3), "fan_out", "normal"),
    "mobilenet-v1": ((32, 32, 3), "torch", "torch"),
    "resnet18 on ImageNet": ((224, 224, 3), "fan_in", "torch"),
    "resnet50 on ImageNet": ((224, 224, 3), "fan_in", "torch"),
    # Not in that code: as ResNet-32.
    "resnet18": ((32, 32, 3), "fan_out", "normal"),
    "resnet50": ((64, 64, 3), "fan_out", "normal"),
}


def deviation(law: str, kernel: np.ndarray, depthwise: bool) -> float:
    """Standard deviation of a kernel of shape (h, w, in, out) or (in, out) by its law."""
    pixels, (inputs, outputs) = int(np.prod(kernel.shape[:-2])), kernel.shape[-2:]
    if depthwise:
        inputs = 1
    match law:
        case "fan_out":
            return (2 / (pixels * outputs)) ** 0.5
        case "fan_in":
            return (2 / (pixels * inputs)) ** 0.5
        case "normal":
            return 0.01
        case "torch":
            # Uniform within ±1/√fan-in.
            return (1 / (3 * pixels * inputs)) ** 0.5
    raise AssertionError(law)


def follows(law: str, kernel: np.ndarray, name: str) -> None:
    """Mean and deviation are within 4.5 standard errors of the law's; so is its kind."""
    sigma, n = deviation(law, kernel, name.endswith("_depthwise")), kernel.size
    # A fourth standardised moment of 3 if normal, of 1.8 if uniform.
    fourth = 1.8 if law == "torch" else 3.0
    assert abs(kernel.mean()) < 4.5 * sigma / n**0.5, name
    assert abs(kernel.std() / sigma - 1) < 4.5 * ((fourth - 1) / (4 * n)) ** 0.5, name
    if n > 2000:
        found = ((kernel / sigma) ** 4).mean()
        assert abs(found - fourth) < 4.5 * (100 / n) ** 0.5, name


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.slow) if case.startswith("resnet50") else case
        for case in LAWS
    ],
)
@pytest.mark.parametrize("narrow", [False, True], ids=["dense", "small-dense"])
def test_initial_weights_follow_the_authors_laws(case: str, narrow: bool):
    shape, of_convolutions, of_classifier = LAWS[case]
    name = case.partition(" ")[0]
    counts = networks.channel_counts(name, shape, 10) if narrow else ()
    model = networks.build(
        name,
        input_shape=shape,
        classes=10,
        channels={count: -(-count // 2) for count in counts},
        seed=7,
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.Conv2D):
            follows(of_convolutions, np.asarray(layer.kernel, np.float64), layer.name)
    classifier = model.get_layer("classifier")
    kernel, bias = (np.asarray(w, np.float64) for w in (classifier.kernel, classifier.bias))
    follows(of_classifier, kernel, "classifier")
    if of_classifier == "normal":
        assert not bias.any()
    else:
        assert 0 < np.abs(bias).max() <= len(kernel) ** -0.5


# Of networks that another case has at another size of image, or of the same blocks.
SLOW = (
    *("resnet20 without", "resnet18", "resnet18 large", "resnet50"),
    *("vgg16", "vgg16 on Tiny-ImageNet"),
)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow) if case in SLOW else case for case in TWINS],
)
def test_a_torch_twin_computes_and_trains_the_same(case: str):
    """In float64, from the same weights: logits, then weights after three steps."""
    name, shape, forward = TWINS[case]
    with in_float64():
        model = networks.build(name, input_shape=shape, classes=10, seed=1)
        twin = Twin({v.path: v.value for v in model.trainable_variables})
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(3, *shape, dtype=torch.float64, generator=generator)
        labels = torch.tensor([3, 1, 4])
        # Not through Keras's call, which takes images to float32 on its way.
        logits = lower(model)(images, True)
        torch.testing.assert_close(logits, forward(twin, images), rtol=1e-9, atol=1e-9)
        state = TrainingState.fresh(model, SGD(name="sgd"))
        stepped = SteppedModel(Member(model, state, lambda step: 0.01))
        velocity: dict[str, torch.Tensor] = {}
        for _ in range(3):
            stepped.train_step((images, labels))
            twin.step(F.cross_entropy(forward(twin, images), labels), velocity, 0.01)
    expected = Twin(state.weights).weights
    for path, weight in twin.weights.items():
        torch.testing.assert_close(weight, expected[path], rtol=1e-6, atol=1e-9, msg=path)


def test_every_network_has_a_twin():
    assert {name for name, _, _ in TWINS.values()} == set(networks.names())
