"""The state that training moves: weights, mask, optimizer and batch-norm statistics."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import keras
import torch
from torch import Tensor

from trainer.pruning.callbacks import apply_, masked_tensors
from trainer.pruning.masks import Mask
from trainer.study.config import SGD

if TYPE_CHECKING:
    from jackpot.artifacts import Arrays


@dataclass
class TrainingState:
    """Everything that one step reads and changes, by variable path.

    Attributes:
        weights: trainable tensors: the network's own, not copies.
        statistics: running statistics of batch norm: the network's own.
        optimizer: torch's SGD with coupled L2 over `weights`.
        steps: steps taken since epoch 0 of the schedule.
    """

    weights: dict[str, Tensor]
    statistics: dict[str, Tensor]
    optimizer: torch.optim.SGD
    steps: int = 0
    _masked: list[Tensor] = field(default_factory=list)
    _masks: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, network: keras.Model, optimizer: SGD) -> "TrainingState":
        """The state of a fresh training of `network`, with momentum 0."""
        weights = {v.path: v.value for v in network.trainable_variables}
        statistics = {v.path: v.value for v in network.non_trainable_variables}
        sgd = torch.optim.SGD(
            weights.values(),
            lr=0.0,
            momentum=optimizer.momentum,
            weight_decay=optimizer.weight_decay,
            nesterov=optimizer.nesterov,
            fused=True,
        )
        if optimizer.momentum:
            # From the start, not from the first step on: every step is the same work.
            for weight in weights.values():
                sgd.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        return cls(weights, statistics, sgd)

    @property
    def device(self) -> torch.device:
        """Where training happens."""
        return next(iter(self.weights.values())).device

    def keep_masked(self, network: keras.Model, mask: Mask) -> None:
        """From now on the weights that `mask` prunes are 0.0 after every step."""
        self._masked, self._masks = masked_tensors(network, mask)
        apply_(self._masked, self._masks)

    def step(self, learning_rate: float | Tensor) -> None:
        """One optimizer step on the gradients at hand, then the mask. `steps` is the caller's."""
        self.optimizer.param_groups[0]["lr"] = learning_rate
        self.optimizer.step()
        apply_(self._masked, self._masks)

    def follow_layout(self) -> None:
        """Lays momentum out in memory as its weights are: the fused step walks both alike.

        To be called whenever weights have been laid out anew.
        """
        for weight in self.weights.values():
            momentum = self._momentum(weight)
            if momentum is not None and momentum.stride() != weight.stride():
                followed = torch.empty_like(weight).copy_(momentum)
                self.optimizer.state[weight]["momentum_buffer"] = followed

    def _momentum(self, weight: Tensor) -> Tensor | None:
        """The momentum of a weight; None where the optimizer has none."""
        return self.optimizer.state[weight].get("momentum_buffer")

    def drop_gradients(self) -> None:
        """Forgets the gradients at hand."""
        self.optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the state under names for a checkpoint."""
        momentum = {
            f"momentum/{path}": buffer
            for path, weight in self.weights.items()
            if (buffer := self._momentum(weight)) is not None
        }
        named = {f"weights/{path}": tensor for path, tensor in self.weights.items()}
        named |= {f"statistics/{path}": tensor for path, tensor in self.statistics.items()}
        return named | momentum

    def arrays(self) -> "Arrays":
        """All tensors on the host, under the same names; on a CPU they share the state's memory."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in self.tensors().items()}

    @torch.no_grad()
    def load(self, arrays: "Arrays", steps: int) -> None:
        """Continues from what `arrays` gave.

        Raises:
            KeyError, RuntimeError: arrays of another network.
        """
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        for path, weight in self.weights.items():
            weight.copy_(tensors[f"weights/{path}"])
            momentum = self._momentum(weight)
            if momentum is not None:
                momentum.copy_(tensors[f"momentum/{path}"])
        for path, statistic in self.statistics.items():
            statistic.copy_(tensors[f"statistics/{path}"])
        self.steps = steps
