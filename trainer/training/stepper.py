"""Steps networks side by side through their lowered form: all the work of a step, on the device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.datasets.batches import Pending
from trainer.datasets.passes import Batch
from trainer.training import per_step, verified
from trainer.training.data_parallel import Peers
from trainer.training.lowering import AsAWhole, Lowered, in_precision, lower
from trainer.training.recording import Recorder, Recordings
from trainer.training.state import TrainingState


@dataclass(frozen=True)
class Member:
    """One of the networks that are stepped side by side.

    Attributes:
        network: a built Keras model that returns logits, shape (batch, classes).
        state: the training state of that network, which owns its mask.
        learning_rate: gives the rate of a step, counted from epoch 0 of the schedule.
        mixup: gives the share of each image that is its own in a step, the rest being another
            image of the batch (Zhang et al. 2018); None: all. Members mix all or none.
    """

    network: keras.Model
    state: TrainingState
    learning_rate: per_step.Number
    mixup: per_step.Number | None = None


class Stepper:
    """Steps networks of one structure. No member affects what another computes.

    Args:
        members: what is stepped.
        label_smoothing: share of the target spread over all classes, in training alone.
        precision: `float32`, or `bfloat16` for convolutions and matrix products.
        others: the processes that train parts of each batch with this one; None: it is alone.
        recorder: records steps whose batches are `Pending`; None: each step is run as it is.

    Raises:
        CannotLower: several members that cannot be stepped together.
    """

    def __init__(
        self,
        members: Sequence[Member],
        label_smoothing: float,
        precision: str,
        others: Peers | None,
        recorder: Recorder | None,
    ) -> None:
        self.members, self._others = members, others
        first = members[0].state
        self.lowered = lowered = _checked([member.network for member in members])
        for member in members:
            member.state.follow_layout()
        self._evaluate = forward = in_precision(precision, lowered)
        self._forward = (
            others.forward(forward, first.weights.values())
            if others
            else lambda images: forward(images, True)
        )
        # What Keras computes may read tensors on the host, which cannot be recorded.
        recorded = recorder is not None and not lowered.by_keras
        self._recordings = Recordings(recorder) if recorder and recorded else None
        numbers = per_step.OnDevice if recorder else per_step.OnHost
        states = [member.state for member in members]
        self._rates = numbers(states, [member.learning_rate for member in members])
        mixing = [member.mixup for member in members if member.mixup]
        # Always on the device: without a recording too, a step does not wait for a copy of them.
        self._shares = per_step.OnDevice(states, mixing) if mixing else None
        self._label_smoothing = label_smoothing
        self._totals = torch.zeros(2, len(members), dtype=torch.float64, device=first.device)
        self._seen = 0

    def train(self, data: Batch | Pending) -> None:
        """Forward, loss, backward, optimizer, mask. All of it stays on the device.

        Args:
            data: images, shape (batch, height, width, K · channels), and labels, shape (batch, K)
                or, of one member, (batch,); or such a batch that the step has yet to make.
        """
        self._rates.look_ahead()
        if self._shares:
            self._shares.look_ahead()
        self._run("train", self._train, data)
        for member in self.members:
            member.state.steps += 1

    def test(self, data: Batch | Pending) -> None:
        """Forward and loss with running statistics, of all members on the same images."""
        self._run("test", self._test, data)

    def reset(self) -> None:
        """Starts a new mean."""
        self._totals.zero_()
        self._seen = 0

    def results(self) -> list[dict[str, float]]:
        """Each member's mean loss and accuracy since the last reset.

        This reads from the device, and waits for it: once per pass.
        """
        counted = [*self._totals.flatten().tolist(), self._seen]
        *totals, seen = self._others.sums(counted) if self._others else counted
        means = [total / max(seen, 1) for total in totals]
        count = len(self.members)
        return [
            {"loss": loss, "accuracy": accuracy}
            for loss, accuracy in zip(means[:count], means[count:], strict=True)
        ]

    def _run(self, name: str, step: Callable[[Batch], None], data: Batch | Pending) -> None:
        """Runs a step on a batch; a pending one is made within it, by a recording if any."""
        if not isinstance(data, Pending):
            step(data)
            self._seen += len(data[1])
            return
        made, count = data.batches, data.count
        if self._recordings is None:
            step(made.make(count))
        else:
            self._recordings((name, made, count), lambda: step(made.make(count)))
        self._seen += count

    def _train(self, batch: Batch) -> None:
        # First, not last: a recording that failed may have left gradients behind.
        if isinstance(self.lowered, Lowered) and len(self.members) > 1:
            self.lowered.zero_gradients()
        else:
            self.members[0].state.drop_gradients()
        images, labels, *weight = batch
        share = self._share(images)
        if share is not None:
            images = _mixed(images, share)
        logits, labels = self._each(self._forward(images), labels)
        losses = self._mean_losses(logits, labels, self._label_smoothing)
        correct = _correct(logits, labels)
        if share is not None:
            others = labels.flip(0)
            losses = losses.lerp(
                self._mean_losses(logits, others, self._label_smoothing), 1 - share
            )
            correct = correct.lerp(_correct(logits, others), (1 - share).double())
        loss = losses.sum()
        (loss * weight[0] if weight else loss).backward()
        rates: Sequence[float | Tensor] = self._rates.of_this_step()
        for member, rate in zip(self.members, rates, strict=True):
            member.state.step(rate)
        self._count(losses.detach(), correct, len(labels))

    def _share(self, images: Tensor) -> Tensor | None:
        """Each member's share of an image that is its own, shape (K,); None: no mixup."""
        if self._shares is None:
            return None
        return torch.stack(list(self._shares.of_this_step())).to(images.dtype)

    def _test(self, batch: Batch) -> None:
        images, labels = batch[0], batch[1]
        logits, labels = self._each(self._evaluate(images, False), labels)
        self._count(self._mean_losses(logits, labels), _correct(logits, labels), len(labels))

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

    def _count(self, losses: Tensor, correct: Tensor, images: int) -> None:
        self._totals.add_(torch.stack([losses.double() * images, correct]))


def _checked(networks: Sequence[keras.Model]) -> Lowered | AsAWhole:
    """The lowered networks, or Keras's own call of them where that computes something else."""
    lowered = lower(*networks)
    wrong = verified.once(lowered, networks) if isinstance(lowered, Lowered) else None
    if wrong is None:
        return lowered
    return lower(*networks, by_keras=f"a network whose lowered form is not Keras's: {wrong}")


def _correct(logits: Tensor, labels: Tensor) -> Tensor:
    """How many of the batch each member gets right, shape (K,)."""
    return (logits.argmax(2) == labels).sum(0).double()


def _mixed(images: Tensor, share: Tensor) -> Tensor:
    """Each image with another of its batch: `share` of its own, the rest of the other.

    The other is the one at the same place in the reversed batch: batches are in random order, so
    that is a random other one.

    Args:
        images: shape (batch, height, width, K · channels).
        share: shape (K,).
    """
    of_channel = share.repeat_interleave(images.shape[-1] // len(share))
    return images.flip(0).lerp(images, of_channel)
