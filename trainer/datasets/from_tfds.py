"""Datasets from TensorFlow Datasets. Reading a prepared one needs no TensorFlow; preparing does."""

import hashlib
import importlib
import importlib.util
import logging
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.datasets.dataset import DatasetError, Source, Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)
INSTALL = "pip install 'jackpot[tfds]' (in a checkout: .venv/bin/pip install -e '.[tfds]')"
_BLOCK = 1000
_REGISTERS = {"tiny_imagenet": "trainer.datasets.tiny_imagenet"}
"""Builders of our own, by the module that registers them with TFDS."""


@cache
def describe(name: str) -> Source:
    """Describes an unregistered dataset from its files.

    It needs a feature `image` of one size, uint8, a feature `label`, and a split `train` beside
    `test` or `validation`. Mean and standard deviation are left to be measured.

    Raises:
        DatasetError: it is not available, or does not have that form.
    """
    info = _prepared(name).info
    try:
        shape = tuple(info.features["image"].shape)
        classes = int(info.features["label"].num_classes)
        test = next(split for split in ("test", "validation") if split in info.splits)
        train_size = info.splits["train"].num_examples
    except (KeyError, AttributeError, StopIteration, TypeError) as error:
        raise DatasetError(
            f"dataset {name!r}: expected features 'image' and 'label' and splits 'train' and "
            f"'test' or 'validation'; it has {list(info.features)} and {list(info.splits)}"
        ) from error
    if np.dtype(info.features["image"].np_dtype) != np.uint8:
        raise DatasetError(
            f"dataset {name!r}: expected images of uint8, found {info.features['image'].np_dtype}"
        )
    if len(shape) != 3 or None in shape:
        raise DatasetError(f"dataset {name!r}: its images are not all of one size: {shape}")
    return Source(
        module=__name__,
        mean=(),
        std=(),
        classes=classes,
        input_shape=shape,
        train_size=train_size,
        test_size=info.splits[test].num_examples,
        test_split=test,
    )


def folder(name: str) -> str:
    """The folder of the prepared data; prepares it if it is not there."""
    return str(_prepared(name).data_dir)


def fingerprint(name: str) -> str:
    """Names the prepared data by version, file names and sizes; prepares it if it is not there."""
    where = Path(folder(name))
    listing = sorted((p.name, p.stat().st_size) for p in where.iterdir() if p.is_file())
    return f"{where.name}-{hashlib.sha256(repr(listing).encode()).hexdigest()[:16]}"


def decode(name: str, source: Source) -> dict[str, np.ndarray]:
    """All images and labels to train and evaluate on; mean and std where they are not known."""
    builder = _prepared(name)
    log.info("decoding %s from %s (once)", name, builder.data_dir)
    arrays = {}
    for key, split in (("train", "train"), ("test", source.test_split)):
        try:
            examples = builder.as_data_source(split)
            images, labels = _stack(examples)
        except Exception as error:
            raise DatasetError(
                f"dataset {name!r}: the files in {builder.data_dir} cannot be read ({error}); "
                "remove that folder and prepare the dataset again"
            ) from error
        arrays[f"{key}_images"], arrays[f"{key}_labels"] = images, labels
    if not source.mean:
        arrays["mean"], arrays["std"] = _moments(arrays["train_images"])
    return arrays


def open_stream(stream: Stream) -> "Sequence[dict[str, Any]]":
    """The stream's examples with their images still encoded, by index within the whole split."""
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(stream.folder).as_data_source(
        stream.split, decoders={"image": tfds.decode.SkipDecoding()}
    )


def _moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel of pixels scaled to [0, 1], a block at a time."""
    total, squares = np.zeros((2, images.shape[-1]))
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK].reshape(-1, images.shape[-1]) / 255
        total, squares = total + block.sum(0), squares + (block**2).sum(0)
    count = images[..., 0].size
    mean = total / count
    # A channel of one value would otherwise be divided by zero.
    return mean, np.maximum(np.sqrt(np.maximum(squares / count - mean**2, 0)), 1e-3)


def _stack(examples: Any) -> tuple[np.ndarray, np.ndarray]:
    """All images and labels of a TFDS data source, read a block at a time: a third faster."""
    count = len(examples)
    images = np.empty((count, *examples[0]["image"].shape), np.uint8)
    labels = np.empty(count, np.int64)
    for start in range(0, count, _BLOCK):
        block = range(start, min(start + _BLOCK, count))
        for i, example in zip(block, examples.__getitems__(list(block)), strict=True):
            images[i], labels[i] = example["image"], example["label"]
    return images, labels


def _prepared(name: str) -> Any:
    """A TFDS builder whose data is on disk in the format that is read without TensorFlow."""
    import tensorflow_datasets as tfds

    # Only local information: TFDS would otherwise ask a bucket on the network about each dataset.
    tfds.core.utils.gcs_utils.gcs_dataset_info_files = lambda *_: None
    tfds.core.utils.gcs_utils.is_dataset_on_gcs = lambda *_: False
    try:
        if name in _REGISTERS:
            importlib.import_module(_REGISTERS[name])
        builder = tfds.builder(name.removeprefix("tfds:"), file_format="array_record")
    except Exception as error:
        raise DatasetError(f"dataset {name!r}: TFDS does not know it: {error}") from error
    if builder.is_prepared():
        return builder
    missing = [
        module
        for module in ("tensorflow", "importlib_resources")
        if importlib.util.find_spec(module) is None
    ]
    if missing:
        raise DatasetError(
            f"dataset {name!r} is not prepared in {builder.data_dir}, and preparing it needs "
            f"{' and '.join(missing)}: {INSTALL}, or set TFDS_DATA_DIR to a folder that holds it "
            "in array_record format"
        )
    log.info("downloading and preparing %s into %s", name, builder.data_dir)
    try:
        builder.download_and_prepare(file_format="array_record")
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise DatasetError(
            f"dataset {name!r} could not be downloaded to {builder.data_dir}: "
            f"{type(error).__name__}: {reason}. Check the network, or copy a prepared folder there "
            "or set TFDS_DATA_DIR to one"
        ) from error
    return builder
