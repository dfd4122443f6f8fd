"""What all batches have in common: passes over a split, and the parts of shared batches."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.datasets.dataset import Source
from trainer.keras_internals import DataAdapter

Batch = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, float]
"""Images, labels, and where several processes share a batch, the weight of this part's mean."""


@dataclass(frozen=True)
class Part:
    """Which part of every batch a process takes: parts differ by one image at most."""

    index: int = 0
    count: int = 1

    def of(self, images: int) -> slice:
        """This part of `images` images."""
        first, last = (images * i // self.count for i in (self.index, self.index + 1))
        return slice(first, last)

    def weight(self, images: int) -> float:
        """The weight of this part's mean, such that the mean over parts is that of the batch."""
        part = self.of(images)
        return (part.stop - part.start) * self.count / images


WHOLE = Part()


class Passes(DataAdapter):
    """What Keras's `fit` and `evaluate` ask of any batches: how many, which epoch, normalised.

    Args:
        count: images in a pass.
        source: normalisation of the dataset.
        batch_size: images per batch; the last batch of an epoch may be smaller.
        device: where batches are normalised and end.
        first_epoch: 0-based epoch of the first pass.
        part: which part of each training batch to make.
        dtype: of the images in a batch.
    """

    def __init__(
        self,
        count: int,
        source: Source,
        batch_size: int,
        device: torch.device | str,
        first_epoch: int,
        part: Part,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._count, self._batch_size, self.part = count, batch_size, part
        self._device, self._epoch = torch.device(device), first_epoch - 1
        self._dtype, self._are_images = dtype, source.kind == "images"
        if self._are_images:
            std = torch.tensor(source.std, dtype=torch.float64)
            mean = torch.tensor(source.mean, dtype=torch.float64)
            self._scale = (1 / (255 * std)).to(device, dtype)
            self._shift = (-mean / std).to(device, dtype)

    def __len__(self) -> int:
        return self._count

    @property
    def num_batches(self) -> int:
        """Batches per epoch."""
        return -(-len(self) // self._batch_size)

    @property
    def batch_size(self) -> int:
        """Images per batch, of all parts together."""
        return self._batch_size

    @property
    def has_partial_batch(self) -> bool:
        """Whether an epoch ends with a smaller batch."""
        return self.partial_batch_size > 0

    @property
    def partial_batch_size(self) -> int:
        """Images in that smaller batch."""
        return len(self) % self._batch_size

    def on_epoch_begin(self) -> None:
        """Keras starts a pass: turn to the next epoch."""
        self._epoch += 1

    def _batch(self, images: Tensor, labels: Tensor, whole: int = 0) -> Batch:
        """Images or features and their labels, a part of a batch of `whole`, on the device.

        uint8 images are normalised, features of floats are of the batches' dtype.
        """
        images = images.to(self._device, non_blocking=True)
        labels = labels.to(self._device, non_blocking=True)
        if self._are_images:
            normalised = torch.addcmul(self._shift, images, self._scale)
        else:
            normalised = images.to(self._dtype) if images.is_floating_point() else images
        if self.part.count == 1:
            return normalised, labels
        return normalised, labels, self.part.weight(whole)
