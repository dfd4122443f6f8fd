"""How many weights each layer keeps, where that is fixed before any weight is scored. Pure.

Each takes the layers' shapes by path and the number of weights that survive in all, and gives
integers that add up to that number exactly: what rounding leaves over goes to the layers with the
largest remainders, equal ones in the network's order.
"""

from collections.abc import Callable, Mapping
from math import prod

import numpy as np

Shapes = Mapping[str, tuple[int, ...]]
Densities = Callable[[Shapes, int], dict[str, int]]
"""Survivors by path, from the layers' shapes and the survivors in all."""


def uniform(shapes: Shapes, survivors: int) -> dict[str, int]:
    """The same share of each layer.

    >>> uniform({"a": (4, 10), "b": (6, 10)}, 20)
    {'a': 8, 'b': 12}
    """
    sizes = _sizes(shapes)
    return _whole(shapes, sizes * (survivors / sizes.sum()), survivors)


def erk(shapes: Shapes, survivors: int) -> dict[str, int]:
    """Erdős–Rényi-Kernel (Evci et al. 2020): density proportional to Σ sides / Π sides of a kernel.

    A layer that would be more than dense is dense, and what is left is shared among the others.

    >>> erk({"a": (3, 3, 8, 8), "b": (3, 3, 8, 80)}, 1268)
    {'a': 240, 'b': 1028}
    """
    raw = np.array([sum(shape) / prod(shape) for shape in shapes.values()])
    return _clamped(shapes, survivors, raw * _sizes(shapes))


def balanced(shapes: Shapes, survivors: int) -> dict[str, int]:
    """As many weights in each layer; a smaller layer stays dense, and the others share the rest.

    >>> balanced({"a": (10,), "b": (100,), "c": (100,)}, 90)
    {'a': 10, 'b': 40, 'c': 40}
    """
    return _clamped(shapes, survivors, np.ones(len(shapes)))


def _clamped(shapes: Shapes, survivors: int, parts: np.ndarray) -> dict[str, int]:
    """Survivors in these proportions, none above its layer's size."""
    sizes, dense = _sizes(shapes), np.zeros(len(shapes), bool)
    while True:
        kept = np.where(dense, sizes, 0.0)
        left = survivors - kept.sum()
        if not dense.all():
            kept[~dense] = parts[~dense] * (left / parts[~dense].sum())
        above = ~dense & (kept > sizes)
        if not above.any():
            return _whole(shapes, kept, survivors)
        dense |= above


def _whole(shapes: Shapes, kept: np.ndarray, survivors: int) -> dict[str, int]:
    """Integers nearest to `kept` that add up to `survivors`."""
    floors = np.floor(kept + 1e-9).astype(int)
    over = survivors - int(floors.sum())
    first = np.argsort(-(kept - floors), kind="stable")[:over]
    floors[first] += 1
    return dict(zip(shapes, floors.tolist(), strict=True))


def _sizes(shapes: Shapes) -> np.ndarray:
    return np.array([prod(shape) for shape in shapes.values()], float)
