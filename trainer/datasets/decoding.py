"""Decodes and crops single images; what the worker processes of a stream do. Needs no Keras.

Standard augmentation of ImageNet: a random area of 8 to 100 % at an aspect ratio of 3/4 to 4/3,
resized, flipped at random; for evaluation the shorter side is resized to 8/7 of the size and the
centre taken.
"""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from trainer.datasets.dataset import Stream

if TYPE_CHECKING:
    from torch import Tensor

Box = tuple[float, float, float, float]
Item = tuple[int, int | None]
"""Index of an image within its split, and the seed of its augmentation; None: none."""
_AREA, _ASPECT, _TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
_MARGIN = 8 / 7


class Decoded:
    """Decoded and cropped images by item: (uint8 pixels, label). Opens the files on demand."""

    def __init__(self, stream: Stream, size: tuple[int, int], flip: bool) -> None:
        self._stream, self._size, self._flip = stream, size, flip
        self._examples: Sequence[dict[str, Any]] | None = None

    def __getitem__(self, item: Item) -> tuple[np.ndarray, int]:
        if self._examples is None:
            from trainer.datasets import from_tfds

            self._examples = from_tfds.open_stream(self._stream)
        index, seed = item
        example = self._examples[index]
        with Image.open(io.BytesIO(example["image"])) as image:
            pixels = cropped(image, self._size, seed, self._flip)
        return pixels, int(example["label"])


def cropped(
    image: Image.Image, size: tuple[int, int], seed: int | None, flip: bool = True
) -> np.ndarray:
    """One image at `size` (height, width): the centre, or a random area if there is a seed.

    Returns:
        uint8 pixels, shape (height, width, 3).
    """
    height, width = size
    rng = None if seed is None else np.random.default_rng(seed)
    box = _centre(image.size, size) if rng is None else _random(image.size, rng)
    pixels = np.asarray(
        image.convert("RGB").resize(
            (width, height), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0
        )
    )
    if rng is not None and flip and rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _centre(there: tuple[int, int], size: tuple[int, int]) -> Box:
    """Box (left, top, right, bottom) of the centre; `there` is (width, height)."""
    height, width = size
    scale = min(there[0] / width, there[1] / height) / _MARGIN
    left, top = (there[0] - width * scale) / 2, (there[1] - height * scale) / 2
    return left, top, left + width * scale, top + height * scale


def _random(there: tuple[int, int], rng: np.random.Generator) -> Box:
    """Box of a random area and aspect; the largest fitting centre if none of ten tries fits."""
    wide, high = there
    for _ in range(_TRIES):
        area = wide * high * rng.uniform(*_AREA)
        aspect = math.exp(rng.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= wide and 0 < height <= high:
            left = int(rng.integers(0, wide - width + 1))
            top = int(rng.integers(0, high - height + 1))
            return left, top, left + width, top + height
    aspect = min(max(wide / high, _ASPECT[0]), _ASPECT[1])
    across, down = min(wide, high * aspect), min(high, wide / aspect)
    start, above = (wide - across) / 2, (high - down) / 2
    return start, above, start + across, above + down


def stacked(items: list[tuple[np.ndarray, int]]) -> tuple["Tensor", "Tensor"]:
    """A batch: images, shape (batch, height, width, channels), and labels, shape (batch,)."""
    import torch

    images, labels = zip(*items, strict=True)
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)
