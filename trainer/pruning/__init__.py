"""Registry of pruners: when they look at a network, and how they score its weights.

A new pruner is a row here, or a `Pruner` in a module of your own, named `package.module:name`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from jackpot import plugins
from jackpot.settings import TableError
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
            from the same θ₀ (IMP), or all is pruned at once (OMP).

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

    @property
    def looks_at_end(self) -> bool:
        """Whether it needs a trained network."""
        return self.looks is Moment.END


def _magnitude(look: Look) -> Scores:
    return magnitude(look.weights)


PRUNERS: Mapping[str, Pruner] = MappingProxyType(
    {
        "omp": Pruner(_magnitude, Moment.END, in_rounds=False),
        "imp": Pruner(_magnitude, Moment.END, in_rounds=True),
    }
)


def names() -> list[str]:
    """Names of the registered pruners."""
    return sorted(PRUNERS)


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
