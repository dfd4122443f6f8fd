"""Which weights of a pruned network still lie on a path from its input to its output.

A weight that survives the mask may have lost all its inputs, or all that read it. Vysogorets and
Kempe (2023, arXiv 2107.02306) find such weights by SynFlow's pass: the network without activations
and batch norm, on an image of ones, with its mask for weights; what has no gradient is inactive.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jackpot.artifacts import Mask
from trainer.keras_internals import functional, in_order, stateless

if TYPE_CHECKING:
    import keras
    from torch import Tensor


@dataclass(frozen=True)
class Active:
    """What of a mask is on a path.

    Attributes:
        weights: by variable path: how many weights survive there and are on a path.
        sparsity: effective sparsity: the share of the prunable weights that is on none.
        collapsed: variables without a weight on a path, in the network's order: layer collapse.
        empty: those of them without a surviving weight.
        constant: whether no path leads from the input to the output, which is constant then.
    """

    weights: Mapping[str, int]
    sparsity: float
    collapsed: tuple[str, ...]
    empty: tuple[str, ...]
    constant: bool

    @property
    def warning(self) -> str:
        """What a user should know of collapsed layers; empty if there are none."""
        if not self.collapsed:
            return ""
        names = [path.removesuffix("/kernel") for path in self.empty or self.collapsed]
        some = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        what = "no weight left" if self.empty else "no weight on a path from input to output"
        said = f"layer collapse: {some} {'has' if len(names) == 1 else 'have'} {what}"
        return f"{said}; the output no longer depends on the image" if self.constant else said


def active(model: "keras.Model", mask: Mask) -> Active | None:
    """What of a mask is on a path through a network.

    Args:
        model: built; its variables stay as they are.
        mask: of it, as `trainer.pruning.masks` has it.

    Returns:
        None of a network that is no graph of convolutions, dense layers and what joins, pads, pools
        and normalises them: paths through attention, say, are not defined here.
    """
    import torch

    graph = functional(model)
    if graph is None or len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return None
    kernels, fixed = {}, {}
    for variable in model.variables:
        like = variable.value
        if variable.path in mask:
            kept = torch.from_numpy(mask[variable.path].astype(np.float32)).to(like.device)
            kernels[variable.path] = kept.requires_grad_()
            fixed[variable.path] = kernels[variable.path]
        elif like.is_floating_point():
            is_kernel = variable.path.rpartition("/")[2].endswith("kernel")
            fixed[variable.path] = torch.ones_like(like) if is_kernel else torch.zeros_like(like)
    device = next(iter(kernels.values())).device
    shape = [size or 1 for size in graph.inputs[0].shape[1:]]
    values = [(v, fixed[v.path]) for v in model.variables if v.path in fixed]
    with stateless(values), torch.enable_grad():
        output = _through(graph, torch.ones(1, *shape, device=device))
        if output is None:
            return None
        reached = bool((output > 0).any())
        if output.requires_grad:
            output.sum().backward()
    on_path = {
        path: int(((kept.grad != 0) & (kept > 0)).sum()) if kept.grad is not None else 0
        for path, kept in kernels.items()
    }
    of = sum(entry.size for entry in mask.values())
    return Active(
        on_path,
        1 - sum(on_path.values()) / of,
        tuple(path for path, count in on_path.items() if count == 0),
        tuple(path for path in on_path if not mask[path].any()),
        not reached,
    )


def _through(graph: "keras.Model", images: "Tensor") -> "Tensor | None":
    """The output of a graph, 0 or 1 at each place; None if it has a layer of no known kind."""
    known: dict[int, Tensor] = {id(graph.inputs[0]): images}
    for node in in_order(graph):
        inputs = node.arguments.keras_tensors
        if not inputs:
            continue  # The input layer.
        y = _of_layer(node.operation, [known[id(x)] for x in inputs])
        if y is None or len(node.outputs) != 1:
            return None
        known[id(node.outputs[0])] = _as_bits(y)
    return known[id(graph.outputs[0])]


def _as_bits(y: "Tensor") -> "Tensor":
    """1 where there is something, and gradients that are 0 or 1 too: nothing ever overflows."""
    if y.requires_grad:
        y.register_hook(lambda gradient: (gradient != 0).to(gradient.dtype))
    return y + ((y > 0).to(y.dtype) - y).detach()


def _of_layer(layer: Any, inputs: "Sequence[Tensor]") -> "Tensor | None":
    """What a layer makes of places that are reached; None of a layer of no known kind."""
    import keras

    kinds = keras.layers
    nested = functional(layer) if isinstance(layer, keras.Model) else None
    if nested is not None:
        return _through(nested, inputs[0])
    if isinstance(layer, _kinds(_IDENTITIES)):
        return inputs[0]
    if isinstance(layer, kinds.MaxPooling2D):
        same = kinds.AveragePooling2D(
            layer.pool_size, layer.strides, layer.padding, layer.data_format
        )
        return _called(same, inputs)
    if isinstance(layer, kinds.GlobalMaxPooling2D):
        same = kinds.GlobalAveragePooling2D(layer.data_format, keepdims=layer.keepdims)
        return _called(same, inputs)
    if isinstance(layer, _kinds(_COMPUTED)):
        return _called(layer, inputs)
    if isinstance(layer, kinds.Multiply):
        y = inputs[0]
        for x in inputs[1:]:
            y = y * x
        return y
    return None


_IDENTITIES = (
    *("Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax", "Dropout", "SpatialDropout2D"),
    *("GaussianNoise", "GaussianDropout", "AlphaDropout", "BatchNormalization", "Identity"),
    *("LayerNormalization", "GroupNormalization", "UnitNormalization", "RMSNormalization"),
    *("Rescaling", "Normalization"),
)
_COMPUTED = (
    *("Conv1D", "Conv2D", "Conv3D", "DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose"),
    *("Dense", "Add", "Average", "Maximum", "Concatenate", "Flatten", "Reshape", "Permute"),
    *("ZeroPadding2D", "Cropping2D", "UpSampling2D", "AveragePooling2D"),
    *("GlobalAveragePooling2D",),
)


def _kinds(names: Sequence[str]) -> tuple[type, ...]:
    import keras

    return tuple(getattr(keras.layers, name) for name in names)


def _called(layer: Any, inputs: "Sequence[Tensor]") -> "Tensor":
    """The layer's own call, without its activation."""
    import keras

    activation = getattr(layer, "activation", None)
    if activation is not None:
        layer.activation = keras.activations.linear
    try:
        y: Tensor = layer(list(inputs) if len(inputs) > 1 else inputs[0])
        return y
    finally:
        if activation is not None:
            layer.activation = activation
