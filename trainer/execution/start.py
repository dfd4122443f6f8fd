"""What a run starts from, as the table of settings has it: network, weights, mask."""

import json
import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import keras

from jackpot import artifacts
from jackpot.contract import Artifact, Setting, rewind_artifact
from trainer import networks, pruning
from trainer.datasets import Dataset
from trainer.networks import idle, small_dense
from trainer.pruning import masks
from trainer.store.shared import Shared
from trainer.study.plan import RunSpec
from trainer.study.seeds import Purpose, derive
from trainer.training import data_parallel

if TYPE_CHECKING:
    from jackpot.artifacts import Arrays
    from trainer.pruning.masks import Mask
    from trainer.study.config import Study

T = TypeVar("T")
_OWN: Mapping[int, int] = {}


@dataclass(frozen=True)
class Ticket:
    """What a run starts from.

    Attributes:
        network: built, on the training device, with any weights.
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


def ticket(
    spec: RunSpec, dataset: Dataset, fetch: Callable[[RunSpec, str], Path], shared: Shared
) -> Ticket:
    """Initial weights and mask of a run, as the table of settings has them.

    Args:
        spec: the run.
        dataset: of the run.
        fetch: gives a local file of a parent's artifact.
        shared: where what other runs need as well is kept.

    Raises:
        ArtifactError, MaskError: a parent's artifact is damaged or does not fit.
        OSError: the disk is full, say.
    """
    match spec.setting:
        case Setting.PRETRAIN:
            initial = _drawn(spec, dataset, Purpose.INITIAL_WEIGHTS, _OWN, shared)
            return Ticket(_network(spec, dataset, _OWN), _OWN, initial, None)
        case Setting.RR:
            initial = _drawn(spec, dataset, Purpose.REINITIALISED_WEIGHTS, _OWN, shared)
        case Setting.LT | Setting.WR:
            initial = _of_pretraining(spec, fetch, shared)
        case Setting.SDT:
            target = non_zeros(spec, dataset)
            channels = _narrowed(spec, dataset, target, shared)
            initial = _drawn(spec, dataset, Purpose.SMALL_DENSE_WEIGHTS, channels, shared)
            network = _network(spec, dataset, channels)
            return Ticket(network, channels, initial, None, target)
    mask = _mask(spec, dataset, fetch, shared)
    return Ticket(_network(spec, dataset, _OWN), _OWN, initial, mask)


def give_back(spec: RunSpec, dataset: Dataset, ticket: Ticket) -> None:
    """Leaves the network of a run that is over to the next run of its structure."""
    idle.give_back(_structure(spec, dataset, ticket.channels), ticket.network)


def _structure(spec: RunSpec, dataset: Dataset, channels: Mapping[int, int]) -> Hashable:
    source = dataset.source
    shapes = source.input_shape, source.classes, tuple(sorted(channels.items()))
    return spec.network, spec.network_sha256, shapes


def _network(spec: RunSpec, dataset: Dataset, channels: Mapping[int, int]) -> keras.Model:
    """A network of the run's structure, with any weights."""
    return idle.borrow(
        _structure(spec, dataset, channels), lambda: build(spec, dataset, channels, 0)
    )


def _facts(spec: RunSpec, dataset: Dataset) -> dict[str, Any]:
    """What decides the structure of a run's dense network."""
    shape = [*dataset.source.input_shape, dataset.source.classes]
    return {"network": spec.network, "sha256": spec.network_sha256, "shape": shape}


def _drawn(
    spec: RunSpec,
    dataset: Dataset,
    purpose: Purpose,
    channels: Mapping[int, int],
    shared: Shared,
) -> "Arrays":
    """Freshly drawn weights: the same for all runs of a trial."""
    seed = derive(spec.seed, spec.trial, purpose)

    def make(path: Path) -> None:
        network = build(spec, dataset, channels, seed)
        artifacts.write(path, values(network), {})
        idle.give_back(_structure(spec, dataset, channels), network)

    facts = _facts(spec, dataset) | {"channels": sorted(channels.items()), "seed": seed}
    drawn, _ = shared.once("drawn", facts, make, artifacts.read)
    return drawn


def _of_pretraining(
    spec: RunSpec, fetch: Callable[[RunSpec, str], Path], shared: Shared
) -> "Arrays":
    """θ₀ or θ_t of the run's pretraining."""
    parent = spec.init_from
    if parent is None:
        raise ValueError(f"{spec.name}: the plan gave it no pretraining to start from")
    rewound = spec.setting == Setting.WR
    name = rewind_artifact(spec.training.rewind) if rewound else Artifact.TICKET_INITIAL

    def make(path: Path) -> None:
        initial, _ = _from_parent(parent, name, artifacts.read_weights, fetch(parent, name))
        artifacts.write(path, initial, {})

    initial, _ = shared.once("initial", {"run": parent.key, "of": name}, make, artifacts.read)
    return initial


def _narrowed(spec: RunSpec, dataset: Dataset, target: int, shared: Shared) -> Mapping[int, int]:
    """Channel counts of the small-dense network with about `target` parameters."""
    source = dataset.source

    def make(path: Path) -> None:
        found, _ = small_dense.matching_channels(
            spec.network, source.input_shape, source.classes, target
        )
        artifacts.write(path, {}, {"channels": json.dumps(list(found.items()))})

    def read(path: Path) -> dict[int, int]:
        _, about = artifacts.read(path)
        return dict(json.loads(about["channels"]))

    return shared.once("narrowed", _facts(spec, dataset) | {"parameters": target}, make, read)


def _mask(
    spec: RunSpec, dataset: Dataset, fetch: Callable[[RunSpec, str], Path], shared: Shared
) -> "Mask | None":
    """Prunes the weights of `spec.mask_from`, of its last or best epoch, to the run's sparsity."""
    parent, pruner = spec.mask_from, spec.pruner
    if parent is None or pruner is None:
        return None

    def make(path: Path) -> None:
        earlier: Mask | None = None
        if parent.mask_from is not None:
            name = Artifact.TICKET_MASK
            earlier, _ = _from_parent(parent, name, artifacts.read_mask, fetch(parent, name))
        name = Artifact.WEIGHTS_BEST if spec.mask_epoch == "best" else Artifact.WEIGHTS_FINAL
        file = fetch(parent, name)
        final, _ = _from_parent(parent, name, artifacts.read_weights, file, earlier)
        weights = {path: final[path] for path in _pruned_sizes(spec, _shape_only(spec, dataset))}
        found = masks.prune(weights, spec.sparsity, pruning.PRUNERS[pruner].score, earlier)
        artifacts.write_mask(path, found, {})

    facts = {
        "run": parent.key,
        "epoch": spec.mask_epoch,
        "pruner": pruner,
        "sparsity": spec.sparsity,
        "layers": spec.layers,
    }
    mask, _ = shared.once("mask", facts, make, artifacts.read_mask)
    return mask


def _from_parent(parent: RunSpec, name: str, read: Callable[..., T], *arguments: object) -> T:
    """What `read` reads of a parent's artifact; its errors name the parent."""
    try:
        return read(*arguments)
    except artifacts.ArtifactError as error:
        raise artifacts.ArtifactError(
            f"'{name}' of its parent '{parent.name}' (run key {parent.key}): {error}. Delete that "
            "run in MLflow and launch the study again to train it anew"
        ) from None


def check(
    config: "Study", todo: Iterable[RunSpec], dataset: Dataset, shared: Shared, here: bool
) -> None:
    """Sees, before anything is trained, that a study can be.

    Args:
        config: the study.
        todo: its runs that are to be trained.
        dataset: of the study.
        shared: where the widths of small-dense networks are kept, which are found now.
        here: whether runs are trained on this machine.

    Raises:
        ValueError: the network cannot take the images, or cannot be narrowed, or `pruning.layers`
            names none of its layers, or an epoch's batches cannot be shared by so many devices.
    """
    source = dataset.source
    sha256 = networks.fingerprint(config.network)
    built = _meta(config.network, sha256, source.input_shape, source.classes)
    layers = config.pruning.layers
    _pruned_paths(config.network, None if layers == "default" else tuple(layers), built)
    splits = [s for s in (dataset.test, dataset.heldout) if s is not None]
    data_parallel.check(config.training, len(dataset.train), min(map(len, splits)), here)
    small_dense_runs = {spec.sparsity: spec for spec in todo if spec.setting == Setting.SDT}
    for spec in small_dense_runs.values():
        _narrowed(spec, dataset, non_zeros(spec, dataset), shared)


def non_zeros(spec: RunSpec, dataset: Dataset) -> int:
    """Non-zero trainable parameters of the network pruned to the run's sparsity."""
    network = _shape_only(spec, dataset)
    prunable = sum(_pruned_sizes(spec, network).values())
    return small_dense.trainable_parameters(network) - masks.pruned_count(prunable, spec.sparsity)


def _shape_only(spec: RunSpec, dataset: Dataset) -> keras.Model:
    """The dense network without memory or draws, to look at its layers."""
    source = dataset.source
    return _meta(spec.network, spec.network_sha256, source.input_shape, source.classes)


@lru_cache(maxsize=8)
def _meta(
    name: str, network_sha256: str | None, input_shape: tuple[int, int, int], classes: int
) -> keras.Model:
    with keras.device("meta"):
        return networks.build(name, input_shape=input_shape, classes=classes)


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
