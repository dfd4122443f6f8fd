"""A Keras network as plain PyTorch: a source file of its own, and weights under its names.

The file imports torch and safetensors, and nothing of this program. Masks are those of
`torch.nn.utils.prune`: `weight_orig` and the buffer `weight_mask` in place of `weight`.
"""

import keyword
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import torch

from jackpot.artifacts import Mask
from trainer.keras_internals import Node, functional, in_order

if TYPE_CHECKING:
    from jackpot.artifacts import Arrays


class CannotExport(ValueError):
    """A network has a layer that has no plain torch form here; the message names it."""


@dataclass
class Exported:
    """A network in plain torch.

    Attributes:
        source: of a module with a class `Network` and a function `load(path)`.
        state: arrays by the names of `Network().state_dict()` after pruning.
    """

    source: str
    state: "Arrays"


@dataclass
class _Written:
    """What is written so far: lines of `__init__` and `forward`, and arrays."""

    layers: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    state: "Arrays" = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)


def of_keras(model: keras.Model, mask: Mask | None = None, about: str = "") -> Exported:
    """A functional Keras network of this trainer as plain torch.

    Args:
        model: built, at the weights to export.
        mask: boolean arrays by variable path, True where a weight survives.
        about: first line of the source's docstring.

    Returns:
        Images have shape (batch, channels, height, width) there, and are normalised as here;
        features have the shape that they have here.

    Raises:
        CannotExport: a layer that is not among convolutions, dense layers, batch norm, ReLU, sums,
            pooling and flattening, or an option of one.
    """
    graph = functional(model)
    if graph is None or len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise CannotExport(f"network '{model.name}' is no graph of one input and one output")
    written = _Written(names={id(graph.inputs[0]): "x"})
    masks = dict(mask or {})
    for i, node in enumerate(in_order(graph)):
        if not isinstance(node.operation, keras.layers.InputLayer):
            _add(written, node, f"x{i}", masks)
    if masks:
        raise CannotExport(f"the mask prunes {', '.join(masks)}, which are not exported")
    output = written.names[id(graph.outputs[0])]
    # It becomes part of a program: what a store says of itself is no code.
    said = " ".join(re.sub(r"[^\w .,:;=()%/+-]", " ", about or model.name).split())
    return Exported(_source(said, written, output), written.state)


def verified(exported: Exported, model: keras.Model, count: int = 8) -> float:
    """The largest difference between the logits of both networks, relative to the largest logit.

    The exported source is run as its reader would run it, on `count` inputs of noise.

    Raises:
        CannotExport: it is more than float32 explains (1e-4).
    """
    scope: dict[str, Any] = {"__name__": "exported"}
    state = {name: torch.from_numpy(array.copy()) for name, array in exported.state.items()}
    shape = [size or 1 for size in model.inputs[0].shape[1:]]
    inputs = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(inputs.to(model.trainable_variables[0].value.device), training=False).cpu()
        try:
            exec(compile(exported.source, "model.py", "exec"), scope)
            network = scope["of_state"](state).eval()
            found = network(inputs.permute(0, 3, 1, 2) if inputs.ndim == 4 else inputs)
        except Exception as error:
            words = " ".join(str(error).split())[:300]
            raise CannotExport(f"the exported network cannot be run: {words}") from error
    if found.shape != expected.shape:
        raise CannotExport(f"its outputs have shape {tuple(found.shape)}")
    away = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
    if not away <= 1e-4:
        raise CannotExport(f"the exported network is {away:.1e} off that of Keras")
    return away


def _add(written: _Written, node: Node, output: str, masks: Mask) -> None:
    layer, inputs = node.operation, node.arguments.keras_tensors
    names = [written.names[id(x)] for x in inputs]
    write = _WRITERS.get(type(layer).__name__)
    if write is None or len(node.outputs) != 1:
        raise _unknown(layer)
    attribute = _attribute(layer.name, written)
    made, call = write(layer, attribute, names, inputs[0].shape)
    if made:
        written.layers.append(f"self.{attribute} = {made}")
        written.state |= _state(layer, attribute, masks)
    written.calls.append(f"{output} = {call}")
    written.names[id(node.outputs[0])] = output


def _attribute(name: str, written: _Written) -> str:
    """A layer's name as that of a module's attribute, not used before."""
    plain = re.sub(r"\W", "_", name)
    if not plain.isidentifier() or keyword.iskeyword(plain) or hasattr(torch.nn.Module(), plain):
        plain = f"layer_{plain}"
    used = {line.partition(" ")[0].removeprefix("self.") for line in written.layers}
    while plain in used:
        plain += "_"
    return plain


def _unknown(layer: Any) -> CannotExport:
    return CannotExport(
        f"{type(layer).__name__} '{layer.name}' has no plain torch form here; export the network "
        "as .keras"
    )


def _state(layer: keras.Layer, attribute: str, masks: Mask) -> "Arrays":
    """A layer's arrays in torch's layout and under torch's names, masks taken out of `masks`."""
    found: Arrays = {}
    for variable in layer.variables:
        kind = variable.path.rpartition("/")[2]
        value = np.asarray(variable.value.detach().cpu().numpy())
        name = f"{attribute}.{_NAMES[kind]}"
        entry = masks.pop(variable.path, None)
        if entry is None:
            found[name] = _laid_out(layer, kind, value)
        else:
            found[f"{name}_orig"] = _laid_out(layer, kind, value)
            found[f"{name}_mask"] = _laid_out(layer, kind, entry.astype(value.dtype))
    if isinstance(layer, keras.layers.BatchNormalization):
        found[f"{attribute}.num_batches_tracked"] = np.array(0)
    return found


_NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _laid_out(layer: keras.Layer, kind: str, value: np.ndarray) -> np.ndarray:
    if kind == "kernel" and value.ndim == 2:
        value = value.T
    elif kind == "kernel" and isinstance(layer, keras.layers.DepthwiseConv2D):
        value = value.transpose(2, 3, 0, 1)
    elif kind == "kernel":
        value = value.transpose(3, 2, 0, 1)
    return np.ascontiguousarray(value)


_Line = tuple[str, str]
_Writer = Callable[[Any, str, list[str], tuple[int | None, ...]], _Line]


def _conv(layer: Any, name: str, xs: list[str], shape: tuple[int | None, ...]) -> _Line:
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    groups = shape[-1] if depthwise else layer.groups
    filters = shape[-1] if depthwise else layer.filters
    plain = (
        layer.data_format == "channels_last"
        and layer.activation is keras.activations.linear
        and (not depthwise or layer.depth_multiplier == 1)
    )
    padding: Any = 0
    if layer.padding == "same":
        odd = all(size % 2 for size in layer.kernel_size)
        plain = plain and tuple(layer.strides) == (1, 1) and odd
        padding = tuple(size // 2 for size in layer.kernel_size)
    if not plain:
        raise _unknown(layer)
    options = {
        "stride": tuple(layer.strides),
        "padding": padding,
        "dilation": tuple(layer.dilation_rate),
        "groups": groups,
        "bias": layer.use_bias,
    }
    default = {"stride": (1, 1), "padding": 0, "dilation": (1, 1), "groups": 1, "bias": True}
    said = "".join(f", {k}={v!r}" for k, v in options.items() if v != default[k])
    size = tuple(layer.kernel_size)
    return f"nn.Conv2d({shape[-1]}, {filters}, {size!r}{said})", f"self.{name}({xs[0]})"


def _dense(layer: Any, name: str, xs: list[str], shape: tuple[int | None, ...]) -> _Line:
    # Channels are second there, and last here.
    if layer.activation is not keras.activations.linear or len(shape) == 4:
        raise _unknown(layer)
    bias = "" if layer.use_bias else ", bias=False"
    return f"nn.Linear({shape[-1]}, {layer.units}{bias})", f"self.{name}({xs[0]})"


def _batch_norm(layer: Any, name: str, xs: list[str], shape: tuple[int | None, ...]) -> _Line:
    known = len(shape) != 3 and layer.axis in (-1, len(shape) - 1)
    if not (known and layer.center and layer.scale):
        raise _unknown(layer)
    kind = "BatchNorm2d" if len(shape) == 4 else "BatchNorm1d"
    momentum = round(1 - layer.momentum, 12)
    made = f"nn.{kind}({shape[-1]}, eps={layer.epsilon!r}, momentum={momentum!r})"
    return made, f"self.{name}({xs[0]})"


def _relu(layer: Any, name: str, xs: list[str], shape: tuple[int | None, ...]) -> _Line:
    if (layer.max_value, layer.negative_slope, layer.threshold) != (None, 0, 0):
        raise _unknown(layer)
    return "", f"F.relu({xs[0]})"


def _add_up(layer: Any, name: str, xs: list[str], shape: tuple[int | None, ...]) -> _Line:
    return "", " + ".join(xs)


def _pad(layer: Any, name: str, xs: list[str], shape: tuple[int | None, ...]) -> _Line:
    (top, bottom), (left, right) = layer.padding
    return "", f"F.pad({xs[0]}, ({left}, {right}, {top}, {bottom}))"


def _pool(layer: Any, name: str, xs: list[str], shape: tuple[int | None, ...]) -> _Line:
    if layer.padding != "valid":
        raise _unknown(layer)
    kind = "max" if isinstance(layer, keras.layers.MaxPooling2D) else "avg"
    size, strides = tuple(layer.pool_size), tuple(layer.strides)
    return "", f"F.{kind}_pool2d({xs[0]}, {size!r}, {strides!r})"


def _mean(layer: Any, name: str, xs: list[str], shape: tuple[int | None, ...]) -> _Line:
    if layer.keepdims:
        raise _unknown(layer)
    return "", f"{xs[0]}.mean((2, 3))"


def _flatten(layer: Any, name: str, xs: list[str], shape: tuple[int | None, ...]) -> _Line:
    # Keras flattens (height, width, channels).
    seen = f"{xs[0]}.permute(0, 2, 3, 1)" if len(shape) == 4 else xs[0]
    return "", f"{seen}.flatten(1)"


def _same(layer: Any, name: str, xs: list[str], shape: tuple[int | None, ...]) -> _Line:
    return "", xs[0]


_WRITERS: Mapping[str, _Writer] = {
    "Conv2D": _conv,
    "DepthwiseConv2D": _conv,
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "ReLU": _relu,
    "Add": _add_up,
    "ZeroPadding2D": _pad,
    "MaxPooling2D": _pool,
    "AveragePooling2D": _pool,
    "GlobalAveragePooling2D": _mean,
    "Flatten": _flatten,
    "Dropout": _same,
    "Identity": _same,
}


def _source(about: str, written: _Written, output: str) -> str:
    layers = "\n".join(f"        {line}" for line in written.layers)
    calls = "\n".join(f"        {line}" for line in written.calls)
    return f'''"""{about}

Plain PyTorch: `network = load("model.safetensors")`. Pruned weights are 0 by the masks of
`torch.nn.utils.prune`, in training too; `prune.remove(module, "weight")` makes that permanent.
"""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
{layers}

    def forward(self, x: Tensor) -> Tensor:
{calls}
        return {output}


def of_state(state: dict[str, Tensor]) -> Network:
    """The network with these weights and masks."""
    network = Network()
    for name, module in network.named_modules():
        if f"{{name}}.weight_mask" in state:
            prune.identity(module, "weight")
    network.load_state_dict(state)
    return network


def load(path: str = "model.safetensors") -> Network:
    """The network with the weights and masks of a file."""
    from safetensors.torch import load_file

    return of_state(load_file(path))
'''
