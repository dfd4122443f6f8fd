"""The Keras model that `fit` drives: networks stepped side by side."""

import keras
import torch
from torch import Tensor

from trainer.datasets.batches import Pending
from trainer.datasets.passes import Batch
from trainer.keras_internals import DataAdapter
from trainer.training.data_parallel import Peers
from trainer.training.recording import Recorder
from trainer.training.stepper import Member, Stepper

__all__ = ["Member", "SteppedModel"]
_LOGS = {"loss": float("nan"), "accuracy": float("nan")}


class SteppedModel(keras.Model):
    """Networks of one structure with their training states, as a Keras model.

    `fit`, `evaluate` and Keras callbacks work as usual; the numbers they see are those of the end
    of an epoch, means over the members. Within an epoch nothing is read back from the device, so
    batch logs hold NaN.

    Args:
        members, label_smoothing, precision, others, recorder: see `Stepper`.

    Attributes:
        stepper: does the work.
        results: loss and accuracy of each member, as last read from the device.

    Raises:
        CannotLower: several members that cannot be stepped together.
    """

    stepper: Stepper
    results: list[dict[str, float]]

    def __init__(
        self,
        *members: Member,
        label_smoothing: float = 0.0,
        precision: str = "float32",
        others: Peers | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        super().__init__(name=f"stepped_{members[0].network.name.replace('-', '_')}")
        self.built = True
        stepper = Stepper(members, label_smoothing, precision, others, recorder)
        self._set("stepper", stepper)
        self._set("results", [dict(_LOGS) for _ in members])
        # The optimizer and the loss are the step's own (torch's coupled L2); `compile` would want
        # Keras's. This is what `fit` asks of a compiled model.
        self.optimizer = None
        self.compiled = True

    def _set(self, name: str, value: object) -> None:
        """Sets an attribute past Keras, which would track its tensors and change its dicts."""
        object.__setattr__(self, name, value)

    @property
    def members(self) -> tuple[Member, ...]:
        """What is stepped."""
        return tuple(self.stepper.members)

    def call(self, images: Tensor, training: bool | None = None) -> Tensor:
        """Logits of `images` through the first member's Keras network."""
        return self.members[0].network(images, training=training)

    def train_step(self, data: Batch | Pending) -> dict[str, float]:
        """One training step; see `Stepper.train`."""
        self.stepper.train(data)
        return _LOGS

    def test_step(self, data: Batch | Pending) -> dict[str, float]:
        """One evaluation step; see `Stepper.test`."""
        self.stepper.test(data)
        return _LOGS

    @torch.no_grad()
    def measure(self, batches: DataAdapter) -> list[dict[str, float]]:
        """Each member's mean loss and accuracy over one pass of `batches`."""
        self.reset_metrics()
        batches.on_epoch_begin()
        for data in batches.get_torch_dataloader():
            self.test_step(data)
        self.get_metrics_result()
        self.reset_metrics()
        return self.results

    def release(self) -> None:
        """Lets go of all tensors and recordings: Keras's own cycles would keep them for a while.

        The model is of no use afterwards.
        """
        if len(self.members) == 1:
            self.members[0].state.drop_gradients()
        self._set("stepper", None)

    def reset_metrics(self) -> None:
        """Starts a new mean."""
        self.stepper.reset()

    def get_metrics_result(self) -> dict[str, float]:
        """Mean loss and accuracy since the last reset: the one read from the device per pass."""
        results = self.stepper.results()
        self._set("results", results)
        return {name: sum(result[name] for result in results) / len(results) for name in _LOGS}
