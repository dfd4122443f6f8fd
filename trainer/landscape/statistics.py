"""Batch-norm statistics of a network at weights that no training has led to."""

from collections.abc import Callable

import keras
import torch
from torch import Tensor

from trainer.datasets.passes import Passes
from trainer.keras_internals import batch_norms


class Statistics:
    """Re-estimates the running statistics of a network's batch norm on given images.

    As `torch.optim.swa_utils.update_bn` does: a pass in training mode, and means over its batches.
    Make it before the network is lowered: it sets the layers' momentum.

    Args:
        model: built; its layers keep a batch's own statistics from now on.
    """

    def __init__(self, model: keras.Model) -> None:
        self._norms = batch_norms(model)
        for norm in self._norms:
            norm.momentum = 0.0

    @torch.no_grad()
    def estimate(self, network: Callable[[Tensor, bool], Tensor], batches: Passes) -> None:
        """Sets each layer's mean and variance to those over one pass of `batches`.

        Args:
            network: (images, training) → outputs; computes what the model computes.
            batches: images as the network takes them.
        """
        if not self._norms:
            return
        seen = 0
        totals = [
            [torch.zeros_like(x, dtype=torch.float64) for x in self._of(norm)]
            for norm in self._norms
        ]
        batches.on_epoch_begin()
        for images, *_ in batches.get_torch_dataloader():
            network(images, True)
            seen += len(images)
            for (mean, square), norm in zip(totals, self._norms, strict=True):
                own_mean, own_variance = (x.double() for x in self._of(norm))
                mean += len(images) * own_mean
                square += len(images) * (own_variance + own_mean**2)
        for (mean, square), norm in zip(totals, self._norms, strict=True):
            own_mean, own_variance = self._of(norm)
            own_mean.copy_(mean / seen)
            own_variance.copy_((square / seen - (mean / seen) ** 2).clamp(min=0))

    @staticmethod
    def _of(norm: keras.layers.BatchNormalization) -> tuple[Tensor, Tensor]:
        return norm.moving_mean.value, norm.moving_variance.value
