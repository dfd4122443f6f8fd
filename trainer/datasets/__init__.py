"""Registry of datasets: decoded once, mapped by every process that trains on them.

ImageNet-1K does not fit in memory: it is streamed instead.

Example:
    >>> from trainer import datasets
    >>> digits = datasets.load("digits")
    >>> digits.train.images.shape, digits.train.images.dtype
    ((1438, 8, 8, 1), dtype('uint8'))
"""

import hashlib
import importlib
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from jackpot import plugins
from trainer.datasets.dataset import Augmentation, Dataset, DatasetError, Source, Split, Stream

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "DATASETS",
    "OWN",
    "Augmentation",
    "Choice",
    "Dataset",
    "DatasetError",
    "Source",
    "Split",
    "Stream",
    "as_chosen",
    "find",
    "load",
    "names",
    "sizes",
]


class Choice(Protocol):
    """What a study says of its images; `trainer.study.config.DatasetChoice` is one."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def train_images(self) -> int | None: ...  # noqa: D102
    @property
    def test_images(self) -> int | None: ...  # noqa: D102
    @property
    def validation_images(self) -> int | None: ...  # noqa: D102
    @property
    def augmentation(self) -> Any: ...  # noqa: D102


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
    "mnist": Source(
        "trainer.datasets.from_tfds",
        mean=(0.1307,),
        std=(0.3081,),
        classes=10,
        input_shape=(28, 28, 1),
        train_size=60_000,
        test_size=10_000,
    ),
    "mnist1d": Source(
        "trainer.datasets.mnist1d",
        mean=(),
        std=(),
        classes=10,
        input_shape=(40,),
        train_size=4000,
        test_size=1000,
        kind="features",
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
        std=(0.2673, 0.2564, 0.2762),
        classes=100,
        input_shape=(32, 32, 3),
        train_size=50_000,
        test_size=10_000,
        augmentation=_CROP_AND_FLIP,
    ),
    # Its own test split has no labels.
    "tiny_imagenet": Source(
        "trainer.datasets.from_tfds",
        mean=(0.4802, 0.4481, 0.3975),
        std=(0.2770, 0.2691, 0.2821),
        classes=200,
        input_shape=(64, 64, 3),
        train_size=100_000,
        test_size=10_000,
        augmentation=_CROP_AND_FLIP,
        test_split="validation",
    ),
    "imagenet2012": Source(
        "trainer.datasets.from_tfds",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        classes=1000,
        input_shape=(224, 224, 3),
        train_size=1_281_167,
        test_size=50_000,
        augmentation=Augmentation(flip=True),
        test_split="validation",
        streamed=True,
    ),
}
TFDS = re.compile(r"tfds:[a-z][a-z0-9_]*(/[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)?(@[a-z][a-z0-9_]*)?")
"""Any other dataset that TFDS knows or finds prepared: `tfds:name` or `tfds:name/config`, with
`@split` to evaluate on that split instead of `test` or `validation`."""
OWN = re.compile(rf"{TFDS.pattern}|(?!tfds:){plugins.PLUGIN.pattern}")
"""Of those that are not registered: of TFDS, or a function of a user's own."""


def names() -> list[str]:
    """Names of the registered datasets."""
    return sorted(DATASETS)


def find(name: str) -> Source:
    """What is known of a dataset: at once, of `tfds:name` from its files, of one's own from all.

    Raises:
        DatasetError: unknown name, a function that fails, or data that TFDS has not prepared and
            cannot prepare.
    """
    if name in DATASETS:
        return DATASETS[name]
    if OWN.fullmatch(name):
        found: Source = importlib.import_module(_module(name)).describe(name)
        return found
    raise DatasetError(
        f"unknown dataset {name!r}; known are {', '.join(names())}, any other TFDS dataset as "
        "'tfds:name', and a function of your own as 'package.module:load'"
    )


def sizes(name: str, train_images: int | None, test_images: int | None) -> tuple[int, int]:
    """Images that a run on `name` (or a subset of it) trains and evaluates on, without loading it.

    Raises:
        DatasetError: a subset larger than the split.
    """
    source = find(name)
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
        name: one of `names()`, `tfds:name`, or `package.module:load`.
        train_images, test_images: how many of a split's first images to take; None takes all.

    Raises:
        DatasetError: unknown name, or data that is neither on this machine nor obtainable.
    """
    from trainer.datasets import array_file

    module = importlib.import_module(_module(name))
    fingerprint = module.fingerprint(name)  # Downloads and prepares what is not there.
    train_count, test_count = sizes(name, train_images, test_images)
    source = find(name)
    if source.streamed:
        folder = module.folder(name)
        return Dataset(
            name=name,
            source=source,
            train=Stream(folder, "train", 0, train_count),
            test=Stream(folder, source.test_split, 0, test_count),
            digest=hashlib.sha256(fingerprint.encode()).hexdigest(),
            earlier_digest=hashlib.sha256(module.listing(name).encode()).hexdigest(),
        )
    arrays, digest = array_file.mapped(
        _folder_name(name),
        fingerprint,
        lambda: _checked(name, source, module.decode(name, source)),
    )
    if hasattr(module, "release"):
        module.release()
    if source.kind == "images" and not source.mean:
        mean, std = (tuple(arrays[key].tolist()) for key in ("mean", "std"))
        source = replace(source, mean=mean, std=std)
    return Dataset(
        name=name,
        source=source,
        train=Split(arrays["train_images"], arrays["train_labels"]).part(0, train_count),
        test=Split(arrays["test_images"], arrays["test_labels"]).part(0, test_count),
        digest=digest,
    )


def known_digest(name: str) -> str | None:
    """The digest of a dataset that this machine has decoded before; None: it has not.

    Nothing is downloaded, decoded or written.

    Raises:
        DatasetError: unknown name.
    """
    from trainer.datasets import array_file

    module = importlib.import_module(_module(name))
    try:
        fingerprint = module.fingerprint(name, prepare=False)
    except DatasetError:
        return None
    if find(name).streamed:
        return hashlib.sha256(fingerprint.encode()).hexdigest()
    return array_file.digest(_folder_name(name), fingerprint)


def _module(name: str) -> str:
    if name not in DATASETS and not OWN.fullmatch(name):
        find(name)  # Says what is known.
    if name in DATASETS:
        return DATASETS[name].module
    return f"trainer.datasets.{'from_tfds' if TFDS.fullmatch(name) else 'own'}"


def _folder_name(name: str) -> str:
    return re.sub(r"[^\w.@-]", "_", name)


def as_chosen(chosen: Choice) -> Dataset:
    """Maps a dataset as a study names it: subset, augmentation and held-out images as it says.

    Raises:
        DatasetError: as `load`; or it cannot be augmented or held out as the study says.
    """
    loaded = load(chosen.name, chosen.train_images, chosen.test_images)
    if chosen.augmentation is not None:
        loaded = loaded.augmented(chosen.augmentation.pad, chosen.augmentation.flip)
    return loaded.holding_out(chosen.validation_images)


def _checked(name: str, source: Source, arrays: "dict[str, np.ndarray]") -> "dict[str, np.ndarray]":
    for problem in _problems(source, arrays):
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
