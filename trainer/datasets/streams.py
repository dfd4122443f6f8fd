"""Batches of a dataset that does not fit in memory: decoded and cropped by worker processes.

The training thread only normalises, on the device.
"""

import multiprocessing
import os
import weakref
from collections.abc import Callable, Iterator
from functools import cache
from multiprocessing.context import BaseContext

import numpy as np
import torch
from torch.utils.data import DataLoader

from trainer.datasets.dataset import Source, Stream
from trainer.datasets.decoding import Decoded, Item, stacked
from trainer.datasets.passes import WHOLE, Batch, Part, Passes


class StreamedBatches(Passes):
    """A stream's batches as Keras's `fit` and `evaluate` take them; see `DeviceBatches`.

    Args:
        stream: which images.
        source: normalisation and size of the dataset.
        batch_size: images per batch; the last batch of an epoch may be smaller.
        device: where batches go.
        epoch_seed: for training: seed of the order and augmentation of an epoch. None: fixed
            order, no augmentation.
        first_epoch: 0-based epoch of the first pass.
        part: which part of each training batch to make, where processes share it.
        workers: processes that decode; by default one per core but one, shared by all parts.
    """

    def __init__(
        self,
        stream: Stream,
        source: Source,
        batch_size: int,
        device: torch.device | str,
        *,
        epoch_seed: Callable[[int], int] | None = None,
        first_epoch: int = 0,
        part: Part = WHOLE,
        workers: int | None = None,
    ) -> None:
        super().__init__(len(stream), source, batch_size, device, first_epoch, part)
        self._stream, self._epoch_seed = stream, epoch_seed
        if workers is None:
            workers = max(1, (len(os.sched_getaffinity(0)) - 1) // part.count)
        self._loader: DataLoader = DataLoader(
            # It has what a Dataset has.
            Decoded(stream, source.input_shape[:2], source.augmentation.flip),  # type: ignore[arg-type]
            # Without a reference cycle, workers end as soon as these batches are no longer needed.
            batch_sampler=_Batches(weakref.proxy(self)),  # type: ignore[arg-type]
            num_workers=workers,
            collate_fn=stacked,
            multiprocessing_context=_context() if workers else None,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            pin_memory=self._device.type == "cuda",
        )

    def get_torch_dataloader(self) -> Iterator[Batch]:
        """The batches of the current epoch."""
        left = len(self)
        for images, labels in self._loader:
            whole = min(left, self.batch_size)
            left -= whole
            yield self._batch(images, labels, whole)

    def items(self) -> list[Item]:
        """The current epoch's images in order, each with the seed of its augmentation."""
        start, count = self._stream.start, len(self)
        if self._epoch_seed is None:
            return [(start + i, None) for i in range(count)]
        rng = np.random.default_rng(self._epoch_seed(self._epoch))
        order = start + rng.permutation(count)
        return list(zip(order.tolist(), rng.integers(0, 2**63, count).tolist(), strict=True))


class _Batches:
    """What the loader asks for at the start of each epoch: its batches as lists of items."""

    def __init__(self, batches: StreamedBatches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return self._batches.num_batches

    def __iter__(self) -> Iterator[list[Item]]:
        items, size, part = self._batches.items(), self._batches.batch_size, self._batches.part
        batches = (items[i : i + size] for i in range(0, len(items), size))
        return (batch[part.of(len(batch))] for batch in batches)


@cache
def _context() -> BaseContext:
    """How workers are started.

    A fork of this process would copy the locks of its threads without the threads. Where the
    system can, one process without threads imports what workers need, and each worker is a fork of
    that one: it is there at once, for every pass of every run.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "tensorflow_datasets", "trainer.datasets.decoding"])
    return context
