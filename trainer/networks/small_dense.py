"""Small-dense networks: same depth, reduced width, as many parameters as a pruned network keeps."""

from collections.abc import Mapping
from functools import lru_cache
from math import prod
from types import MappingProxyType

import keras
import numpy as np

from trainer import networks

# How far, and how many, channel counts may deviate from proportional ones to approach the target.
_FREEDOM, _MOST_FREE = 2, 7
# Within this relative distance of the target, the most even shape is preferred to the closest.
_CLOSE = 0.002


def trainable_parameters(model: keras.Model) -> int:
    """Number of trainable parameters: weights, biases, and batch norm's scales and offsets."""
    return sum(prod(v.shape) for v in model.trainable_variables)


@lru_cache(maxsize=256)
def matching_channels(
    name: str, input_shape: tuple[int, ...], classes: int, target: int
) -> tuple[Mapping[int, int], int]:
    """Channel counts of the small-dense network with about `target` parameters.

    All counts are scaled alike, then each may change by up to two channels to come closer. Among
    networks within 0.2 % of the target, the most evenly scaled one is chosen, else the closest.

    Args:
        name: of the network.
        input_shape, classes: as in `networks.build`.
        target: non-zero parameters of the pruned network (the paper's θ^SD, table 1), not the
            parameters it had before pruning.

    Returns:
        Channel counts by the network's own, as `networks.build` takes them, and the number of
        parameters.

    Raises:
        ValueError: a network that never asks `blocks.channels`, so that nothing can be narrowed.
    """
    size = _size(name, input_shape, classes)
    own = np.array(size.own)
    if size(own) <= target:
        return MappingProxyType(dict(zip(size.own, size.own, strict=True))), int(size(own))
    narrow, wide = 0.0, 1.0
    while wide - narrow > 1e-6:
        middle = (narrow + wide) / 2
        narrow, wide = (middle, wide) if size(own * middle) <= target else (narrow, middle)
    even = own * narrow
    # If there are many counts, only the largest may change: memory would not hold all combinations.
    free = np.sort(np.argsort(-own, kind="stable")[:_MOST_FREE])
    moves = np.stack(
        np.meshgrid(*[np.arange(-_FREEDOM, _FREEDOM + 1)] * len(free), indexing="ij"), -1
    ).reshape(-1, len(free))
    found = np.tile(np.rint(even).astype(int), (len(moves), 1))
    found[:, free] += moves
    found = np.unique(np.clip(found, 1, own), axis=0)
    off = np.abs(size(found) - target) / target
    uneven = (np.log(found / np.maximum(even, 1e-9)) ** 2).sum(1)
    order = np.lexsort((uneven, np.where(off <= _CLOSE, 0.0, off)))
    best = found[order[0]]
    channels = dict(zip(size.own, best.tolist(), strict=True))
    return MappingProxyType(channels), int(size(best))


class _Size:
    """Parameters of a network as a function of its channel counts.

    Each side of each variable is a sum of multiples of channel counts and a constant (inputs of a
    layer after a concatenation or a flattening, say). Building the network as it is, and once for
    each count with one more channel there, gives all of them.
    """

    def __init__(self, name: str, input_shape: tuple[int, ...], classes: int) -> None:
        self.own = networks.channel_counts(name, input_shape, classes)
        if not self.own:
            raise ValueError(
                f"network '{name}' has no small-dense counterpart: its builder never asks "
                "blocks.channels(count) how many channels a layer shall have"
            )

        def sides(*wider: int) -> np.ndarray:
            """Of all trainable variables, shape (variables, most axes); 1 beyond the last axis."""
            channels = {own: own + (own in wider) for own in self.own}
            with keras.device("meta"):
                model = networks.build(
                    name, input_shape=input_shape, classes=classes, channels=channels
                )
            shapes = [tuple(v.shape) for v in model.trainable_variables]
            most = max(map(len, shapes))
            return np.array([shape + (1,) * (most - len(shape)) for shape in shapes], float)

        self._sides = sides()
        self._slopes = np.stack([sides(own) - self._sides for own in self.own])

    def __call__(self, channels: np.ndarray) -> np.ndarray:
        """Parameters at channel counts, shape (..., number of own counts)."""
        wider = np.asarray(channels, float) - np.array(self.own)
        sides = self._sides + np.tensordot(wider, self._slopes, axes=1)
        return sides.prod(-1).sum(-1)


@lru_cache(maxsize=16)
def _size(name: str, input_shape: tuple[int, ...], classes: int) -> _Size:
    return _Size(name, input_shape, classes)
