"""Datasets from TensorFlow Datasets. Reading a prepared one needs no TensorFlow; preparing does."""

import hashlib
import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.datasets import DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)
INSTALL = "pip install 'jackpot[tfds]' (in a checkout: .venv/bin/pip install -e '.[tfds]')"


def fingerprint(name: str) -> str:
    """Names the prepared data by version, file names and sizes; prepares it if it is not there."""
    folder = Path(_prepared(name).data_dir)
    listing = sorted((p.name, p.stat().st_size) for p in folder.iterdir() if p.is_file())
    return f"{folder.name}-{hashlib.sha256(repr(listing).encode()).hexdigest()[:16]}"


def decode(name: str) -> dict[str, np.ndarray]:
    """All images and labels of the splits `train` and `test`."""
    builder = _prepared(name)
    log.info("decoding %s from %s (once)", name, builder.data_dir)
    arrays = {}
    for split in ("train", "test"):
        try:
            examples = builder.as_data_source(split)
            images, labels = _stack(examples)
        except Exception as error:
            raise DatasetError(
                f"dataset {name!r}: the files in {builder.data_dir} cannot be read ({error}); "
                "remove that folder and prepare the dataset again"
            ) from error
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = images, labels
    return arrays


def _stack(examples: "Sequence[dict[str, Any]]") -> tuple[np.ndarray, np.ndarray]:
    first = examples[0]["image"]
    images = np.empty((len(examples), *first.shape), np.uint8)
    labels = np.empty(len(examples), np.int64)
    for i, example in enumerate(examples):
        images[i], labels[i] = example["image"], example["label"]
    return images, labels


def _prepared(name: str) -> Any:
    """A TFDS builder whose data is on disk in the format that is read without TensorFlow."""
    import tensorflow_datasets as tfds

    # Only local information: TFDS would otherwise ask a bucket on the network about each dataset.
    tfds.core.utils.gcs_utils.gcs_dataset_info_files = lambda *_: None
    tfds.core.utils.gcs_utils.is_dataset_on_gcs = lambda *_: False
    try:
        builder = tfds.builder(name, file_format="array_record")
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
