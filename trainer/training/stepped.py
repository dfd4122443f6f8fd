"""The Keras model that `fit` drives: a network stepped through its lowered form."""

from collections.abc import Callable

import keras
import torch
import torch.nn.functional as F
from keras.src.trainers.data_adapters.data_adapter import DataAdapter
from torch import Tensor

from trainer.datasets.batches import Batch
from trainer.pruning.masks import Mask
from trainer.training.data_parallel import Together
from trainer.training.lowering import in_precision, lower
from trainer.training.state import TrainingState

_LOGS = {"loss": float("nan"), "accuracy": float("nan")}


class SteppedModel(keras.Model):
    """A network, its training state and a learning rate per step, as a Keras model.

    `fit`, `evaluate` and Keras callbacks work as usual; the numbers they see are those of the end
    of an epoch. Within an epoch nothing is read back from the device, so batch logs hold NaN.

    Args:
        network: a built Keras model that returns logits, shape (batch, classes).
        state: the training state of that network.
        learning_rate: gives the rate of a step, counted from epoch 0 of the schedule.
        label_smoothing: share of the target spread over all classes, in training alone.
        precision: `float32`, or `bfloat16` for convolutions and matrix products.
        others: the processes that train parts of each batch with this one; None: it is alone.
    """

    def __init__(
        self,
        network: keras.Model,
        state: TrainingState,
        learning_rate: Callable[[int], float],
        *,
        label_smoothing: float = 0.0,
        precision: str = "float32",
        others: Together | None = None,
    ) -> None:
        super().__init__(name=f"stepped_{network.name.replace('-', '_')}")
        self.network = network
        self.built = True
        lowered = in_precision(precision, lower(network))
        # Past Keras's attribute tracking, which would turn tensors and dicts into its own kinds.
        for name, value in {
            "state": state,
            "learning_rate": learning_rate,
            "_lowered": lowered,
            "_forward": others.forward(lowered, state.weights.values())
            if others
            else lambda images: lowered(images, True),
            "_others": others,
            "_label_smoothing": label_smoothing,
            "_totals": torch.zeros(2, dtype=torch.float64, device=state.device),
            "_seen": 0,
        }.items():
            object.__setattr__(self, name, value)
        # The optimizer and the loss are the step's own (torch's coupled L2); `compile` would want
        # Keras's. This is what `fit` asks of a compiled model.
        self.optimizer = None
        self.compiled = True

    def call(self, images: Tensor, training: bool | None = None) -> Tensor:
        """Logits of `images` through the Keras network."""
        return self.network(images, training=training)

    def keep_masked(self, mask: Mask) -> None:
        """Hands `mask` to the state; the callback `ApplyMask` calls this when training starts."""
        self.state.keep_masked(self.network, mask)

    def train_step(self, data: Batch) -> dict[str, float]:
        """Forward, loss, backward, SGD, mask. All of it stays on the device."""
        images, labels, *weight = data
        logits = self._forward(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self._label_smoothing)
        (loss * weight[0] if weight else loss).backward()
        self.state.step(self.learning_rate(self.state.steps))
        self._count(logits.detach(), labels, loss.detach())
        return _LOGS

    def test_step(self, data: Batch) -> dict[str, float]:
        """Forward and loss with running statistics."""
        images, labels = data
        logits = self._lowered(images, False)
        self._count(logits, labels, F.cross_entropy(logits, labels))
        return _LOGS

    @torch.no_grad()
    def measure(self, batches: DataAdapter) -> dict[str, float]:
        """Mean loss and accuracy over one pass of `batches`, beside what `fit` evaluates."""
        self.reset_metrics()
        batches.on_epoch_begin()
        for data in batches.get_torch_dataloader():
            self.test_step(data)
        measured = self.get_metrics_result()
        self.reset_metrics()
        return measured

    def _count(self, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        correct = (logits.argmax(1) == labels).sum()
        self._totals += torch.stack([loss.double() * len(labels), correct.double()])
        object.__setattr__(self, "_seen", self._seen + len(labels))

    def reset_metrics(self) -> None:
        """Starts a new mean."""
        self._totals.zero_()
        object.__setattr__(self, "_seen", 0)

    def get_metrics_result(self) -> dict[str, float]:
        """Mean loss and accuracy since the last reset: the one read from the device per pass."""
        counted = [*self._totals.tolist(), self._seen]
        loss, correct, seen = self._others.sums(counted) if self._others else counted
        return {"loss": loss / max(seen, 1), "accuracy": correct / max(seen, 1)}
