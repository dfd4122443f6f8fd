"""Batches made on the device: the whole dataset lives there as uint8, augmentation runs there."""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass

import torch
from keras.src.trainers.data_adapters.data_adapter import DataAdapter
from torch import Tensor

from trainer.datasets import Augmentation, Source, Split, Stream

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
        """What to weigh this part's mean with, so that the mean over parts is the batch's."""
        part = self.of(images)
        return (part.stop - part.start) * self.count / images


WHOLE = Part()


def batches(
    split: Split | Stream,
    source: Source,
    batch_size: int,
    device: torch.device | str,
    *,
    epoch_seed: Callable[[int], int] | None = None,
    first_epoch: int = 0,
    part: Part = WHOLE,
) -> DataAdapter:
    """Batches of a split: made on the device, or streamed; see `DeviceBatches`."""
    if isinstance(split, Stream):
        from trainer.datasets.streams import StreamedBatches as Batches
    else:
        Batches = DeviceBatches  # noqa: N806
    return Batches(
        split, source, batch_size, device, epoch_seed=epoch_seed, first_epoch=first_epoch, part=part
    )


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
        """uint8 images and their labels, a part of a batch of `whole`, normalised on the device."""
        images = images.to(self._device, non_blocking=True)
        labels = labels.to(self._device, non_blocking=True)
        normalised = torch.addcmul(self._shift, images, self._scale)
        if self.part.count == 1:
            return normalised, labels
        return normalised, labels, self.part.weight(whole)


class DeviceBatches(Passes):
    """A split's batches as Keras's `fit` and `evaluate` take them, without a host in the loop.

    Images that would take more than half of the device's free memory stay on the host.

    Args:
        split: uint8 images and labels on the host.
        source: normalisation and augmentation of the dataset.
        batch_size: images per batch; the last batch of an epoch may be smaller.
        device: where images live and batches are made.
        epoch_seed: for training: seed of the order and augmentation of the 0-based epoch it is
            given, so that any epoch can be replayed alone. None: fixed order, no augmentation.
        first_epoch: 0-based epoch of the first pass.
        part: which part of each training batch to make, where processes share it.
        dtype: of the images in a batch.

    Each batch is (images, labels): images normalised, shape (b, height, width, channels). Where
    processes share batches, (images, labels, weight of their mean).
    """

    def __init__(
        self,
        split: Split,
        source: Source,
        batch_size: int,
        device: torch.device | str,
        *,
        epoch_seed: Callable[[int], int] | None = None,
        first_epoch: int = 0,
        part: Part = WHOLE,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(len(split), source, batch_size, device, first_epoch, part, dtype)
        self._augmentation = source.augmentation if epoch_seed else Augmentation()
        pad = self._augmentation.pad
        height, width = source.input_shape[0] + 2 * pad, source.input_shape[1] + 2 * pad
        size = len(split) * height * width * source.input_shape[2]
        # Where the images live: on the device if they leave it room to train.
        self._home = self._device if _fits(size, self._device) else torch.device("cpu")
        self._images = _padded(split, pad, self._home)
        self._labels = torch.tensor(split.labels, device=self._home)
        self._size = source.input_shape[:2]
        self._epoch_seed = epoch_seed

    def again(self, epoch_seed: Callable[[int], int], first_epoch: int) -> "DeviceBatches":
        """The same images, not copied, in another order and from another epoch on."""
        twin = copy(self)
        twin._epoch_seed, twin._epoch = epoch_seed, first_epoch - 1
        return twin

    def get_torch_dataloader(self) -> Iterator[Batch]:
        """The batches of the current epoch."""
        if self._epoch_seed is None:
            return self._in_order()
        return self._shuffled(self._epoch_seed(self._epoch))

    def _in_order(self) -> Iterator[Batch]:
        for start in range(0, len(self), self._batch_size):
            end = start + self._batch_size
            yield self._batch(self._images[start:end], self._labels[start:end])

    def _shuffled(self, seed: int) -> Iterator[Batch]:
        count, home = len(self), self._home
        # Drawn on the host, once per epoch: the same order and crops whatever the device.
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(count, generator=generator).to(home)
        pad, flip = self._augmentation.pad, self._augmentation.flip
        height, width = self._size
        offsets = torch.randint(0, 2 * pad + 1, (2, count, 1), generator=generator).to(home)
        rows = offsets[0] + torch.arange(height, device=home)
        columns = torch.arange(width, device=home).expand(count, width)
        if flip:
            flipped = (torch.rand((count, 1), generator=generator) < 0.5).to(home)
            columns = torch.where(flipped, width - 1 - columns, columns)
        columns = columns + offsets[1]
        for start in range(0, count, self._batch_size):
            batch = order[start : start + self._batch_size]
            chosen = batch[self.part.of(len(batch))]
            if pad or flip:
                # One gather crops, flips and picks: pixel (r, c) of each chosen image.
                images = self._images[
                    chosen[:, None, None], rows[chosen][:, :, None], columns[chosen][:, None, :]
                ]
            else:
                images = self._images[chosen]
            yield self._batch(images, self._labels[chosen], len(batch))


class SideBySide(DataAdapter):
    """Training batches of several networks that are stepped side by side.

    Args:
        orders: different orders of the same images.
        taken: for each network, which of `orders` it sees.

    Each batch is (images, labels): images (b, height, width, K · channels), labels (b, K).
    """

    def __init__(self, orders: Sequence[DeviceBatches], taken: Sequence[int]) -> None:
        self._orders, self._taken = orders, taken

    @property
    def num_batches(self) -> int:
        """Batches per epoch."""
        return self._orders[0].num_batches

    @property
    def batch_size(self) -> int:
        """Images per batch and network."""
        return self._orders[0].batch_size

    @property
    def has_partial_batch(self) -> bool:
        """Whether an epoch ends with a smaller batch."""
        return self._orders[0].has_partial_batch

    @property
    def partial_batch_size(self) -> int:
        """Images in that smaller batch."""
        return self._orders[0].partial_batch_size

    def on_epoch_begin(self) -> None:
        """Keras starts a pass: each order turns to its next epoch."""
        for batches in self._orders:
            batches.on_epoch_begin()

    def get_torch_dataloader(self) -> Iterator[Batch]:
        """The batches of the current epoch."""
        for made in zip(*[b.get_torch_dataloader() for b in self._orders], strict=True):
            images, labels = zip(*[made[i] for i in self._taken], strict=True)
            yield torch.cat(images, dim=-1), torch.stack(labels, dim=1)


def _fits(size: int, device: torch.device) -> bool:
    """Whether `size` bytes take no more than half of what is free on the device."""
    return device.type != "cuda" or size < torch.cuda.mem_get_info(device)[0] / 2


def _padded(split: Split, pad: int, device: torch.device | str) -> Tensor:
    images = torch.tensor(split.images, device=device)
    return torch.nn.functional.pad(images, (0, 0, pad, pad, pad, pad)) if pad else images
