"""Masks: which weights of a network survive. Exact to the weight, the same on every machine.

A mask maps the path of each pruned variable (`stage1_block1_conv1/kernel`) to a boolean array of
the variable's shape, True where the weight survives. Variables without an entry are not pruned.
Order matters: weights are counted through the mask's paths in order, each array in C order.
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from jackpot.artifacts import Mask

if TYPE_CHECKING:
    import keras

    from trainer.pruning.scores import Scores, Weights


class MaskError(ValueError):
    """A mask and a network, or a mask and a sparsity, do not fit each other."""


def pruned_paths(
    model: "keras.Model", pruned: Sequence[str] = ("*",), kept: Sequence[str] = ()
) -> list[str]:
    """Paths of the kernels to prune, in the network's order.

    Args:
        model: a built Keras model.
        pruned: shell patterns over the names of the model's own layers. A pattern with a slash is
            matched against variable paths instead, and also finds kernels inside composite layers:
            `attention/*` finds those of a MultiHeadAttention called attention.
        kept: shell patterns of layers that are not pruned although `pruned` names them.

    Raises:
        MaskError: a pattern in `pruned` or `kept` that matches nothing, or nothing left to prune.

    Biases, embeddings and batch norm are never pruned: only kernels are looked at.
    """
    layers, inside = _own_kernels(model), _inner_kernels(model)
    names = {path: name for name, path in layers.items()}
    names |= {path: path for path in inside}

    def matched(path: str, patterns: Sequence[str]) -> bool:
        # A pattern without a slash never reaches into a composite layer.
        return any(
            fnmatch.fnmatchcase(path if "/" in p else names[path], p)
            for p in patterns
            if "/" in p or path not in inside
        )

    if not names:
        raise MaskError(
            f"network '{model.name}' has no layer with a kernel, which is what is pruned: neither "
            "a layer of its own nor one inside a layer"
        )
    for pattern in [*pruned, *kept]:
        if not any(matched(path, [pattern]) for path in names):
            if pattern == "*":
                raise MaskError(
                    f"network '{model.name}' has no kernel in layers of its own, only inside "
                    f"composite ones: name them in pruning.layers, such as {next(iter(inside))!r}"
                )
            raise MaskError(
                f"pruning.layers: '{pattern}' matches no layer with a kernel; "
                f"the network has {_some([*layers, *inside])}"
            )
    chosen = {path for path in names if matched(path, pruned) and not matched(path, kept)}
    if not chosen:
        raise MaskError(f"no layer is left to prune; the network has {_some([*layers, *inside])}")
    return [v.path for v in model.variables if v.path in chosen]


def _some(names: Sequence[str], most: int = 30) -> str:
    more = [f"{len(names) - most} more"] * (len(names) > most)
    return ", ".join([*names[:most], *more])


def left_out(model: "keras.Model", paths: Sequence[str]) -> dict[str, int]:
    """Kernels inside composite layers that are not among `paths`: weights by variable path."""
    return {path: size for path, size in _inner_kernels(model).items() if path not in paths}


def _own_kernels(model: "keras.Model") -> dict[str, str]:
    """Paths of the kernels of the model's own layers, by layer."""
    return {
        layer.name: layer.kernel.path
        for layer in model.layers
        if getattr(layer, "kernel", None) is not None
    }


def _inner_kernels(model: "keras.Model") -> dict[str, int]:
    """Weights of each kernel inside a composite layer, by variable path.

    Of MultiHeadAttention, recurrent layers, nested models; a separable convolution has two.
    """
    own = set(_own_kernels(model).values())
    return {
        v.path: prod(v.shape)
        for v in model.trainable_variables
        if v.path.rpartition("/")[2].endswith("kernel") and v.path not in own
    }


def kernels(model: "keras.Model", paths: Sequence[str]) -> dict[str, np.ndarray]:
    """The values of the variables at `paths`, as NumPy arrays on the host."""
    values = {v.path: v for v in model.variables}
    return {path: np.asarray(values[path].numpy()) for path in paths}


def prune(scores: "Scores", sparsity: float, mask: Mask | None = None) -> Mask:
    """Prunes globally to exactly ⌊sparsity · N⌉ of the N weights.

    Args:
        scores: importance of each weight by path (`trainer.pruning.scores`), larger is more
            important; N counts all their entries.
        sparsity: fraction of all N weights that the new mask prunes, in [0, 1).
        mask: what earlier rounds left. Weights that it prunes stay pruned, so masks nest.

    Returns:
        A mask with exactly `pruned_count(N, sparsity)` entries False: the weights that `mask`
        prunes, then those of the smallest score. Equal scores: the later index is pruned first.

    Raises:
        MaskError: a score that is no number, a mask that does not fit, or one that already prunes
            more.
    """
    if mask is not None:
        check_fits(mask, {path: array.shape for path, array in scores.items()})
    flat = np.concatenate([array.ravel() for array in scores.values()])
    if not np.isfinite(flat).all():
        raise MaskError("cannot rank the weights: some scores are not finite numbers")
    alive = (
        np.ones(flat.size, bool)
        if mask is None
        else np.concatenate([mask[path].ravel() for path in scores])
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
    return _split(alive, scores)


def prune_layers(scores: "Scores", survivors: Mapping[str, int]) -> Mask:
    """Keeps a given number of weights of each layer: those of its largest scores.

    Args:
        scores: importance of each weight by path, larger is more important.
        survivors: by path (`trainer.pruning.densities`).

    Returns:
        A mask. Equal scores: the later index is pruned first.

    Raises:
        MaskError: a score that is no number, or more survivors than a layer has weights.
    """
    found = {}
    for path, array in scores.items():
        if not 0 <= survivors[path] <= array.size:
            raise MaskError(f"'{path}' cannot keep {survivors[path]:,} of {array.size:,} weights")
        if not np.isfinite(array).all():
            raise MaskError(f"cannot rank the weights of '{path}': some scores are no numbers")
        alive = np.ones(array.size, bool)
        alive[_smallest(array.ravel(), alive, array.size - survivors[path])] = False
        found[path] = alive.reshape(array.shape)
    return found


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


def _split(flat: np.ndarray, like: "Scores") -> Mask:
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


def check_scores(scores: "Scores", weights: "Weights", pruner: str) -> None:
    """Raises `MaskError` unless a pruner has scored every weight that it was to score."""
    if list(scores) != list(weights):
        raise MaskError(
            f"pruner '{pruner}' was to score {', '.join(weights)}, in this order; it scored "
            f"{', '.join(scores) or 'nothing'}"
        )
    for path, array in weights.items():
        if scores[path].shape != array.shape:
            raise MaskError(
                f"pruner '{pruner}' gave '{path}' scores of shape {scores[path].shape}; expected "
                f"{array.shape}"
            )


def fitted(mask: Mask, shapes: Mapping[str, tuple[int, ...]]) -> Mask:
    """A mask under the names of a network's variables, where these are other ones than its own.

    A network that is built again, nested in another, or loaded from a `.keras` file has other
    paths: `sequential/dense_1/kernel` for `dense/kernel`. They are matched all at once, by the
    names' ends, else by the layers' kinds and order, and only where that leaves no choice.

    Args:
        mask: of the network under its earlier names.
        shapes: of the network's variables by path, in the network's order.

    Raises:
        MaskError: it does not fit, or there is more than one way to match it.
    """
    if not all(path in shapes for path in mask):
        names = _by_end(mask, shapes) or _by_kind_and_order(mask, shapes)
        if names is not None:
            mask = {names[path]: entry for path, entry in mask.items()}
    check_fits(mask, shapes)
    return mask


def _by_end(mask: Mask, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str] | None:
    """Each path of the mask with the one variable whose path ends alike."""
    found = {}
    for path, entry in mask.items():
        ends = [
            other
            for other, shape in shapes.items()
            if tuple(shape) == entry.shape
            and (path == other or path.endswith(f"/{other}") or other.endswith(f"/{path}"))
        ]
        if len(ends) != 1:
            return None
        found[path] = ends[0]
    return found if len(set(found.values())) == len(found) else None


def _by_kind_and_order(mask: Mask, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str] | None:
    """Paths that differ by the numbers that Keras gives to layers without a name."""

    def kinds(of: Mapping[str, tuple[int, ...]]) -> dict[tuple[str, tuple[int, ...]], list[str]]:
        groups: dict[tuple[str, tuple[int, ...]], list[str]] = {}
        for path, shape in of.items():
            end = "/".join(re.sub(r"_\d+$", "", part) for part in path.split("/")[-2:])
            groups.setdefault((end, tuple(shape)), []).append(path)
        return groups

    found: dict[str, str] = {}
    there = kinds(shapes)
    for kind, paths in kinds({path: entry.shape for path, entry in mask.items()}).items():
        if len(there.get(kind, ())) != len(paths):
            return None
        found |= dict(zip(paths, there[kind], strict=True))
    return found


def check_fits(mask: Mask, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises `MaskError` unless every path of the mask is in `shapes` with the same shape."""
    for path, entry in mask.items():
        if path not in shapes:
            raise MaskError(
                f"the mask prunes '{path}', which the network lacks (it has "
                f"{_some(list(shapes), 5)}), and there is not one way to match them. Give the "
                "layers names of their own, or rename the mask's paths: "
                "{new: mask[old] for old, new in …}"
            )
        if tuple(shapes[path]) != entry.shape:
            raise MaskError(
                f"the mask of '{path}' has shape {entry.shape}, the network's variable "
                f"{tuple(shapes[path])}"
            )
        if entry.dtype != np.bool_:
            raise MaskError(f"the mask of '{path}' must be boolean, received {entry.dtype}")
