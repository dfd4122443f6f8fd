"""Registry of pruners: when they look at a network, and how they score its weights.

A new pruner is a row here, or a `Pruner` in a module of your own, named `package.module:name`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from jackpot import plugins
from jackpot.artifacts import Mask
from jackpot.settings import LRR, LT, Setting, TableError, Weights, as_pruned
from trainer.pruning import at_start, densities, masks
from trainer.pruning.densities import Densities
from trainer.pruning.look import Look
from trainer.pruning.scores import Scores, magnitude


class Moment(Enum):
    """When a pruner looks at the network."""

    START = "at θ₀, before any training"
    END = "at the weights that training ended with"


@dataclass(frozen=True)
class Pruner:
    """A way to find a mask.

    Attributes:
        score: gives each weight its importance; the least important are pruned, over all layers.
        looks: when.
        in_rounds: whether each round prunes a little of what the last one left and trains again
            (IMP), or all is pruned at once (OMP).
        trains: the setting that its rounds are trained as: LT from the same θ₀, LRR from where the
            last round ended.
        steps: how often it scores what is left, with nothing trained in between; after step k of n
            the density is the last one's to the power of k / n (Tanaka et al. 2020).
        densities: how many weights each layer keeps; None: whatever the scores say, over all layers
            at once.

    Raises:
        TableError: a row that is incomplete or contradicts itself.

    Example:
        >>> from trainer.pruning import Moment, Pruner
        >>> smallest_kept = Pruner(lambda look: {p: -abs(w) for p, w in look.weights.items()},
        ...                        Moment.END, in_rounds=False)
    """

    score: Callable[[Look], Scores]
    looks: Moment
    in_rounds: bool
    trains: Setting = LT
    steps: int = 1
    densities: Densities | None = None

    def __post_init__(self) -> None:
        if not callable(self.score) or not isinstance(self.looks, Moment):
            raise TableError(
                "a pruner needs a function score(look) and a moment to look at; received "
                f"{self.score!r} and {self.looks!r}"
            )
        if self.in_rounds and self.looks is Moment.START:
            raise TableError(
                "a pruner that goes in rounds looks at the end of each round's training; one that "
                "looks at the start is never trained in between"
            )
        row = self.trains
        changed = row.start or row.signs_of or row.inverted or row.aligned or row.other_order
        plain = row.mask is as_pruned and not changed
        if not plain or row.weights not in (Weights.KEPT, Weights.REWOUND, Weights.TRAINED):
            raise TableError(
                "rounds are trained under the pruner's own mask, from pretraining's weights or "
                f"those of the round before (LT, WR, LRR); received {row.name!r}"
            )
        if row.needs_training and not self.in_rounds:
            raise TableError(f"{row.name!r} is what rounds are trained as, and there are none")
        if self.in_rounds and (self.steps > 1 or self.densities is not None):
            raise TableError("a pruner that goes in rounds takes one step in each, over all layers")
        if self.steps < 1 or (self.steps > 1 and self.densities is not None):
            raise TableError(
                "a pruner takes at least one step; with densities of its own it takes one"
            )

    @property
    def looks_at_end(self) -> bool:
        """Whether it needs a trained network."""
        return self.looks is Moment.END

    def mask(self, look: Look, sparsity: float, name: str, *, inverted: bool = False) -> Mask:
        """The mask that prunes exactly ⌊sparsity · N⌉ of the N weights that it looks at.

        Args:
            look: the network.
            sparsity: of the mask.
            name: of this pruner, for errors.
            inverted: keeps the least important weights in place of the most important.

        Raises:
            MaskError: scores that do not fit the weights, or are no finite numbers.
        """
        if self.densities is not None:
            shapes = {path: array.shape for path, array in look.weights.items()}
            of = sum(array.size for array in look.weights.values())
            survivors = self.densities(shapes, of - masks.pruned_count(of, sparsity))
            return masks.prune_layers(self._scores(look, name, inverted), survivors)
        seen = look
        for step in range(1, self.steps):
            reached = 1 - (1 - sparsity) ** (step / self.steps)
            mask = masks.prune(self._scores(seen, name, inverted), reached, seen.mask)
            seen = look.under(mask)
        return masks.prune(self._scores(seen, name, inverted), sparsity, seen.mask)

    def _scores(self, look: Look, name: str, inverted: bool) -> Scores:
        scores = self.score(look)
        masks.check_scores(scores, look.weights, name)
        return {path: -array for path, array in scores.items()} if inverted else scores


def _magnitude(look: Look) -> Scores:
    return magnitude(look.weights)


_START = Moment.START
PRUNERS: Mapping[str, Pruner] = MappingProxyType(
    {
        "omp": Pruner(_magnitude, Moment.END, in_rounds=False),
        "imp": Pruner(_magnitude, Moment.END, in_rounds=True),
        "imp_lrr": Pruner(_magnitude, Moment.END, in_rounds=True, trains=LRR),
        "random": Pruner(at_start.drawn, _START, False, densities=densities.uniform),
        "erk": Pruner(at_start.drawn, _START, False, densities=densities.erk),
        "balanced": Pruner(at_start.drawn, _START, False, densities=densities.balanced),
        "magnitude_init": Pruner(_magnitude, _START, in_rounds=False),
        "snip": Pruner(at_start.snip, _START, in_rounds=False),
        "iterative_snip": Pruner(at_start.snip, _START, in_rounds=False, steps=100),
        "grasp": Pruner(at_start.grasp, _START, in_rounds=False),
        "synflow": Pruner(at_start.synflow, _START, in_rounds=False, steps=100),
    }
)


def names() -> list[str]:
    """Names of the registered pruners."""
    return list(PRUNERS)


def find(name: str) -> Pruner:
    """The pruner of a registered name, or a user's own by `package.module:name`.

    Raises:
        PluginError: a user's own that cannot be imported.
        ValueError: an unknown name.
    """
    if name in PRUNERS:
        return PRUNERS[name]
    if plugins.is_plugin(name):
        return plugins.load("pruner", name, Pruner)
    raise ValueError(
        f"unknown pruner {name!r}; known are {', '.join(names())}, and a pruner of your own as "
        "'package.module:name'"
    )


def fingerprint(name: str) -> str | None:
    """SHA-256 of the source of a user's own pruner; None for a registered one."""
    return None if name in PRUNERS else plugins.fingerprint("pruner", name)
