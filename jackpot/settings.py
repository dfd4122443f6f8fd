"""The settings of the paper (section 2.1) as a table.

A row says all that distinguishes a setting: where its weights come from, which mask it has, and
where in the schedule it starts. The plan, the start of a run, run keys, config checks, reports and
legends read rows; nothing else names a setting. A setting of your own is a `Setting` in a module
of yours, named `package.module:name` in a config.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

import numpy as np

from jackpot import plugins
from jackpot.artifacts import Arrays, Mask

MaskRule = Callable[[Mask, np.random.Generator], Mask]
"""The mask that a setting trains under, from the pruner's mask. Draws come from the generator,
which is the same for all runs of a trial."""
WeightsRule = Callable[[Arrays, Mask, np.random.Generator], Arrays]
"""Initial weights that a setting makes of those in its row, under its mask; draws as above."""
_NAME, _COLOUR = re.compile(r"[a-z][a-z0-9_]*"), re.compile(r"#[0-9a-f]{6}")
SHAPES = (
    *("circle", "triangle-up", "square", "diamond", "cross", "triangle-down", "pentagon", "star"),
    *("hexagon", "bow tie", "arrow", "wedge", "hourglass", "octagon", "kite", "chevron"),
    *("triangle-left", "triangle-right"),
)
"""Of points in charts."""


class TableError(ValueError):
    """A row of a table is incomplete or contradicts itself; the message says which and why."""


class Weights(Enum):
    """Where a setting's initial weights come from."""

    DRAWN = "θ₀, the trial's draw"
    REDRAWN = "θ₀′, a second draw of the trial"
    KEPT = "θ₀ of pretraining"
    REWOUND = "θ_t of pretraining, with a fresh optimizer"
    TRAINED = "θ_T that the mask was pruned from, with a fresh optimizer"
    CONTINUED = "its own after the round before, at first θ_T of pretraining"
    NARROW = "a draw of a narrower network, with as many parameters as the pruned one keeps"

    @property
    def of_pretraining(self) -> bool:
        """Whether they are weights that pretraining has kept."""
        return self in (Weights.KEPT, Weights.REWOUND)


class FirstEpoch(Enum):
    """Where in the schedule training starts."""

    START = "T epochs"
    REWIND = "the remaining T − t epochs of the schedule"


def as_pruned(mask: Mask, rng: np.random.Generator) -> Mask:
    """The pruner's mask as it is."""
    return mask


def shuffled(mask: Mask, rng: np.random.Generator) -> Mask:
    """The mask shuffled within each layer: as many weights survive, at random positions."""
    return {path: rng.permuted(entry.ravel()).reshape(entry.shape) for path, entry in mask.items()}


def whole(mask: Mask, rng: np.random.Generator) -> Mask:
    """A mask that prunes nothing."""
    return {path: np.ones_like(entry) for path, entry in mask.items()}


def rearranged(weights: Arrays, mask: Mask, rng: np.random.Generator) -> Arrays:
    """Surviving weights shuffled among the surviving places of their layer."""
    found = dict(weights)
    for path, entry in mask.items():
        found[path] = weights[path].copy()
        found[path][entry] = rng.permuted(weights[path][entry])
    return found


@dataclass(frozen=True)
class Setting:
    """A row of the table.

    Attributes:
        name: in configs and in MLflow: lower case.
        label: on screen.
        colour: of its lines, `#rrggbb`; readable on white and on dark grey, and apart from the
            others' to colour-blind eyes.
        weights: where its initial weights come from.
        mask: which mask it trains under, from the pruner's mask; None: it is dense.
        first_epoch: where in the schedule it starts.
        is_ticket: whether it can be judged as a winning ticket.
        start: what it makes of those weights; None: it leaves them.
        signs_of: whose signs its surviving weights take, `KEPT` or `TRAINED`; their magnitudes
            stay.
        inverted: whether its mask keeps the least important weights in place of the most.
        other_order: whether it sees the training images in a second order of the trial.
        aligned: whether its mask is permuted to the units of the network that starts from θ₀′.
        shape: of its points, one of `SHAPES`.

    Raises:
        TableError: a row that is incomplete or contradicts itself.

    Example:
        >>> from jackpot import settings
        >>> settings.find("wr").weights.value
        'θ_t of pretraining, with a fresh optimizer'
    """

    name: str
    label: str
    colour: str
    weights: Weights
    mask: MaskRule | None
    first_epoch: FirstEpoch = FirstEpoch.START
    is_ticket: bool = False
    start: WeightsRule | None = None
    signs_of: Weights | None = None
    inverted: bool = False
    other_order: bool = False
    aligned: bool = False
    shape: str = "triangle-right"

    def __post_init__(self) -> None:
        def refuse(problem: str) -> None:
            raise TableError(f"setting {self.name!r}: {problem}")

        if not _NAME.fullmatch(self.name):
            refuse("a name has lower-case letters, digits and '_', and starts with a letter")
        if not self.label.strip() or "-" in self.label:
            refuse("it needs a label without '-', which stands before the pruner in legends")
        if not _COLOUR.fullmatch(self.colour):
            refuse(f"expected a colour such as '#548cf1', found {self.colour!r}")
        if self.shape not in SHAPES:
            refuse(f"shape must be one of {', '.join(SHAPES)}, found {self.shape!r}")
        if not isinstance(self.weights, Weights):
            refuse(f"weights must be one of {', '.join(map(str, Weights))}")
        if not isinstance(self.first_epoch, FirstEpoch):
            refuse(f"first_epoch must be one of {', '.join(map(str, FirstEpoch))}")
        if self.mask is not None and not callable(self.mask):
            refuse("mask must be a function (mask, rng) -> mask, or None for a dense network")
        if self.mask is not None and self.weights in (Weights.NARROW, Weights.DRAWN):
            refuse(
                "a masked network starts from pretraining's weights or from a second draw; a mask "
                "does not fit a narrower network, and θ₀ under a mask is Weights.KEPT"
            )
        if self.start is not None and not callable(self.start):
            refuse("start must be a function (weights, mask, rng) -> weights")
        if self.signs_of not in (None, Weights.KEPT, Weights.TRAINED):
            refuse("signs_of must be Weights.KEPT, Weights.TRAINED or None")
        changes = self.start or self.signs_of or self.inverted or self.aligned
        if self.mask is None and changes:
            refuse("start, signs_of, inverted and aligned are of a network under a mask")
        if self.mask is None and self.weights is Weights.TRAINED:
            refuse("Weights.TRAINED are those that a mask was pruned from, and it has no mask")
        if self.mask is not whole and self.weights is Weights.CONTINUED:
            refuse("Weights.CONTINUED has no mask but `whole`: it is trained without pruning")
        if self.is_ticket and self.mask is None:
            refuse("a ticket is weights under a mask, and it has no mask")

    def __str__(self) -> str:
        return self.name

    @property
    def is_masked(self) -> bool:
        """Whether it trains under a mask."""
        return self.mask is not None

    @property
    def is_narrow(self) -> bool:
        """Whether it trains a narrower network in place of a masked one."""
        return self.weights is Weights.NARROW

    @property
    def is_dense(self) -> bool:
        """Whether it trains the whole network."""
        return not (self.is_masked or self.is_narrow)

    @property
    def is_pretraining(self) -> bool:
        """Whether it is the setting that gives others their weights and first masks."""
        return self.name == PRETRAIN.name

    @property
    def needs_training(self) -> bool:
        """Whether it starts from the weights that a mask was pruned from, or takes their signs."""
        of_rounds = (Weights.TRAINED, Weights.CONTINUED)
        return self.weights in of_rounds or self.signs_of is Weights.TRAINED

    @property
    def uses_rewind_epoch(self) -> bool:
        """Whether the rewind epoch t decides its result."""
        return self.weights is Weights.REWOUND or self.first_epoch is FirstEpoch.REWIND


PRETRAIN = Setting("pretrain", "pretrain", "#949494", Weights.DRAWN, mask=None, shape="circle")
"""Gives θ₀ and θ_t, and the weights that the first masks are pruned from."""
LT = Setting("lt", "LT", "#548cf1", Weights.KEPT, as_pruned, is_ticket=True, shape="triangle-up")
"""The lottery ticket. Pruners that go in rounds train their rounds as this setting."""
RR = Setting("rr", "RR", "#dd7216", Weights.REDRAWN, as_pruned, shape="square")
WR = Setting(
    "wr",
    "WR",
    "#047840",
    Weights.REWOUND,
    as_pruned,
    FirstEpoch.REWIND,
    is_ticket=True,
    shape="diamond",
)
LRR = Setting(
    "lrr",
    "LRR",
    "#9018f0",
    Weights.TRAINED,
    as_pruned,
    is_ticket=True,
    shape="triangle-down",
)
"""Learning-rate rewinding (Renda et al. 2020): the trained weights that survive, trained on through
the whole schedule. Pruners can train their rounds as this setting."""
SDT = Setting("sdt", "SDT", "#ab3099", Weights.NARROW, mask=None, shape="cross")

SH = Setting("sh", "SH", "#f03060", Weights.KEPT, shuffled, shape="pentagon")
"""The ticket's own weights under its mask, shuffled: does the mask matter, or its densities?"""
INVERTED = Setting(
    "inverted", "inverted", "#a84800", Weights.KEPT, as_pruned, inverted=True, shape="star"
)
"""θ₀ under the mask that keeps the least important weights."""
REARRANGED = Setting(
    "rearranged",
    "rearranged",
    "#f000d8",
    Weights.KEPT,
    as_pruned,
    start=rearranged,
    shape="hexagon",
)
"""The surviving values of θ₀, shuffled within each layer: does it matter which is where?"""
RR_SIGNS = Setting(
    "rr_signs",
    "RR signs θ₀",
    "#d860c0",
    Weights.REDRAWN,
    as_pruned,
    signs_of=Weights.KEPT,
    shape="bow tie",
)
"""θ₀′ with the signs of θ₀ on the survivors."""
RR_SIGNS_T = Setting(
    "rr_signs_t",
    "RR signs θ_T",
    "#786078",
    Weights.REDRAWN,
    as_pruned,
    signs_of=Weights.TRAINED,
    shape="arrow",
)
"""θ₀′ with the signs of the trained weights that the mask was pruned from."""
RR_ALIGNED = Setting(
    "rr_aligned",
    "RR aligned",
    "#907830",
    Weights.REDRAWN,
    as_pruned,
    aligned=True,
    shape="wedge",
)
"""θ₀′ under the mask, permuted to the units that θ₀′ trains to (Jain et al. 2025)."""
PRETRAIN_2 = Setting(
    "pretrain_2", "pretrain 2", "#6060c0", Weights.REDRAWN, mask=None, shape="octagon"
)
"""The dense network from θ₀′."""
AS_LONG = Setting(
    "as_long", "dense as long", "#30a878", Weights.CONTINUED, whole, shape="hourglass"
)
"""The dense network trained through as many schedules as LRR, without pruning between them."""
LT_TWIN = Setting(
    "lt_twin", "LT twin", "#c078a8", Weights.KEPT, as_pruned, other_order=True, shape="kite"
)
"""LT with another order of the images: are both ends of it connected? (Frankle et al. 2020)"""
WR_TWIN = Setting(
    "wr_twin",
    "WR twin",
    "#a800d8",
    Weights.REWOUND,
    as_pruned,
    FirstEpoch.REWIND,
    other_order=True,
    shape="chevron",
)
"""WR with another order of the images."""


def table(rows: Iterable[Setting]) -> Mapping[str, Setting]:
    """Rows by name, in order.

    Raises:
        TableError: two rows of one name or one label.
    """
    found: dict[str, Setting] = {}
    for row in rows:
        for other in found.values():
            if row.name == other.name or row.label == other.label:
                raise TableError(f"settings {other.name!r} and {row.name!r} share name or label")
        found[row.name] = row
    return MappingProxyType(found)


CONTROLS = (
    *(SH, INVERTED, REARRANGED, RR_SIGNS, RR_SIGNS_T, RR_ALIGNED, PRETRAIN_2, AS_LONG),
    *(LT_TWIN, WR_TWIN),
)
SETTINGS = table([PRETRAIN, LT, RR, WR, LRR, SDT, *CONTROLS])

# Of settings that a store names and no row describes.
_STRANGERS = ("#0f93a8", "#d62728", "#8f8a00", "#8c564b", "#d56bb3", "#6a6fc0")


def find(name: str) -> Setting:
    """The setting of a name in the table, or a user's own by `package.module:name`.

    Raises:
        PluginError: a user's own that cannot be imported.
        ValueError: an unknown name.
    """
    if name in SETTINGS:
        return SETTINGS[name]
    if plugins.is_plugin(name):
        own = plugins.load("setting", name, Setting)
        for row in SETTINGS.values():
            if own.name == row.name or own.label == row.label:
                raise plugins.PluginError(
                    f"setting '{name}' has the name or label of {row.name!r}; give it its own"
                )
        return own
    raise ValueError(
        f"unknown setting {name!r}; known are {', '.join(SETTINGS)}, and a setting of your own as "
        "'package.module:name'"
    )


def label(name: str) -> str:
    """How a setting that a store names is called on screen, known or not.

    >>> label("lt"), label("mypackage.mymodule:shuffled")
    ('LT', 'SHUFFLED')
    """
    return SETTINGS[name].label if name in SETTINGS else plugins.short(name).upper()


DENSE = "dense"


def method(pruner: str | None) -> str:
    """What a pruner is called on screen; `dense` where there is none.

    >>> method("imp"), method("mypackage.mymodule:lamp"), method(None)
    ('IMP', 'LAMP', 'dense')
    """
    return DENSE if pruner is None else plugins.short(pruner).upper()


def line(setting: str, pruner: str | None = None) -> str:
    """What a setting under a pruner's masks is called on screen.

    >>> line("lt", "imp"), line("sdt")
    ('LT-IMP', 'SDT')
    """
    return label(setting) if pruner is None else f"{label(setting)}-{method(pruner)}"


def ordered(names: Iterable[str]) -> list[str]:
    """Names that a store has, each once: the table's in its order, then all others by name.

    >>> ordered(["zz", "sdt", "lt", "lt"])
    ['lt', 'sdt', 'zz']
    """
    names = set(names)
    return [*(name for name in SETTINGS if name in names), *sorted(names - set(SETTINGS))]


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name in a store, including names that no row describes.

    >>> colours(["lt", "unheard_of"])
    {'lt': '#548cf1', 'unheard_of': '#0f93a8'}
    """
    return _looks(names, lambda row: row.colour, _STRANGERS)


def shapes(names: Iterable[str]) -> dict[str, str]:
    """As `colours`, the shape of its points.

    >>> shapes(["lt", "unheard_of"])
    {'lt': 'triangle-up', 'unheard_of': 'triangle-left'}
    """
    return _looks(names, lambda row: row.shape, SHAPES[-2:])


def _looks(
    names: Iterable[str], of: Callable[[Setting], str], others: Sequence[str]
) -> dict[str, str]:
    names = ordered(names)
    strangers = [name for name in names if name not in SETTINGS]
    known = {name: of(SETTINGS[name]) for name in names if name in SETTINGS}
    return known | {name: others[i % len(others)] for i, name in enumerate(strangers)}
