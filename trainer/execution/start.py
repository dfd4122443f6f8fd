"""What a run starts from, as the table of settings has it: network, weights, mask."""

import json
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import keras
import numpy as np

from jackpot import artifacts
from jackpot.contract import Artifact, rewind_artifact
from jackpot.settings import Weights, as_pruned, whole
from trainer import networks, pruning
from trainer.datasets import Dataset, Source
from trainer.datasets.batches import batches
from trainer.keras_internals import batch_norms, functional, in_float64
from trainer.networks import pool, small_dense
from trainer.pruning import alignment, masks
from trainer.pruning.look import Look, Precision
from trainer.store.shared import SharedFiles
from trainer.store.ticket import fill
from trainer.study.plan import Plan, RunSpec, rounds_named, without_meaning
from trainer.study.seeds import Purpose, derive
from trainer.training import data_parallel

if TYPE_CHECKING:
    from torch import Tensor

    from jackpot.artifacts import Arrays, Mask
    from trainer.study.config import Study

T = TypeVar("T")
Fetch = Callable[[RunSpec, str], Path]
"""Gives a local file of a parent's artifact: (parent, artifact name)."""
_OWN: Mapping[int, int] = {}
_MATCHED_BATCHES = 8
"""Training batches of which units are matched: their activations are compared."""
_DRAWS = {
    Weights.DRAWN: Purpose.INITIAL_WEIGHTS,
    # θ₀ of pretraining, without pretraining: the same draw.
    Weights.KEPT: Purpose.INITIAL_WEIGHTS,
    Weights.REDRAWN: Purpose.REINITIALISED_WEIGHTS,
    Weights.NARROW: Purpose.SMALL_DENSE_WEIGHTS,
}
"""Which of the trial's draws initial weights are, where they are drawn."""


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


def ticket(spec: RunSpec, dataset: Dataset, fetch: Fetch, shared: SharedFiles) -> Ticket:
    """Initial weights and mask of a run, as the table of settings has them.

    Args:
        spec: the run.
        dataset: of the run.
        fetch: gives a local file of a parent's artifact.
        shared: keeps what other runs need as well.

    Raises:
        ArtifactError, MaskError: a parent's artifact is damaged or does not fit.
        OSError: the disk is full, say.
    """
    target = non_zeros(spec, dataset) if spec.setting.is_narrow else None
    channels = _OWN if target is None else _narrowed(spec, dataset, target, shared)
    if spec.init_from is not None:
        initial = _of_parent(spec, spec.init_from, fetch, shared)
    elif spec.setting.weights in _DRAWS:
        initial = _drawn(spec, dataset, _DRAWS[spec.setting.weights], channels, shared)
    else:
        raise ValueError(f"{spec.name}: the plan gave it no pretraining to start from")
    mask = _mask(spec, dataset, fetch, shared) if spec.setting.is_masked else None
    if mask is not None:
        initial = _arranged(spec, dataset, initial, mask, fetch, shared)
    return Ticket(_network(spec, dataset, channels), channels, initial, mask, target)


def give_back(spec: RunSpec, dataset: Dataset, ticket: Ticket) -> None:
    """Leaves the network of a run that is over to the next run of its structure."""
    pool.give_back(_structure(spec, dataset, ticket.channels), ticket.network)


def _structure(spec: RunSpec, dataset: Dataset, channels: Mapping[int, int]) -> Hashable:
    source = dataset.source
    shapes = source.input_shape, source.classes, tuple(sorted(channels.items()))
    return spec.network, spec.network_sha256, shapes


def _network(spec: RunSpec, dataset: Dataset, channels: Mapping[int, int]) -> keras.Model:
    """A network of the run's structure, with any weights."""
    return pool.borrow(
        _structure(spec, dataset, channels), lambda: build(spec, dataset, channels, 0)
    )


def _facts(spec: RunSpec, dataset: Dataset) -> dict[str, Any]:
    """What decides the structure of a run's dense network."""
    shape = [*dataset.source.input_shape, dataset.source.classes]
    return {
        "network": spec.network,
        "revision": spec.network_revision,
        "sha256": spec.network_sha256,
        "shape": shape,
    }


def _drawn(
    spec: RunSpec,
    dataset: Dataset,
    purpose: Purpose,
    channels: Mapping[int, int],
    shared: SharedFiles,
) -> "Arrays":
    """Freshly drawn weights: the same for all runs of a trial."""
    seed = derive(spec.seed, spec.trial, purpose)

    def make(path: Path) -> None:
        network = build(spec, dataset, channels, seed)
        artifacts.write(path, values(network), {})
        pool.give_back(_structure(spec, dataset, channels), network)

    facts = _facts(spec, dataset) | {"channels": sorted(channels.items()), "seed": seed}
    drawn, _ = shared.once("drawn", facts, make, artifacts.read)
    return drawn


def _of_parent(spec: RunSpec, parent: RunSpec, fetch: Fetch, shared: SharedFiles) -> "Arrays":
    """θ₀, θ_t or θ_T of the run that gives the initial weights."""
    name: str = Artifact.TICKET_INITIAL
    if spec.setting.weights is Weights.REWOUND:
        name = rewind_artifact(spec.training.rewind)
    elif spec.setting.weights in (Weights.TRAINED, Weights.CONTINUED):
        name = _ended_with(spec)

    def make(path: Path) -> None:
        initial, _ = _weights_of(parent, name, fetch)
        artifacts.write(path, initial, {})

    initial, _ = shared.once("initial", {"run": parent.key, "of": name}, make, artifacts.read)
    return initial


def _ended_with(spec: RunSpec) -> str:
    """The artifact of the weights that a run's parents ended with, as the study counts them."""
    return Artifact.WEIGHTS_BEST if spec.mask_epoch == "best" else Artifact.WEIGHTS_FINAL


def _weights_of(parent: RunSpec, name: str, fetch: Fetch) -> "tuple[Arrays, Mask | None]":
    """Weights that a parent has kept, and its mask if it has one."""
    mask: Mask | None = None
    if parent.setting.is_masked:
        of = Artifact.TICKET_MASK
        mask, _ = _from_parent(parent, of, artifacts.read_mask, fetch(parent, of))
    weights, _ = _from_parent(parent, name, artifacts.read_weights, fetch(parent, name), mask)
    return weights, mask


def _arranged(
    spec: RunSpec,
    dataset: Dataset,
    initial: "Arrays",
    mask: "Mask",
    fetch: Fetch,
    shared: SharedFiles,
) -> "Arrays":
    """Initial weights as the run's setting changes them, if it does."""
    setting = spec.setting
    if setting.signs_of is Weights.KEPT:
        signs = _drawn(spec, dataset, Purpose.INITIAL_WEIGHTS, _OWN, shared)
    elif setting.signs_of is not None:
        if spec.mask_from is None:
            raise ValueError(f"{spec.name}: the plan gave it no trained weights")
        signs, _ = _weights_of(spec.mask_from, _ended_with(spec), fetch)
    if setting.signs_of is not None:
        signed = {
            path: np.where(entry, np.copysign(initial[path], signs[path]), initial[path])
            for path, entry in mask.items()
        }
        initial = initial | signed
    if setting.start is not None:
        rng = np.random.default_rng(derive(spec.seed, spec.trial, Purpose.WEIGHTS_RULE))
        changed = setting.start({path: array.copy() for path, array in initial.items()}, mask, rng)
        _check_arranged(spec, initial, changed)
        initial = changed
    return initial


def _check_arranged(spec: RunSpec, before: "Arrays", after: "Arrays") -> None:
    for path, array in before.items():
        if path not in after or after[path].shape != array.shape:
            raise ValueError(
                f"setting {spec.setting.name!r} gave no weights of shape {array.shape} for '{path}'"
            )
        if not np.isfinite(after[path]).all():
            raise ValueError(f"setting {spec.setting.name!r} gave '{path}' values of NaN or ∞")


def _narrowed(
    spec: RunSpec, dataset: Dataset, target: int, shared: SharedFiles
) -> Mapping[int, int]:
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


def _mask(spec: RunSpec, dataset: Dataset, fetch: Fetch, shared: SharedFiles) -> "Mask":
    """The mask of a run: the pruner's, or what its setting makes of that."""
    rule = spec.setting.mask
    if rule is None or spec.pruner is None:
        raise ValueError(f"{spec.name}: the plan gave it no pruner")
    if rule is whole:
        network = _shape_only(spec, dataset)
        shapes = {v.path: tuple(v.shape) for v in network.variables}
        return {path: np.ones(shapes[path], bool) for path in _pruned_sizes(spec, network)}
    mask = _pruned(spec, spec.pruner, dataset, fetch, shared)
    if spec.matched is not None:
        mask = _aligned(spec, dataset, mask, spec.matched, fetch, shared)
    if rule is as_pruned:
        return mask
    seed = derive(spec.seed, spec.trial, Purpose.MASK_RULE)
    changed = rule(
        {path: entry.copy() for path, entry in mask.items()}, np.random.default_rng(seed)
    )
    masks.check_fits(changed, {path: entry.shape for path, entry in mask.items()})
    if forgotten := sorted(set(mask) - set(changed)):
        raise masks.MaskError(
            f"setting {spec.setting.name!r}: its rule for masks gave none of {forgotten[0]!r}; "
            f"expected one of each of {len(mask)} kernels, received {len(changed)}"
        )
    return changed


def _pruned(
    spec: RunSpec, pruner: str, dataset: Dataset, fetch: Fetch, shared: SharedFiles
) -> "Mask":
    """Prunes what the run's pruner looks at to the run's sparsity."""

    def make(path: Path) -> None:
        look = _look(spec, dataset, fetch, shared)
        inverted = spec.setting.inverted
        found = pruning.find(pruner).mask(look, spec.sparsity, pruner, inverted=inverted)
        artifacts.write_mask(path, found, {})

    parent = spec.mask_from
    facts: dict[str, Any] = {
        "pruner": pruner,
        "sparsity": spec.sparsity,
        "layers": spec.layers,
    }
    if spec.setting.inverted:
        facts["inverted"] = True
    if parent is not None:
        facts |= {"run": parent.key, "epoch": spec.mask_epoch}
    else:
        facts |= _facts(spec, dataset) | {"seed": spec.seed, "trial": spec.trial}
    if spec.pruner_sha256 is not None or parent is None:
        # One that looks at images sees the study's.
        images = spec.dataset.model_dump_json()
        facts |= {
            "pruner_sha256": spec.pruner_sha256,
            "images": images,
            "dataset": dataset.digest,
            "batch": spec.training.batch_size,
        }
    mask, _ = shared.once("mask", facts, make, artifacts.read_mask)
    return mask


def _look(spec: RunSpec, dataset: Dataset, fetch: Fetch, shared: SharedFiles) -> Look:
    """What the run's pruner sees: its parent's last or best weights, or θ₀."""
    parent, earlier = spec.mask_from, None
    if parent is None:
        values = _drawn(spec, dataset, Purpose.INITIAL_WEIGHTS, _OWN, shared)
    else:
        values, earlier = _weights_of(parent, _ended_with(spec), fetch)

    def network(precision: Precision) -> keras.Model:
        with in_float64() if precision == "float64" else nullcontext():
            model = build(spec, dataset, _OWN, 0)
        fill(model, values, "the weights to prune")
        return model

    paths = _pruned_sizes(spec, _shape_only(spec, dataset))
    return Look(
        {path: values[path] for path in paths},
        earlier,
        network,
        lambda: _first_batches(spec, dataset),
        derive(spec.seed, spec.trial, Purpose.PRUNER),
    )


def _first_batches(spec: RunSpec, dataset: Dataset) -> "Iterator[tuple[Tensor, Tensor]]":
    """The training batches of a trial's first epoch."""
    seed = derive(spec.seed, spec.trial, Purpose.DATA_ORDER, 0)
    device = keras.ops.convert_to_tensor(0.0).device
    passes = batches(
        dataset.train,
        dataset.source,
        spec.training.batch_size,
        device,
        epoch_seed=lambda epoch: seed,
    )
    passes.on_epoch_begin()
    for batch in passes.get_torch_dataloader():
        yield batch[0], batch[1]


def _aligned(
    spec: RunSpec,
    dataset: Dataset,
    mask: "Mask",
    parents: tuple[RunSpec, RunSpec],
    fetch: Fetch,
    shared: SharedFiles,
) -> "Mask":
    """The mask, permuted from the units of one dense network to those of another."""

    def trained(parent: RunSpec) -> keras.Model:
        network = _network(spec, dataset, _OWN)
        values, _ = _weights_of(parent, _ended_with(spec), fetch)
        fill(network, values, f"the weights of {parent.name}")
        return network

    def make(path: Path) -> None:
        first, second = map(trained, parents)
        images = [batch for batch, _ in islice(_first_batches(spec, dataset), _MATCHED_BATCHES)]
        found = alignment.matched(first, second, images)
        for network in (first, second):
            pool.give_back(_structure(spec, dataset, _OWN), network)
        artifacts.write(path, {str(group): order for group, order in found.items()}, {})

    def read(path: Path) -> alignment.Permutations:
        orders, _ = artifacts.read(path)
        return {int(group): order for group, order in orders.items()}

    # The same for all pruners and sparsities.
    facts = {"runs": [run.key for run in parents], "epoch": spec.mask_epoch}
    orders = shared.once("matched", facts, make, read)
    return alignment.permuted(mask, _shape_only(spec, dataset), orders)


def _from_parent(parent: RunSpec, name: str, read: Callable[..., T], *arguments: object) -> T:
    """What `read` reads of a parent's artifact; its errors name the parent."""
    try:
        return read(*arguments)
    except artifacts.ArtifactError as error:
        raise artifacts.ArtifactError(
            f"'{name}' of its parent '{parent.name}' (run key {parent.key}): {error}. Delete that "
            "run in MLflow and launch the study again to train it anew"
        ) from None


def check_network(config: "Study", plan: Plan, source: Source, train_images: int) -> list[str]:
    """Checks what can be known of a study's network without its images.

    Args:
        config: the study.
        plan: its plan.
        source: what is known of its dataset.
        train_images: images of an epoch.

    Returns:
        What a user should know before the first run, a sentence each.

    Raises:
        ValueError: the network cannot take the images, `pruning.layers` names none of its layers,
            a sparsity prunes nothing or all of it, batch norm would see one value, units that are
            to be aligned are not known, or features of integers meet what takes floats.
    """
    name, layers = config.network, config.pruning.layers
    built = _meta(name, networks.fingerprint(name), source.input_shape, source.classes)
    _check_last_batch(built, config.training.batch_size, train_images)
    taken = keras.backend.standardize_dtype(built.inputs[0].dtype) if functional(built) else ""
    if source.of_integers and "float" in taken:
        raise ValueError(
            f"dataset {config.dataset.name!r} has features of integers, and network {name!r} takes "
            f"{taken}: return floats, or give the network keras.Input(..., dtype='int64')"
        )
    if source.of_integers and config.training.mixup:
        raise ValueError(
            f"training.mixup: {config.dataset.name} has features of integers, which cannot be mixed"
        )
    if not config.sparse_settings:
        return []
    pruned = _pruned_paths(name, None if layers == "default" else tuple(layers), built)
    sizes = {v.path: math.prod(v.shape) for v in built.variables}
    count, of = sum(sizes[path] for path in pruned), small_dense.trainable_parameters(built)
    _check_sparsities(plan, count)
    if any(setting.aligned for setting in config.chosen_settings):
        # Before two networks are trained for it.
        alignment.check(built, pruned)
    said = [f"{name}: prunes {count:,} of {of:,} weights, in {len(pruned)} layers."]
    if count < of / 2:
        said[0] += (
            " Most weights are elsewhere, and sparsities do not count them: name the layers to "
            "prune in pruning.layers."
        )
    return [
        *said,
        *_left_out(name, built, pruned),
        *rounds_named(config),
        *without_meaning(config),
    ]


def _check_sparsities(plan: Plan, count: int) -> None:
    """Sees that each sparsity prunes something, leaves something, and more than the one before."""
    counted: dict[int, float] = {}
    for sparsity in sorted({spec.sparsity for spec in plan.runs if spec.sparsity}):
        written = f"sparsity {sparsity:.9g}"
        gone = masks.pruned_count(count, sparsity) if sparsity < 1 else count
        if gone == 0 or gone >= count:
            what = "no weight" if gone == 0 else "every weight"
            raise ValueError(f"{written} prunes {what} of the {count:,} that can be pruned")
        if gone in counted:
            raise ValueError(
                f"{written} prunes {gone:,} of {count:,} weights, as {counted[gone]:.9g} does: "
                "choose fewer pruning.rounds or other pruning.sparsities"
            )
        counted[gone] = sparsity


def _check_last_batch(network: keras.Model, batch_size: int, train_images: int) -> None:
    """Refuses a batch of one image in front of batch norm that would see one value a channel."""
    if (train_images % batch_size or batch_size) > 1:
        return
    for layer in batch_norms(network):
        try:
            spatial = layer.input.shape[1:-1]
        except (AttributeError, ValueError):
            continue  # Inside a composite layer: not known here.
        if layer.trainable and math.prod(spatial) == 1:
            raise ValueError(
                f"training.batch_size: {batch_size} leaves one of {train_images:,} images for the "
                f"last batch, of which batch norm {layer.name!r} cannot take a variance: choose "
                "another"
            )


def check_study(
    config: "Study",
    plan: Plan,
    todo: Iterable[RunSpec],
    dataset: Dataset,
    shared: SharedFiles,
    here: bool,
) -> list[str]:
    """Checks that a study can be trained, before any training starts.

    Args:
        config, plan: the study.
        todo: its runs that are to be trained.
        dataset: of the study.
        shared: keeps the widths of small-dense networks, which are found now.
        here: whether runs are trained on this machine.

    Returns:
        What a user should know before the first run, a sentence each.

    Raises:
        ValueError: see `check_network`; or the network cannot be narrowed, or an epoch's batches
            cannot be shared by so many devices.
    """
    said = check_network(config, plan, dataset.source, len(dataset.train))
    splits = [s for s in (dataset.test, dataset.heldout) if s is not None]
    data_parallel.check_devices(config.training, len(dataset.train), min(map(len, splits)), here)
    for spec in {spec.sparsity: spec for spec in todo if spec.setting.is_narrow}.values():
        _narrowed(spec, dataset, non_zeros(spec, dataset), shared)
    return said


def _left_out(name: str, network: keras.Model, pruned: list[str]) -> list[str]:
    """Says which kernels inside composite layers are not pruned, and how much that is."""
    left_out = masks.left_out(network, pruned)
    if not left_out:
        return []
    sizes = {v.path: math.prod(v.shape) for v in network.variables}
    without, of = sum(left_out.values()), sum(sizes[path] for path in pruned)
    shown = ", ".join(list(left_out)[:4]) + (", …" if len(left_out) > 4 else "")
    pattern = f"{next(iter(left_out)).partition('/')[0]}/*"
    return [
        f"{name}: kernels inside composite layers are not pruned: {shown}. They hold {without:,} "
        f"of {without + of:,} weights ({without / (without + of):.0%}), and sparsities count the "
        f"other {of:,}. To prune them, name them in pruning.layers, such as '{pattern}'."
    ]


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
    name: str, network_sha256: str | None, input_shape: tuple[int, ...], classes: int
) -> keras.Model:
    with keras.device("meta"):
        return networks.build(name, input_shape=input_shape, classes=classes)


def _pruned_sizes(spec: RunSpec, network: keras.Model) -> dict[str, int]:
    """Number of weights of each pruned kernel, in the network's order."""
    sizes = {v.path: math.prod(v.shape) for v in network.variables}
    return {path: sizes[path] for path in _pruned_paths(spec.network, spec.layers, network)}


def _pruned_paths(name: str, layers: tuple[str, ...] | None, network: keras.Model) -> list[str]:
    """Paths of the pruned kernels: those that the study names, else the network's own choice."""
    if layers:
        return masks.pruned_paths(network, layers)
    default = networks.find(name)
    if name in networks.NETWORKS:
        return masks.pruned_paths(network, default.pruned, default.kept)
    # A network of a user's own need not have the layers that ours do not prune.
    own = {layer.name for layer in network.layers if getattr(layer, "kernel", None) is not None}
    kept = [name for name in default.kept if name in own]
    return masks.pruned_paths(network, default.pruned, kept)


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
