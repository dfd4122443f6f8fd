"""Matches the units of two networks, and permutes a mask from one to the other.

Two dense networks that start from different draws learn units in a different order. A mask found in
one fits the other only after its channels are permuted (Jain et al. 2025, arXiv 2505.05143). Units
are matched by the correlation of their activations, one assignment for all layers that share their
channels, such as those that a residual connection adds (Ainsworth et al. 2023).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from jackpot.artifacts import Mask
from trainer.keras_internals import functional, in_order
from trainer.pruning.masks import MaskError

if TYPE_CHECKING:
    import keras
    from torch import Tensor

_MOST_OBSERVATIONS = 4096
"""Of a tensor's units in a batch: all of its images and places would not fit into memory."""
_NONE = -1
"""In place of the outputs' group of a depthwise kernel, whose channels are its inputs'."""
Permutations = Mapping[int, np.ndarray]
"""By group of channels: of each unit of the second network, the matching one of the first."""


@dataclass
class Units:
    """Which channels of a network are the same units.

    Attributes:
        sides: of each kernel by path: groups of its inputs and of its outputs, and at how many
            places each input channel is seen (after a flattening).
        seen: tensors whose last axis are the units of a group.
        fixed: groups that cannot be permuted: the images' channels, and the classes.
    """

    sides: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    seen: list[tuple[Any, int]] = field(default_factory=list)
    fixed: set[int] = field(default_factory=set)


def matched(
    first: "keras.Model", second: "keras.Model", images: "Sequence[Tensor]"
) -> Permutations:
    """Matches the units of two networks of one structure, at their own weights.

    Args:
        first, second: functional models.
        images: batches, as the networks take them.

    Returns:
        For each group of channels, `order`: unit i of `second` is like unit `order[i]` of `first`.

    Raises:
        MaskError: a network in which it is not known which channels are the same units.
    """
    units = _units(first)
    alike: dict[int, np.ndarray] = {}
    pairs = zip(_activations(first, images), _activations(second, images), strict=True)
    for (group, one), (_, other) in pairs:
        alike[group] = alike.get(group, 0.0) + _correlation(other, one)
    found = {}
    for group, correlations in alike.items():
        if group in units.fixed:
            found[group] = np.arange(len(correlations))
        else:
            found[group] = linear_sum_assignment(correlations, maximize=True)[1]
    return found


def permuted(arrays: Mask, network: "keras.Model", orders: Permutations) -> Mask:
    """A mask (or kernels) of the first network, in the order of the second's units.

    Args:
        arrays: by path of its kernels.
        network: of that structure.
        orders: from `matched`.

    Raises:
        MaskError: a kernel of which it is not known what its channels are.
    """
    units = _permutable(network, list(arrays))
    found = {}
    for path, array in arrays.items():
        inputs, outputs, places = units.sides[path]
        rows = array.shape[-2]
        order = orders.get(inputs, np.arange(rows // places))
        along = (np.arange(places)[:, None] * len(order) + order).ravel()
        across = orders.get(outputs, np.arange(array.shape[-1]))
        found[path] = array[..., along, :][..., across]
    return found


def check(network: "keras.Model", paths: Sequence[str]) -> None:
    """Sees that a mask of these kernels can be permuted. Raises: MaskError, see `matched`."""
    _permutable(network, paths)


def _permutable(network: "keras.Model", paths: Sequence[str]) -> Units:
    units = _units(network)
    for path in paths:
        if path not in units.sides:
            raise MaskError(f"'{path}' cannot be permuted: its layer's units are not known")
    return units


def _units(network: "keras.Model") -> Units:
    """Follows the channels from the images to the classes."""
    import keras

    graph = functional(network)
    if graph is None or len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise MaskError(f"units of network '{network.name}' cannot be matched: it is no graph")
    layers, units = keras.layers, Units()
    group = {id(graph.inputs[0]): 0}
    places = {id(graph.inputs[0]): 1}
    same: dict[int, int] = {0: 0}
    for node in in_order(graph):
        inputs, layer = node.arguments.keras_tensors, node.operation
        if not inputs:
            continue
        of, out = [group[id(x)] for x in inputs], node.outputs[0]
        at = places[id(inputs[0])]
        new = of[0]
        if isinstance(layer, layers.DepthwiseConv2D):
            if layer.depth_multiplier != 1:
                raise _unknown(network, layer)
            units.sides[layer.kernel.path] = of[0], _NONE, 1
        elif isinstance(layer, layers.Conv2D | layers.Conv1D | layers.Dense):
            if getattr(layer, "groups", 1) != 1:
                raise _unknown(network, layer)
            new = len(same)
            same[new] = new
            units.sides[layer.kernel.path] = of[0], new, at
            at = 1
        elif isinstance(layer, layers.Flatten):
            at *= int(np.prod(inputs[0].shape[1:-1], dtype=int))
        elif isinstance(layer, layers.Add):
            for other in of[1:]:
                _join(same, of[0], other)
        elif not isinstance(layer, tuple(getattr(layers, kind) for kind in _PASSING)):
            raise _unknown(network, layer)
        group[id(out)], places[id(out)] = new, at
        if at == 1:
            units.seen.append((out, new))
    units.fixed = {_root(same, 0), _root(same, group[id(graph.outputs[0])])}
    units.seen = [(tensor, _root(same, of_)) for tensor, of_ in units.seen]
    units.sides = {
        path: (_root(same, a), b if b == _NONE else _root(same, b), n)
        for path, (a, b, n) in units.sides.items()
    }
    return units


_PASSING = (
    *("Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "BatchNormalization", "Dropout"),
    *("ZeroPadding2D", "MaxPooling2D", "AveragePooling2D", "GlobalAveragePooling2D"),
    *("MaxPooling1D", "AveragePooling1D", "GlobalAveragePooling1D", "GlobalMaxPooling2D"),
    *("Identity", "SpatialDropout2D"),
)


def _unknown(network: "keras.Model", layer: Any) -> MaskError:
    return MaskError(
        f"units of network '{network.name}' cannot be matched: which channels {layer.name!r} "
        f"({type(layer).__name__}) keeps is not known here"
    )


def _root(same: dict[int, int], group: int) -> int:
    while same[group] != group:
        group = same[group]
    return group


def _join(same: dict[int, int], one: int, other: int) -> None:
    roots = sorted((_root(same, one), _root(same, other)))
    same[roots[1]] = roots[0]


def _activations(
    network: "keras.Model", images: "Sequence[Tensor]"
) -> "Iterator[tuple[int, Tensor]]":
    """What the units do on the images: group, and (observations, units), tensor by tensor."""
    import keras
    import torch

    units = _units(network)
    graph = functional(network)
    assert graph is not None
    probe = keras.Model(graph.inputs, [tensor for tensor, _ in units.seen])
    with torch.no_grad():
        batches = [_thinned(probe(batch, training=False)) for batch in images]
    for i, (_, group) in enumerate(units.seen):
        yield group, torch.cat([batch[i] for batch in batches])


def _thinned(outputs: "Tensor | Sequence[Tensor]") -> "list[Tensor]":
    """Observations of each tensor's units, (observations, units), at evenly spaced places."""
    import torch

    tensors = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    found = []
    for tensor in tensors:
        table = tensor.flatten(0, -2)
        found.append(table[:: -(-len(table) // _MOST_OBSERVATIONS)].clone())
    return found


def _correlation(one: "Tensor", other: "Tensor") -> np.ndarray:
    """Correlations of the columns of two tables, 0 where a column is constant."""
    tables = []
    for table in (one.double(), other.double()):
        centred = table - table.mean(0)
        length = centred.norm(dim=0)
        tables.append(centred / length.where(length > 0, 1.0))
    found: np.ndarray = (tables[0].T @ tables[1]).cpu().numpy()
    return found
