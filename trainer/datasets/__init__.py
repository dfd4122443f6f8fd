"""Registry of datasets: uint8 images decoded once, mapped by every process that trains on them.

Example:
    >>> from trainer import datasets
    >>> digits = datasets.load("digits")
    >>> digits.train.images.shape, digits.train.images.dtype
    ((1438, 8, 8, 1), dtype('uint8'))
"""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class DatasetError(Exception):
    """A dataset cannot be had; the message says what is missing and how to mend it."""


@dataclass(frozen=True)
class Augmentation:
    """Standard augmentation of training images: pad with zeros, crop at random, flip at random."""

    pad: int = 0
    flip: bool = False


@dataclass(frozen=True)
class Source:
    """A registered dataset.

    Attributes:
        module: where `decode(name)` and `fingerprint(name)` live; imported on first use.
        mean, std: per channel, of pixels scaled to [0, 1]; images are normalised with them.
        classes: number of labels.
        input_shape: (height, width, channels).
        train_size, test_size: images per split.
        augmentation: what training applies to images.
    """

    module: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int
    input_shape: tuple[int, int, int]
    train_size: int
    test_size: int
    augmentation: Augmentation = Augmentation()


_CROP_AND_FLIP = Augmentation(pad=4, flip=True)
DATASETS: dict[str, Source] = {
    "digits": Source(
        "trainer.datasets.digits",
        mean=(0.3053,),
        std=(0.3761,),
        classes=10,
        input_shape=(8, 8, 1),
        train_size=1438,
        test_size=359,
    ),
    # The paper's code normalises with these standard deviations, the means over images of each
    # image's own; the standard deviation over all pixels is (0.2470, 0.2435, 0.2616).
    "cifar10": Source(
        "trainer.datasets.from_tfds",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        classes=10,
        input_shape=(32, 32, 3),
        train_size=50_000,
        test_size=10_000,
        augmentation=_CROP_AND_FLIP,
    ),
    "cifar100": Source(
        "trainer.datasets.from_tfds",
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2009, 0.1984, 0.2023),
        classes=100,
        input_shape=(32, 32, 3),
        train_size=50_000,
        test_size=10_000,
        augmentation=_CROP_AND_FLIP,
    ),
}


@dataclass(frozen=True)
class Split:
    """Images (n, height, width, channels) uint8 and labels (n,) int64."""

    images: "np.ndarray"
    labels: "np.ndarray"

    def first(self, count: int | None) -> "Split":
        """The first `count` images, all if None."""
        return Split(self.images[:count], self.labels[:count])


@dataclass(frozen=True)
class Dataset:
    """A dataset in memory-mapped arrays, with what training needs to know of it."""

    name: str
    source: Source
    train: Split
    test: Split
    digest: str
    """SHA-256 of the decoded arrays: two stores with equal digests trained on equal pixels."""


def names() -> list[str]:
    """Names that `load` knows."""
    return sorted(DATASETS)


def sizes(name: str, train_images: int | None, test_images: int | None) -> tuple[int, int]:
    """Images that a run on `name` (or a subset of it) trains and evaluates on, without loading it.

    Raises:
        DatasetError: a subset larger than the split.
    """
    source = DATASETS[name]
    for split, asked, there in (
        ("train_images", train_images, source.train_size),
        ("test_images", test_images, source.test_size),
    ):
        if asked is not None and asked > there:
            raise DatasetError(f"dataset.{split}: {name} has {there:,} images there, not {asked:,}")
    return train_images or source.train_size, test_images or source.test_size


def load(name: str, train_images: int | None = None, test_images: int | None = None) -> Dataset:
    """Maps a dataset's arrays, decoding them first if this machine has not done so before.

    Args:
        name: one of `names()`.
        train_images, test_images: how many of a split's first images to take; None takes all.

    Raises:
        DatasetError: unknown name, or data that is neither here nor to be had.
    """
    from trainer.datasets import array_file

    if name not in DATASETS:
        raise DatasetError(f"unknown dataset {name!r}; known are {', '.join(names())}")
    sizes(name, train_images, test_images)
    source = DATASETS[name]
    decoder = importlib.import_module(source.module)
    arrays, digest = array_file.mapped(
        name, decoder.fingerprint(name), lambda: _checked(name, decoder.decode(name))
    )
    return Dataset(
        name=name,
        source=source,
        train=Split(arrays["train_images"], arrays["train_labels"]).first(train_images),
        test=Split(arrays["test_images"], arrays["test_labels"]).first(test_images),
        digest=digest,
    )


def _checked(name: str, arrays: "dict[str, np.ndarray]") -> "dict[str, np.ndarray]":
    for problem in _problems(DATASETS[name], arrays):
        raise DatasetError(f"dataset {name!r} is not what it should be: {problem}")
    return arrays


def _problems(source: Source, arrays: "dict[str, np.ndarray]") -> Iterator[str]:
    for split, size in (("train", source.train_size), ("test", source.test_size)):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        expected = (size, *source.input_shape)
        if images.shape != expected:
            yield f"{split} images have shape {images.shape}, expected {expected}"
        if labels.shape != (size,) or labels.min() < 0 or labels.max() >= source.classes:
            yield f"{split} labels are not {size} numbers from 0 to {source.classes - 1}"
