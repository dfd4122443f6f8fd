"""Small-dense networks: same depth, reduced width, as many parameters as a pruned network keeps."""

from functools import lru_cache
from math import prod

import keras

from trainer import networks

_NARROWEST_STEP = 1e-4


def trainable_parameters(model: keras.Model) -> int:
    """Number of trainable parameters: weights, biases, and batch norm's scales and offsets."""
    return sum(prod(v.shape) for v in model.trainable_variables)


@lru_cache(maxsize=256)
def matching_width(
    name: str, input_shape: tuple[int, int, int], classes: int, target: int
) -> tuple[float, int]:
    """The width whose parameter count comes closest to `target`.

    The count never falls as the width grows, so bisection finds the two neighbouring counts around
    the target; the closer one is taken, the smaller if they tie.

    Args:
        name: a registered network.
        input_shape, classes: as in `networks.build`.
        target: non-zero parameters of the pruned network (the paper's θ^SD, table 1), not the
            parameters it had before pruning.

    Returns:
        The width and its parameter count.
    """

    def count(width: float) -> int:
        # On the meta device nothing is allocated or drawn: only shapes are made.
        with keras.device("meta"):
            model = networks.build(name, input_shape=input_shape, classes=classes, width=width)
        return trainable_parameters(model)

    narrow, wide = 0.0, 1.0
    below, above = None, count(wide)
    if above <= target:
        return wide, above
    while wide - narrow > _NARROWEST_STEP:
        middle = (narrow + wide) / 2
        found = count(middle)
        if found <= target:
            narrow, below = middle, found
        else:
            wide, above = middle, found
    if below is not None and target - below <= above - target:
        return narrow, below
    return wide, above
