"""Masks: which weights of a network survive. Exact to the weight, the same on every machine.

A mask maps the path of each pruned variable (`stage1_block1_conv1/kernel`) to a boolean array of
the variable's shape, True where the weight survives. Variables without an entry are not pruned.
Order matters: weights are counted through the mask's paths in order, each array in C order.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

    from trainer.pruning.scores import Score, Weights

Mask = dict[str, np.ndarray]


class MaskError(ValueError):
    """A mask and a network, or a mask and a sparsity, do not fit each other."""


def pruned_paths(
    model: "keras.Model", pruned: Sequence[str] = ("*",), kept: Sequence[str] = ()
) -> list[str]:
    """Paths of the kernels to prune, in the network's order.

    Args:
        model: a built Keras model.
        pruned: shell patterns over layer names.
        kept: shell patterns of layers that are not pruned although `pruned` names them.

    Raises:
        MaskError: a pattern in `pruned` that matches no layer with a kernel, or no layer left.

    Biases and batch norm are never pruned: only variables named `kernel` are looked at.
    """
    layers = {
        layer.name: layer.kernel.path
        for layer in model.layers
        if getattr(layer, "kernel", None) is not None
    }
    for pattern in pruned:
        if not fnmatch.filter(layers, pattern):
            raise MaskError(
                f"pruning.layers: '{pattern}' matches no layer with a kernel; "
                f"the network has {', '.join(layers)}"
            )
    paths = [
        path
        for name, path in layers.items()
        if any(fnmatch.fnmatchcase(name, p) for p in pruned)
        and not any(fnmatch.fnmatchcase(name, p) for p in kept)
    ]
    if not paths:
        raise MaskError(f"no layer is left to prune; the network has {', '.join(layers)}")
    return paths


def kernels(model: "keras.Model", paths: Sequence[str]) -> dict[str, np.ndarray]:
    """The values of the variables at `paths`, as NumPy arrays on the host."""
    values = {v.path: v for v in model.variables}
    return {path: np.asarray(values[path].numpy()) for path in paths}


def prune(weights: "Weights", sparsity: float, score: "Score", mask: Mask | None = None) -> Mask:
    """Prunes globally to exactly ⌊sparsity · N⌉ of the N weights.

    Args:
        weights: trained kernels by path; N counts all their entries.
        sparsity: fraction of all N weights that the new mask prunes, in [0, 1).
        score: importance of each weight (`trainer.pruning.scores`).
        mask: what earlier rounds left. Weights that it prunes stay pruned, so masks nest.

    Returns:
        A mask with exactly `pruned_count(N, sparsity)` entries False: the weights that `mask`
        prunes, then those of the smallest score. Equal scores: the later index is pruned first.

    Raises:
        MaskError: a score that is no number, a mask that does not fit, or one that already prunes
            more.
    """
    scores = score(weights)
    if mask is not None:
        check_fits(mask, {path: array.shape for path, array in weights.items()})
    flat = np.concatenate([scores[path].ravel() for path in weights])
    if not np.isfinite(flat).all():
        raise MaskError("cannot rank the weights: some scores are not finite numbers")
    alive = (
        np.ones(flat.size, bool)
        if mask is None
        else np.concatenate([mask[path].ravel() for path in weights])
    )
    count = pruned_count(flat.size, sparsity)
    more = count - (flat.size - int(alive.sum()))
    if more < 0:
        raise MaskError(
            f"the mask already prunes {flat.size - int(alive.sum()):,} of {flat.size:,} weights, "
            f"more than sparsity {sparsity:g} asks for ({count:,})"
        )
    alive = alive.copy()
    alive[_smallest(flat, alive, more)] = False
    return _split(alive, weights)


def _smallest(scores: np.ndarray, among: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` smallest scores among the True ones; ties: the highest index first."""
    if count == 0:
        return np.empty(0, dtype=np.int64)
    candidates = np.flatnonzero(among)
    values = scores[candidates]
    threshold = np.partition(values, count - 1)[count - 1]
    below = candidates[values < threshold]
    equal = candidates[values == threshold]
    return np.concatenate([below, equal[equal.size - (count - below.size) :]])


def _split(flat: np.ndarray, like: "Weights") -> Mask:
    ends = np.cumsum([array.size for array in like.values()])[:-1]
    parts = np.split(flat, ends)
    return {
        path: part.reshape(array.shape)
        for (path, array), part in zip(like.items(), parts, strict=True)
    }


def pruned_count(weights: int, sparsity: float) -> int:
    """⌊sparsity · weights⌉: the exact number of pruned weights (halves round up).

    Raises:
        MaskError: sparsity outside [0, 1).
    """
    if not 0 <= sparsity < 1:
        raise MaskError(f"expected a sparsity in [0, 1), received {sparsity}")
    return int(np.floor(sparsity * weights + 0.5))


def check_fits(mask: Mask, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises `MaskError` unless every path of the mask is in `shapes` with the same shape."""
    for path, entry in mask.items():
        if path not in shapes:
            close = ", ".join(list(shapes)[:5])
            raise MaskError(
                f"the mask prunes '{path}', which the network lacks (it has {close}, …)"
            )
        if tuple(shapes[path]) != entry.shape:
            raise MaskError(
                f"the mask of '{path}' has shape {entry.shape}, the network's variable "
                f"{tuple(shapes[path])}"
            )
        if entry.dtype != np.bool_:
            raise MaskError(f"the mask of '{path}' must be boolean, received {entry.dtype}")
