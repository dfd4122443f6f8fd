"""A function of a user's own that returns arrays of any shape, and MNIST-1D."""

from pathlib import Path

import keras
import numpy as np
import pytest

from tests.trainer import stored
from trainer import datasets
from trainer.datasets import DatasetError, mnist1d, own

# The first training signal, and the first labels, of what `mnist1d` 0.0.2 from PyPI generates.
FIRST = [-0.33200567, -0.47191037, -0.77869708, -1.00974083, -0.88235257]
LABELS = [2, 6, 4, 5, 6, 6, 6, 0, 3, 1, 6, 9]
LAST = [0.65987565, 0.87773435, 1.19315184]

MODULE = '''
import numpy as np

CALLS = 0


def made(features):
    """Class 1 has larger numbers than class 0."""
    global CALLS
    CALLS += 1
    labels = np.arange(len(features)) % 2
    return (features[:160], labels[:160]), (features[160:], labels[160:])


def shifted(shape):
    draws = np.random.default_rng(0).standard_normal((240, *shape))
    return draws + 1.5 * (np.arange(240) % 2).reshape(-1, *len(shape) * (1,))


def floats():
    return made(shifted((12,)))


def sequences():
    return made(shifted((10, 3)))


def tokens():
    labels = np.arange(240) % 2
    return made(np.random.default_rng(0).integers(0, 5, (240, 6)) + 4 * labels[:, None])


def images():
    return made(np.clip(60 * shifted((8, 8)) + 100, 0, 255).astype(np.uint8))


def fails():
    raise RuntimeError("the disk is elsewhere")


def short():
    return np.zeros((4, 3)), np.zeros(4)


def negative():
    return (np.zeros((4, 3)), np.array([0, 1, -1, 1])), (np.zeros((2, 3)), np.array([0, 1]))


def broken():
    return (np.full((4, 3), np.nan), np.arange(4) % 2), (np.zeros((2, 3)), np.array([0, 1]))


def huge():
    return (np.full((4, 3), 1e39), np.arange(4) % 2), (np.zeros((2, 3)), np.array([0, 1]))


def scalar():
    return (np.zeros((4, 3)), np.array(1)), (np.zeros((2, 3)), np.array([0, 1]))


def many():
    return (np.zeros((4, 3)), np.array([0, 1, 2, 10**9])), (np.zeros((2, 3)), np.array([0, 1]))


def odd():
    import torch

    weights = torch.zeros(4, 3, requires_grad=True)
    return (weights, np.arange(4) % 2), (weights[:2], np.array([0, 1]))


def unequal():
    return (np.zeros((4, 3)), np.arange(4) % 2), (np.zeros((2, 5)), np.array([0, 1]))


def mixed():
    return (np.zeros((4, 3)), np.arange(3) % 2), (np.zeros((2, 3)), np.array([0, 1]))


def words():
    return (np.array([["a"], ["b"]]), np.arange(2)), (np.array([["a"]]), np.array([0]))
'''
NETWORKS = """
import keras


def looked_up(blocks, input_shape, classes):
    tokens = keras.Input(input_shape, dtype="int64")
    x = keras.layers.Embedding(9, 8, name="table")(tokens)
    x = keras.layers.GlobalAveragePooling1D(name="mean")(x)
    x = blocks.relu(blocks.dense(x, blocks.channels(16), name="hidden"), name="relu")
    return keras.Model(tokens, blocks.dense(x, classes, name="classifier"))


def convolved(blocks, input_shape, classes):
    signal = keras.Input(input_shape)
    x = keras.layers.Conv1D(blocks.channels(8), 3, name="stem")(signal)
    x = keras.layers.Conv1D(blocks.channels(16), 3, name="body")(blocks.relu(x, name="relu1"))
    x = keras.layers.GlobalAveragePooling1D(name="mean")(blocks.relu(x, name="relu2"))
    return keras.Model(signal, blocks.dense(x, classes, name="classifier"))
"""


@pytest.fixture(autouse=True)
def _mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import sys

    for name in ("mydata", "mynets"):
        sys.modules.pop(name, None)
    (tmp_path / "mydata.py").write_text(MODULE)
    (tmp_path / "mynets.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("JACKPOT_CACHE_DIR", str(tmp_path / "cache"))
    for function in (own.describe, own.fingerprint, own._loaded):
        function.cache_clear()


def test_mnist1d_is_what_its_authors_code_generates():
    arrays = mnist1d.decode("mnist1d", datasets.find("mnist1d"))
    np.testing.assert_allclose(arrays["train_images"][0, :5], FIRST, atol=1e-6)
    np.testing.assert_allclose(arrays["test_images"][-1, -3:], LAST, atol=1e-6)
    assert arrays["train_labels"][:12].tolist() == LABELS
    assert arrays["train_images"].shape == (4000, 40)
    assert np.bincount(np.r_[arrays["train_labels"], arrays["test_labels"]]).tolist() == [500] * 10


@pytest.mark.parametrize(
    ("name", "shape", "kind", "dtype"),
    [
        ("floats", (12,), "features", np.float32),
        ("sequences", (10, 3), "features", np.float32),
        ("tokens", (6,), "features", np.int64),
        ("images", (8, 8, 1), "images", np.uint8),
    ],
)
def test_arrays_are_taken_as_they_are(name: str, shape: tuple, kind: str, dtype: type):
    import mydata

    found = datasets.load(f"mydata:{name}")
    (x, y), (tested, _) = getattr(mydata, name)()
    assert (found.source.input_shape, found.source.kind, found.source.classes) == (shape, kind, 2)
    assert (len(found.train), len(found.test)) == (160, 80)
    assert found.train.images.dtype == dtype
    np.testing.assert_array_equal(found.train.images.reshape(x.shape), x.astype(dtype))
    np.testing.assert_array_equal(found.test.images.reshape(tested.shape), tested.astype(dtype))
    np.testing.assert_array_equal(found.train.labels, y)
    if kind == "images":
        np.testing.assert_allclose(found.source.mean, [x.mean() / 255])
        np.testing.assert_allclose(found.source.std, [x.std() / 255])
    else:
        with pytest.raises(DatasetError, match="cannot be cropped or flipped"):
            found.augmented(2, flip=True)


def test_keras_own_functions_are_of_this_form():
    """`keras.datasets.*.load_data` could be named in a config."""
    assert datasets.OWN.fullmatch("keras.datasets.mnist:load_data")
    assert callable(keras.datasets.mnist.load_data)


def test_other_contents_under_the_same_name_are_another_dataset(tmp_path: Path):
    first = datasets.load("mydata:floats").digest
    import mydata

    assert mydata.CALLS == 1
    assert datasets.load("mydata:floats").digest == first
    assert mydata.CALLS == 1, "it is loaded once in a process"
    mydata.shifted = lambda shape: np.ones((240, *shape))
    for function in (own.describe, own.fingerprint):
        function.cache_clear()
    assert datasets.load("mydata:floats").digest != first


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere:load", "dataset 'nowhere:load' cannot be imported"),
        ("mydata:nothing", "has no 'nothing'"),
        ("mydata:CALLS", "expected a function"),
        ("mydata:fails", r"RuntimeError: the disk is elsewhere \(mydata.py, line"),
        ("mydata:short", r"expected \(\(train features, train labels\), \(test features"),
        ("mydata:negative", "train labels go from -1 to 1"),
        ("mydata:broken", "train features have NaN, or numbers beyond float32"),
        ("mydata:huge", "train features have NaN, or numbers beyond float32"),
        ("mydata:scalar", "train labels have shape"),
        ("mydata:many", "expected integers from 0, below 100,000"),
        ("mydata:odd", "as NumPy arrays, received tuple"),
        ("mydata:unequal", r"features of shapes \(3,\) and \(5,\)"),
        ("mydata:mixed", "4 examples and 3 labels"),
        ("mydata:words", "expected numbers of shape"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(name: str, words: str):
    with pytest.raises(DatasetError, match=words) as caught:
        datasets.load(name)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("dataset", "network", "fuse"),
    [
        ("mydata:floats", "lenet-300-100", 2),
        pytest.param("mydata:sequences", "mynets:convolved", 2, marks=pytest.mark.slow),
        ("mydata:tokens", "mynets:looked_up", 1),
        pytest.param("mydata:images", "lenet-300-100", 1, marks=pytest.mark.slow),
    ],
)
def test_a_study_of_them(
    write_config, train, store_uri: str, dataset: str, network: str, fuse: int, monkeypatch
):
    config = write_config(
        dataset=f'"{dataset}"',
        network=f'"{network}"',
        settings="[pretrain, lt, rr, sdt]",
        pruners="[omp, snip]",
        learning_rates="[0.05, 0.1]",
        pruning="{sparsities: [0.5]}",
        training="{epochs: 4, batch_size: 16, optimizer: {name: adam}}",
        fuse=str(fuse),
    )
    config.write_text(config.read_text().replace("[0.05, 0.1]", "[0.003, 0.01]"))
    assert train(config) == 0
    runs = stored.runs(store_uri)
    assert len(runs) == 12
    for run in runs:
        assert run.data.params["dataset"] == dataset
        if run.data.params["setting"] == "pretrain":
            assert run.data.metrics["val_accuracy"] > 0.9, "the classes are far apart"


def test_networks_of_images_refuse_features_by_name(write_config, train, capsys):
    config = write_config(
        dataset="mnist1d", network="resnet20", training="{epochs: 2, batch_size: 64}"
    )
    assert train(config) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "network 'resnet20': expected input_shape=(height, width, channels)" in said
    assert "(40,)" in said


def test_integers_for_a_network_of_floats_are_refused(write_config, train, capsys):
    config = write_config(dataset='"mydata:tokens"', training="{epochs: 2, batch_size: 64}")
    assert train(config) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "has features of integers, and network 'lenet-300-100' takes float32" in said


def test_integers_are_not_mixed(write_config, train, capsys):
    config = write_config(
        dataset='"mydata:tokens"',
        network='"mynets:looked_up"',
        training="{epochs: 2, batch_size: 64, mixup: 0.2}",
    )
    assert train(config) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "training.mixup: mydata:tokens has features of integers" in said
