"""Trains runs: parents' artifacts → network, weights, mask → fit → artifacts.

Only this module calls `fit`.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import keras
import torch

from jackpot import artifacts
from jackpot.contract import (
    Artifact,
    Metric,
    Tag,
    rewind_artifact,
    trajectory_artifact,
)
from trainer import datasets
from trainer.datasets import Dataset, Split, Stream
from trainer.datasets.batches import (
    DeviceBatches,
    GroupBatches,
    batches,
    evaluation_batch,
    recordable,
)
from trainer.datasets.passes import WHOLE, Part
from trainer.execution import images, start
from trainer.keras_internals import DataAdapter, train_in_float32
from trainer.networks import small_dense
from trainer.networks.residual import has_residuals
from trainer.pruning.paths import active
from trainer.store.journal import RunFolder
from trainer.store.shared import SharedFiles
from trainer.store.ticket import fill
from trainer.study import schedule
from trainer.study.plan import RunSpec
from trainer.study.seeds import Purpose, derive
from trainer.training import recording
from trainer.training.callbacks import (
    Checkpoint,
    ForEach,
    KeepBestWeights,
    KeepRewindWeights,
    KeepTrajectory,
    Progress,
    Record,
    SeedEpochs,
    StopWhenAsked,
    merit,
)
from trainer.training.data_parallel import AverageStatistics, Peers, started_peers
from trainer.training.lowering import CannotLower
from trainer.training.process import device_name, keep_freed_memory, prepare_process
from trainer.training.state import TrainingState
from trainer.training.stepped import Member, SteppedModel

if TYPE_CHECKING:
    from jackpot.artifacts import Arrays, Mask

log = logging.getLogger(__name__)
Fetch = Callable[[RunSpec, str, Path], Path]
"""Gives a local file of a parent's artifact: (parent, artifact name, folder to download into)."""


@dataclass(frozen=True)
class Seconds:
    """Where a run's time went, in seconds."""

    training: float
    evaluation: float


class Run:
    """A run from before its first step, or from its last checkpoint, to after its last.

    Args:
        spec: what to train.
        dataset: the dataset (or subset) that `spec` names.
        folder: takes metrics, artifacts and checkpoints; its start event is written already.
        fetch: gives parents' artifacts.
        shared: what other runs need as well.
        checkpoint_every: epochs between checkpoints.
        trajectory_every: epochs between weights to keep for a loss landscape; None keeps none.
        on_begin: called with the number of the run's epochs that its checkpoint has.
        on_epoch: called with each epoch (1-based, counted along the schedule) and its metrics.
        say: called with messages for the user, such as about a checkpoint that cannot be used.

    Attributes:
        progress: how far it is, and why it has failed if it has.
        active: which of its mask's weights are on a path; None without a mask, and of networks of
            which that is not known.

    Raises:
        ArtifactError, MaskError: a parent's artifact is damaged or does not fit.
        OSError: the folder cannot be written.
    """

    def __init__(
        self,
        spec: RunSpec,
        dataset: Dataset,
        folder: RunFolder,
        fetch: Fetch,
        shared: SharedFiles,
        *,
        checkpoint_every: int = 1,
        trajectory_every: int | None = None,
        on_begin: Callable[[int], None] = lambda epochs_done: None,
        on_epoch: Callable[[int, dict[str, float]], None] = lambda epoch, metrics: None,
        say: Callable[[str], None] = print,
    ) -> None:
        images.check(spec, dataset)
        prepare_process(spec.training.devices_per_run)
        with TemporaryDirectory(prefix="jackpot-") as downloads:
            ticket = start.ticket(
                spec, dataset, lambda parent, name: fetch(parent, name, Path(downloads)), shared
            )
        ticket = replace(ticket, mask=_recorded_mask(folder) or ticket.mask)
        self.active = active(ticket.network, ticket.mask) if ticket.mask else None
        if self.active and self.active.collapsed:
            say(f"{spec.name}: {self.active.warning}")
        fill(ticket.network, ticket.initial, "the initial weights")
        self.spec, self.ticket, self.folder = spec, ticket, folder
        self._dataset, self._about = dataset, _about(spec, dataset, ticket)
        if not folder.checkpoint.exists():
            _write_ticket(folder, ticket, self._about)

        self._widest = 1
        self.state = _fresh(spec, ticket.network)
        steps = _steps_per_epoch(spec, dataset)
        self.state.steps = spec.first_epoch * steps
        checkpoint = Checkpoint(folder.checkpoint, self.state, spec.key, checkpoint_every)
        try:
            first_epoch = checkpoint.resume() or spec.first_epoch
        except artifacts.ArtifactError as error:
            say(f"{spec.name}: its checkpoint cannot be used, starting it anew ({error})")
            first_epoch = spec.first_epoch
        if ticket.mask is not None:
            self.state.keep_masked(ticket.mask)
        on_begin(first_epoch - spec.first_epoch)

        def record_epoch(epoch: int, metrics: dict[str, float]) -> None:
            folder.metrics(epoch, metrics)
            on_epoch(epoch, metrics)

        self._record = Record(record_epoch, _rates(spec, dataset), steps)
        recorders: list[keras.callbacks.Callback] = []
        if spec.mask_epoch == "best":
            earlier = [e["values"] for e in folder.history() if e["step"] <= first_epoch]
            recorders.append(KeepBestWeights(lambda: self._write(Artifact.WEIGHTS_BEST), earlier))
        if spec.setting.is_pretraining:
            rewind = spec.training.rewind
            recorders.append(KeepRewindWeights(rewind, lambda: self._keep(rewind_artifact(rewind))))
        if trajectory_every is not None:
            recorders.append(
                KeepTrajectory(
                    trajectory_every, lambda epoch: self._keep(trajectory_artifact(epoch))
                )
            )
        recorders += [self._record, checkpoint]
        member = _member(spec, dataset, ticket.network, self.state)
        self.progress = _progress(spec, member, first_epoch, recorders)

    @property
    def done(self) -> bool:
        """Whether all its epochs are trained."""
        return self.progress.epoch >= self.spec.training.epochs

    def job(self) -> "_Job":
        """What other processes need to train it with this one."""
        channels, state = dict(self.ticket.channels), self.state
        return _Job(
            self.spec, channels, self.ticket.mask, state.arrays(), state.steps, self.progress.epoch
        )

    def shared_by(self, runs: int) -> None:
        """Says how many runs are stepped from now on, this one included."""
        self._widest = max(self._widest, runs)

    def release(self) -> None:
        """Makes its network available to later runs."""
        start.give_back(self.spec, self._dataset, self.ticket)

    def finish(self) -> Seconds:
        """Records what a run leaves once it is done. Raises: OSError."""
        self._keep(Artifact.WEIGHTS_FINAL)
        if self.spec.mask_epoch == "best":
            self.folder.artifact_written(Artifact.WEIGHTS_BEST)
        record, network = self._record, self.ticket.network
        summary = _summary(
            self.ticket, start.values(network), self.folder, record, len(self._dataset.train)
        )
        if self.active:
            summary[Metric.EFFECTIVE_SPARSITY] = self.active.sparsity
            summary[Metric.COLLAPSED_LAYERS] = len(self.active.collapsed)
        tags: dict[str, str] = {
            Tag.DEVICE: device_name(),
            Tag.THREADS: str(torch.get_num_threads()),
            Tag.DATASET_SHA256: self._dataset.digest,
            Tag.TEST_SET_SIZE: str(len(self._dataset.test)),
        }
        if self._widest > 1:
            tags[Tag.FUSED] = str(self._widest)
        residual = has_residuals(network)
        if residual is not None:
            tags[Tag.RESIDUAL] = str(residual).lower()
        self.folder.summary(self.spec.training.epochs, summary, tags)
        return Seconds(record.training_s, record.evaluation_s)

    def _write(self, name: str) -> None:
        values = start.values(self.ticket.network)
        artifacts.write_weights(self.folder.artifact(name), values, self._about, self.ticket.mask)

    def _keep(self, name: str) -> None:
        self._write(name)
        self.folder.artifact_written(name)


def advance(runs: Sequence[Run], dataset: Dataset, stop: threading.Event) -> None:
    """Trains runs side by side until the first of them is done or has failed.

    Networks that cannot be stepped side by side are trained one after another: the first alone.

    Args:
        runs: of one structure and recipe (`trainer.study.plan.side_by_side`).
        dataset: of all of them.
        stop: once set, training stops between two steps.

    Raises:
        Interrupted: `stop` was set.
        PeerLost: a process that trains a part of each batch died.
        OSError: a folder cannot be written.
    """
    if any(run.done for run in runs):
        return
    devices = runs[0].spec.training.devices_per_run

    def stepped_together() -> None:
        for run in runs:
            run.shared_by(len(runs))

    try:
        job = runs[0].job() if devices > 1 else None
        with started_peers(devices, _follow, job, stop) as others:
            specs, progress = [run.spec for run in runs], [run.progress for run in runs]
            _fit(specs, progress, dataset, others, stop, stepped_together)
            if others and runs[0].progress.failure:
                raise runs[0].progress.failure  # The other processes are not to wait for it.
    except CannotLower as reason:
        log.warning("runs are trained one after another, not side by side: %s", reason)
        advance(runs[:1], dataset, stop)


@dataclass(frozen=True)
class _Job:
    """What the other processes of a run need to train it with the first one."""

    spec: RunSpec
    channels: Mapping[int, int]
    mask: "Mask | None"
    state: "Arrays"
    steps: int
    first_epoch: int


def _follow(others: Peers, job: _Job) -> None:
    """Trains a part of each batch of a run that another process records."""
    keep_freed_memory()
    train_in_float32()
    spec, dataset = job.spec, datasets.as_chosen(job.spec.dataset)
    images.check(spec, dataset)
    network = start.build(spec, dataset, job.channels, 0)
    state = _fresh(spec, network)
    state.load(job.state, job.steps)
    if job.mask is not None:
        state.keep_masked(job.mask)
    member = _member(spec, dataset, network, state)
    progress = _progress(spec, member, job.first_epoch, [])
    _fit([spec], [progress], dataset, others, threading.Event())


def _fresh(spec: RunSpec, network: keras.Model) -> TrainingState:
    training = spec.training
    return TrainingState.fresh(network, training.optimizer, training.decay_batch_norm)


def _member(spec: RunSpec, dataset: Dataset, network: keras.Model, state: TrainingState) -> Member:
    shares = schedule.mixup_shares(
        spec.training, spec.seed, spec.trial, _steps_per_epoch(spec, dataset)
    )
    return Member(network, state, _rates(spec, dataset), shares)


def _progress(
    spec: RunSpec, member: Member, epoch: int, recorders: list[keras.callbacks.Callback]
) -> Progress:
    training = spec.training
    return Progress(member, recorders, epoch, training.epochs, frozenset(training.evaluated_epochs))


def _fit(
    specs: Sequence[RunSpec],
    runs: Sequence[Progress],
    dataset: Dataset,
    others: Peers | None,
    stop: threading.Event,
    on_begin: Callable[[], None] = lambda: None,
) -> None:
    """Trains from where each run is until the first of them is done.

    `on_begin` is called once it is known that they can be stepped together. Raises: CannotLower.
    """
    training, first = specs[0].training, runs[0].epoch
    device, part = runs[0].member.state.device, others.part if others else WHOLE

    def evaluated(split: Split | Stream) -> DataAdapter:
        own, at_once = part.of(len(split)), evaluation_batch(dataset.source, len(runs), device)
        return batches(split.part(own.start, own.stop), dataset.source, at_once, device)

    trained = _training_batches(specs, runs, dataset, device, part)
    tests = evaluated(dataset.test)
    heldout = None if dataset.heldout is None else evaluated(dataset.heldout)
    recorder = recording.recorder(device)
    if recorder and (others or recordable(trained) is trained):
        reason = "several devices share each batch" if others else "images are on the host"
        log.info("steps are launched kernel by kernel: %s", reason)
        recorder = None
    if recorder:
        trained, tests = recordable(trained), recordable(tests)
        heldout = recordable(heldout) if heldout else None
    model = SteppedModel(
        *[run.member for run in runs],
        label_smoothing=training.label_smoothing,
        precision=training.precision,
        others=others,
        recorder=recorder,
    )
    on_begin()
    dropout = _epoch_seed(specs[0])
    # Each process drops other units than the rest (where a network has dropout).
    callbacks: list[keras.callbacks.Callback] = [SeedEpochs(lambda e: dropout(e) + part.index)]
    if others:
        callbacks.append(AverageStatistics(others, runs[0].member.state.statistics.values()))
    callbacks.append(ForEach(runs, (lambda: model.measure(heldout)) if heldout else None))
    callbacks.append(StopWhenAsked(stop))
    last = first + min(run.epochs - run.epoch for run in runs)
    try:
        model.fit(
            trained,
            validation_data=tests,
            validation_freq=[
                epoch
                for epoch in range(first + 1, last + 1)
                if any(epoch - first + run.epoch in run.evaluated for run in runs)
            ],
            initial_epoch=first,
            epochs=last,
            callbacks=callbacks,
            verbose=0,
        )
    finally:
        model.release()


def _training_batches(
    specs: Sequence[RunSpec],
    runs: Sequence[Progress],
    dataset: Dataset,
    device: torch.device,
    part: Part,
) -> DataAdapter:
    """The training images of each run, in its own order, from its own epoch on."""
    first = batches(
        dataset.train,
        dataset.source,
        specs[0].training.batch_size,
        device,
        epoch_seed=_epoch_seed(specs[0]),
        first_epoch=runs[0].epoch,
        part=part,
    )
    if len(runs) == 1:
        return first
    if not isinstance(first, DeviceBatches):
        raise TypeError("streamed images are for one run at a time")
    # Runs of one trial at one epoch see the same batches, but for those in another order.
    seen = [
        (spec.seed, spec.trial, spec.setting.other_order, run.epoch)
        for spec, run in zip(specs, runs, strict=True)
    ]
    orders = list(dict.fromkeys(seen))
    firsts = [specs[seen.index(order)] for order in orders]
    return GroupBatches(
        [
            first.again(_epoch_seed(spec), epoch)
            for spec, (*_, epoch) in zip(firsts, orders, strict=True)
        ],
        [orders.index(order) for order in seen],
    )


def _epoch_seed(spec: RunSpec) -> Callable[[int], int]:
    order = Purpose.SECOND_ORDER if spec.setting.other_order else Purpose.DATA_ORDER
    return lambda epoch: derive(spec.seed, spec.trial, order, epoch)


def _steps_per_epoch(spec: RunSpec, dataset: Dataset) -> int:
    return -(-len(dataset.train) // spec.training.batch_size)


def _rates(spec: RunSpec, dataset: Dataset) -> Callable[[int], float]:
    """Learning rate of a step, counted from epoch 0 of the schedule."""
    steps = _steps_per_epoch(spec, dataset)
    return schedule.learning_rates(spec.training, spec.learning_rate, steps)


def _recorded_mask(folder: RunFolder) -> "Mask | None":
    """The recorded mask of a resumed run, whatever has happened to its parent since."""
    path = folder.artifact(Artifact.TICKET_MASK)
    if not (folder.checkpoint.exists() and path.exists()):
        return None
    mask, _ = artifacts.read_mask(path)
    return mask


def _about(spec: RunSpec, dataset: Dataset, ticket: start.Ticket) -> dict[str, str]:
    """Metadata that makes a file of weights readable by itself (`trainer.store.ticket`)."""
    return {
        "network": spec.network,
        "network_revision": str(spec.network_revision),
        "input_shape": "x".join(map(str, dataset.source.input_shape)),
        "classes": str(dataset.source.classes),
        "channels": json.dumps({str(own): new for own, new in ticket.channels.items()}),
        "run_key": spec.key,
        "run_name": spec.name,
    }


def _write_ticket(folder: RunFolder, ticket: start.Ticket, about: dict[str, str]) -> None:
    initial = folder.artifact(Artifact.TICKET_INITIAL)
    artifacts.write_weights(initial, ticket.initial, about, ticket.mask)
    folder.artifact_written(Artifact.TICKET_INITIAL)
    if ticket.mask is not None:
        artifacts.write_mask(folder.artifact(Artifact.TICKET_MASK), ticket.mask, about)
        folder.artifact_written(Artifact.TICKET_MASK)


def _summary(
    ticket: start.Ticket, final: "Arrays", folder: RunFolder, record: Record, images: int
) -> dict[str, float]:
    trainable = small_dense.trainable_parameters(ticket.network)
    mask = ticket.mask or {}
    pruned = sum(int((final[path] == 0).sum()) for path in mask)
    prunable = sum(entry.size for entry in mask.values())
    best = max(folder.history(), key=lambda event: (merit(event["values"]), -event["step"]))
    values: dict[str, float] = {
        # What is left to train: a pruned weight is no parameter.
        Metric.TRAINABLE_PARAMETERS: trainable
        - sum(entry.size - int(entry.sum()) for entry in mask.values()),
        Metric.MEASURED_SPARSITY: pruned / prunable if prunable else 0.0,
        Metric.BEST_VAL_ACCURACY: best["values"][Metric.VAL_ACCURACY],
        Metric.BEST_EPOCH: best["step"],
    }
    if Metric.HELDOUT_ACCURACY in best["values"]:
        values[Metric.BEST_HELDOUT_ACCURACY] = best["values"][Metric.HELDOUT_ACCURACY]
    if ticket.target_parameters is not None:
        values[Metric.TARGET_PARAMETERS] = ticket.target_parameters
    if record.training_s:
        values[Metric.IMAGES_PER_SECOND] = images * record.epochs / record.training_s
    return values
