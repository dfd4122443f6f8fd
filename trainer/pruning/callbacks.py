"""Pruning as a Keras callback, for any Keras model on torch.

The trainer's own runs need none: their training state owns the mask.
"""

from collections.abc import Sequence

import keras
import torch

from jackpot.artifacts import Mask
from trainer.keras_internals import averages
from trainer.pruning.masks import fitted


class ApplyMask(keras.callbacks.Callback):
    """Keeps pruned weights at 0.0, from before the first step and after every one.

    Masking the weights *after* the optimizer's step is what makes this exact: with momentum or
    weight decay, a masked gradient alone still moves a pruned weight. The averages of an optimizer
    with `use_ema` are masked as well, since Keras or `SwapEMAWeights` puts them in the weights'
    place.

    Args:
        mask: boolean arrays by variable path, True where a weight survives
            (`trainer.pruning.masks`, or `load_ticket`). Paths of an earlier build of the model are
            matched where that leaves no choice (`masks.fitted`).

    Raises:
        MaskError: when training starts, if the mask does not fit the model.

    Example:
        >>> import keras, numpy as np
        >>> from trainer.pruning import masks
        >>> from trainer.pruning.scores import magnitude
        >>> layers = [keras.layers.Dense(32, name="hidden"), keras.layers.Dense(2, name="head")]
        >>> model = keras.Sequential([keras.Input((8,)), *layers])
        >>> model.compile("adam", "mse")
        >>> weights = masks.kernels(model, masks.pruned_paths(model, kept=["head"]))
        >>> mask = masks.prune(magnitude(weights), sparsity=0.75)
        >>> inputs, targets = np.random.rand(64, 8), np.random.rand(64, 2)
        >>> history = model.fit(inputs, targets, callbacks=[ApplyMask(mask)], verbose=0)
        >>> int(np.count_nonzero(model.layers[0].kernel))
        64
    """

    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self.mask = mask
        self._weights: list[torch.Tensor] = []
        self._masks: list[torch.Tensor] = []
        self._averaged = False

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Checks that the mask fits and applies it once."""
        variables = {v.path: v for v in self.model.variables}
        self.mask = fitted(self.mask, {path: tuple(v.shape) for path, v in variables.items()})
        self._weights = [variables[path].value.detach() for path in self.mask]
        self._masks = laid_out(self._weights, self.mask)
        self._averaged = False
        apply_(self._weights, self._masks)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Sets the pruned weights back to 0.0."""
        if not self._averaged:
            self._add_averages()
        apply_(self._weights, self._masks)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Once more: after the last step Keras may put averages in the weights' place."""
        apply_(self._weights, self._masks)

    def _add_averages(self) -> None:
        """Masks what the optimizer keeps of the weights too; it has none before its first step."""
        variables = {v.path: v for v in self.model.variables}
        kept = averages(self.model.optimizer)
        for path, entry in self.mask.items():
            average = kept.get(id(variables[path]))
            if average is not None:
                self._weights.append(average.detach())
                self._masks += laid_out([average.detach()], {path: entry})
        self._averaged = True


def laid_out(weights: Sequence[torch.Tensor], mask: Mask) -> list[torch.Tensor]:
    """The mask of each of the weights, in the weight's dtype, device and memory layout.

    One laid out as its weight lets the multiplication run without a copy.
    """
    return [
        torch.empty_like(weight).copy_(torch.from_numpy(entry))
        for weight, entry in zip(weights, mask.values(), strict=True)
    ]


@torch.no_grad()
def apply_(weights: list[torch.Tensor], masks: list[torch.Tensor]) -> None:
    """Multiplies each weight by its mask in place: one fused call for all layers."""
    if weights:
        torch._foreach_mul_(weights, masks)
