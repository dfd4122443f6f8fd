"""Pruning as Keras callbacks: for the trainer's own runs, and for any Keras model on torch."""

import keras
import torch

from jackpot.artifacts import Mask
from trainer.pruning.masks import check_fits


class ApplyMask(keras.callbacks.Callback):
    """Keeps pruned weights at 0.0, from before the first step and after every one.

    Masking the weights *after* the optimizer's step is what makes this exact: with momentum or
    weight decay, a masked gradient alone still moves a pruned weight.

    Args:
        mask: boolean arrays by variable path, True where a weight survives
            (`trainer.pruning.masks`, or `load_ticket`).

    Raises:
        MaskError: when training starts, if the mask does not fit the model.

    Example:
        >>> from trainer.pruning import masks
        >>> from trainer.pruning.scores import magnitude
        >>> weights = masks.kernels(model, masks.pruned_paths(model, kept=["stem", "classifier"]))
        >>> mask = masks.prune(magnitude(weights), sparsity=0.832)
        >>> model.fit(images, labels, callbacks=[ApplyMask(mask)])  # doctest: +SKIP
    """

    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self.mask = mask
        self._weights: list[torch.Tensor] = []
        self._masks: list[torch.Tensor] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Checks that the mask fits and applies it once."""
        if hasattr(self.model, "keep_masked"):
            # The trainer's own step applies the mask itself, on the device.
            self.model.keep_masked(self.mask)
            return
        self._weights, self._masks = masked_tensors(self.model, self.mask)
        apply_(self._weights, self._masks)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Sets the pruned weights back to 0.0."""
        apply_(self._weights, self._masks)


def masked_tensors(model: keras.Model, mask: Mask) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The model's tensors that `mask` prunes, and for each its mask in the same dtype and layout.

    Raises:
        MaskError: the mask does not fit the model.
    """
    variables = {v.path: v for v in model.variables}
    check_fits(mask, {path: tuple(v.shape) for path, v in variables.items()})
    weights = [variables[path].value.detach() for path in mask]
    # A mask laid out in memory as its weights are lets the multiplication run without a copy.
    masks = [
        torch.empty_like(weight).copy_(torch.from_numpy(entry))
        for weight, entry in zip(weights, mask.values(), strict=True)
    ]
    return weights, masks


@torch.no_grad()
def apply_(weights: list[torch.Tensor], masks: list[torch.Tensor]) -> None:
    """Multiplies each weight by its mask in place: one fused call for all layers."""
    if weights:
        torch._foreach_mul_(weights, masks)
