"""Datasets: what is known before loading, and the loaded images."""

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np


class DatasetError(Exception):
    """A dataset is not available; the message says what is missing and how to fix it."""


@dataclass(frozen=True)
class Augmentation:
    """Standard augmentation of training images: pad with zeros, crop at random, flip at random."""

    pad: int = 0
    flip: bool = False


@dataclass(frozen=True)
class Source:
    """What is known of a dataset before it is loaded.

    Attributes:
        module: where `decode(name, source)` and `fingerprint(name)` live; imported on first use.
        mean, std: per channel, of pixels scaled to [0, 1]; images are normalised with them. Empty
            where they are measured on the training images when those are decoded.
        classes: number of labels.
        input_shape: of one image (height, width, channels), or of one example's features.
        train_size, test_size: images per split.
        augmentation: what training applies to images.
        test_split: name of the split that is evaluated on.
        kind: `images` are uint8, scaled and normalised; networks get `features` as they are.
        of_integers: whether features are integers, such as those that an embedding looks up.
        streamed: too large to be decoded once: read and decoded anew in every epoch.
    """

    module: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int
    input_shape: tuple[int, ...]
    train_size: int
    test_size: int
    augmentation: Augmentation = Augmentation()
    test_split: str = "test"
    streamed: bool = False
    kind: Literal["images", "features"] = "images"
    of_integers: bool = False

    @property
    def places(self) -> int:
        """Pixels of an image, or as many numbers as features have."""
        shape = self.input_shape[:2] if self.kind == "images" else self.input_shape
        return prod(shape)


@dataclass(frozen=True)
class Split:
    """Labels (n,) int64, and images (n, height, width, channels) uint8, or features (n, …)."""

    images: "np.ndarray"
    labels: "np.ndarray"

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, end: int) -> "Split":
        """The images from `start` to before `end`."""
        return Split(self.images[start:end], self.labels[start:end])


@dataclass(frozen=True)
class Stream:
    """Images of a TFDS split that are decoded when they are needed.

    Attributes:
        folder: of the prepared dataset.
        split: of the dataset.
        start, end: which of the split's images.
    """

    folder: str
    split: str
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def part(self, start: int, end: int) -> "Stream":
        """The images from `start` to before `end`."""
        return Stream(self.folder, self.split, self.start + start, self.start + end)


@dataclass(frozen=True)
class Dataset:
    """A dataset, with what training needs to know of it.

    Attributes:
        digest: SHA-256 of the decoded arrays: two stores with equal digests trained on equal
            pixels. Of a streamed dataset, of its files.
        earlier_digest: what earlier versions recorded of the same images; None: nothing else.
        heldout: images held out from the training split; None if none are.
    """

    name: str
    source: Source
    train: Split | Stream
    test: Split | Stream
    digest: str
    heldout: Split | Stream | None = None
    earlier_digest: str | None = None

    def holding_out(self, count: int | None) -> "Dataset":
        """The same with the last `count` training images held out from training.

        Raises:
            DatasetError: that leaves nothing to train on.
        """
        if not count:
            return self
        left = len(self.train) - count
        if left < 1:
            raise DatasetError(
                f"dataset.validation_images: {count:,} of {len(self.train):,} training images "
                "leave none to train on"
            )
        train, heldout = self.train.part(0, left), self.train.part(left, len(self.train))
        return replace(self, train=train, heldout=heldout)

    def augmented(self, pad: int, flip: bool) -> "Dataset":
        """The same with another augmentation of training images.

        Raises:
            DatasetError: padding for images that are cropped at random anyway, or features.
        """
        if self.source.kind == "features":
            raise DatasetError(
                f"dataset.augmentation: {self.name} has features of shape "
                f"{self.source.input_shape}, which cannot be cropped or flipped; leave it out"
            )
        if self.source.streamed and pad:
            raise DatasetError(
                f"dataset.augmentation.pad: {self.name} is streamed, and its images are cropped to "
                "random areas; set it to 0"
            )
        return replace(self, source=replace(self.source, augmentation=Augmentation(pad, flip)))
