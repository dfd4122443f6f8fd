"""Datasets from TensorFlow Datasets. Reading a prepared one needs no TensorFlow; preparing does."""

import hashlib
import importlib
import importlib.util
import logging
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.datasets import array_file
from trainer.datasets.dataset import DatasetError, Source, Stream
from trainer.datasets.moments import moments

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)
INSTALL = "pip install 'jackpot[tfds]' (in a checkout: .venv/bin/pip install -e '.[tfds]')"
_BLOCK = 1000
# Bytes that are read in a second or two.
_SMALL = 2 * 10**9
_REGISTERS = {"tiny_imagenet": "trainer.datasets.tiny_imagenet"}
"""Builders of our own, by the module that registers them with TFDS."""


class _Unlabelled(Exception):
    """A split whose labels are all -1, as TFDS has it of competitions' test images."""


@cache
def describe(name: str) -> Source:
    """Describes an unregistered dataset from its files.

    It needs a feature `image` of one size, uint8, a feature `label` that is a ClassLabel, a split
    `train`, and one to evaluate on: the one after `@` in the name, else `test` or `validation`.
    Mean and standard deviation are left to be measured.

    Raises:
        DatasetError: it is not available, or does not have that form.
    """
    info = _prepared(name, prepare=False).info
    features, splits = info.features, list(info.splits)
    if not {"image", "label"} <= set(_names(features)):
        raise DatasetError(
            f"dataset {name!r}: expected features 'image' and 'label', found {_names(features)}"
        )
    _, _, asked = name.partition("@")
    choices = [asked] if asked else [s for s in ("test", "validation") if s in splits]
    if "train" not in splits or not choices or choices[0] not in splits:
        raise DatasetError(
            f"dataset {name!r}: expected splits 'train' and {asked or 'test or validation'}, found "
            f"{', '.join(splits)}"
            + ("" if asked else f"; to evaluate on another split, say {name}@split")
        )
    classes = getattr(features["label"], "num_classes", None)
    if not classes:
        raise DatasetError(
            f"dataset {name!r}: its labels are {_kind(features['label'])}: expected ClassLabel, "
            "which says how many classes there are; prepare it again with "
            "tfds.features.ClassLabel(num_classes=…) or ClassLabel(names=[…])"
        )
    image = features["image"]
    shape = tuple(getattr(image, "shape", None) or ())
    if np.dtype(image.np_dtype) != np.uint8:
        raise DatasetError(f"dataset {name!r}: expected images of uint8, found {image.np_dtype}")
    if len(shape) != 3 or None in shape:
        raise DatasetError(f"dataset {name!r}: its images are not all of one size: {shape}")
    return Source(
        module=__name__,
        mean=(),
        std=(),
        classes=int(classes),
        input_shape=shape,
        train_size=info.splits["train"].num_examples,
        test_size=info.splits[choices[0]].num_examples,
        test_split=choices[0],
    )


def _names(features: Any) -> list[str]:
    return list(features) if hasattr(features, "keys") else [type(features).__name__]


def _kind(feature: Any) -> str:
    dtype = getattr(feature, "np_dtype", None)
    if type(feature).__name__ == "Text" or dtype is np.dtype(object):
        return "text"
    return f"{type(feature).__name__} of {np.dtype(dtype)}" if dtype else type(feature).__name__


def folder(name: str) -> str:
    """The folder of the prepared data; prepares it if it is not there."""
    return str(_prepared(name).data_dir)


def fingerprint(name: str, prepare: bool = True) -> str:
    """Names the prepared data by version and by what its files hold.

    They are read once, and again after they have changed.

    Args:
        name: of the dataset.
        prepare: whether to download and prepare what is not there.

    Raises:
        DatasetError: it is not there, and not to be had.
    """
    where = Path(_prepared(name, prepare).data_dir)
    files = sorted(p for p in where.iterdir() if p.is_file())
    facts = [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in files]

    def contents() -> str:
        log.info("reading the files of %s (once)", where)
        total = hashlib.sha256()
        for path in files:
            total.update(path.name.encode())
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        return total.hexdigest()[:16]

    key = hashlib.sha256(str(where).encode()).hexdigest()[:16]
    if not prepare and sum(p.stat().st_size for p in files) < _SMALL:
        return f"{where.name}-{contents()}"  # Without a note of it: nothing is written.
    return f"{where.name}-{array_file.remembered(f'files-{key}', facts, contents)}"


def listing(name: str) -> str:
    """What earlier versions named the prepared data by: version, file names and sizes."""
    where = Path(folder(name))
    found = sorted((p.name, p.stat().st_size) for p in where.iterdir() if p.is_file())
    return f"{where.name}-{hashlib.sha256(repr(found).encode()).hexdigest()[:16]}"


def decode(name: str, source: Source) -> dict[str, np.ndarray]:
    """All images and labels to train and evaluate on; mean and std where they are not known."""
    builder = _prepared(name)
    log.info("decoding %s from %s (once)", name, builder.data_dir)
    arrays = {}
    for key, split in (("train", "train"), ("test", source.test_split)):
        try:
            examples = builder.as_data_source(split)
            images, labels = _stack(examples)
            if len(labels) and labels.max() < 0:
                raise _Unlabelled
        except _Unlabelled:
            others = [s for s in builder.info.splits if s not in ("train", split)]
            plain = name.partition("@")[0]
            raise DatasetError(
                f"dataset {name!r}: its split {split!r} has no labels (all are -1)"
                + "".join(f"; to evaluate on {other!r}, say {plain}@{other}" for other in others)
            ) from None
        except Exception as error:
            raise DatasetError(
                f"dataset {name!r}: the files in {builder.data_dir} cannot be read ({error}); "
                "remove that folder and prepare the dataset again"
            ) from error
        arrays[f"{key}_images"], arrays[f"{key}_labels"] = images, labels
    if not source.mean:
        arrays["mean"], arrays["std"] = moments(arrays["train_images"])
    return arrays


def open_stream(stream: Stream) -> "Sequence[dict[str, Any]]":
    """The stream's examples with their images still encoded, by index within the whole split."""
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(stream.folder).as_data_source(
        stream.split, decoders={"image": tfds.decode.SkipDecoding()}
    )


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


def _of_another_format(name: str, plain: str) -> str:
    import tensorflow_datasets as tfds

    found = tfds.builder(plain)
    return (
        f"dataset {name!r} is prepared in {found.data_dir} as {found.info.file_format.value}, "
        "which needs TensorFlow to be read. Prepare it again, in another folder: "
        f"tfds.builder({plain!r}, file_format='array_record', data_dir=…).download_and_prepare(), "
        "and set TFDS_DATA_DIR to that folder"
    )


def _prepared(name: str, prepare: bool = True) -> Any:
    """A TFDS builder whose data is on disk in the format that is read without TensorFlow."""
    import tensorflow_datasets as tfds

    # Only local information: TFDS would otherwise ask a bucket on the network about each dataset.
    tfds.core.utils.gcs_utils.gcs_dataset_info_files = lambda *_: None
    tfds.core.utils.gcs_utils.is_dataset_on_gcs = lambda *_: False
    try:
        if name in _REGISTERS:
            importlib.import_module(_REGISTERS[name])
        plain = name.removeprefix("tfds:").partition("@")[0]
        builder = tfds.builder(plain, file_format="array_record")
    except Exception as error:
        words = " ".join(str(error).split()).partition(" Available datasets")[0][:300]
        if "file format" in words:
            raise DatasetError(_of_another_format(name, plain)) from error
        raise DatasetError(f"dataset {name!r}: TFDS does not know it: {words}") from error
    if builder.is_prepared():
        return builder
    if not prepare:
        raise DatasetError(
            f"dataset {name!r} is not prepared in {builder.data_dir}; a launch prepares it"
        )
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
