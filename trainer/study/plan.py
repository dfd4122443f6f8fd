"""Expands a study into its runs, in dependency order. Pure: no torch, no MLflow, no clock.

Of a network of the user's own the source file is read: its contents belong to the run keys.

pretrain ─┬─ OMP masks ─ LT-OMP, RR-OMP, WR-OMP
          └─ round 1 ─ LT-IMP ─ round 2 ─ LT-IMP ─ …, each with its RR-IMP, WR-IMP
SDT: no parent
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal

from jackpot.contract import Param, Setting
from trainer import networks, pruning
from trainer.study.config import Dataset, Study, Training


@dataclass(frozen=True, eq=False)
class RunSpec:
    """One training: everything that decides its result, and nothing else.

    Attributes:
        network, dataset, training, layers, seed: as in the study's config.
        setting: which of the paper's settings this run is.
        learning_rate: the highest learning rate of this run.
        trial: 1-based.
        pruner: of the mask; None for pretrain and SDT.
        sparsity: of the mask; for SDT, of the pruned network whose size it matches; pretrain 0.
        round: 1-based IMP round that makes the mask; None where there are no rounds.
        init_from: the pretraining that gives θ₀ (LT) or θ_t (WR).
        mask_from: the run whose weights are pruned to make the mask.
        mask_epoch: which of that run's weights: of the `last` or the `best` epoch. Decides what a
            run has to keep, so that it belongs to every run of the study but small-dense ones.
        network_sha256: of the source of a user's own network: another network is another run.
    """

    network: str
    dataset: Dataset
    training: Training
    setting: Setting
    learning_rate: float
    trial: int
    seed: int
    layers: tuple[str, ...] | None = None
    pruner: str | None = None
    sparsity: float = 0.0
    round: int | None = None
    init_from: "RunSpec | None" = field(default=None, repr=False)
    mask_from: "RunSpec | None" = field(default=None, repr=False)
    mask_epoch: Literal["last", "best"] = "last"
    network_sha256: str | None = None

    @cached_property
    def key(self) -> str:
        """Hash of everything that decides the result, parents included, defaults left out.

        A field added later with a default that means "as before" keeps every old key; so a
        default, once published, must never change. The rewind epoch counts for WR alone:
        pretraining does not depend on which of its epochs is kept.
        """
        training = self.training.model_dump(mode="json", exclude_defaults=True)
        training.pop("rewind_epoch", None)
        facts: dict[str, Any] = {
            "network": self.network,
            "dataset": self.dataset.model_dump(mode="json", exclude_defaults=True),
            "training": training,
            "setting": str(self.setting),
            "learning_rate": self.learning_rate,
            "trial": self.trial,
            "seed": self.seed,
        }
        optional = {
            "layers": list(self.layers) if self.layers else None,
            "pruner": self.pruner,
            "sparsity": self.sparsity or None,
            "round": self.round,
            "rewind_epoch": self.training.rewind if self.setting == Setting.WR else None,
            "init_from": self.init_from.key if self.init_from else None,
            "mask_from": self.mask_from.key if self.mask_from else None,
            "network_sha256": self.network_sha256,
            "mask_epoch": self.mask_epoch if self.mask_epoch != "last" else None,
        }
        facts |= {name: value for name, value in optional.items() if value is not None}
        return digest(facts)

    @property
    def parents(self) -> tuple["RunSpec", ...]:
        """Runs whose artifacts this run reads, each once."""
        return tuple({p.key: p for p in (self.init_from, self.mask_from) if p}.values())

    @property
    def first_epoch(self) -> int:
        """0-based epoch of the schedule at which this run starts: t for WR, else 0."""
        return self.training.rewind if self.setting == Setting.WR else 0

    @property
    def epochs(self) -> int:
        """Epochs that this run trains: T, or T − t for WR."""
        return self.training.epochs - self.first_epoch

    @property
    def label(self) -> str:
        """Short name of the setting with its pruner, such as `lt-imp`.

        Where the mask was found at another learning rate, that too: `lt-imp (mask of lr 0.01)`.
        """
        label = f"{self.setting}-{self.pruner}" if self.pruner else str(self.setting)
        rate = self.mask_from.learning_rate if self.mask_from else self.learning_rate
        return label if rate == self.learning_rate else f"{label} (mask of lr {rate:g})"

    @property
    def name(self) -> str:
        """Name of the run in MLflow and on screen."""
        sparsity = f" s={self.sparsity:.3f}" if self.sparsity else ""
        return f"{self.label}{sparsity} lr={self.learning_rate:g} trial={self.trial}"

    def params(self) -> dict[Param, str]:
        """The run's MLflow params; those that do not apply to its setting are left out."""
        training, optimizer = self.training, self.training.optimizer
        mask_rate = self.mask_from.learning_rate if self.mask_from else None
        values: dict[Param, Any] = {
            Param.NETWORK: self.network,
            Param.DATASET: self.dataset.name,
            Param.SETTING: self.setting,
            Param.PRUNER: self.pruner,
            Param.SPARSITY: self.sparsity,
            Param.ROUND: self.round,
            Param.LEARNING_RATE: self.learning_rate,
            Param.PRETRAIN_LEARNING_RATE: mask_rate,
            Param.EPOCHS: self.epochs,
            Param.BATCH_SIZE: training.batch_size,
            Param.OPTIMIZER: optimizer.name,
            Param.MOMENTUM: optimizer.momentum,
            Param.WEIGHT_DECAY: optimizer.weight_decay,
            Param.SCHEDULE: _schedule(training),
            Param.WARMUP_EPOCHS: training.warmup_epochs,
            Param.REWIND_EPOCH: training.rewind if self.setting == Setting.WR else None,
            Param.TRIAL: self.trial,
            Param.SEED: self.seed,
            Param.TRAIN_IMAGES: self.dataset.train_images,
            Param.TEST_IMAGES: self.dataset.test_images,
            Param.PRUNED_LAYERS: " ".join(self.layers) if self.layers else None,
            Param.NESTEROV: True if optimizer.nesterov else None,
            Param.VALIDATION_IMAGES: self.dataset.validation_images,
            Param.AUGMENTATION: _augmentation(self.dataset),
            Param.LABEL_SMOOTHING: training.label_smoothing or None,
            Param.PRECISION: training.precision if training.precision != "float32" else None,
            Param.EVALUATE_EVERY: training.evaluate_every if training.evaluate_every > 1 else None,
            Param.DEVICES_PER_RUN: training.devices_per_run
            if training.devices_per_run > 1
            else None,
            Param.MASK_EPOCH: self.mask_epoch if self.mask_epoch != "last" else None,
        }
        return {param: str(value) for param, value in values.items() if value is not None}


@dataclass(frozen=True)
class Plan:
    """A study's runs, each after its parents, none twice."""

    study: str
    runs: tuple[RunSpec, ...]

    @cached_property
    def key(self) -> str:
        """Hash of the run keys: two launches with the same plan share it."""
        return digest(sorted(run.key for run in self.runs))


def plan(config: Study) -> Plan:
    """The runs of a study, trial by trial, and within a trial learning rate by learning rate.

    Runs that others need are included whether or not their setting is listed: pretraining for
    every mask, and the IMP rounds before a reported one.
    """
    # A source file is read once, not once per run.
    source = networks.fingerprint(config.network)
    runs: dict[str, RunSpec] = {}
    for trial in range(1, config.trials + 1):
        spec = partial(_spec, config, source, trial)
        for rate in config.learning_rates:
            found = [*_from(config, spec, rate, [rate]), *_small_dense(config, spec, rate)]
            runs |= {run.key: run for run in found}
        for ablation in config.ablation:
            rates = ablation.learning_rates
            found = list(_from(config, spec, ablation.pretrain_learning_rate, rates))
            runs |= {run.key: run for run in found}
    return Plan(config.study, tuple(runs.values()))


def side_by_side(runs: Sequence[RunSpec], most: int, places: int = 1) -> Iterator[list[RunSpec]]:
    """Groups of runs that can be stepped together, in the order of their first.

    They share network, images and recipe; learning rates, masks and trials may differ. A run on
    several devices is a group of its own.

    Args:
        runs: whose parents are all finished.
        most: runs in a group.
        places: where groups are trained at once; none is to stay empty while others are crowded.
    """
    alike: dict[Any, list[RunSpec]] = {}
    for run in runs:
        alike.setdefault(_structure(run), []).append(run)
    groups = []
    for same in alike.values():
        limit = 1 if same[0].training.devices_per_run > 1 else most
        size = min(limit, -(-len(same) // places))
        groups += [same[i : i + size] for i in range(0, len(same), size)]
    place = {run.key: i for i, run in enumerate(runs)}
    yield from sorted(groups, key=lambda group: place[group[0].key])


def by_depth(runs: Sequence[RunSpec], most: int, places: int) -> Iterator[list[RunSpec]]:
    """Groups for several processes, each after those that it needs; arguments as `side_by_side`.

    Runs of a group have equally long chains of parents, so that no two groups wait for each other.
    """
    left = {run.key: run for run in runs}
    while left:
        ready = _ready(left)
        yield from side_by_side(ready, most, places)
        for run in ready:
            del left[run.key]


def in_turn(runs: Sequence[RunSpec], most: int) -> Iterator[list[RunSpec]]:
    """The groups in which one process trains `runs`, if all goes well.

    Args:
        runs: parents that are not among them are finished.
        most: how many can be stepped together.
    """
    left = {run.key: run for run in runs}
    while left:
        group = next(side_by_side(_ready(left), most))
        yield group
        for run in group:
            del left[run.key]


def _ready(left: Mapping[str, RunSpec]) -> list[RunSpec]:
    """Those of `left`, by key, that wait for none of them."""
    return [run for run in left.values() if not any(p.key in left for p in run.parents)]


def _structure(run: RunSpec) -> tuple[Any, ...]:
    """What runs that are stepped together have in common: tensors of one shape, one recipe."""
    narrowed = (run.sparsity, run.layers) if run.setting == Setting.SDT else None
    recipe = run.training.model_dump_json()
    return run.network, run.network_sha256, run.dataset.model_dump_json(), recipe, narrowed


def _spec(
    config: Study,
    network_sha256: str | None,
    trial: int,
    setting: Setting,
    learning_rate: float,
    **more: Any,
) -> RunSpec:
    layers = config.pruning.layers
    # The layers to prune decide a mask, and the size that a small-dense network matches.
    pruned = None if layers == "default" or setting == Setting.PRETRAIN else tuple(layers)
    return RunSpec(
        network=config.network,
        network_sha256=network_sha256,
        dataset=config.dataset,
        training=config.training,
        setting=setting,
        learning_rate=learning_rate,
        trial=trial,
        seed=config.seed,
        layers=pruned,
        mask_epoch="last" if setting == Setting.SDT else config.pruning.mask_epoch,
        **more,
    )


_Make = Callable[..., RunSpec]
"""`_spec` of one study and trial: takes the setting, the learning rate, and parents and mask."""


def _small_dense(config: Study, spec: _Make, rate: float) -> Iterator[RunSpec]:
    if Setting.SDT in config.sparse_settings:
        for sparsity in reported(config):
            yield spec(Setting.SDT, rate, sparsity=sparsity)


def _from(
    config: Study, spec: _Make, pretrain_rate: float, rates: Sequence[float]
) -> Iterator[RunSpec]:
    """Pretraining at one learning rate, and subnetworks of its masks trained at each of `rates`.

    IMP's rounds are all trained at the pretraining's rate; only the reported subnetworks differ.
    """

    def sparse(mask_from: RunSpec, **mask: Any) -> Iterator[RunSpec]:
        for setting in masked:
            init_from = None if setting == Setting.RR else pretrain
            for rate in rates:
                yield spec(setting, rate, init_from=init_from, mask_from=mask_from, **mask)

    pretrain = spec(Setting.PRETRAIN, pretrain_rate)
    yield pretrain
    sparsities = reported(config)
    masked = [s for s in (Setting.LT, Setting.RR, Setting.WR) if s in config.sparse_settings]
    for pruner in config.pruners if masked else ():
        if not pruning.PRUNERS[pruner].iterative:
            for sparsity in sparsities:
                yield from sparse(pretrain, pruner=pruner, sparsity=sparsity)
            continue
        last = pretrain
        for round_ in range(1, _rounds(config) + 1):
            sparsity = config.pruning.sparsity_of(round_)
            mask = {"pruner": pruner, "sparsity": sparsity, "round": round_}
            # The network trained in round n is LT-IMP at that sparsity, and gives round n + 1.
            ticket = spec(Setting.LT, pretrain_rate, init_from=pretrain, mask_from=last, **mask)
            own = Setting.LT in masked and pretrain_rate in rates
            if own or round_ < _rounds(config):
                yield ticket  # Once more below if it is reported: the plan keeps one of a key.
            if sparsity in sparsities:
                yield from sparse(last, **mask)
            last = ticket


def reported(config: Study) -> list[float]:
    """Sparsities of all sparse settings, exact where the config rounds as the paper does."""
    pruning_ = config.pruning
    if pruning_.sparsities is None:
        return [pruning_.sparsity_of(n) for n in range(1, (pruning_.rounds or 0) + 1)]
    rounds = [(pruning_.round_reaching(s), s) for s in pruning_.sparsities]
    return sorted(pruning_.sparsity_of(n) if n else s for n, s in rounds)


def _rounds(config: Study) -> int:
    """IMP rounds to train."""
    if config.pruning.rounds is not None:
        return config.pruning.rounds
    reached = [config.pruning.round_reaching(s) for s in config.pruning.sparsities or []]
    return max((n for n in reached if n is not None), default=0)


def _schedule(training: Training) -> str:
    schedule = training.schedule
    if schedule.name == "step":
        return f"step x{schedule.factor:g} after {','.join(map(str, schedule.milestones))}"
    return schedule.name


def _augmentation(dataset: Dataset) -> str | None:
    chosen = dataset.augmentation
    return None if chosen is None else f"pad {chosen.pad}{', flip' if chosen.flip else ''}"


def digest(facts: Any) -> str:
    """Hash of JSON values: 20 hexadecimal digits."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]
