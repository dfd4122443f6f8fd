"""Groups of runs that are stepped side by side, and the order in which they are trained. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trainer.study.plan import RunSpec


def side_by_side(runs: Sequence[RunSpec], most: int, places: int = 1) -> Iterator[list[RunSpec]]:
    """Groups of runs that can be stepped together, in the order of their first.

    They share network, images and recipe; learning rates, masks and trials may differ. A run on
    several devices is a group of its own.

    Args:
        runs: whose parents are all finished.
        most: runs in a group.
        places: how many groups are trained at once; runs are spread so that none stays idle.
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
    """The runs among `left`, by key, that depend on no other run among them."""
    return [run for run in left.values() if not any(p.key in left for p in run.parents)]


def _structure(run: RunSpec) -> tuple[Any, ...]:
    """What runs that are stepped together have in common: tensors of one shape, one recipe."""
    narrowed = (run.sparsity, run.layers) if run.setting.is_narrow else None
    recipe = run.training.model_dump_json()
    return run.network, run.network_sha256, run.dataset.model_dump_json(), recipe, narrowed
