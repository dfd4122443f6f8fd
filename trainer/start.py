"""What a run starts from, as the table of settings has it: network, weights, mask."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import keras

from mlflow_server import artifacts
from mlflow_server.contract import Artifact, Setting, rewind_artifact
from trainer import networks, pruning
from trainer.datasets import Dataset
from trainer.networks import small_dense
from trainer.plan import RunSpec
from trainer.pruning import masks
from trainer.seeds import Purpose, derive
from trainer.training import data_parallel

if TYPE_CHECKING:
    from mlflow_server.artifacts import Arrays
    from trainer.config import Study
    from trainer.pruning.masks import Mask

T = TypeVar("T")
_OWN: Mapping[int, int] = {}


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


def ticket(spec: RunSpec, dataset: Dataset, fetch: Callable[[RunSpec, str], Path]) -> Ticket:
    """Initial weights and mask of a run, as the table of settings has them."""
    mask = _mask(spec, dataset, fetch)

    def built(purpose: Purpose, channels: Mapping[int, int] = _OWN) -> keras.Model:
        seed = derive(spec.seed, spec.trial, purpose)
        return build(spec, dataset, channels, seed)

    match spec.setting:
        case Setting.PRETRAIN:
            network = built(Purpose.INITIAL_WEIGHTS)
            return Ticket(network, _OWN, values(network), None)
        case Setting.RR:
            network = built(Purpose.REINITIALISED_WEIGHTS)
            return Ticket(network, _OWN, values(network), mask)
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
            return Ticket(network, channels, values(network), None, target)


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


def check(config: "Study", dataset: Dataset, here: bool) -> None:
    """Sees, before anything is trained, that a study can be; `here`: on this machine.

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
    data_parallel.check(config.training, len(dataset.train), min(map(len, splits)), here)


def non_zeros(spec: RunSpec, dataset: Dataset) -> int:
    """Non-zero trainable parameters of the network pruned to the run's sparsity."""
    network = _shape_only(spec, dataset)
    prunable = sum(_pruned_sizes(spec, network).values())
    return small_dense.trainable_parameters(network) - masks.pruned_count(prunable, spec.sparsity)


def _shape_only(spec: RunSpec, dataset: Dataset) -> keras.Model:
    """The dense network without memory or draws, to look at its layers."""
    with keras.device("meta"):
        return build(spec, dataset, _OWN, 0)


def _pruned_sizes(spec: RunSpec, network: keras.Model) -> dict[str, int]:
    """Number of weights of each pruned kernel, in the network's order."""
    sizes = {v.path: math.prod(v.shape) for v in network.variables}
    return {path: sizes[path] for path in _pruned_paths(spec.network, spec.layers, network)}


def _pruned_paths(name: str, layers: tuple[str, ...] | None, network: keras.Model) -> list[str]:
    """Paths of the pruned kernels: those that the study names, else the network's own choice."""
    default = networks.find(name)
    pruned, kept = (layers, ()) if layers else (default.pruned, default.kept)
    return masks.pruned_paths(network, pruned, kept)


def build(spec: RunSpec, dataset: Dataset, channels: Mapping[int, int], seed: int) -> keras.Model:
    """A run's network, freshly drawn."""
    return networks.build(
        spec.network,
        input_shape=dataset.source.input_shape,
        classes=dataset.source.classes,
        channels=channels,
        seed=seed,
    )


def values(network: keras.Model) -> "Arrays":
    """Copies of all variables on the host: weights and batch-norm statistics."""
    return {v.path: v.value.detach().cpu().numpy().copy() for v in network.variables}
