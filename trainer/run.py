"""Trains one run: parents' artifacts → network, weights, mask → fit → artifacts.

Only this module calls `fit`.
"""

import json
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

import keras
import torch
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from mlflow_server import artifacts
from mlflow_server.contract import (
    Artifact,
    Metric,
    Setting,
    Tag,
    rewind_artifact,
    trajectory_artifact,
)
from trainer import datasets, networks, pruning, schedule
from trainer.datasets import Dataset, Split, Stream
from trainer.datasets.batches import WHOLE, batches
from trainer.journal import RunFolder
from trainer.networks import small_dense
from trainer.plan import RunSpec
from trainer.pruning import masks
from trainer.pruning.callbacks import ApplyMask
from trainer.seeds import Purpose, derive
from trainer.ticket import fill
from trainer.training import data_parallel
from trainer.training.callbacks import (
    Checkpoint,
    KeepBestWeights,
    KeepRewindWeights,
    KeepTrajectory,
    MeasureHeldOut,
    Record,
    SeedEpochs,
    StopWhenAsked,
    merit,
)
from trainer.training.data_parallel import AverageStatistics, Together, together
from trainer.training.process import keep_freed_memory, prepare_process
from trainer.training.state import TrainingState
from trainer.training.stepped import SteppedModel

if TYPE_CHECKING:
    from mlflow_server.artifacts import Arrays
    from trainer.config import Study
    from trainer.pruning.masks import Mask

T = TypeVar("T")
EVALUATION_BATCH = 1000
_OWN: Mapping[int, int] = {}
Fetch = Callable[[RunSpec, str, Path], Path]
"""Gives a local file of a parent's artifact: (parent, artifact name, folder to download into)."""


@dataclass(frozen=True)
class Ticket:
    """What a run starts from.

    Attributes:
        network: built, on the training device, its weights not yet set.
        channels: channel counts of a small-dense network by the dense network's; else empty.
        initial: weights and batch-norm statistics by variable path, not yet masked.
        mask: None for dense networks.
        target_parameters: for small-dense networks, the non-zeros they are to match.
    """

    network: keras.Model
    channels: Mapping[int, int]
    initial: "Arrays"
    mask: "Mask | None"
    target_parameters: int | None = None


@dataclass(frozen=True)
class Seconds:
    """Where a run's time went, in seconds."""

    training: float
    evaluation: float


def train(
    spec: RunSpec,
    dataset: Dataset,
    folder: RunFolder,
    fetch: Fetch,
    *,
    checkpoint_every: int = 1,
    trajectory_every: int | None = None,
    on_begin: Callable[[int], None] = lambda epochs_done: None,
    on_epoch: Callable[[int, dict[str, float]], None] = lambda epoch, metrics: None,
    say: Callable[[str], None] = print,
    stop: threading.Event | None = None,
) -> Seconds:
    """Trains one run, or goes on where its last checkpoint left it, and records it in `folder`.

    Args:
        spec: what to train.
        dataset: the dataset (or subset) that `spec` names.
        folder: takes metrics, artifacts and checkpoints; its start event is written already.
        fetch: gives parents' artifacts.
        checkpoint_every: epochs between checkpoints.
        trajectory_every: epochs between weights to keep for a loss landscape; None keeps none.
        on_begin: told how many of the run's epochs its checkpoint has.
        on_epoch: told each epoch (1-based, counted along the schedule) and its metrics.
        say: told what a user should know, such as a checkpoint that cannot be used.
        stop: once set, the run stops between two steps.

    Raises:
        Diverged: the loss is no longer finite.
        Interrupted: `stop` was set.
        PeerLost: a process that trains a part of each batch died.
        ArtifactError, MaskError: a parent's artifact is damaged or does not fit.
        OSError: the folder cannot be written.
    """
    stop = stop or threading.Event()
    prepare_process(spec.training.devices_per_run)
    with TemporaryDirectory(prefix="jackpot-") as downloads:
        ticket = _ticket(spec, dataset, lambda parent, name: fetch(parent, name, Path(downloads)))
    ticket = replace(ticket, mask=_recorded_mask(folder) or ticket.mask)
    network, mask = ticket.network, ticket.mask
    fill(network, ticket.initial, "the initial weights")
    about = _about(spec, dataset, ticket)
    if not folder.checkpoint.exists():
        _write_ticket(folder, ticket, about)

    state = TrainingState.of(network, spec.training.optimizer)
    state.steps = spec.first_epoch * _steps_per_epoch(spec, dataset)
    checkpoint = Checkpoint(folder.checkpoint, state, spec.key, checkpoint_every)
    try:
        first_epoch = checkpoint.resume() or spec.first_epoch
    except artifacts.ArtifactError as error:
        say(f"{spec.name}: its checkpoint cannot be used, starting it anew ({error})")
        first_epoch = spec.first_epoch
    on_begin(first_epoch - spec.first_epoch)

    def record_epoch(epoch: int, metrics: dict[str, float]) -> None:
        folder.metrics(epoch, metrics)
        on_epoch(epoch, metrics)

    def write(name: str) -> None:
        artifacts.write_weights(folder.artifact(name), _values(network), about, mask)

    def keep(name: str) -> None:
        write(name)
        folder.artifact_written(name)

    record = Record(record_epoch, _rates(spec, dataset), _steps_per_epoch(spec, dataset))
    recorders: list[keras.callbacks.Callback] = []
    if spec.mask_epoch == "best":
        earlier = [e["values"] for e in folder.history() if e["step"] <= first_epoch]
        recorders.append(KeepBestWeights(lambda: write(Artifact.WEIGHTS_BEST), earlier))
    if spec.setting == Setting.PRETRAIN:
        rewind = spec.training.rewind
        recorders.append(KeepRewindWeights(rewind, lambda: keep(rewind_artifact(rewind))))
    if trajectory_every is not None:
        recorders.append(
            KeepTrajectory(trajectory_every, lambda epoch: keep(trajectory_artifact(epoch)))
        )
    recorders += [StopWhenAsked(stop), record, checkpoint]
    if first_epoch < spec.training.epochs:
        job = _Job(spec, dict(ticket.channels), mask, state.arrays(), state.steps, first_epoch)
        with together(spec.training.devices_per_run, _follow, job, stop) as others:
            _fit(spec, dataset, network, state, mask, first_epoch, recorders, others)
    keep(Artifact.WEIGHTS_FINAL)
    if spec.mask_epoch == "best":
        folder.artifact_written(Artifact.WEIGHTS_BEST)
    folder.summary(
        spec.training.epochs,
        _summary(ticket, _values(network), folder, record, len(dataset.train)),
        {
            Tag.DEVICE: _device_name(state.device),
            Tag.THREADS: str(torch.get_num_threads()),
            Tag.DATASET_SHA256: dataset.digest,
        },
    )
    folder.checkpoint.unlink(missing_ok=True)
    return Seconds(record.training_s, record.evaluation_s)


@dataclass(frozen=True)
class _Job:
    """What the other processes of a run need to train it with the first one."""

    spec: RunSpec
    channels: Mapping[int, int]
    mask: "Mask | None"
    state: "Arrays"
    steps: int
    first_epoch: int


def _follow(others: Together, job: _Job) -> None:
    """Trains a part of each batch of a run that another process records."""
    keep_freed_memory()
    spec, dataset = job.spec, datasets.as_chosen(job.spec.dataset)
    network = _build(spec, dataset, job.channels, 0)
    state = TrainingState.of(network, spec.training.optimizer)
    state.load(job.state, job.steps)
    _fit(spec, dataset, network, state, job.mask, job.first_epoch, [], others)


def _fit(
    spec: RunSpec,
    dataset: Dataset,
    network: keras.Model,
    state: TrainingState,
    mask: "Mask | None",
    first_epoch: int,
    recorders: list[keras.callbacks.Callback],
    others: Together | None,
) -> None:
    """Trains from `first_epoch` to the end; what `others` share in comes before `recorders`."""
    source, device = dataset.source, state.device
    part = others.part if others else WHOLE

    def epoch_seed(epoch: int) -> int:
        return derive(spec.seed, spec.trial, Purpose.DATA_ORDER, epoch)

    def evaluated(split: Split | Stream) -> DataAdapter:
        own = part.of(len(split))
        return batches(split.part(own.start, own.stop), source, EVALUATION_BATCH, device)

    model = SteppedModel(
        network,
        state,
        _rates(spec, dataset),
        label_smoothing=spec.training.label_smoothing,
        precision=spec.training.precision,
        others=others,
    )
    # Each process drops other units than the rest (where a network has dropout).
    callbacks: list[keras.callbacks.Callback] = [SeedEpochs(lambda e: epoch_seed(e) + part.index)]
    if others:
        callbacks.append(AverageStatistics(others, state.statistics.values()))
    if dataset.heldout is not None:
        heldout = evaluated(dataset.heldout)
        callbacks.append(MeasureHeldOut(lambda: model.measure(heldout)))
    if mask is not None:
        callbacks.append(ApplyMask(mask))
    model.fit(
        batches(
            dataset.train,
            source,
            spec.training.batch_size,
            device,
            epoch_seed=epoch_seed,
            first_epoch=first_epoch,
            part=part,
        ),
        validation_data=evaluated(dataset.test),
        validation_freq=spec.training.evaluated_epochs,
        initial_epoch=first_epoch,
        epochs=spec.training.epochs,
        callbacks=[*callbacks, *recorders],
        verbose=0,
    )


def _steps_per_epoch(spec: RunSpec, dataset: Dataset) -> int:
    return -(-len(dataset.train) // spec.training.batch_size)


def _rates(spec: RunSpec, dataset: Dataset) -> Callable[[int], float]:
    """Learning rate of a step, counted from epoch 0 of the schedule."""
    steps = _steps_per_epoch(spec, dataset)
    return schedule.learning_rates(spec.training, spec.learning_rate, steps)


def _ticket(spec: RunSpec, dataset: Dataset, fetch: Callable[[RunSpec, str], Path]) -> Ticket:
    """Initial weights and mask of a run, as the table of settings has them."""
    mask = _mask(spec, dataset, fetch)

    def built(purpose: Purpose, channels: Mapping[int, int] = _OWN) -> keras.Model:
        seed = derive(spec.seed, spec.trial, purpose)
        return _build(spec, dataset, channels, seed)

    match spec.setting:
        case Setting.PRETRAIN:
            network = built(Purpose.INITIAL_WEIGHTS)
            return Ticket(network, _OWN, _values(network), None)
        case Setting.RR:
            network = built(Purpose.REINITIALISED_WEIGHTS)
            return Ticket(network, _OWN, _values(network), mask)
        case Setting.LT | Setting.WR:
            name = (
                Artifact.TICKET_INITIAL
                if spec.setting == Setting.LT
                else rewind_artifact(spec.training.rewind)
            )
            if spec.init_from is None:
                raise ValueError(f"{spec.name}: the plan gave it no pretraining to start from")
            path = fetch(spec.init_from, name)
            initial, _ = _from_parent(spec.init_from, name, artifacts.read_weights, path)
            return Ticket(built(Purpose.INITIAL_WEIGHTS), _OWN, initial, mask)
        case Setting.SDT:
            target = non_zeros(spec, dataset)
            channels, _ = small_dense.matching_channels(
                spec.network, dataset.source.input_shape, dataset.source.classes, target
            )
            network = built(Purpose.SMALL_DENSE_WEIGHTS, channels)
            return Ticket(network, channels, _values(network), None, target)


def _mask(spec: RunSpec, dataset: Dataset, fetch: Callable[[RunSpec, str], Path]) -> "Mask | None":
    """Prunes the weights of `spec.mask_from`, of its last or best epoch, to the run's sparsity."""
    parent = spec.mask_from
    if parent is None or spec.pruner is None:
        return None
    earlier: Mask | None = None
    if parent.mask_from is not None:
        name = Artifact.TICKET_MASK
        earlier, _ = _from_parent(parent, name, artifacts.read_mask, fetch(parent, name))
    name = Artifact.WEIGHTS_BEST if spec.mask_epoch == "best" else Artifact.WEIGHTS_FINAL
    final, _ = _from_parent(parent, name, artifacts.read_weights, fetch(parent, name), earlier)
    weights = {path: final[path] for path in _pruned_sizes(spec, _shape_only(spec, dataset))}
    return masks.prune(weights, spec.sparsity, pruning.PRUNERS[spec.pruner].score, earlier)


def _from_parent(parent: RunSpec, name: str, read: Callable[..., T], *arguments: object) -> T:
    """What `read` reads of a parent's artifact; its errors name the parent."""
    try:
        return read(*arguments)
    except artifacts.ArtifactError as error:
        raise artifacts.ArtifactError(
            f"'{name}' of its parent '{parent.name}' (run key {parent.key}): {error}. Delete that "
            "run in MLflow and launch the study again to train it anew"
        ) from None


def _recorded_mask(folder: RunFolder) -> "Mask | None":
    """The mask of a run that goes on: its own, whatever has become of its parent since."""
    path = folder.artifact(Artifact.TICKET_MASK)
    if not (folder.checkpoint.exists() and path.exists()):
        return None
    mask, _ = artifacts.read_mask(path)
    return mask


def check(config: "Study", dataset: Dataset) -> None:
    """Sees, before anything is trained, that a study can be.

    Raises:
        ValueError: the network cannot take the images, or `pruning.layers` names none of its
            layers, or an epoch's batches cannot be shared by so many devices.
    """
    source = dataset.source
    with keras.device("meta"):
        built = networks.build(
            config.network, input_shape=source.input_shape, classes=source.classes
        )
    layers = config.pruning.layers
    _pruned_paths(config.network, None if layers == "default" else tuple(layers), built)
    splits = [s for s in (dataset.test, dataset.heldout) if s is not None]
    data_parallel.check(config.training, len(dataset.train), min(map(len, splits)))


def non_zeros(spec: RunSpec, dataset: Dataset) -> int:
    """Non-zero trainable parameters of the network pruned to the run's sparsity."""
    network = _shape_only(spec, dataset)
    prunable = sum(_pruned_sizes(spec, network).values())
    return small_dense.trainable_parameters(network) - masks.pruned_count(prunable, spec.sparsity)


def _shape_only(spec: RunSpec, dataset: Dataset) -> keras.Model:
    """The dense network without memory or draws, to look at its layers."""
    with keras.device("meta"):
        return _build(spec, dataset, _OWN, 0)


def _pruned_sizes(spec: RunSpec, network: keras.Model) -> dict[str, int]:
    """Number of weights of each pruned kernel, in the network's order."""
    sizes = {v.path: math.prod(v.shape) for v in network.variables}
    return {path: sizes[path] for path in _pruned_paths(spec.network, spec.layers, network)}


def _pruned_paths(name: str, layers: tuple[str, ...] | None, network: keras.Model) -> list[str]:
    """Paths of the pruned kernels: those that the study names, else the network's own choice."""
    default = networks.find(name)
    pruned, kept = (layers, ()) if layers else (default.pruned, default.kept)
    return masks.pruned_paths(network, pruned, kept)


def _build(spec: RunSpec, dataset: Dataset, channels: Mapping[int, int], seed: int) -> keras.Model:
    return networks.build(
        spec.network,
        input_shape=dataset.source.input_shape,
        classes=dataset.source.classes,
        channels=channels,
        seed=seed,
    )


def _about(spec: RunSpec, dataset: Dataset, ticket: Ticket) -> dict[str, str]:
    """Metadata that makes a file of weights readable by itself (`trainer.ticket`)."""
    return {
        "network": spec.network,
        "input_shape": "x".join(map(str, dataset.source.input_shape)),
        "classes": str(dataset.source.classes),
        "channels": json.dumps({str(own): new for own, new in ticket.channels.items()}),
        "run_key": spec.key,
        "run_name": spec.name,
    }


def _write_ticket(folder: RunFolder, ticket: Ticket, about: dict[str, str]) -> None:
    initial = folder.artifact(Artifact.TICKET_INITIAL)
    artifacts.write_weights(initial, ticket.initial, about, ticket.mask)
    folder.artifact_written(Artifact.TICKET_INITIAL)
    if ticket.mask is not None:
        artifacts.write_mask(folder.artifact(Artifact.TICKET_MASK), ticket.mask, about)
        folder.artifact_written(Artifact.TICKET_MASK)


def _summary(
    ticket: Ticket, final: "Arrays", folder: RunFolder, record: Record, images: int
) -> dict[str, float]:
    trainable = small_dense.trainable_parameters(ticket.network)
    mask = ticket.mask or {}
    pruned = sum(int((final[path] == 0).sum()) for path in mask)
    prunable = sum(entry.size for entry in mask.values())
    best = max(folder.history(), key=lambda event: (merit(event["values"]), -event["step"]))
    values = {
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


def _values(network: keras.Model) -> "Arrays":
    """Copies of all variables on the host: weights and batch-norm statistics."""
    return {v.path: v.value.detach().cpu().numpy().copy() for v in network.variables}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
