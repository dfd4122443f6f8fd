import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from trainer import datasets
from trainer.datasets import Augmentation, Source, Split, array_file
from trainer.datasets.batches import DeviceBatches, Recordable, recordable

needs_cifar10 = pytest.mark.skipif(
    "TFDS_DATA_DIR" not in os.environ, reason="TFDS_DATA_DIR names no folder with CIFAR-10"
)


def source(size: int = 6, **more: object) -> Source:
    return Source("none", (0.5, 0.25), (0.5, 0.25), 10, (size, size, 2), 20, 20, **more)


def split(count: int = 20, size: int = 6) -> Split:
    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, (count, size, size, 2), np.uint8)
    return Split(images, np.arange(count) % 10)


def test_digits_are_split_once_and_for_all():
    digits = datasets.load("digits")
    assert digits.train.images.shape == (1438, 8, 8, 1)
    assert digits.test.images.shape == (359, 8, 8, 1)
    assert digits.train.images.max() == 255
    assert set(digits.test.labels) == set(range(10))
    scaled = digits.train.images / 255
    assert (scaled.mean(), scaled.std()) == pytest.approx((0.3053, 0.3761), abs=0.001)


def test_subsets_are_first_images():
    part = datasets.load("digits", train_images=10, test_images=5)
    np.testing.assert_array_equal(part.train.images, datasets.load("digits").train.images[:10])
    assert len(part.test.labels) == 5
    with pytest.raises(datasets.DatasetError, match="digits has 359 images there, not 360"):
        datasets.load("digits", test_images=360)


def test_an_unknown_dataset_is_named():
    with pytest.raises(datasets.DatasetError, match="unknown dataset 'mnist2'; known are"):
        datasets.load("mnist2")


@needs_cifar10
@pytest.mark.slow  # 60,000 pictures are decoded.
def test_cifar10_is_read_without_tensorflow():
    code = (
        "import sys; from trainer import datasets; c = datasets.load('cifar10');"
        "print(c.train.images.shape, c.test.labels.shape, 'tensorflow' in sys.modules);"
        "print((c.train.images / 255).mean((0, 1, 2)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "(50000, 32, 32, 3) (10000,) False" in answer.stdout, answer.stderr
    means = [float(word) for word in answer.stdout.splitlines()[1].strip("[]").split()]
    assert means == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.002)


def test_absent_tfds_data_says_what_to_install(tmp_path: Path):
    code = "from trainer import datasets; datasets.load('cifar100')"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"TFDS_DATA_DIR": str(tmp_path), "http_proxy": "http://127.0.0.1:9"},
    )
    last = answer.stderr.strip().splitlines()[-1]
    assert "DatasetError: dataset 'cifar100'" in last
    assert str(tmp_path) in last
    # With TensorFlow at hand it is the download that fails, without it the preparation.
    assert "pip install" in last or "could not be downloaded" in last


@needs_cifar10
def test_damaged_tfds_data_is_named(tmp_path: Path):
    there = Path(os.environ["TFDS_DATA_DIR"]) / "cifar10"
    here = tmp_path / "cifar10"
    for file in there.rglob("*"):
        if file.is_file():
            copy = here / file.relative_to(there)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes()[: 5000 if "array_record" in file.name else None])
    code = "from trainer import datasets; datasets.load('cifar10')"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"TFDS_DATA_DIR": str(tmp_path)},
    )
    last = answer.stderr.strip().splitlines()[-1]
    assert "DatasetError: dataset 'cifar10': the files in" in last
    assert "prepare the dataset again" in last


def test_arrays_are_decoded_once_and_mapped(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("JACKPOT_CACHE_DIR", str(tmp_path))
    calls = []

    def decode():
        calls.append(1)
        return {"train_images": np.arange(6, dtype=np.uint8), "train_labels": np.arange(6)}

    def load(_):
        return array_file.mapped("some", "v1", decode)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(load, range(8)))
    assert len(calls) == 1
    assert len({digest for _, digest in found}) == 1
    assert isinstance(found[0][0]["train_images"], np.memmap)
    array_file.mapped("some", "v2", decode)
    assert len(calls) == 2, "other source data is decoded anew"


@pytest.mark.parametrize("damage", ["flip", "cut", "forget", "garbage"])
def test_a_damaged_cache_is_decoded_again(tmp_path: Path, monkeypatch, damage: str):
    monkeypatch.setenv("JACKPOT_CACHE_DIR", str(tmp_path))
    calls = []

    def decode():
        calls.append(1)
        return {"train_images": np.arange(200, dtype=np.uint8)}

    array_file.mapped("some", "v1", decode)
    file = tmp_path / "some" / "v1" / "train_images.npy"
    whole = file.read_bytes()
    match damage:
        case "flip":
            file.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
        case "cut":
            file.write_bytes(whole[:-5])
        case "forget":
            file.unlink()
        case "garbage":
            (file.parent / "contents.json").write_text(json.dumps([1]))
    arrays, _ = array_file.mapped("some", "v1", decode)
    np.testing.assert_array_equal(arrays["train_images"], np.arange(200))
    assert len(calls) == 2


def epoch_of(batches: DeviceBatches) -> list[tuple[torch.Tensor, torch.Tensor]]:
    batches.on_epoch_begin()
    return list(batches.get_torch_dataloader())


def test_images_on_the_host_are_the_mapped_file_itself():
    digits = datasets.load("digits")
    batches = DeviceBatches(digits.train, digits.source, 8, "cpu", epoch_seed=lambda epoch: epoch)
    (first, _), *_ = epoch_of(batches)
    assert first.shape == (8, 8, 8, 1)
    assert batches._images.data_ptr() == digits.train.images.ctypes.data
    assert batches._labels.data_ptr() == digits.train.labels.ctypes.data


def test_every_image_comes_once_an_epoch_and_in_another_order_each_time():
    batches = DeviceBatches(split(), source(), 8, "cpu", epoch_seed=lambda epoch: epoch)
    first, second = epoch_of(batches), epoch_of(batches)
    assert [len(labels) for _, labels in first] == [8, 8, 4]
    assert batches.num_batches == 3
    sums = [
        sorted(float(image.double().sum()) for images, _ in epoch for image in images)
        for epoch in (first, second)
    ]
    assert sums[0] == pytest.approx(sums[1])
    assert not torch.equal(first[0][1], second[0][1])


def test_a_pass_that_is_not_taken_is_not_drawn():
    """Keras asks for one more than it takes, at the end of each epoch."""
    drawn = []

    def seed(epoch: int) -> int:
        drawn.append(epoch)
        return epoch

    batches = DeviceBatches(split(), source(), 8, "cpu", epoch_seed=seed)
    for adapter in (batches, recordable(batches)):
        adapter.on_epoch_begin()
        passes = [adapter.get_torch_dataloader() for _ in range(3)]
        list(passes[0])
    assert drawn == [0, 1]


def test_batches_of_images_on_the_host_are_not_recordable(monkeypatch):
    batches = DeviceBatches(split(), source(), 8, "cpu")
    assert isinstance(recordable(batches), Recordable)
    monkeypatch.setattr(batches, "_device", torch.device("meta"))
    assert recordable(batches) is batches


def test_an_epoch_can_be_replayed_alone():
    def seed(epoch: int) -> int:
        return 100 + epoch

    augmented = source(augmentation=Augmentation(2, True))
    whole = DeviceBatches(split(), augmented, 8, "cpu", epoch_seed=seed)
    later = DeviceBatches(split(), augmented, 8, "cpu", epoch_seed=seed, first_epoch=2)
    epochs = [epoch_of(whole) for _ in range(3)]
    for (a, _), (b, _) in zip(epochs[2], epoch_of(later), strict=True):
        assert torch.equal(a, b)


def test_images_are_normalised_per_channel():
    data = split()
    batches = DeviceBatches(data, source(), 20, "cpu")
    ((images, labels),) = epoch_of(batches)
    expected = (data.images / 255 - [0.5, 0.25]) / [0.5, 0.25]
    np.testing.assert_allclose(images.numpy(), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(labels.numpy(), data.labels)


def test_augmentation_is_a_crop_of_the_padded_image_flipped_half_of_the_time():
    count, size, pad = 600, 6, 2
    data = split(count, size)
    one = Source("none", (0.0, 0.0), (1.0, 1.0), 10, (size, size, 2), 1, 1, Augmentation(pad, True))
    batches = DeviceBatches(data, one, count, "cpu", epoch_seed=lambda epoch: 3)
    ((images, _),) = epoch_of(batches)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(3))
    padded = np.pad(data.images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    offsets, flips = set(), 0
    for image, i in zip(
        (images.numpy() * 255).round().astype(np.uint8), order.tolist(), strict=True
    ):
        found = [
            (r, c, flipped)
            for r in range(2 * pad + 1)
            for c in range(2 * pad + 1)
            for flipped in (False, True)
            if np.array_equal(
                image, padded[i, r : r + size, c : c + size][:, :: -1 if flipped else 1]
            )
        ]
        assert len(found) == 1
        offsets.add(found[0][:2])
        flips += found[0][2]
    assert len(offsets) == (2 * pad + 1) ** 2
    assert 0.42 < flips / count < 0.58
