"""Registry of pruners: how weights are scored, and whether pruning goes in rounds."""

from dataclasses import dataclass

from trainer.pruning.scores import Score, magnitude


@dataclass(frozen=True)
class Pruner:
    """A way to find a mask.

    Attributes:
        score: gives each weight its importance; the least important are pruned.
        iterative: whether each round prunes a little of what the last one left and trains again
            from the same θ₀ (IMP), or all is pruned at once after pretraining (OMP).
    """

    score: Score
    iterative: bool


PRUNERS: dict[str, Pruner] = {
    "omp": Pruner(score=magnitude, iterative=False),
    "imp": Pruner(score=magnitude, iterative=True),
}


def names() -> list[str]:
    """Names that a config may list under `pruners`."""
    return sorted(PRUNERS)
