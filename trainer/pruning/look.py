"""What a pruner sees of a network."""

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Literal

import numpy as np

from jackpot.artifacts import Mask
from trainer.pruning.scores import Weights

if TYPE_CHECKING:
    import keras
    from torch import Tensor

Precision = Literal["float32", "float64"]


def _nothing() -> "Iterator[tuple[Tensor, Tensor]]":
    raise ValueError("this look has no training images")


class Look:
    """A network at the moment at which a pruner looks at it.

    Args:
        weights: its kernels to prune, by variable path.
        mask: what earlier rounds left; None before the first.
        network: makes the network in a precision; called once for each that the pruner asks for.
        batches: begins a pass over training images; called if the pruner asks for them.
        seed: of the pruner's draws in this trial.

    Attributes:
        weights: arrays by variable path, any shape; 0.0 where `mask` prunes.
        mask: boolean arrays, True where a weight survives.
    """

    def __init__(
        self,
        weights: Weights,
        mask: Mask | None = None,
        network: "Callable[[Precision], keras.Model] | None" = None,
        batches: "Callable[[], Iterator[tuple[Tensor, Tensor]]]" = _nothing,
        seed: int = 0,
    ) -> None:
        self.weights, self.mask = weights, mask
        self._make, self._batches, self._seed = network, batches, seed
        # What looks at the same network share: its copies, and images of each class.
        self._made: dict[Precision, keras.Model] = {}
        self._gathered: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def network(self) -> "keras.Model":
        """The network at these weights, on the training device. It returns logits.

        It is a copy for the pruner: changes to it do not affect training.
        """
        return self._network("float32")

    @property
    def network_in_float64(self) -> "keras.Model":
        """As `network`, in float64."""
        return self._network("float64")

    def batches(self) -> "Iterator[tuple[Tensor, Tensor]]":
        """Training batches of the study's size, normalised and augmented, on the network's device.

        Images have shape (batch, height, width, channels), labels (batch,). Each is made when it
        is asked for; the order is that of the trial's first epoch.
        """
        return self._batches()

    def of_each_class(self, count: int) -> "tuple[Tensor, Tensor]":
        """The first `count` training images of each class, in the order of `batches`.

        Returns:
            Images and labels; fewer of a class that has fewer.
        """
        if count not in self._gathered:
            self._gathered[count] = self._gather(count)
        return self._gathered[count]

    def _gather(self, count: int) -> "tuple[Tensor, Tensor]":
        import torch

        from trainer.keras_internals import functional

        # Any copy tells how many classes there are.
        made = next(iter(self._made.values()), None) or self.network
        batches, graph = self.batches(), functional(made)
        first = next(batches)
        # A subclassed network does not know the shape of its outputs.
        shape = graph.output_shape if graph else made(first[0][:1], training=False).shape
        left = [count] * int(shape[-1])
        images, labels = [], []
        for batch, of in chain([first], batches):
            taken = []
            for i, label in enumerate(of.tolist()):
                if left[label]:
                    left[label] -= 1
                    taken.append(i)
            images.append(batch[taken])
            labels.append(of[taken])
            if not any(left):
                break
        return torch.cat(images), torch.cat(labels)

    @cached_property
    def rng(self) -> np.random.Generator:
        """The pruner's own draws: the same for all runs of a trial."""
        return np.random.default_rng(self._seed)

    def under(self, mask: Mask) -> "Look":
        """The same network with these weights pruned; its copies of the network follow."""
        pruned = {path: np.where(mask[path], kernel, 0) for path, kernel in self.weights.items()}
        look = Look(pruned, mask, self._make, self._batches, self._seed)
        look._made, look._gathered = self._made, self._gathered
        for model in self._made.values():
            for variable in model.variables:
                variable.value.grad = None  # Of the step before, whose mask was another.
        return look

    def _network(self, precision: Precision) -> "keras.Model":
        if self._make is None:
            raise ValueError("this look has no network")
        if precision not in self._made:
            self._made[precision] = self._make(precision)
        model = self._made[precision]
        for variable in model.variables:
            if variable.path in self.weights:
                variable.assign(self.weights[variable.path])
        return model
