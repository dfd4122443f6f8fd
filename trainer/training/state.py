"""The state that training moves: weights, mask, optimizer and batch-norm statistics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import torch
from torch import Tensor

from jackpot.artifacts import Mask
from trainer.keras_internals import batch_norms
from trainer.pruning.callbacks import apply_, laid_out
from trainer.pruning.masks import check_fits
from trainer.study.optimizers import Optimizer

if TYPE_CHECKING:
    from jackpot.artifacts import Arrays

# Checkpoints call it so since before there were other optimizers.
_NAMES = {"momentum_buffer": "momentum"}


@dataclass
class TrainingState:
    """Everything that one step reads and changes, by variable path.

    Attributes:
        weights: trainable tensors: the network's own, not copies.
        statistics: running statistics of batch norm: the network's own.
        optimizer: torch's, over `weights`; its state is created before the first step.
        steps: steps taken since epoch 0 of the schedule.
    """

    weights: dict[str, Tensor]
    statistics: dict[str, Tensor]
    optimizer: torch.optim.Optimizer
    steps: int = 0
    _mask: Mask = field(default_factory=dict)
    _masked: list[Tensor] = field(default_factory=list)
    _masks: list[Tensor] = field(default_factory=list)

    @classmethod
    def fresh(
        cls, network: keras.Model, optimizer: Optimizer, decay_batch_norm: bool = True
    ) -> "TrainingState":
        """The state of a fresh training of `network`: all that the optimizer keeps is 0.

        Args:
            network: built.
            optimizer: its hyper-parameters.
            decay_batch_norm: whether weight decay pulls on batch norm's scales and offsets too.
        """
        weights = {v.path: v.value for v in network.trainable_variables}
        statistics = {v.path: v.value for v in network.non_trainable_variables}
        built = optimizer.build(list(weights.values()))
        if not decay_batch_norm:
            scales = [v.value for norm in batch_norms(network) for v in norm.trainable_variables]
            _leave_alone(built, scales)
        if not built.state:
            _begin_at_zero(built, list(weights.values()))
        return cls(weights, statistics, built)

    @property
    def device(self) -> torch.device:
        """Where training happens."""
        return next(iter(self.weights.values())).device

    def keep_masked(self, mask: Mask) -> None:
        """From now on the weights that `mask` prunes are 0.0 after every step.

        Raises:
            MaskError: the mask does not fit the weights.
        """
        check_fits(mask, {path: tuple(weight.shape) for path, weight in self.weights.items()})
        self._mask = mask
        self._lay_out_mask()

    def step(self, learning_rate: float | Tensor) -> None:
        """One optimizer step on the gradients at hand, then the mask. `steps` is the caller's."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        apply_(self._masked, self._masks)

    def follow_layout(self) -> None:
        """Gives masks and optimizer state the memory layout of the weights.

        Fused steps need that. Call it whenever the memory layout of the weights has changed.
        """
        for weight in self.weights.values():
            kept = self.optimizer.state[weight]
            for name, value in _tensors(kept):
                if value.shape == weight.shape and value.stride() != weight.stride():
                    kept[name] = torch.empty_like(weight).copy_(value)
        self._lay_out_mask()

    def _lay_out_mask(self) -> None:
        self._masked = [self.weights[path].detach() for path in self._mask]
        self._masks = laid_out(self._masked, self._mask)
        apply_(self._masked, self._masks)

    def drop_gradients(self) -> None:
        """Forgets the gradients at hand."""
        self.optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the state under names for a checkpoint."""
        named = {f"weights/{path}": tensor for path, tensor in self.weights.items()}
        named |= {f"statistics/{path}": tensor for path, tensor in self.statistics.items()}
        named |= {
            f"{_NAMES.get(name, name)}/{path}": value
            for path, weight in self.weights.items()
            for name, value in _tensors(self.optimizer.state[weight])
        }
        return named

    def arrays(self) -> "Arrays":
        """All tensors on the host, under the same names; on a CPU they share the state's memory."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in self.tensors().items()}

    @torch.no_grad()
    def load(self, arrays: "Arrays", steps: int) -> None:
        """Continues from what `arrays` gave.

        Raises:
            KeyError, RuntimeError: arrays of another network.
        """
        for name, tensor in self.tensors().items():
            tensor.copy_(torch.from_numpy(arrays[name]).reshape(tensor.shape))
        self.steps = steps


def _leave_alone(optimizer: torch.optim.Optimizer, weights: Sequence[Tensor]) -> None:
    """Lets weight decay not pull on `weights`."""
    chosen = {id(weight) for weight in weights}
    for group in [g for g in optimizer.param_groups if g.get("weight_decay")]:
        apart = [weight for weight in group["params"] if id(weight) in chosen]
        if apart:
            group["params"] = [w for w in group["params"] if id(w) not in chosen]
            optimizer.add_param_group({**group, "params": apart, "weight_decay": 0.0})


def _tensors(kept: Mapping[str, Any]) -> list[tuple[str, Tensor]]:
    """The tensors among what an optimizer keeps for one weight."""
    return [(name, value) for name, value in kept.items() if isinstance(value, Tensor)]


@torch.no_grad()
def _begin_at_zero(optimizer: torch.optim.Optimizer, weights: Sequence[Tensor]) -> None:
    """Creates the optimizer's state for each weight, which torch would create in the first step.

    Every step is then the same work, including the first. A step with zero gradients and learning
    rate creates it; the weights do not change.
    """
    before = [weight.clone() for weight in weights]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    for weight, value in zip(weights, before, strict=True):
        weight.copy_(value)
        for _, kept in _tensors(optimizer.state[weight]):
            kept.zero_()
    optimizer.zero_grad(set_to_none=True)
