"""What a pruner sees of a network."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from jackpot.artifacts import Mask
from trainer.pruning.scores import Weights

if TYPE_CHECKING:
    import keras
    from torch import Tensor


def _nothing() -> "Iterator[tuple[Tensor, Tensor]]":
    raise ValueError("this look has no training images")


class Look:
    """A network at the moment at which a pruner looks at it.

    Args:
        weights: its kernels to prune, by variable path.
        mask: what earlier rounds left; None before the first.
        network: makes the network; called once, if the pruner asks for it.
        batches: begins a pass over training images; called if the pruner asks for them.

    Attributes:
        weights: arrays by variable path, any shape; 0.0 where `mask` prunes.
        mask: boolean arrays, True where a weight survives.
    """

    def __init__(
        self,
        weights: Weights,
        mask: Mask | None = None,
        network: "Callable[[], keras.Model] | None" = None,
        batches: "Callable[[], Iterator[tuple[Tensor, Tensor]]]" = _nothing,
    ) -> None:
        self.weights, self.mask = weights, mask
        self._network, self._batches = network, batches

    @cached_property
    def network(self) -> "keras.Model":
        """The network at these weights, on the training device. It returns logits.

        It is a copy for the pruner: changes to it do not affect training.
        """
        if self._network is None:
            raise ValueError("this look has no network")
        return self._network()

    def batches(self) -> "Iterator[tuple[Tensor, Tensor]]":
        """Training batches of the study's size, normalised and augmented, on the network's device.

        Images have shape (batch, height, width, channels), labels (batch,). Each is made when it
        is asked for; the order is that of the trial's first epoch.
        """
        return self._batches()
