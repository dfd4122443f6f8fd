"""The Keras model that `fit` drives: networks stepped side by side through their lowered form."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import torch
import torch.nn.functional as F
from torch import Tensor

from jackpot.artifacts import Mask
from trainer.datasets.batches import Pending
from trainer.datasets.passes import Batch
from trainer.keras_internals import DataAdapter
from trainer.training.data_parallel import Peers
from trainer.training.lowering import in_precision, lower
from trainer.training.recording import Recorder, Recordings
from trainer.training.state import TrainingState

_LOGS = {"loss": float("nan"), "accuracy": float("nan")}
# Steps whose learning rates go to the device at once.
_RATES_AHEAD = 1024


@dataclass(frozen=True)
class Member:
    """One of the networks that a model steps.

    Attributes:
        network: a built Keras model that returns logits, shape (batch, classes).
        state: the training state of that network.
        learning_rate: gives the rate of a step, counted from epoch 0 of the schedule.
    """

    network: keras.Model
    state: TrainingState
    learning_rate: Callable[[int], float]

    def keep_masked(self, mask: Mask) -> None:
        """Hands `mask` to the state; the callback `ApplyMask` calls this when training starts."""
        self.state.keep_masked(self.network, mask)


class SteppedModel(keras.Model):
    """Networks of one structure with their training states, as a Keras model.

    `fit`, `evaluate` and Keras callbacks work as usual; the numbers they see are those of the end
    of an epoch, means over the members. Within an epoch nothing is read back from the device, so
    batch logs hold NaN. No member has a part in what another computes.

    Args:
        members: what is stepped.
        label_smoothing: share of the target spread over all classes, in training alone.
        precision: `float32`, or `bfloat16` for convolutions and matrix products.
        others: the processes that train parts of each batch with this one; None: it is alone.
        recorder: records steps whose batches are `Pending`; None: each step is run as it is.

    Attributes:
        results: loss and accuracy of each member, as last read from the device.

    Raises:
        CannotLower: several members that cannot be stepped together.
    """

    def __init__(
        self,
        *members: Member,
        label_smoothing: float = 0.0,
        precision: str = "float32",
        others: Peers | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        first = members[0]
        super().__init__(name=f"stepped_{first.network.name.replace('-', '_')}")
        self.built = True
        lowered = lower(*[member.network for member in members])
        for member in members:
            member.state.follow_layout()
        forward = in_precision(precision, lowered)
        # Past Keras's attribute tracking, which would turn tensors and dicts into its own kinds.
        for name, value in {
            "members": members,
            "results": [dict(_LOGS) for _ in members],
            "_lowered": lowered,
            "_evaluate": forward,
            "_forward": others.forward(forward, first.state.weights.values())
            if others
            else lambda images: forward(images, True),
            "_others": others,
            # What Keras computes may read tensors on the host, which cannot be recorded.
            "_recordings": Recordings(recorder) if recorder and not lowered.by_keras else None,
            "_rates": _RatesOnDevice(members) if recorder else _RatesOnHost(members),
            "_label_smoothing": label_smoothing,
            "_totals": torch.zeros(2, len(members), dtype=torch.float64, device=first.state.device),
            "_seen": 0,
        }.items():
            object.__setattr__(self, name, value)
        # The optimizer and the loss are the step's own (torch's coupled L2); `compile` would want
        # Keras's. This is what `fit` asks of a compiled model.
        self.optimizer = None
        self.compiled = True

    def call(self, images: Tensor, training: bool | None = None) -> Tensor:
        """Logits of `images` through the first member's Keras network."""
        return self.members[0].network(images, training=training)

    def train_step(self, data: Batch | Pending) -> dict[str, float]:
        """Forward, loss, backward, SGD, mask. All of it stays on the device.

        Args:
            data: images, shape (batch, height, width, K · channels), and labels, shape (batch, K)
                or, of one member, (batch,); or such a batch that the step has yet to make.
        """
        self._rates.look_ahead()
        self._run("train", self._train, data)
        for member in self.members:
            member.state.steps += 1
        return _LOGS

    def test_step(self, data: Batch | Pending) -> dict[str, float]:
        """Forward and loss with running statistics, of all members on the same images."""
        self._run("test", self._test, data)
        return _LOGS

    def _run(self, name: str, step: Callable[[Batch], None], data: Batch | Pending) -> None:
        """Runs a step on a batch; one that is yet to be made is made and stepped on as recorded."""
        if not isinstance(data, Pending):
            step(data)
            object.__setattr__(self, "_seen", self._seen + len(data[1]))
            return
        made, count = data.batches, data.count
        if self._recordings is None:
            step(made.make(count))
        else:
            self._recordings((name, made, count), lambda: step(made.make(count)))
        object.__setattr__(self, "_seen", self._seen + count)

    def _train(self, batch: Batch) -> None:
        # First, not last: a recording that failed may have left gradients behind.
        if len(self.members) > 1:
            self._lowered.zero_gradients()
        else:
            self.members[0].state.drop_gradients()
        images, labels, *weight = batch
        logits, labels = self._each(self._forward(images), labels)
        losses = self._mean_losses(logits, labels, self._label_smoothing)
        loss = losses.sum()
        (loss * weight[0] if weight else loss).backward()
        for member, rate in zip(self.members, self._rates.of_this_step(), strict=True):
            member.state.step(rate)
        self._count(logits.detach(), labels, losses.detach())

    def _test(self, batch: Batch) -> None:
        images, labels = batch[0], batch[1]
        logits, labels = self._each(self._evaluate(images, False), labels)
        self._count(logits, labels, self._mean_losses(logits, labels))

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
        for name in ("_recordings", "_rates", "_lowered", "_evaluate", "_forward", "_totals"):
            object.__setattr__(self, name, None)

    def _each(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits as (batch, K, classes) and labels as (batch, K)."""
        count = len(self.members)
        if labels.ndim == 1:
            labels = labels[:, None].expand(-1, count)
        return logits.unflatten(1, (count, -1)), labels

    def _mean_losses(self, logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Each member's mean loss over the batch, shape (K,)."""
        losses = F.cross_entropy(
            logits.flatten(0, 1),
            labels.flatten(),
            reduction="none",
            label_smoothing=label_smoothing,
        )
        return losses.view(labels.shape).mean(0)

    def _count(self, logits: Tensor, labels: Tensor, losses: Tensor) -> None:
        correct = (logits.argmax(2) == labels).sum(0)
        self._totals.add_(torch.stack([losses.double() * len(labels), correct.double()]))

    def reset_metrics(self) -> None:
        """Starts a new mean."""
        self._totals.zero_()
        object.__setattr__(self, "_seen", 0)

    def get_metrics_result(self) -> dict[str, float]:
        """Mean loss and accuracy since the last reset: the one read from the device per pass."""
        counted = [*self._totals.flatten().tolist(), self._seen]
        *totals, seen = self._others.sums(counted) if self._others else counted
        means = [total / max(seen, 1) for total in totals]
        count = len(self.members)
        results = [
            {"loss": loss, "accuracy": accuracy}
            for loss, accuracy in zip(means[:count], means[count:], strict=True)
        ]
        object.__setattr__(self, "results", results)
        return {name: sum(result[name] for result in results) / count for name in _LOGS}


class _RatesOnHost:
    """Each member's learning rate of the step that it is at."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members

    def look_ahead(self) -> None:
        """Nothing to prepare: numbers are at hand."""

    def of_this_step(self) -> list[float]:
        """One rate for each member."""
        return [member.learning_rate(member.state.steps) for member in self._members]


class _RatesOnDevice:
    """The same as tensors: the rates of many steps lie on the device, and each step takes its own.

    Taking them is part of what is recorded.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self._members, self._left = members, 0
        device = members[0].state.device
        self._ahead = torch.zeros(_RATES_AHEAD, len(members), device=device)
        self._position = torch.zeros(1, dtype=torch.int64, device=device)
        self._now = torch.zeros(len(members), device=device)
        self._each = self._now.unbind()

    def look_ahead(self) -> None:
        """Before each step: brings the next steps' rates to the device if none are left there."""
        if self._left == 0:
            rates = [
                [member.learning_rate(member.state.steps + ahead) for member in self._members]
                for ahead in range(_RATES_AHEAD)
            ]
            # From pinned memory, and not waited for: the host goes on.
            pinned = self._ahead.device.type == "cuda"
            self._ahead.copy_(torch.tensor(rates, pin_memory=pinned), non_blocking=True)
            self._position.zero_()
            self._left = _RATES_AHEAD
        self._left -= 1

    def of_this_step(self) -> Sequence[Tensor]:
        """One rate for each member, shape (); a step may ask once."""
        torch.index_select(self._ahead, 0, self._position, out=self._now[None])
        self._position += 1
        return self._each
