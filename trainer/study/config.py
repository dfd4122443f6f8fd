"""The schema of a study: what a YAML file in `configs/` may say.

Everything in table E.1 of the paper can be said here. Units: epochs are whole passes over the
training images, learning rates are those of plain SGD, sparsities are fractions of the pruned
layers' weights.
"""

import math
import re
from collections.abc import Callable
from fractions import Fraction as Rational
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializeAsAny,
    Tag,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from jackpot import plugins, wording
from jackpot.conditions import CONDITIONS, Criteria
from jackpot.definition import compared
from jackpot.looks import Looks
from jackpot.settings import SETTINGS, FirstEpoch, Setting
from jackpot.settings import find as find_setting
from trainer import datasets, networks, pruning
from trainer.study import optimizers
from trainer.study.optimizers import SGD, Optimizer

NAME_PATTERN = r"^[A-Za-z0-9](\.?[A-Za-z0-9_-])*$"
NAME_RULE = "letters, digits, '_', '-' and single dots inside, starting with a letter or digit"
# The paper rounds sparsities to three decimals: 0.590 stands for 1 - 0.8**4 = 0.5904.
SPARSITY_ROUNDING = 0.0005

# More than any study needs, and few enough to be counted through.
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Images = Annotated[int, Field(ge=1, le=1_000_000_000)]
Few = Annotated[int, Field(ge=1, le=1000)]
_MOST_RUNS = 100_000
Pattern = Annotated[str, Field(min_length=1, max_length=200)]
Fraction = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]


def problem(message: str, *at: str | int) -> PydanticCustomError:
    """A validation error about the field at path `at` below the model that raises it."""
    return PydanticCustomError("study", "{message}", {"message": message, "at": list(at)})


def _known(
    kind: str,
    names: Callable[[], list[str]],
    own: re.Pattern[str] | None = None,
    imported: Callable[[str], object] | None = None,
) -> AfterValidator:
    """Accepts one of `names()`, or a custom name that `own` matches.

    `imported` imports a custom one now; without it, errors only appear when it is used.
    """

    def check(name: str) -> str:
        if name not in names():
            if not (own and own.fullmatch(name)):
                raise PydanticCustomError("unknown_name", "unknown " + kind, {"choices": names()})
            if imported is not None:
                imported(name)
        return name

    return AfterValidator(check)


NetworkName = Annotated[str, _known("network", networks.names, plugins.PLUGIN)]
DatasetName = Annotated[str, _known("dataset", datasets.names, datasets.OWN)]
PrunerName = Annotated[str, _known("pruner", pruning.names, plugins.PLUGIN, pruning.find)]
SettingName = Annotated[
    str, _known("setting", lambda: list(SETTINGS), plugins.PLUGIN, find_setting)
]


TICKETS = [name for name, setting in SETTINGS.items() if setting.is_ticket]
"""Settings that can be judged."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class AugmentationChoice(_Section):
    """What training applies to images in place of the dataset's own augmentation."""

    pad: Annotated[int, Field(ge=0, le=64)] = 0
    flip: bool = False


class DatasetChoice(_Section):
    """Which images to train and evaluate on; a subset takes the first images of a split."""

    name: DatasetName
    train_images: Images | None = None
    test_images: Images | None = None
    validation_images: Images | None = None
    """Last of the training images, held out from training to choose learning rates and epochs."""
    augmentation: AugmentationChoice | None = None


class StepSchedule(_Section):
    """Learning rate times `factor` after each of the epochs in `milestones`."""

    name: Literal["step"]
    milestones: Annotated[list[Count], Field(min_length=1)]
    factor: Fraction = 0.1

    @field_validator("milestones")
    @classmethod
    def _ascending(cls, milestones: list[int]) -> list[int]:
        if milestones != sorted(set(milestones)):
            raise ValueError("milestones must ascend, each named once")
        return milestones


class CosineSchedule(_Section):
    """Half a cosine from the learning rate to 0, from the end of warm-up to the last step."""

    name: Literal["cosine"]


class ConstantSchedule(_Section):
    """The same learning rate throughout (after warm-up)."""

    name: Literal["constant"]


Schedule = Annotated[StepSchedule | CosineSchedule | ConstantSchedule, Field(discriminator="name")]


class Training(_Section):
    """The recipe that every setting of the study is trained with."""

    epochs: Count
    batch_size: Count
    optimizer: Annotated[SerializeAsAny[Optimizer], BeforeValidator(optimizers.chosen)] = SGD(
        name="sgd"
    )
    schedule: Schedule = ConstantSchedule(name="constant")
    warmup_epochs: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mixup: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 0.0
    """α of mixup (Zhang et al. 2018): each training batch is mixed with its own images in reverse,
    in a share drawn from Beta(α, α); 0: none."""
    decay_batch_norm: bool = True
    """Whether weight decay pulls on batch norm's scales and offsets too."""
    rewind_epoch: Count | None = None
    """Epoch whose weights WR starts from; left out, 5 % of `epochs` (appendix D)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of convolutions and matrix products; weights, batch norm's statistics and the loss stay
    float32 (torch's autocast)."""
    evaluate_every: Count = 1
    """Epochs between evaluations; the last epoch is evaluated in any case."""
    devices_per_run: Annotated[int, Field(ge=1, le=64)] = 1
    """Devices of one machine that share each batch; each normalises its own part of it."""

    @property
    def rewind(self) -> int:
        """The epoch t whose weights pretraining keeps for weight rewinding."""
        return self.rewind_epoch or max(1, math.floor(0.05 * self.epochs + 0.5))

    @property
    def evaluated_epochs(self) -> list[int]:
        """The 1-based epochs after which test (and held-out) images are evaluated."""
        every = range(self.evaluate_every, self.epochs + 1, self.evaluate_every)
        return sorted({*every, self.epochs})

    @model_validator(mode="after")
    def _fits_into_the_epochs(self) -> "Training":
        last = self.epochs
        if self.warmup_epochs > last:
            raise problem(
                f"warm-up of {self.warmup_epochs} epochs is longer than the training of {last}",
                "warmup_epochs",
            )
        if self.rewind_epoch is not None and self.rewind_epoch >= last:
            raise problem(
                f"rewind epoch {self.rewind_epoch} leaves nothing to train: it must be below "
                f"epochs ({last})",
                "rewind_epoch",
            )
        if isinstance(self.schedule, StepSchedule) and self.schedule.milestones[-1:] >= [last]:
            raise problem(
                f"milestone {self.schedule.milestones[-1]} is never reached: the training ends "
                f"after epoch {last}",
                "schedule",
                "milestones",
            )
        return self


class Pruning(_Section):
    """How deep the networks are pruned, and which of their layers."""

    fraction: Fraction = 0.2
    """Share of the *remaining* weights that each IMP round removes."""
    rounds: Few | None = None
    """IMP rounds to train; left out, as many as the deepest sparsity needs."""
    sparsities: Annotated[list[Fraction], Field(min_length=1, max_length=1000)] | None = None
    """Sparsities at which every sparse setting is trained; left out, those of all rounds."""
    mask_epoch: Literal["last", "best"] = "last"
    """Epoch whose weights are pruned: the last (the paper's θ_T), or the best by held-out accuracy,
    without held-out images by test accuracy (as the authors' code does)."""
    layers: Literal["default"] | Annotated[list[Pattern], Field(min_length=1, max_length=1000)] = (
        "default"
    )
    """Layers to prune, as shell patterns over layer names; `default` is the network's own list."""

    def sparsity_of(self, round_: int) -> float:
        """Sparsity 1 − (1 − fraction)ⁿ after n IMP rounds, rounded once: the same everywhere."""
        return float(1 - (1 - Rational(repr(self.fraction))) ** round_)

    def round_reaching(self, sparsity: float) -> int | None:
        """The IMP round of the nearest sparsity, if that rounds to `sparsity` as the paper rounds.

        Deep sparsities that round alike are told apart by the nearest density: 0.998 is round 28.
        """
        _, nearest = min((abs(self.sparsity_of(n) - sparsity), n) for n in self._around(sparsity))
        is_near = abs(self.sparsity_of(nearest) - sparsity) <= SPARSITY_ROUNDING
        return nearest if is_near else None

    def nearest(self, sparsity: float) -> str:
        """The reachable sparsities just below and above `sparsity`, for an error message."""
        return " and ".join(
            f"{wording.sparsity(self.sparsity_of(n))} (round {n})" for n in self._around(sparsity)
        )

    def _around(self, sparsity: float) -> list[int]:
        """The rounds just below and above a sparsity."""
        above = max(1, math.ceil(math.log1p(-sparsity) / math.log1p(-self.fraction) - 1e-9))
        return [n for n in (above - 1, above) if n > 0]


class Ablation(_Section):
    """Subnetworks trained at other learning rates than the pretraining of their mask (Table 4)."""

    pretrain_learning_rate: Rate
    learning_rates: Annotated[list[Rate], Field(min_length=1, max_length=1000)]


class Reading(_Section):
    """How the study's verdicts are to be read, where the paper's numbers are not meant.

    The explorer takes these as defaults; they change no run.
    """

    tolerance: Annotated[float, Field(ge=0, le=1)] | None = None
    """Accuracy drop that still counts as similar, a fraction: 0.005 is half a point."""
    gap: Annotated[float, Field(ge=0, le=1)] | None = None
    """Difference that counts as clear, a fraction."""
    sparsity: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Least sparsity that is not trivial."""
    epochs: Count | None = None
    """Least number of epochs that is sufficient."""
    floor: Annotated[float, Field(ge=0, le=1)] | None = None
    """How far below the best dense network a decent learning rate may stay, a fraction."""
    ticket: Annotated[str, _known("ticket", lambda: TICKETS)] | None = None
    """Which setting is judged; left out, lt."""


class TrialRange(_Section):
    """Between so many trials of each cell and so many: see `Study.until`."""

    model_config = ConfigDict(serialize_by_alias=True)

    first: Annotated[int, Field(alias="from", ge=2, le=1000)]
    """At the first look; one trial would tell no noise."""
    last: Annotated[int, Field(alias="to", ge=2, le=1000)]

    @model_validator(mode="after")
    def _ascends(self) -> "TrialRange":
        if self.last < self.first:
            raise problem(f"expected {self.first} (from) or more, found {self.last}", "to")
        return self


class RateRange(_Section):
    """Learning rates at equal ratios, rounded to two digits."""

    model_config = ConfigDict(serialize_by_alias=True)

    first: Annotated[Rate, Field(alias="from")]
    last: Annotated[Rate, Field(alias="to")]
    count: Annotated[int, Field(ge=2, le=100)]

    @property
    def ratio(self) -> float:
        """Of two neighbours."""
        return float((self.last / self.first) ** (1 / (self.count - 1)))

    @property
    def rates(self) -> list[float]:
        """Ascending; the ends as they are written."""
        inner = [two_digits(self.first * self.ratio**i) for i in range(1, self.count - 1)]
        return [self.first, *inner, self.last]

    @model_validator(mode="after")
    def _are_apart(self) -> "RateRange":
        if self.last <= self.first:
            raise problem(f"expected more than {self.first:g} (from), found {self.last:g}", "to")
        if self.rates != sorted(set(self.rates)):
            raise problem(
                f"{self.count} rates from {self.first:g} to {self.last:g} are the same when "
                "rounded to two digits",
                "count",
            )
        return self


def two_digits(value: float) -> float:
    """A number rounded to two significant digits.

    >>> two_digits(0.0234567), two_digits(0.1)
    (0.023, 0.1)
    """
    return float(f"{value:.1e}")


def _range_or(other: str) -> Callable[[Any], str]:
    """Which branch of a union a value is meant for, so that errors are told of that one alone."""
    return lambda value: "range" if isinstance(value, dict | _Section) else other


class Study(_Section):
    """One study: settings × learning rates × sparsities × trials of one network and dataset."""

    study: Annotated[str, Field(pattern=NAME_PATTERN, max_length=100)]
    network: NetworkName
    dataset: DatasetChoice
    learning_rates: Annotated[
        Annotated[RateRange, Tag("range")]
        | Annotated[list[Rate], Field(min_length=1, max_length=1000), Tag("each")],
        Discriminator(_range_or("each")),
    ]
    trials: Annotated[
        Annotated[TrialRange, Tag("range")] | Annotated[Few, Tag("number")],
        Discriminator(_range_or("number")),
    ] = 3
    until: Literal["decided"] | None = None
    """`decided`: `trials` is a range. Trials are added only where an undecided verdict needs them,
    until every verdict is decided, or no more trials would decide it."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    settings: Annotated[list[SettingName], Field(min_length=1)] = [
        "pretrain",
        "lt",
        "rr",
        "sdt",
    ]
    pruners: Annotated[list[PrunerName], Field(min_length=1)] = ["imp", "omp"]
    pruning: Pruning = Pruning()
    ablation: list[Ablation] = []
    training: Training
    checkpoint_every: Count = 1
    """Epochs between checkpoints: what a killed run loses at most. Does not change results."""
    fuse: Literal["auto", "off"] | Few = "auto"
    """Runs that are stepped side by side in one process; `auto`: on a GPU as many as a short
    calibration finds fastest, on a CPU one."""
    criteria: Reading = Reading()
    trajectory_every: Count | None = None
    """Epochs between weights that pretraining and the runs at `pruning.sparsities` keep, for
    `python -m trainer.landscape`. Does not change results."""

    @field_validator("dataset", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("learning_rates", "settings", "pruners")
    @classmethod
    def _named_once(cls, values: Any) -> Any:
        if not isinstance(values, list):
            return values
        twice = [value for i, value in enumerate(values) if value in values[:i]]
        if twice:
            raise ValueError(f"{twice[0]!r} is named twice")
        return values

    @property
    def rates(self) -> list[float]:
        """The learning rates of the first look."""
        chosen = self.learning_rates
        return chosen.rates if isinstance(chosen, RateRange) else chosen

    @property
    def most_trials(self) -> int:
        """Trials of each cell, of an adaptive study at most."""
        return self.trials.last if isinstance(self.trials, TrialRange) else self.trials

    @property
    def looks(self) -> Looks | None:
        """When an adaptive study judges its runs; None of one with a number of trials."""
        chosen = self.trials
        return Looks(chosen.first, chosen.last) if isinstance(chosen, TrialRange) else None

    @property
    def chosen_settings(self) -> list[Setting]:
        """The rows of the study's settings, in its order."""
        return [find_setting(name) for name in self.settings]

    @property
    def sparse_settings(self) -> list[Setting]:
        """Those of the study's settings that train at a given sparsity."""
        return [setting for setting in self.chosen_settings if not setting.is_dense]

    @property
    def has_rounds(self) -> bool:
        """Whether any pruner prunes in rounds, so that sparsities must be those of the rounds."""
        return any(pruning.find(name).in_rounds for name in self.pruners)

    @model_validator(mode="after")
    def _settings_are_told_apart(self) -> "Study":
        known: dict[str, str] = {}
        for i, (name, setting) in enumerate(zip(self.settings, self.chosen_settings, strict=True)):
            if setting.name in known:
                raise problem(
                    f"{name!r} is called {setting.name!r}, as {known[setting.name]!r} is",
                    *("settings", i),
                )
            known[setting.name] = name
        return self

    @model_validator(mode="after")
    def _pruners_are_told_apart(self) -> "Study":
        known: dict[str, str] = {}
        for i, name in enumerate(self.pruners):
            short = plugins.short(name)
            if known.setdefault(short, name) != name:
                raise problem(
                    f"{name!r} is called {short!r} on screen, as {known[short]!r} is: give its "
                    "function another name",
                    *("pruners", i),
                )
        return self

    @model_validator(mode="after")
    def _can_be_decided(self) -> "Study":
        if self.until is None:
            if self.looks:
                raise problem(
                    "a range of trials needs 'until: decided'; without it, give a number", "trials"
                )
            return self
        if not self.looks:
            raise problem(
                "'until: decided' needs a range of trials, such as {from: 2, to: 8}", "trials"
            )
        ticket = self.criteria.ticket
        rivals = compared(Criteria(ticket=ticket) if ticket else Criteria(), CONDITIONS)
        absent = [name for name in rivals if name not in {s.name for s in self.chosen_settings}]
        if absent:
            raise problem(
                f"no verdict can be decided without {', '.join(absent)}: the conditions compare "
                f"{', '.join(rivals)}",
                "settings",
            )
        if self.ablation:
            raise problem(
                "'until: decided' plans trials by verdicts, and an ablation has none: make it a "
                "study of its own",
                "ablation",
            )
        return self

    @model_validator(mode="after")
    def _runs_can_be_counted(self) -> "Study":
        depths = max(self.pruning.rounds or 0, len(self.pruning.sparsities or ()), 1)
        rates = len(self.rates) + sum(len(a.learning_rates) + 1 for a in self.ablation)
        most = self.most_trials * rates * len(self.settings) * len(self.pruners) * depths
        if most > _MOST_RUNS:
            raise problem(f"this plans up to {most:,} runs, more than {_MOST_RUNS:,}")
        return self

    @model_validator(mode="after")
    def _rewinding_leaves_epochs(self) -> "Study":
        rewinding = [s.name for s in self.chosen_settings if s.first_epoch is FirstEpoch.REWIND]
        if rewinding and self.training.rewind >= self.training.epochs:
            raise problem(
                f"{rewinding[0]} starts after epoch {self.training.rewind} and would have none "
                "left to train",
                "training",
                "epochs",
            )
        return self

    @model_validator(mode="after")
    def _masks_of_an_ablation_come_from_pretraining(self) -> "Study":
        if self.ablation and not any(pruning.find(p).looks_at_end for p in self.pruners):
            raise problem(
                "an ablation crosses the learning rate of pretraining with that of its masks' "
                "subnetworks, and no pruner of this study looks at pretraining",
                "ablation",
            )
        return self

    @model_validator(mode="after")
    def _sparsities_are_reached(self) -> "Study":
        if not self.sparse_settings:
            return self
        chosen, rounds = self.pruning.sparsities, self.pruning.rounds
        if chosen is None and rounds is None:
            raise problem(
                "say how deep to prune: rounds (14 in the paper), sparsities, or both", "pruning"
            )
        meant: dict[float, float] = {}
        written: dict[str, float] = {}
        for i, sparsity in enumerate(chosen or []):
            at = ("pruning", "sparsities", i)
            reached = self.pruning.round_reaching(sparsity) if self.has_rounds else None
            if reached is None and self.has_rounds:
                raise problem(
                    f"no IMP round reaches sparsity {sparsity:g}; the nearest are "
                    f"{self.pruning.nearest(sparsity)}",
                    *at,
                )
            if reached is not None and rounds is not None and reached > rounds:
                raise problem(
                    f"sparsity {sparsity:g} is reached in round {reached}, but rounds is {rounds}",
                    *at,
                )
            if sparsity in (chosen or [])[:i]:
                raise problem(f"sparsity {sparsity:g} is named twice", *at)
            known = meant.setdefault(reached or sparsity, sparsity)
            if known != sparsity:
                raise problem(
                    f"sparsities {known:g} and {sparsity:g} are both round {reached}, "
                    f"{self.pruning.sparsity_of(reached or 0):.6g}",
                    *at,
                )
            alike = written.setdefault(wording.sparsity(sparsity), sparsity)
            if alike != sparsity:
                raise problem(
                    f"sparsities {alike:g} and {sparsity:g} are both {wording.sparsity(sparsity)} "
                    "on screen and in names: choose others",
                    *at,
                )
        return self
