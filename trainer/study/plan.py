"""Expands a study into its runs, in dependency order. Pure: no torch, no MLflow, no clock.

The source files of custom networks, pruners, settings and optimizers are read: their contents are
part of the run keys.

pretrain ─┬─ OMP masks ─ LT-OMP, RR-OMP, WR-OMP
          └─ round 1 ─ LT-IMP ─ round 2 ─ LT-IMP ─ …, each with its RR-IMP, WR-IMP
SDT, and everything under a mask that is found at θ₀: no parent
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal

from jackpot import plugins, revisions, settings, wording
from jackpot.contract import Param
from jackpot.settings import FirstEpoch, Setting, Weights
from trainer import networks, pruning
from trainer.study.config import DatasetChoice, Study, Training


@dataclass(frozen=True, eq=False)
class RunSpec:
    """One training: everything that decides its result, and nothing else.

    Attributes:
        network, dataset, training, layers, seed: as in the study's config.
        setting: the row of the table that this run is of.
        learning_rate: the highest learning rate of this run.
        trial: 1-based.
        pruner: of the mask; None where there is no mask.
        sparsity: of the mask; of a narrower network, of the pruned one whose size it matches;
            0 of dense networks.
        round: 1-based IMP round that makes the mask; None where there are no rounds.
        init_from: the run that gives θ₀, θ_t or θ_T; None: the run draws its weights.
        mask_from: the run whose weights are pruned to make the mask; None of a run with a pruner:
            the pruner looks at θ₀.
        mask_epoch: which of that run's weights: of the `last` or the `best` epoch. It determines
            what a run has to keep, so it is part of every run of the study except small-dense ones.
        matched: of an aligned mask, the dense networks of θ₀ and θ₀′ whose units are matched.
        network_revision, dataset_revision: of what the trainer builds and reads now
            (`jackpot.revisions`).
        dataset_sha256: of the images and labels (`trainer.datasets.Dataset.digest`); None where it
            is not known, and of runs planned by versions that did not look at it.
        network_sha256, setting_sha256, pruner_sha256, optimizer_sha256: of the sources of a user's
            own: another source is another run.
    """

    network: str
    dataset: DatasetChoice
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
    matched: "tuple[RunSpec, RunSpec] | None" = field(default=None, repr=False)
    network_revision: int = 1
    dataset_revision: int = 1
    dataset_sha256: str | None = None
    network_sha256: str | None = None
    setting_sha256: str | None = None
    pruner_sha256: str | None = None
    optimizer_sha256: str | None = None

    @cached_property
    def key(self) -> str:
        """Hash of everything that decides the result, parents included, defaults left out.

        A field added later with a default that means "as before" keeps every old key; so a
        default, once published, must never change. Names are no defaults: two kinds of optimizer
        or schedule never share a key. The rewind epoch counts only where training starts from it:
        pretraining does not depend on which of its epochs is kept.
        """
        training = self.training.model_dump(mode="json", exclude_defaults=True)
        training.pop("rewind_epoch", None)
        # Keys of SGD runs predate the optimizer's name in keys, so they do not have it.
        if training.get("optimizer", {}).get("name") == "sgd":
            del training["optimizer"]["name"]
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
            "rewind_epoch": self.training.rewind if self.setting.uses_rewind_epoch else None,
            "init_from": self.init_from.key if self.init_from else None,
            "mask_from": self.mask_from.key if self.mask_from else None,
            "matched": [run.key for run in self.matched] if self.matched else None,
            "network_revision": self._after_first(self.network_revision),
            "dataset_revision": self._after_first(self.dataset_revision),
            "dataset_sha256": self.dataset_sha256,
            "network_sha256": self.network_sha256,
            "setting_sha256": self.setting_sha256,
            "pruner_sha256": self.pruner_sha256,
            "optimizer_sha256": self.optimizer_sha256,
            "mask_epoch": self.mask_epoch if self.mask_epoch != "last" else None,
        }
        facts |= {name: value for name, value in optional.items() if value is not None}
        return digest(facts)

    @staticmethod
    def _after_first(revision: int) -> int | None:
        """None of the first revision, which keys and params have never named."""
        return revision if revision > 1 else None

    @property
    def parents(self) -> tuple["RunSpec", ...]:
        """Runs whose artifacts this run reads, each once."""
        found = (self.init_from, self.mask_from, *(self.matched or ()))
        return tuple({p.key: p for p in found if p}.values())

    @property
    def first_epoch(self) -> int:
        """0-based epoch of the schedule at which this run starts: 0 or the rewind epoch t."""
        return self.training.rewind if self.setting.first_epoch is FirstEpoch.REWIND else 0

    @property
    def epochs(self) -> int:
        """Epochs that this run trains: T or T − t."""
        return self.training.epochs - self.first_epoch

    @property
    def label(self) -> str:
        """Short name of the setting with its pruner, such as `lt-imp`.

        Where the mask was found at another learning rate, that too: `lt-imp (mask of lr 0.01)`.
        """
        label = self.setting.name
        if self.pruner:
            label = f"{label}-{plugins.short(self.pruner)}"
        rate = self.mask_from.learning_rate if self.mask_from else self.learning_rate
        return label if rate == self.learning_rate else f"{label} (mask of lr {rate:g})"

    @property
    def name(self) -> str:
        """Name of the run in MLflow and on screen."""
        sparsity = f" s={wording.sparsity(self.sparsity)}" if self.sparsity else ""
        return f"{self.label}{sparsity} lr={self.learning_rate:g} trial={self.trial}"

    def params(self) -> dict[Param, str]:
        """The run's MLflow params; those that do not apply to its setting are left out."""
        training = self.training
        optimizer = training.optimizer.model_dump(exclude={"name"})
        mask_rate = self.mask_from.learning_rate if self.mask_from else None
        values: dict[Param, Any] = {
            Param.NETWORK: self.network,
            Param.NETWORK_REVISION: self._after_first(self.network_revision),
            Param.DATASET_REVISION: self._after_first(self.dataset_revision),
            Param.DATASET: self.dataset.name,
            Param.SETTING: self.setting,
            Param.PRUNER: self.pruner,
            Param.SPARSITY: self.sparsity,
            Param.ROUND: self.round,
            Param.LEARNING_RATE: self.learning_rate,
            Param.PRETRAIN_LEARNING_RATE: mask_rate,
            Param.EPOCHS: self.epochs,
            Param.BATCH_SIZE: training.batch_size,
            Param.OPTIMIZER: training.optimizer.name,
            Param.MOMENTUM: optimizer.pop("momentum", None),
            Param.WEIGHT_DECAY: optimizer.pop("weight_decay", None),
            Param.NESTEROV: optimizer.pop("nesterov", None) or None,
            Param.OPTIMIZER_OPTIONS: " ".join(f"{k}={v}" for k, v in optimizer.items()) or None,
            Param.SCHEDULE: _schedule(training),
            Param.WARMUP_EPOCHS: training.warmup_epochs,
            Param.REWIND_EPOCH: training.rewind if self.setting.uses_rewind_epoch else None,
            Param.TRIAL: self.trial,
            Param.SEED: self.seed,
            Param.TRAIN_IMAGES: self.dataset.train_images,
            Param.TEST_IMAGES: self.dataset.test_images,
            Param.PRUNED_LAYERS: " ".join(self.layers) if self.layers else None,
            Param.VALIDATION_IMAGES: self.dataset.validation_images,
            Param.AUGMENTATION: _augmentation(self.dataset),
            Param.LABEL_SMOOTHING: training.label_smoothing or None,
            Param.MIXUP: training.mixup or None,
            Param.DECAY_BATCH_NORM: None if training.decay_batch_norm else False,
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
    """A study's runs, each after its parents, none twice.

    Attributes:
        study: name.
        runs: of an adaptive study, those that have been asked for so far.
        identity: of an adaptive study: what stays the same while its runs grow.
    """

    study: str
    runs: tuple[RunSpec, ...]
    identity: str | None = None

    @cached_property
    def key(self) -> str:
        """Hash of the run keys: two launches with the same plan share it.

        That of an adaptive study does not change while its runs grow.
        """
        if self.identity is not None:
            return self.identity
        return digest(sorted(run.key for run in self.runs))


def plan(config: Study, dataset_sha256: str | None = None) -> Plan:
    """The runs of a study, trial by trial, and within a trial learning rate by learning rate.

    Those of an adaptive study are the ones of its first look: see `trainer.study.adaptive`.

    Args:
        config: the study.
        dataset_sha256: of its images and labels; see `RunSpec`.

    Runs that others need are included whether or not their setting is listed: pretraining for
    every mask, and the IMP rounds before a reported one.
    """
    runs: dict[str, RunSpec] = {}
    make = maker(config, dataset_sha256)
    trials = config.trials if isinstance(config.trials, int) else config.trials.first
    for trial in range(1, trials + 1):
        for rate in config.rates:
            runs |= {run.key: run for run in runs_at(config, make, trial, rate)}
        for ablation in config.ablation:
            rates, looking = ablation.learning_rates, _looking_at_end(config)
            spec = partial(make, trial)
            found = list(_from(config, spec, ablation.pretrain_learning_rate, rates, looking))
            runs |= {run.key: run for run in found}
    # A setting that no rule above plans would be omitted silently.
    planned = {run.setting.name for run in runs.values()}
    for setting in config.chosen_settings:
        if setting.name not in planned:
            why = " ".join(["", *without_meaning(config)])
            raise ValueError(
                f"setting {setting.name!r} has no run in the plan of {config.study!r}.{why}"
            )
    return Plan(config.study, tuple(runs.values()))


def runs_at(config: Study, make: Callable[..., RunSpec], trial: int, rate: float) -> list[RunSpec]:
    """All that a study trains at one learning rate in one trial, parents first.

    Args:
        config: the study.
        make: from `maker`.
        trial: 1-based.
        rate: the learning rate.
    """
    spec = partial(make, trial)
    return [
        *_from(config, spec, rate, [rate], config.pruners),
        *_without_parents(config, spec, rate),
    ]


IMP_LRR = "imp_lrr"
"""The pruner whose rounds are trained as LRR."""
_Make = Callable[..., RunSpec]
"""Makes a run of one study and trial: takes the setting, the learning rate, parents and mask."""


def maker(config: Study, dataset_sha256: str | None) -> Callable[..., RunSpec]:
    """Makes runs of a study: takes the trial, then what `_Make` takes."""
    # A source file is read once, not once per run.
    network_sha256 = networks.fingerprint(config.network)
    network_revision = revisions.current(revisions.of_network(config.network))
    dataset_revision = revisions.current(revisions.of_dataset(config.dataset.name))
    rows = zip(config.settings, config.chosen_settings, strict=True)
    setting_sha256 = {
        row.name: plugins.fingerprint("setting", name)
        for name, row in rows
        if plugins.is_plugin(name)
    }
    pruner_sha256 = {name: pruning.fingerprint(name) for name in config.pruners}
    optimizer = config.training.optimizer.name
    own = plugins.is_plugin(optimizer)
    optimizer_sha256 = plugins.fingerprint("optimizer", optimizer) if own else None

    def make(
        trial: int, setting: Setting, rate: float, pruner: str | None = None, **more: Any
    ) -> RunSpec:
        layers = config.pruning.layers
        # The layers to prune decide a mask, and the size that a narrower network matches.
        pruned = None if layers == "default" or setting.is_dense else tuple(layers)
        return RunSpec(
            network=config.network,
            network_revision=network_revision,
            dataset_revision=dataset_revision,
            network_sha256=network_sha256,
            dataset=config.dataset,
            dataset_sha256=dataset_sha256,
            training=config.training,
            setting=setting,
            setting_sha256=setting_sha256.get(setting.name),
            learning_rate=rate,
            trial=trial,
            seed=config.seed,
            layers=pruned,
            mask_epoch="last" if setting.is_narrow else config.pruning.mask_epoch,
            pruner=pruner,
            pruner_sha256=pruner_sha256.get(pruner) if pruner else None,
            optimizer_sha256=optimizer_sha256,
            **more,
        )

    return make


def _without_parents(config: Study, spec: _Make, rate: float) -> Iterator[RunSpec]:
    """Dense networks besides pretraining, and narrower ones at each sparsity."""
    for setting in config.chosen_settings:
        if setting.is_narrow:
            for sparsity in reported(config):
                yield spec(setting, rate, sparsity=sparsity)
        elif setting.is_dense and not setting.is_pretraining:
            pretrain = spec(settings.PRETRAIN, rate)
            own = setting.weights.of_pretraining
            yield from (pretrain,) if own else ()
            yield spec(setting, rate, init_from=pretrain if own else None)


def _looking_at_end(config: Study) -> list[str]:
    return [pruner for pruner in config.pruners if pruning.find(pruner).looks_at_end]


def _from(
    config: Study,
    spec: _Make,
    pretrain_rate: float,
    rates: Sequence[float],
    pruners: Sequence[str],
) -> Iterator[RunSpec]:
    """Pretraining at one learning rate, and subnetworks of its masks trained at each of `rates`.

    IMP's rounds are all trained at the pretraining's rate; only the reported subnetworks differ.
    """

    pretrain = spec(settings.PRETRAIN, pretrain_rate)
    masked = [setting for setting in config.sparse_settings if setting.is_masked]
    # The last network of each setting that is trained on without pruning.
    continued = {s.name: pretrain for s in masked if s.weights is Weights.CONTINUED}

    def sparse(mask_from: RunSpec | None, pruner: str, **mask: Any) -> Iterator[RunSpec]:
        for setting in masked:
            if not has_meaning(setting, pruning.find(pruner)):
                continue
            parents: dict[str, Any] = {"mask_from": mask_from}
            if setting.weights in (Weights.KEPT, Weights.REWOUND):
                # If its pruner ignores pretraining, a run draws θ₀ itself: the same bits.
                alone = mask_from is None and setting.weights is Weights.KEPT
                parents["init_from"] = None if alone else pretrain
            elif setting.weights is Weights.TRAINED:
                parents["init_from"] = mask_from
            elif setting.weights is Weights.CONTINUED:
                parents = {"init_from": continued[setting.name]}
            if setting.aligned:
                parents["matched"] = pretrain, spec(settings.PRETRAIN_2, pretrain_rate)
                yield from parents["matched"]
            # What is trained on without pruning has no mask of another rate to compare (Table 4).
            own = setting.weights is Weights.CONTINUED
            for rate in [pretrain_rate] if own else rates:
                yield spec(setting, rate, pruner=pruner, **mask, **parents)

    looking_at_end = masked and any(pruning.find(pruner).looks_at_end for pruner in pruners)
    rewinding = any(setting.weights is Weights.REWOUND for setting in masked)
    if looking_at_end or rewinding or any(s.is_pretraining for s in config.chosen_settings):
        yield pretrain
    sparsities = reported(config)
    for pruner in pruners if masked else ():
        found = pruning.find(pruner)
        if not found.in_rounds:
            looked_at = pretrain if found.looks_at_end else None
            for sparsity in sparsities:
                yield from sparse(looked_at, pruner, sparsity=sparsity)
            continue
        last = pretrain
        for round_ in range(1, _rounds(config) + 1):
            sparsity = config.pruning.sparsity_of(round_)
            mask = {"sparsity": sparsity, "round": round_}
            # The network trained in round n is LT-IMP at that sparsity, and gives round n + 1.
            start = last if found.trains.weights is Weights.TRAINED else pretrain
            own = {"init_from": start, "mask_from": last, "pruner": pruner}
            ticket = spec(found.trains, pretrain_rate, **own, **mask)
            reports = found.trains in masked and pretrain_rate in rates
            if reports or round_ < _rounds(config):
                yield ticket  # Once more below if it is reported: the plan keeps one of a key.
            if sparsity in sparsities:
                yield from sparse(last, pruner, **mask)
            for setting in masked:
                if setting.name in continued and has_meaning(setting, found):
                    before = continued[setting.name]
                    more = spec(setting, pretrain_rate, pruner=pruner, init_from=before, **mask)
                    if round_ < _rounds(config):
                        yield more
                    continued[setting.name] = more
            last = ticket
        continued = dict.fromkeys(continued, pretrain)


def has_meaning(setting: Setting, pruner: pruning.Pruner) -> bool:
    """Whether a setting is defined under the masks of a pruner."""
    return _meaningless(setting, pruner) is None


def _meaningless(setting: Setting, pruner: pruning.Pruner) -> str | None:
    """Why a setting is not defined under the masks of a pruner; None if it is."""
    if setting.needs_training and not pruner.looks_at_end:
        return "nothing is trained before the mask is found"
    if setting.weights in (Weights.TRAINED, Weights.CONTINUED) and pruner.in_rounds:
        as_lt = pruner.trains.weights is not Weights.TRAINED
        return f"the rounds are trained as LT (those of {IMP_LRR} are not)" if as_lt else None
    if setting.inverted and pruner.in_rounds:
        return "the least important weights are those that earlier rounds pruned"
    return None


def without_meaning(config: Study) -> list[str]:
    """Says which settings a study does not train under which pruners, and why."""
    masked = [setting for setting in config.sparse_settings if setting.is_masked]
    found: dict[str, dict[str, list[str]]] = {}
    for name in config.pruners:
        pruner = pruning.find(name)
        reasons = {s.name: why for s in masked if (why := _meaningless(s, pruner))}
        for why in dict.fromkeys(reasons.values()):
            out = ", ".join(s for s, because in reasons.items() if because == why)
            found.setdefault(why, {}).setdefault(out, []).append(plugins.short(name))
    return [
        f"not trained: {settings_} under {', '.join(pruners)}, since {why}."
        for why, groups in found.items()
        for settings_, pruners in groups.items()
    ]


def reported(config: Study) -> list[float]:
    """Sparsities of all sparse settings: as asked, or those of the rounds that are meant."""
    pruning_ = config.pruning
    if pruning_.sparsities is None:
        return [pruning_.sparsity_of(n) for n in range(1, (pruning_.rounds or 0) + 1)]
    if not config.has_rounds:
        return sorted(pruning_.sparsities)
    rounds = [(pruning_.round_reaching(s), s) for s in pruning_.sparsities]
    return sorted(pruning_.sparsity_of(n) if n else s for n, s in rounds)


def rounds_named(config: Study) -> list[str]:
    """Says which rounds are meant by sparsities that are not those of rounds to the digit."""
    pruning_ = config.pruning
    if not config.has_rounds:
        return []
    return [
        f"sparsity {sparsity:g} is that of round {n}: {pruning_.sparsity_of(n):.6g}"
        for sparsity in pruning_.sparsities or []
        if (n := pruning_.round_reaching(sparsity))
        and wording.sparsity(pruning_.sparsity_of(n)) != wording.sparsity(sparsity)
    ]


def _rounds(config: Study) -> int:
    """IMP rounds to train."""
    if config.pruning.rounds is not None:
        return config.pruning.rounds
    if not config.has_rounds:
        return 0
    reached = [config.pruning.round_reaching(s) for s in config.pruning.sparsities or []]
    return max((n for n in reached if n is not None), default=0)


def _schedule(training: Training) -> str:
    schedule = training.schedule
    if schedule.name == "step":
        return f"step x{schedule.factor:g} after {','.join(map(str, schedule.milestones))}"
    return schedule.name


def _augmentation(dataset: DatasetChoice) -> str | None:
    chosen = dataset.augmentation
    return None if chosen is None else f"pad {chosen.pad}{', flip' if chosen.flip else ''}"


def digest(facts: Any) -> str:
    """Hash of JSON values: 20 hexadecimal digits."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]
