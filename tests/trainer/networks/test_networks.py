import random

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
        # Without the shortcuts' 1 × 1 kernels, 16 × 32 and 32 × 64, and their norms' 2 × 96.
        ("resnet20-no-residual", (32, 32, 3), 10, 272_474 - 2560 - 192, 269_824 - 2560),
        ("resnet32", (32, 32, 3), 10, 1_860_522, 1_843_200),
        ("resnet32", (32, 32, 3), 100, 1_872_132, 1_843_200),
        ("resnet32-no-residual", (32, 32, 3), 10, 1_849_898, 1_843_200),
        ("resnet18", (32, 32, 3), 10, 11_173_962, 11_157_504),
        ("resnet18", (32, 32, 3), 100, 11_220_132, 11_157_504),
        ("resnet18", (64, 64, 3), 1000, 11_681_832, 11_157_504),
        # 800 fewer classes of 512 weights and a bias; Table 2 counts those of 1,000.
        ("resnet18", (64, 64, 3), 200, 11_681_832 - 800 * 513, 11_157_504),
        ("resnet18", (224, 224, 3), 1000, 11_689_512, 11_157_504),
        ("resnet50", (224, 224, 3), 1000, 25_557_032, 23_445_504),
        ("mobilenet-v1", (32, 32, 3), 10, 3_217_226, 3_139_584),
        ("mobilenet-v1", (32, 32, 3), 100, 3_309_476, 3_139_584),
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


def test_a_seed_decides_every_weight():
    def weights(seed: int) -> list[np.ndarray]:
        model = networks.build("resnet20", input_shape=(8, 8, 1), classes=10, seed=seed)
        return [w for w in model.get_weights() if np.std(w) > 0]

    for first, second, other in zip(weights(1), weights(1), weights(2), strict=True):
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(first, other)
    assert not np.array_equal(weights(1)[3], weights(1)[4]), "layers draw on their own"


SHAPES = {
    "lenet-300-100": (8, 8, 1),
    "mobilenet-v1": (32, 32, 3),
    "resnet18": (32, 32, 3),
    "resnet20": (32, 32, 3),
    "resnet20-no-residual": (32, 32, 3),
    "resnet32": (32, 32, 3),
    "resnet32-no-residual": (32, 32, 3),
    "resnet50": (64, 64, 3),
    "vgg16": (32, 32, 3),
    "vit-small": (16, 16, 3),
}


# Of the same blocks as others.
COSTLY = ("resnet32", "resnet32-no-residual", "resnet50", "vgg16")


def test_every_network_is_tested():
    assert set(SHAPES) == set(networks.names())


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in COSTLY else name for name in SHAPES],
)
def test_a_small_dense_network_is_within_1_percent(name: str):
    shape = SHAPES[name]
    with keras.device("meta"):
        dense = networks.build(name, input_shape=shape, classes=10)
    registered = networks.find(name)
    paths = masks.pruned_paths(dense, registered.pruned, registered.kept)
    sizes = {v.path: int(np.prod(v.shape)) for v in dense.variables}
    prunable = sum(sizes[path] for path in paths)
    everything = small_dense.trainable_parameters(dense)
    for sparsity in (0.2, 0.5904, 0.8322, 0.9141, 0.945, 0.956):
        target = everything - masks.pruned_count(prunable, sparsity)
        channels, found = small_dense.matching_channels(name, shape, 10, target)
        assert abs(found / target - 1) < 0.01, (sparsity, target, found)
        # Narrowed alike: no layer keeps twice the share of another.
        shares = [new / own for own, new in channels.items() if own >= 32]
        assert max(shares) < 2 * min(shares), channels
    with keras.device("meta"):
        small = networks.build(name, input_shape=shape, classes=10, channels=channels)
    assert small_dense.trainable_parameters(small) == found
    assert [layer.name for layer in small.layers] == [layer.name for layer in dense.layers]


def test_the_size_of_a_small_dense_network_is_a_count_of_its_own():
    # Not by the formula that found it: by building and counting, at other channel counts too.
    size = small_dense._size("resnet20", (32, 32, 3), 10)
    rng = np.random.default_rng(0)
    for channels in rng.integers(1, 40, (5, 3)):
        chosen = dict(zip(size.own, channels.tolist(), strict=True))
        with keras.device("meta"):
            model = networks.build("resnet20", input_shape=(32, 32, 3), classes=10, channels=chosen)
        assert size(channels) == small_dense.trainable_parameters(model)


def test_a_target_above_the_dense_network_is_the_dense_network():
    channels, found = small_dense.matching_channels("resnet20", (32, 32, 3), 10, 10**6)
    assert (dict(channels), found) == ({16: 16, 32: 32, 64: 64}, 272_474)


OWN = """
import keras

def build(blocks, input_shape, classes):
    inputs = keras.Input(input_shape)
    x = blocks.conv(inputs, blocks.channels(8), 3, name="stem")
    x = blocks.relu(blocks.norm(x, name="stem_norm"), name="stem_relu")
    x = blocks.conv(x, blocks.channels(24), 3, name="body")
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, blocks.dense(x, classes, name="classifier"), name="own")
"""


UNNAMED = """
import keras

def build(blocks, input_shape, classes):
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(blocks.channels(16), 3, activation="gelu")(inputs)
    x = keras.layers.Dropout(0.2)(x)
    x = keras.layers.Conv2D(blocks.channels(16), 3, use_bias=True)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, blocks.dense(x, classes, name="classifier"))
"""


def test_layers_without_a_name_have_the_same_one_in_every_build(tmp_path, monkeypatch):
    (tmp_path / "unnamed.py").write_text(UNNAMED)
    monkeypatch.syspath_prepend(tmp_path)

    def built(seed: int) -> dict[str, np.ndarray]:
        model = networks.build("unnamed:build", input_shape=(8, 8, 1), classes=10, seed=seed)
        return {v.path: v.numpy() for v in model.trainable_variables}

    first, again, other = built(1), built(1), built(2)
    assert list(first) == list(again) == list(other)
    for path, array in first.items():
        np.testing.assert_array_equal(array, again[path])
    assert not np.array_equal(first["conv2d/kernel"], other["conv2d/kernel"])


def test_another_source_is_another_network(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "sourced.py").write_text(OWN)
    before = networks.fingerprint("sourced:build")
    (tmp_path / "sourced.py").write_text(OWN.replace("24", "32"))
    assert networks.fingerprint("sourced:build") != before
    assert networks.fingerprint("resnet20") is None
    with pytest.raises(ValueError, match="there is no module 'nowhere'"):
        networks.fingerprint("nowhere:build")


def test_a_small_dense_network_of_many_widths_is_found(tmp_path, monkeypatch):
    widths = tuple(range(10, 32, 2))
    (tmp_path / "many.py").write_text(
        "import keras\n\n"
        "def build(blocks, input_shape, classes):\n"
        "    inputs = x = keras.Input(input_shape)\n"
        f"    for i, n in enumerate({widths}):\n"
        "        x = blocks.conv(x, blocks.channels(n), 1, name=f'conv{i}')\n"
        "    x = keras.layers.GlobalAveragePooling2D()(x)\n"
        "    return keras.Model(inputs, blocks.dense(x, classes, name='classifier'))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    channels, found = small_dense.matching_channels("many:build", (8, 8, 1), 10, 1500)
    assert set(channels) == set(widths)
    assert abs(found - 1500) < 15


def test_a_network_of_ones_own_is_built_pruned_and_narrowed(tmp_path, monkeypatch):
    (tmp_path / "mynetworks").mkdir()
    (tmp_path / "mynetworks" / "small.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    name, shape = "mynetworks.small:build", (8, 8, 1)
    model = networks.build(name, input_shape=shape, classes=10)
    registered = networks.find(name)
    assert masks.pruned_paths(model, registered.pruned, registered.kept) == ["body/kernel"]
    channels, found = small_dense.matching_channels(name, shape, 10, 700)
    assert abs(found - 700) < 7
    assert set(channels) == {8, 24}
    for wrong, words in (
        ("mynetworks.small:absent", "has no .absent."),
        ("mynetworks.absent:build", "cannot be imported"),
        ("my networks", "unknown network"),
    ):
        with pytest.raises(ValueError, match=words):
            networks.build(wrong, input_shape=shape, classes=10)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "resnet19"}, "unknown network 'resnet19'"),
        ({"input_shape": (32, 32)}, "input_shape="),
        ({"classes": 1}, "classes=1"),
        ({"channels": {16: 0}}, "at least 1"),
        ({"name": "vgg16", "input_shape": (8, 8, 1)}, "16 × 16 at least"),
    ],
)
def test_what_cannot_be_built_says_why(arguments: dict, words: str):
    with pytest.raises(ValueError, match=words):
        networks.build(
            **({"name": "resnet20", "input_shape": (32, 32, 3), "classes": 10} | arguments)
        )


def test_building_leaves_the_callers_generators_and_names_as_they_are(tmp_path, monkeypatch):
    """Also of a network of one's own, whose unnamed layers Keras names and draws."""
    (tmp_path / "unnamed.py").write_text(
        "import keras\n"
        "def build(blocks, input_shape, classes):\n"
        "    inputs = keras.Input(input_shape)\n"
        "    x = keras.layers.Dense(4)(keras.layers.Flatten()(inputs))\n"
        "    return keras.Model(inputs, keras.layers.Dense(classes)(x))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def draws(building: str | None) -> tuple:
        keras.utils.set_random_seed(3)
        keras.backend.clear_session()
        first = keras.layers.Dense(2).name
        if building is not None:
            networks.build(building, input_shape=(8, 8, 1), classes=3, seed=5)
        layer = keras.layers.Dense(2)
        layer.build((None, 3))
        return (
            first,
            layer.name,
            np.asarray(layer.kernel).tolist(),
            random.random(),
            np.random.rand(),
            torch.rand(()).item(),
        )

    untouched = draws(None)
    assert draws("unnamed:build") == untouched
    assert draws("lenet-300-100") == untouched
