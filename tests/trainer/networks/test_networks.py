import keras
import numpy as np
import pytest
import torch

from trainer import networks
from trainer.networks import small_dense
from trainer.networks.layers import BatchNormalization
from trainer.pruning import masks


@pytest.mark.parametrize(
    ("name", "shape", "classes", "parameters", "pruned"),
    [
        ("resnet20", (32, 32, 3), 10, 272_474, 269_824),
        ("resnet20", (32, 32, 3), 100, 278_324, 269_824),
        ("vgg16", (32, 32, 3), 10, 14_724_042, 14_708_736),
        ("vgg16", (32, 32, 3), 100, 14_770_212, 14_708_736),
        ("lenet-300-100", (28, 28, 1), 10, 266_610, 265_200),
    ],
)
def test_parameter_counts(name, shape, classes, parameters, pruned):
    with keras.device("meta"):
        model = networks.build(name, input_shape=shape, classes=classes)
    assert small_dense.trainable_parameters(model) == parameters
    registered = networks.NETWORKS[name]
    paths = set(masks.pruned_paths(model, registered.pruned, registered.kept))
    assert sum(int(np.prod(v.shape)) for v in model.variables if v.path in paths) == pruned


def test_resnet20_computes_what_the_same_network_in_torch_does():
    model = networks.build("resnet20", input_shape=(32, 32, 3), classes=10, seed=1)
    images = torch.randn(4, 32, 32, 3)
    weights = {v.path: v.value.detach() for v in model.variables}

    def conv(x, name, stride=1):
        kernel = weights[f"{name}/kernel"].permute(3, 2, 0, 1)
        return torch.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2)

    def norm(x, name):
        scale, shift = weights[f"{name}/gamma"], weights[f"{name}/beta"]
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
        x = (x - mean) / torch.sqrt(var + 1e-5)
        return x * scale[:, None, None] + shift[:, None, None]

    x = torch.relu(norm(conv(images.permute(0, 3, 1, 2), "stem"), "stem_norm"))
    for stage in (1, 2, 3):
        for block in (1, 2, 3):
            name, stride = f"stage{stage}_block{block}", 2 if stage > 1 and block == 1 else 1
            y = torch.relu(norm(conv(x, f"{name}_conv1", stride), f"{name}_norm1"))
            y = norm(conv(y, f"{name}_conv2"), f"{name}_norm2")
            if stride > 1:
                x = norm(conv(x, f"{name}_shortcut", stride), f"{name}_shortcut_norm")
            x = torch.relu(x + y)
    logits = x.mean((2, 3)) @ weights["classifier/kernel"] + weights["classifier/bias"]
    torch.testing.assert_close(model(images, training=True), logits, rtol=1e-3, atol=1e-4)


def test_batch_norm_moves_as_torch_does():
    ours = BatchNormalization(momentum=0.9, epsilon=1e-5)
    theirs = torch.nn.BatchNorm2d(5)
    for _ in range(3):
        images = torch.randn(2, 3, 4, 5)
        expected = theirs(images.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        torch.testing.assert_close(ours(images, training=True), expected)
    torch.testing.assert_close(ours.moving_variance.value, theirs.running_var)
    theirs.eval()
    torch.testing.assert_close(
        ours(images, training=False), theirs(images.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    )


def test_initial_weights_have_the_papers_distributions():
    resnet = networks.build("resnet20", input_shape=(32, 32, 3), classes=10, seed=0)
    kernel = resnet.get_layer("stage3_block2_conv1").kernel.numpy()
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.03)
    assert np.abs(kernel).max() > 3 * np.std(kernel), "normal, and not truncated"
    vgg = networks.build("vgg16", input_shape=(32, 32, 3), classes=10, seed=0)
    kernel = vgg.get_layer("conv9").kernel.numpy()
    bound = 1 / np.sqrt(9 * 512)
    assert bound * 0.999 < np.abs(kernel).max() <= bound
    assert np.std(kernel) == pytest.approx(bound / np.sqrt(3), rel=0.01)
    bias = vgg.get_layer("classifier").bias.numpy()
    assert 0 < np.abs(bias).max() <= 1 / np.sqrt(512)


def test_a_seed_decides_every_weight():
    def weights(seed: int) -> list[np.ndarray]:
        model = networks.build("resnet20", input_shape=(8, 8, 1), classes=10, seed=seed)
        return [w for w in model.get_weights() if np.std(w) > 0]

    for first, second, other in zip(weights(1), weights(1), weights(2), strict=True):
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(first, other)
    assert not np.array_equal(weights(1)[3], weights(1)[4]), "layers draw on their own"


@pytest.mark.parametrize("sparsity", [0.2, 0.5904, 0.8322, 0.9141])
def test_a_small_dense_network_is_the_closest_in_size(sparsity: float):
    target = 272_474 - masks.pruned_count(269_824, sparsity)
    width, found = small_dense.matching_width("resnet20", (32, 32, 3), 10, target)
    model = networks.build("resnet20", input_shape=(32, 32, 3), classes=10, width=width)
    assert small_dense.trainable_parameters(model) == found
    assert abs(found / target - 1) < 0.03
    # No other width comes closer.
    with keras.device("meta"):
        for other in np.linspace(width - 0.05, width + 0.05, 41):
            model = networks.build("resnet20", input_shape=(32, 32, 3), classes=10, width=other)
            assert abs(small_dense.trainable_parameters(model) - target) >= abs(found - target)


def test_a_small_dense_network_has_the_same_depth():
    dense = networks.build("resnet20", input_shape=(32, 32, 3), classes=10)
    small = networks.build("resnet20", input_shape=(32, 32, 3), classes=10, width=0.3)
    assert [layer.name for layer in small.layers] == [layer.name for layer in dense.layers]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "resnet19"}, "unknown network 'resnet19'"),
        ({"input_shape": (32, 32)}, "input_shape="),
        ({"classes": 1}, "classes=1"),
        ({"width": 0.0}, "width=0.0"),
        ({"name": "vgg16", "input_shape": (8, 8, 1)}, "32 × 32 at least"),
    ],
)
def test_what_cannot_be_built_says_why(arguments: dict, words: str):
    with pytest.raises(ValueError, match=words):
        networks.build(
            **({"name": "resnet20", "input_shape": (32, 32, 3), "classes": 10} | arguments)
        )
