"""Keras callbacks of a run: records, checkpoints, rewind weights, and reasons to stop."""

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import torch

from jackpot import artifacts
from jackpot.contract import Metric
from trainer.training.state import TrainingState
from trainer.training.stepper import Member


class Diverged(Exception):
    """The loss is no longer a finite number."""


class Interrupted(Exception):
    """Someone asked the run to stop."""


class Record(keras.callbacks.Callback):
    """Reports the metrics of each epoch, and stops a run that has diverged.

    Args:
        on_epoch: called with the 1-based epoch and its metrics.
        learning_rate: rate of a step.
        steps_per_epoch: steps of one epoch.

    Attributes:
        training_s, evaluation_s: seconds so far, shared with the runs at its side.
        epochs: epochs in that time.
    """

    def __init__(
        self,
        on_epoch: Callable[[int, dict[str, float]], None],
        learning_rate: Callable[[int], float],
        steps_per_epoch: int,
    ) -> None:
        super().__init__()
        self._on_epoch, self._learning_rate = on_epoch, learning_rate
        self._steps = steps_per_epoch
        self.training_s = self.evaluation_s = 0.0
        self.epochs = 0
        self._began = 0.0
        self._evaluating: float | None = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts the clock."""
        self._began = time.perf_counter()

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Training of the epoch is over: `fit` has just read its totals from the device."""
        self._evaluating = time.perf_counter()

    def stop_clock(self) -> None:
        """Says that the epoch is trained and evaluated: what follows is writing."""
        now = time.perf_counter()
        trained = now if self._evaluating is None else self._evaluating
        self.training_s += trained - self._began
        self.evaluation_s += now - trained
        self._evaluating = None
        self.epochs += 1

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Records the epoch; the learning rate is that of its last step."""
        values = {name: float(value) for name, value in (logs or {}).items()}
        values["learning_rate"] = self._learning_rate((epoch + 1) * self._steps - 1)
        self._on_epoch(epoch + 1, values)
        for name in ("loss", "val_loss"):
            if not math.isfinite(values.get(name, 0.0)):
                raise Diverged(f"{name} became {values[name]} in epoch {epoch + 1}")


@dataclass
class Progress:
    """The progress of one of the runs that are stepped side by side, and its own callbacks.

    Attributes:
        member: its network and state.
        callbacks: called with the run's own epoch and numbers.
        epoch: how many epochs of its schedule are done.
        epochs: epochs of its whole schedule.
        evaluated: 1-based epochs after which it is evaluated.
        failure: why it has failed; the others go on without it.
    """

    member: Member
    callbacks: Sequence[keras.callbacks.Callback]
    epoch: int
    epochs: int
    evaluated: Collection[int]
    failure: Diverged | None = None


class ForEach(keras.callbacks.Callback):
    """Calls each run's own callbacks, at its own epoch and with its own numbers.

    Training stops after an epoch in which a run has failed.

    Args:
        runs: in the order of the model's members.
        heldout: measures each member on held-out images; None if none are held out. It is called
            wherever test images are evaluated, whoever asked for it.
    """

    def __init__(
        self, runs: Sequence[Progress], heldout: Callable[[], list[dict[str, float]]] | None
    ) -> None:
        super().__init__()
        self._runs, self._heldout = runs, heldout
        self._trained: list[dict[str, float]] | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Tells each callback its run's network."""
        for run in self._runs:
            for callback in run.callbacks:
                callback.set_model(run.member)
                callback.set_params({"epochs": run.epochs})
                callback.on_train_begin()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """The epoch, as each run counts it."""
        for run in self._runs:
            for callback in run.callbacks:
                callback.on_epoch_begin(run.epoch)

    def on_test_begin(self, logs: dict | None = None) -> None:
        """`fit` has just read the numbers of training."""
        self._trained = self.model.results
        for run in self._runs:
            for callback in run.callbacks:
                callback.on_test_begin()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Each run's numbers; of test and held-out images only where the run asks for them."""
        trained, tested = self._trained or self.model.results, self.model.results
        evaluated, self._trained = self._trained is not None, None
        heldout = self._heldout() if self._heldout and evaluated else None
        for callback in (callback for run in self._runs for callback in run.callbacks):
            if isinstance(callback, Record):
                callback.stop_clock()
        for index, run in enumerate(self._runs):
            own, numbers = run.epoch, dict(trained[index])
            run.epoch += 1
            if run.epoch in run.evaluated:
                numbers |= {f"val_{name}": value for name, value in tested[index].items()}
                if heldout:
                    numbers |= {f"heldout_{n}": value for n, value in heldout[index].items()}
            try:
                for callback in run.callbacks:
                    callback.on_epoch_end(own, dict(numbers))
            except Diverged as failure:
                run.failure = failure
                self.model.stop_training = True


class KeepBestWeights(keras.callbacks.Callback):
    """Calls `keep` after each epoch that is better than all before it.

    Args:
        keep: called after such an epoch.
        earlier: the metrics of the epochs before this process resumed the run.
    """

    def __init__(self, keep: Callable[[], None], earlier: Iterable[Mapping[str, float]]) -> None:
        super().__init__()
        self._keep = keep
        self._best = max(map(merit, earlier), default=-math.inf)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Keeps the weights if this was the best epoch so far."""
        if merit(logs or {}) > self._best:
            self._best = merit(logs or {})
            self._keep()


def merit(metrics: Mapping[str, float]) -> float:
    """What makes an epoch the best: held-out accuracy; without it, test accuracy."""
    return metrics.get(Metric.HELDOUT_ACCURACY, metrics.get(Metric.VAL_ACCURACY, -math.inf))


class KeepRewindWeights(keras.callbacks.Callback):
    """Hands on the weights after one epoch, for weight rewinding (appendix D)."""

    def __init__(self, epoch: int, keep: Callable[[], None]) -> None:
        super().__init__()
        self._epoch, self._keep = epoch, keep

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Keeps the weights if this was the epoch."""
        if epoch + 1 == self._epoch:
            self._keep()


class KeepTrajectory(keras.callbacks.Callback):
    """Hands on the weights every few epochs and after the last, with the number of epochs done."""

    def __init__(self, every: int, keep: Callable[[int], None]) -> None:
        super().__init__()
        self._every, self._keep = every, keep

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Keeps the weights if it is time."""
        done = epoch + 1
        if done % self._every == 0 or done == self.params["epochs"]:
            self._keep(done)


class StopWhenAsked(keras.callbacks.Callback):
    """Leaves `fit` between two steps once `asked` is set."""

    def __init__(self, asked: threading.Event) -> None:
        super().__init__()
        self._asked = asked

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Raises `Interrupted` if asked to."""
        if self._asked.is_set():
            raise Interrupted


class SeedEpochs(keras.callbacks.Callback):
    """Seeds torch's global generator per epoch, so that dropout replays from any epoch."""

    def __init__(self, seed: Callable[[int], int]) -> None:
        super().__init__()
        self._seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Seeds the epoch."""
        torch.manual_seed(self._seed(epoch))


class Checkpoint(keras.callbacks.Callback):
    """Writes the whole training state to one file, atomically, every few epochs.

    Args:
        path: the file.
        state: what to write.
        key: run key; a checkpoint of another run is rejected.
        every: epochs between checkpoints. None is written after the last epoch: the run's
            artifacts follow at once.
    """

    def __init__(self, path: Path, state: TrainingState, key: str, every: int) -> None:
        super().__init__()
        self._path, self._state, self._key, self._every = path, state, key, every

    def resume(self) -> int:
        """Loads the checkpoint into the state and returns the epochs done; 0 if there is none.

        Raises:
            ArtifactError: the file is damaged.
        """
        if not self._path.exists():
            return 0
        arrays, metadata = artifacts.read(self._path)
        if metadata.get("key") != self._key:
            raise artifacts.ArtifactError(f"{self._path}: belongs to run {metadata.get('key')}")
        self._state.load(arrays, int(metadata["steps"]))
        # The same bits as an undisturbed run need the same number of threads.
        torch.set_num_threads(int(metadata["threads"]))
        return int(metadata["epoch"])

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Writes the checkpoint if it is due."""
        done = epoch + 1
        if done % self._every == 0 and done < self.params["epochs"]:
            metadata = {
                "key": self._key,
                "epoch": str(done),
                "steps": str(self._state.steps),
                "threads": str(torch.get_num_threads()),
            }
            artifacts.write(self._path, self._state.arrays(), metadata)
