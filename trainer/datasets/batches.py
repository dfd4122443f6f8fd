"""Batches made on the device: the whole dataset lives there as uint8, augmentation runs there."""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.datasets.dataset import Augmentation, Source, Split, Stream
from trainer.datasets.passes import WHOLE, Batch, Part, Passes
from trainer.keras_internals import DataAdapter

# Pixels that are evaluated at once, over all networks that are stepped side by side: on a CPU more
# would be no faster (`docs/speed.md`), on a GPU it would leave too little memory.
_EVALUATED_PIXELS = {"cpu": 250 * 32 * 32, "cuda": 4000 * 32 * 32}


def evaluation_batch(source: Source, group_size: int, device: torch.device) -> int:
    """Images to evaluate at once, with `group_size` networks side by side."""
    return max(1, _EVALUATED_PIXELS[device.type] // (source.places * group_size))


def batches(
    split: Split | Stream,
    source: Source,
    batch_size: int,
    device: torch.device | str,
    *,
    epoch_seed: Callable[[int], int] | None = None,
    first_epoch: int = 0,
    part: Part = WHOLE,
) -> Passes:
    """Batches of a split: made on the device, or streamed; see `DeviceBatches`."""
    if isinstance(split, Split):
        return DeviceBatches(
            split,
            source,
            batch_size,
            device,
            epoch_seed=epoch_seed,
            first_epoch=first_epoch,
            part=part,
        )
    from trainer.datasets.streams import StreamedBatches

    return StreamedBatches(
        split, source, batch_size, device, epoch_seed=epoch_seed, first_epoch=first_epoch, part=part
    )


class DeviceBatches(Passes):
    """A split's batches as Keras's `fit` and `evaluate` take them, without a host in the loop.

    Images that would take more than half of the device's free memory stay on the host. Between
    two batches of a pass, only a position changes, which is on the device too. Making a batch is
    therefore always the same work on the same tensors, and can be recorded (`Recordable`).

    Args:
        split: uint8 images (or features) and labels on the host.
        source: normalisation and augmentation of the dataset.
        batch_size: images per batch; the last batch of an epoch may be smaller.
        device: where images live and batches are made.
        epoch_seed: for training: seed of the order and augmentation of the 0-based epoch it is
            given, so that any epoch can be replayed alone. None: fixed order, no augmentation.
        first_epoch: 0-based epoch of the first pass.
        part: which part of each training batch to make, where processes share it.
        dtype: of the images in a batch.

    Each batch is (images, labels): images normalised, shape (b, height, width, channels), or
    features as they are, (b, …). Where processes share batches, (images, labels, weight of their
    mean).
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
        # Where the images live: on the device if they leave it room to train. On the host they are
        # the mapped file itself, which all processes share.
        fits = _fits(split.images.nbytes, self._device)
        self._home = self._device if fits else torch.device("cpu")
        self._images = torch.from_numpy(split.images).to(self._home)
        self._labels = torch.from_numpy(split.labels).to(self._home)
        height, width = source.input_shape[:2] if source.kind == "images" else (0, 0)
        self._rows = torch.arange(height, device=self._home)
        self._columns = torch.arange(width, device=self._home)
        self._within = torch.arange(batch_size, device=self._home)
        self._epoch_seed = epoch_seed
        self._prepare_passes()

    def again(self, epoch_seed: Callable[[int], int], first_epoch: int) -> "DeviceBatches":
        """The same images, not copied, in another order and from another epoch on."""
        twin = copy(self)
        twin._epoch_seed, twin._epoch = epoch_seed, first_epoch - 1
        twin._prepare_passes()
        return twin

    def _prepare_passes(self) -> None:
        """Allocates what a pass writes and its batches read, at fixed addresses."""
        self._position = torch.zeros(1, dtype=torch.int64, device=self._home)
        self._order = torch.arange(len(self), device=self._home)
        self._offsets = torch.zeros((2, len(self), 1), dtype=torch.int64, device=self._home)
        self._flipped = torch.zeros((len(self), 1), dtype=torch.bool, device=self._home)

    @property
    def on_device(self) -> bool:
        """Whether batches are made where they are trained on."""
        return self._home == self._device

    def counts(self) -> list[int]:
        """Images of each batch of a pass, all parts together."""
        whole, rest = divmod(len(self), self._batch_size)
        return [self._batch_size] * whole + [rest] * (rest > 0)

    def get_torch_dataloader(self) -> Iterator[Batch]:
        """The batches of the current epoch."""
        self.begin()  # With the first batch: Keras asks for a pass that it may not take.
        yield from (self.make(count) for count in self.counts())

    def begin(self) -> None:
        """Goes to the first batch of the current epoch's pass."""
        self._position.zero_()
        if self._epoch_seed is None:
            return
        # Drawn on the host, once per epoch: the same order and crops whatever the device.
        generator = torch.Generator().manual_seed(self._epoch_seed(self._epoch))
        self._order.copy_(torch.randperm(len(self), generator=generator))
        pad, flip = self._augmentation.pad, self._augmentation.flip
        offsets = torch.randint(0, 2 * pad + 1, (2, len(self), 1), generator=generator)
        self._offsets.copy_(offsets - pad)
        if flip:
            self._flipped.copy_(torch.rand((len(self), 1), generator=generator) < 0.5)

    def make(self, count: int) -> Batch:
        """The next batch of the pass, of `count` images; nothing is read back from the device."""
        at = self._position + self._within[:count]
        self._position += count
        mine = at[self.part.of(count)]
        chosen = self._order[mine]
        images = self._images[chosen]
        if self._augmentation.pad or self._augmentation.flip:
            images = self._moved(images, chosen)
        return self._batch(images, self._labels[chosen], count)

    def _moved(self, images: Tensor, chosen: Tensor) -> Tensor:
        """The chosen images, cropped from a frame of zeros around them and flipped."""
        height, width = len(self._rows), len(self._columns)
        rows = self._offsets[0][chosen] + self._rows
        columns = torch.where(self._flipped[chosen], width - 1 - self._columns, self._columns)
        columns = columns + self._offsets[1][chosen]
        # Pixel (r, c) of each image comes from there, and is 0 where that is beside the image.
        r, c = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        inside = (rows == r)[:, :, None] & (columns == c)[:, None, :]
        at = (r[:, :, None] * width + c[:, None, :]).flatten(1)[:, :, None]
        pixels = images.flatten(1, 2)
        moved = pixels.gather(1, at.expand_as(pixels)).view_as(images)
        return moved * inside[..., None]


class _Like(DataAdapter):
    """Batches that are as many and as large as those of `batches`."""

    def __init__(self, batches: "DeviceBatches | GroupBatches") -> None:
        self._batches = batches

    @property
    def num_batches(self) -> int:
        """Batches per epoch."""
        return self._batches.num_batches

    @property
    def batch_size(self) -> int:
        """Images per batch and network."""
        return self._batches.batch_size

    @property
    def has_partial_batch(self) -> bool:
        """Whether an epoch ends with a smaller batch."""
        return self._batches.has_partial_batch

    @property
    def partial_batch_size(self) -> int:
        """Images in that smaller batch."""
        return self._batches.partial_batch_size

    def on_epoch_begin(self) -> None:
        """Keras starts a pass."""
        self._batches.on_epoch_begin()


class GroupBatches(_Like):
    """Training batches of several networks that are stepped side by side.

    Args:
        orders: different orders of the same images.
        taken: for each network, which of `orders` it sees.

    Each batch is (images, labels): images (b, height, width, K · channels), labels (b, K).
    """

    def __init__(self, orders: Sequence[DeviceBatches], taken: Sequence[int]) -> None:
        super().__init__(orders[0])
        self._orders, self._taken = orders, taken

    def on_epoch_begin(self) -> None:
        """Keras starts a pass: each order turns to its next epoch."""
        for batches in self._orders:
            batches.on_epoch_begin()

    @property
    def on_device(self) -> bool:
        """Whether batches are made where they are trained on."""
        return all(batches.on_device for batches in self._orders)

    def counts(self) -> list[int]:
        """Images of each batch of a pass."""
        return self._orders[0].counts()

    def get_torch_dataloader(self) -> Iterator[Batch]:
        """The batches of the current epoch."""
        self.begin()  # With the first batch: Keras asks for a pass that it may not take.
        yield from (self.make(count) for count in self.counts())

    def begin(self) -> None:
        """Goes to the first batch of each order's pass."""
        for batches in self._orders:
            batches.begin()

    def make(self, count: int) -> Batch:
        """The next batch, of `count` images of each order."""
        made = [batches.make(count) for batches in self._orders]
        taken = [made[i] for i in self._taken]
        images, labels = [batch[0] for batch in taken], [batch[1] for batch in taken]
        return torch.cat(images, dim=-1), torch.stack(labels, dim=1)


@dataclass(frozen=True)
class Pending:
    """A batch that is made within its step: the next of `batches`, with `count` images."""

    batches: DeviceBatches | GroupBatches
    count: int


class Recordable(_Like):
    """The same batches, each made within the step that uses it; one recording covers both."""

    def get_torch_dataloader(self) -> Iterator[Pending]:
        """The batches of the current epoch, not made yet."""
        self._batches.begin()
        yield from (Pending(self._batches, count) for count in self._batches.counts())


def recordable(batches: DataAdapter) -> DataAdapter:
    """The same batches, made in their steps if they are made on the device."""
    on_device = isinstance(batches, DeviceBatches | GroupBatches) and batches.on_device
    return Recordable(batches) if on_device else batches


def _fits(size: int, device: torch.device) -> bool:
    """Whether `size` bytes take no more than half of what is free on the device."""
    if device.type != "cuda":
        return True
    # What torch keeps for reuse counts as taken there.
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return size < (torch.cuda.mem_get_info(device)[0] + kept) / 2
