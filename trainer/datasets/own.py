"""A dataset of a user's own: a function that returns its arrays, `package.module:load`.

As Keras's own `load_data` functions do: ((train features, labels), (test features, labels)).
"""

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np

from jackpot import plugins
from trainer.datasets.dataset import DatasetError, Source

Arrays = dict[str, np.ndarray]
_SPLITS = ("train", "test")
_MOST_CLASSES = 100_000


@lru_cache(maxsize=4)
def describe(name: str) -> Source:
    """What is known of it: it is loaded for that.

    Arrays of uint8 with two or three axes for each image are images: they are normalised, by
    channel, as those of other datasets. All others are features: networks get them as they are,
    floats as float32 and integers as integers.

    Raises:
        DatasetError: the function cannot be imported, fails, or returns something else.
    """
    arrays = _loaded(name)
    features, labels = arrays["train_images"], arrays["train_labels"]
    is_image = features.dtype == np.uint8 and features.ndim == 4
    return Source(
        module=__name__,
        mean=(),
        std=(),
        classes=1 + int(max(labels.max(), arrays["test_labels"].max())),
        input_shape=features.shape[1:],
        train_size=len(labels),
        test_size=len(arrays["test_labels"]),
        kind="images" if is_image else "features",
        of_integers=not is_image and features.dtype.kind != "f",
    )


@lru_cache(maxsize=4)
def fingerprint(name: str, prepare: bool = True) -> str:
    """Names the arrays by what they hold: they are loaded once in each process.

    Raises:
        DatasetError: see `describe`.
    """
    total = hashlib.sha256()
    for key, array in sorted(_loaded(name).items()):
        total.update(f"{key} {array.dtype} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()[:16]


def decode(name: str, source: Source) -> Arrays:
    """Features and labels; mean and std of images."""
    arrays = dict(_loaded(name))
    if source.kind == "images":
        from trainer.datasets.moments import moments

        arrays["mean"], arrays["std"] = moments(arrays["train_images"])
    return arrays


def release() -> None:
    """Forgets the arrays, which are mapped from the cache from now on."""
    _loaded.cache_clear()


@lru_cache(maxsize=1)
def _loaded(name: str) -> Arrays:
    try:
        load = plugins.load_function("dataset", name)
    except plugins.PluginError as error:
        raise DatasetError(str(error)) from error
    try:
        found = load()
    except (Exception, SystemExit) as error:
        raise DatasetError(f"dataset {name!r} cannot be loaded: {plugins.told(error)}") from error
    try:
        (train, test) = ((np.asarray(x), np.asarray(y)) for x, y in found)
    except Exception as error:  # A user's arrays may be anything.
        raise DatasetError(
            f"dataset {name!r}: expected ((train features, train labels), (test features, test "
            f"labels)) as NumPy arrays, received {type(found).__name__}"
        ) from error
    arrays = {}
    for split, (features, labels) in zip(_SPLITS, (train, test), strict=True):
        _check(name, split, features, labels)
        if features.dtype == np.uint8 and features.ndim == 3:
            features = features[..., None]
        arrays[f"{split}_images"] = _narrowed(features)
        if not np.isfinite(arrays[f"{split}_images"]).all():
            raise DatasetError(
                f"dataset {name!r}: {split} features have NaN, or numbers beyond float32"
            )
        arrays[f"{split}_labels"] = labels.reshape(-1).astype(np.int64)
    shapes = [arrays[f"{split}_images"].shape[1:] for split in _SPLITS]
    if shapes[0] != shapes[1]:
        raise DatasetError(f"dataset {name!r}: features of shapes {shapes[0]} and {shapes[1]}")
    kinds = [arrays[f"{split}_images"].dtype for split in _SPLITS]
    if kinds[0] != kinds[1]:
        raise DatasetError(f"dataset {name!r}: features are {kinds[0]} and {kinds[1]}")
    return arrays


def _narrowed(features: np.ndarray) -> np.ndarray:
    """Floats as float32, integers as int64, images as they are."""
    if features.dtype == np.uint8 and features.ndim == 4:
        return features
    with np.errstate(over="ignore"):  # What float32 does not hold is refused below.
        return features.astype(np.float32 if features.dtype.kind == "f" else np.int64)


def _check(name: str, split: str, features: Any, labels: Any) -> None:
    def refuse(what: str) -> None:
        raise DatasetError(f"dataset {name!r}: {split} {what}")

    if features.ndim < 2 or features.dtype.kind not in "fiu":
        refuse(
            f"features have shape {features.shape} and are {features.dtype}: expected numbers of "
            "shape (examples, …), all examples of one shape"
        )
    if labels.dtype.kind not in "iu" or labels.ndim == 0 or labels.size != len(labels):
        refuse(
            f"labels have shape {labels.shape} and are {labels.dtype}: expected integers from 0, "
            "one for each example"
        )
    if len(labels) != len(features) or len(labels) == 0:
        refuse(f"has {len(features)} examples and {len(labels)} labels")
    if labels.min() < 0 or labels.max() >= _MOST_CLASSES:
        refuse(
            f"labels go from {labels.min()} to {labels.max()}: expected integers from 0, below "
            f"{_MOST_CLASSES:,}"
        )
    if features.dtype.kind == "u" and features.max(initial=0) > np.iinfo(np.int64).max:
        refuse("features have integers that int64 does not hold")
