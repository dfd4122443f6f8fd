"""An optimizer: RMSprop.

training: {optimizer: {name: "examples.rmsprop:RMSprop", smoothing: 0.9}}
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field

from trainer.study.optimizers import Optimizer


class RMSprop(Optimizer):
    """Gradients over the root of their running mean square."""

    name: str
    smoothing: Annotated[float, Field(gt=0, lt=1)] = 0.99
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0

    def build(self, weights: Sequence[torch.Tensor]) -> torch.optim.Optimizer:
        """`torch.optim.RMSprop`; its state begins at 0."""
        return torch.optim.RMSprop(
            weights, lr=0.0, alpha=self.smoothing, weight_decay=self.weight_decay
        )
