"""Lowers a Keras network to a flat list of torch calls on the network's own parameters.

A Keras call spends most of a small network's step on the host: about six ATen calls for each one
that computes. The lowered network makes only those that compute, on the same tensors, and gives the
Keras call's result up to the order of sums (tested for outputs, gradients and statistics). A layer
that has no torch call here is computed by Keras, between the others.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.keras_internals import Node, functional, in_order, takes_training
from trainer.networks.layers import BatchNormalization

log = logging.getLogger(__name__)

Network = Callable[[Tensor, bool], Tensor]
Call = Callable[..., Tensor]


class CannotLower(Exception):
    """A network, a layer, or one of its options has no lowered form."""


def lower(*models: keras.Model, by_keras: str = "") -> "Lowered | AsAWhole":
    """A function (images, training) → outputs that computes what each of `models` computes.

    Several networks of one structure are computed side by side: convolutions become convolutions
    in groups, one for each network (Wang et al. 2021, HFTA). Their variables become views of common
    tensors, their gradients too; `zero_gradients` of the returned network clears these.

    Args:
        models: built Keras models of one structure. Images have shape (batch, height, width,
            channels); for K networks (batch, height, width, K · channels), or as for one, which all
            of them then see. Outputs have shape (batch, K · outputs).
        by_keras: why Keras is to compute the network as a whole; empty: it is not.

    Returns:
        The lowered network. One log line names the layers that Keras computes, and what they cost.
        Rebuild it if a variable of a model is given another tensor.

    Raises:
        CannotLower: several networks, and an operation that Keras can only compute with the rest
            of its network.
    """
    lowered: Lowered | AsAWhole
    try:
        if by_keras:
            raise CannotLower(by_keras)
        lowered = Lowered(models)
    except CannotLower as reason:
        if len(models) > 1:
            raise
        lowered = AsAWhole(models[0], str(reason))
    if lowered.by_keras:
        log.warning(
            "%s: no torch call for %s: computed by Keras, which costs about %.1f ms of each step "
            "on the host, and on a GPU the recording of steps",
            models[0].name,
            _some(lowered.by_keras),
            _KERAS_LAYER_MS * lowered.keras_layers * len(models),
        )
    return lowered


def _some(names: Sequence[str], most: int = 8) -> str:
    more = [f"{len(names) - most} more"] * (len(names) > most)
    return ", ".join([*names[:most], *more])


def in_precision(name: str, network: Network) -> Network:
    """`network` with the convolutions and matrix products of its forward pass in a precision.

    Args:
        name: `float32`, or `bfloat16` under torch's autocast: the backward pass of each operation
            runs in the precision of its forward pass, gradients of weights are float32.
        network: images and outputs are float32 either way.
    """
    if name == "float32":
        return network
    dtype: torch.dtype = getattr(torch, name)

    def cast(images: Tensor, training: bool) -> Tensor:
        with torch.autocast(images.device.type, dtype=dtype):
            return network(images, training).float()

    return cast


# Forward and backward, measured by `python -m benchmarks.layers`.
_KERAS_LAYER_MS = 0.4


@dataclass
class _Op:
    call: Call
    inputs: list[int]
    output: int
    shares: bool
    """Whether one copy of images that all networks see is enough for it."""
    last_used: list[int] = field(default_factory=list)


class AsAWhole:
    """A network that Keras computes as a whole; see `Lowered`."""

    def __init__(self, model: keras.Model, reason: str) -> None:
        self._model = model
        self.by_keras, self.keras_layers = [reason], len(model.layers)

    def __call__(self, images: Tensor, training: bool) -> Tensor:
        """Outputs, as Keras gives them."""
        return self._model(images, training=training)


class Lowered:
    """Networks as one list of calls. Tensors live in numbered slots; each call fills one.

    Args:
        models: see `lower`.

    Attributes:
        by_keras: the layers that Keras computes.
    """

    def __init__(self, models: Sequence[keras.Model]) -> None:
        model = functional(models[0])
        if model is None:
            raise CannotLower("a network that is no functional model")
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise CannotLower("a network with several inputs or outputs")
        self.by_keras: list[str] = []
        self._joined = _Joined(models)
        nodes = in_order(model)
        self._readers = Counter(id(x) for node in nodes for x in node.arguments.keras_tensors)
        self._readers[id(model.outputs[0])] += 1
        self._slots: dict[int, int] = {}
        self._ops: list[_Op] = []
        self._padding: dict[int, tuple[int, keras.Operation | None]] = {}
        self._made_by: dict[int, keras.Operation] = {}
        self._input = self._slot(model.inputs[0])
        self._rank, self._width = len(model.inputs[0].shape), model.inputs[0].shape[-1]
        for node in nodes:
            if not isinstance(node.operation, keras.layers.InputLayer):
                self._add(node.operation, node)
        self._output = self._slots[id(model.outputs[0])]
        self._release_early()
        # Images that all networks see are copied for each, unless torch's convolutions alone read
        # them.
        readers = [op for op in self._ops if self._input in op.inputs]
        self._shares = self._joined.count == 1 or all(op.shares for op in readers)

    @property
    def keras_layers(self) -> int:
        """How many layers Keras computes."""
        return len(self.by_keras)

    def zero_gradients(self) -> None:
        """Clears the common gradients of several networks."""
        self._joined.zero_gradients()

    def __call__(self, images: Tensor, training: bool) -> Tensor:
        """Outputs of all networks; see `lower`."""
        slots: list[Any] = [None] * len(self._slots)
        # Channels-first shape over channels-last memory: a view, and the fast layout.
        x = images.permute(0, 3, 1, 2) if self._rank == 4 else images
        if x.shape[1] == self._width and not self._shares:
            x = x.repeat(1, self._joined.count, *(1,) * (x.ndim - 2))
        slots[self._input] = x
        for op in self._ops:
            slots[op.output] = op.call(training, *[slots[i] for i in op.inputs])
            for i in op.last_used:
                slots[i] = None
        output: Tensor = slots[self._output]
        return output

    def _slot(self, tensor: keras.KerasTensor) -> int:
        return self._slots.setdefault(id(tensor), len(self._slots))

    def _add(self, operation: keras.Operation, node: Node) -> None:
        inputs = node.arguments.keras_tensors
        output = node.outputs[0]
        self._made_by[id(output)] = operation
        pads = _padding(operation)
        if pads is not None and self._readers[id(output)] == 1:
            # The layer that reads it does the padding.
            self._slots[id(output)] = self._slot(inputs[0])
            self._padding[id(output)] = pads, self._made_by.get(id(inputs[0]))
            return
        padded, before = self._padding.pop(id(inputs[0]), (0, None))
        # Pooling pads with -inf, which comes to the same where no input is below 0.
        kind = type(operation)
        pads_itself = kind in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D) or (
            kind is keras.layers.MaxPooling2D and _is_relu(before)
        )
        own = padded if pads_itself else 0
        # A tensor from Keras or a view may be shared with others, and images are not ours.
        maker = self._made_by.get(id(inputs[0]))
        alone = self._readers[id(inputs[0])] == 1 and type(maker) in _MAKES_ITS_OWN
        shares = kind is keras.layers.Conv2D
        try:
            _check_inputs(operation, [tuple(x.shape) for x in inputs])
            call = _call(operation, self._joined, own, inputs[0].shape[-1], alone)
        except CannotLower as reason:
            own, shares = 0, False
            call = _by_keras(operation, node, self._joined)
            self.by_keras.append(str(reason))
            del self._made_by[id(output)]
        if padded and not own:
            call = _after_padding(call, padded)
        self._ops.append(_Op(call, [self._slot(x) for x in inputs], self._slot(output), shares))

    def _release_early(self) -> None:
        seen = {self._output}
        for op in reversed(self._ops):
            op.last_used = [i for i in set(op.inputs) if i not in seen]
            seen.update(op.inputs)


# Exactly these: a subclass of theirs may compute something else.
_LOWERED = frozenset(
    {
        *(keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense),
        *(BatchNormalization, keras.layers.ReLU, keras.layers.Add, keras.layers.MaxPooling2D),
        *(keras.layers.GlobalAveragePooling2D, keras.layers.Flatten),
    }
)
# Layers whose torch call gives a tensor that nothing else holds.
_MAKES_ITS_OWN = (
    *(keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense, BatchNormalization),
    *(keras.layers.Add, keras.layers.MaxPooling2D),
)


def _is_relu(operation: keras.Operation | None) -> bool:
    """Whether its outputs are max(x, 0), and so never below 0."""
    if operation is None or type(operation) is not keras.layers.ReLU:
        return False
    return (operation.max_value, operation.negative_slope, operation.threshold) == (None, 0, 0)


def _check_inputs(operation: keras.Operation, shapes: list[tuple[int | None, ...]]) -> None:
    """Raises `CannotLower` for shapes that the torch call of a layer would take otherwise."""
    if type(operation) is keras.layers.Dense and len(shapes[0]) != 2:
        raise CannotLower(f"{_named(operation)} on {len(shapes[0])}-dimensional inputs")
    if type(operation) is keras.layers.Add and len(set(shapes)) > 1:
        raise CannotLower(f"{_named(operation)}, which broadcasts its inputs")


def _check_plain(layer: keras.Operation) -> None:
    """Raises `CannotLower` for what the torch call of a layer would not honour.

    A subclass may compute anything: only Keras's own layers have a torch call here.
    """
    if type(layer) not in _LOWERED:
        raise CannotLower(_named(layer))
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise CannotLower(f"{_named(layer)} with data_format={layer.data_format!r}")
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        raise CannotLower(f"{_named(layer)} with LoRA or quantization")
    if layer.compute_dtype != layer.variable_dtype:
        raise CannotLower(f"{_named(layer)} in mixed precision")


def _padding(operation: keras.Operation) -> int | None:
    """Zeros that a padding layer adds on each side; None of another layer, or if sides differ."""
    if type(operation) is not keras.layers.ZeroPadding2D:
        return None
    if operation.data_format != "channels_last":
        return None
    sides = {side for pair in operation.padding for side in pair}
    return sides.pop() if len(sides) == 1 else None


def _after_padding(call: Call, padding: int) -> Call:
    return lambda training, x: call(training, F.pad(x, 4 * (padding,)))


def _by_keras(operation: keras.Operation, node: Node, joined: "_Joined") -> Call:
    """A layer's own call, on each network's part of its inputs.

    Raises:
        CannotLower: several outputs; several networks and a tensor that is neither of images nor
            of features.
    """
    arguments, count = node.arguments, joined.count
    tensors = [*arguments.keras_tensors, *node.outputs]
    if len(node.outputs) != 1:
        raise CannotLower(f"{_named(operation)}, which has several outputs")
    if count > 1 and any(len(x.shape) not in (2, 4) for x in tensors):
        raise CannotLower(f"{_named(operation)}, between neither images nor features")
    twins = joined.twins(operation)
    joined.leave(twins)
    trains = takes_training(operation)

    def part(x: Tensor, k: int) -> Tensor:
        own = x.unflatten(1, (count, -1))[:, k] if count > 1 else x
        return own.permute(0, 2, 3, 1) if own.ndim == 4 else own

    def call(training: bool, *xs: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        for k, twin in enumerate(twins):
            own = {id(x): part(value, k) for x, value in zip(inputs, xs, strict=True)}
            args, kwargs = arguments.fill_in(own)
            if trains:
                kwargs["training"] = training
            y = twin(*args, **kwargs)
            outputs.append(y.permute(0, 3, 1, 2) if y.ndim == 4 else y)
        return torch.cat(outputs, 1) if count > 1 else outputs[0]

    inputs = arguments.keras_tensors
    return call


class _Joined:
    """The parameters of a layer in each of `models`, side by side in one tensor.

    Each network's variable keeps its own identity, as a view of that tensor.
    """

    def __init__(self, models: Sequence[keras.Model]) -> None:
        self.count = len(models)
        layers = zip(*[model.layers for model in models], strict=True)
        self._twins = {id(twins[0]): twins for twins in layers}
        self._gradients: list[Tensor] = []
        self._apart: list[Tensor] = []
        self._leaves: dict[tuple[int, str], Tensor] = {}

    def __call__(
        self, layer: keras.Layer, name: str, order: tuple[int, ...], merged: bool = True
    ) -> Tensor:
        """The variables `name`, laid out in memory in the axes' `order`.

        For one network that is its variable itself, in its own order of axes.

        Args:
            layer: of the first network.
            name: of the layer's attribute.
            order: axes of the variable.
            merged: the networks run along the first of these axes; else along an axis before it.
        """
        known = id(layer), name
        if known not in self._leaves:
            # A layer that is called twice has one set of parameters.
            values = [getattr(twin, name).value for twin in self._twins[id(layer)]]
            self._leaves[known] = self._leaf(values, order, merged)
        return self._leaves[known]

    def _leaf(self, values: list[Tensor], order: tuple[int, ...], merged: bool) -> Tensor:
        laid_out = [value.data.permute(order).contiguous() for value in values]
        back = tuple(order.index(axis) for axis in range(len(order)))
        if self.count == 1:
            own = laid_out[0]
            if own.untyped_storage().nbytes() > own.nbytes:
                own = own.clone()  # It was part of a larger tensor that is released now.
            values[0].data = own.permute(back)
            values[0].grad = None
            return values[0]
        joined = torch.stack(laid_out)
        leaf = torch.nn.Parameter(
            joined.flatten(0, 1) if merged else joined, requires_grad=values[0].requires_grad
        )
        for k, value in enumerate(values):
            value.data = leaf.data.view_as(joined)[k].permute(back)
        if leaf.requires_grad:
            leaf.grad = torch.zeros_like(leaf)
            self._gradients.append(leaf.grad)
            for k, value in enumerate(values):
                value.grad = leaf.grad.view_as(joined)[k].permute(back)
        return leaf

    def twins(self, operation: keras.Operation) -> Sequence[keras.Operation]:
        """The operation in each network; one without variables stands for all."""
        return self._twins.get(id(operation), (operation,) * self.count)

    def leave(self, twins: Sequence[keras.Operation]) -> None:
        """Leaves the variables of a layer apart, each network's own."""
        self._apart += [v.value for twin in twins for v in getattr(twin, "trainable_variables", [])]

    def bias(self, layer: keras.Layer, merged: bool = True) -> Tensor | None:
        """The layer's bias, if it has one."""
        return self(layer, "bias", (0,), merged) if layer.use_bias else None

    @torch.no_grad()
    def zero_gradients(self) -> None:
        torch._foreach_zero_(self._gradients)
        for value in self._apart:
            value.grad = None


def _call(layer: keras.Operation, joined: _Joined, padding: int, width: int, alone: bool) -> Call:
    """The torch call of one layer.

    Args:
        layer: the Keras layer.
        joined: its parameters.
        padding: zeros on each side that a preceding layer leaves to this one.
        width: last axis of the layer's input: channels.
        alone: whether nothing else reads the layer's input, so that it may be overwritten.
    """
    _check_plain(layer)
    match layer:
        case keras.layers.DepthwiseConv2D(depth_multiplier=1):
            return _depthwise(layer, joined, padding)
        case keras.layers.Conv2D():
            return _conv(layer, joined, padding)
        case BatchNormalization():
            return _batch_norm(layer, joined)
        case keras.layers.ReLU() if _is_relu(layer):
            return (lambda _, x: F.relu_(x)) if alone else (lambda _, x: F.relu(x))
        case keras.layers.Add():
            return lambda _, *xs: torch.add(*xs) if len(xs) == 2 else sum(xs)
        case keras.layers.MaxPooling2D(padding="valid"):
            size, strides = layer.pool_size, layer.strides
            return lambda _, x: F.max_pool2d(x, size, strides, padding)
        case keras.layers.GlobalAveragePooling2D(keepdims=False):
            return lambda _, x: x.mean((2, 3))
        case keras.layers.Flatten():
            return _flatten(width)
        case keras.layers.Dense() if layer.activation is keras.activations.linear:
            return _dense(layer, joined)
        case _:
            raise CannotLower(_named(layer))


def _named(layer: keras.Operation) -> str:
    return f"{type(layer).__name__} '{layer.name}'"


def _flatten(width: int) -> Call:
    def flatten(_: bool, x: Tensor) -> Tensor:
        if x.ndim != 4:
            return x.flatten(1)
        # Keras flattens (height, width, channels), and each network's separately.
        return x.unflatten(1, (-1, width)).permute(0, 1, 3, 4, 2).flatten(1)

    return flatten


def _dense(layer: keras.layers.Dense, joined: _Joined) -> Call:
    count, width = joined.count, layer.kernel.shape[0]
    kernel = joined(layer, "kernel", (0, 1), merged=False)
    bias = joined.bias(layer, merged=False)
    if count == 1:
        return lambda _, x: F.linear(x, kernel.t(), bias)

    def dense(_: bool, x: Tensor) -> Tensor:
        each = x.unflatten(1, (count, width)).transpose(0, 1)
        y = torch.bmm(each, kernel) if bias is None else torch.baddbmm(bias[:, None], each, kernel)
        return y.transpose(0, 1).flatten(1)

    return dense


def _conv(layer: keras.layers.Conv2D, joined: _Joined, padding: int) -> Call:
    if layer.groups != 1:
        raise CannotLower(f"{_named(layer)} with groups")
    padding = _plain_padding(layer, padding)
    strides, channels = layer.strides, layer.kernel.shape[2]
    # (height, width, in, out) over memory in the order (out, height, width, in): seen as torch's
    # (out, in, height, width) it is channels-last, so that no step copies it.
    kernel, bias = joined(layer, "kernel", (3, 0, 1, 2)), joined.bias(layer)
    if joined.count == 1:
        return lambda _, x: F.conv2d(x, kernel.permute(3, 2, 0, 1), bias, strides, padding)

    def conv(_: bool, x: Tensor) -> Tensor:
        # Images that all networks see are one group: its outputs are theirs, side by side.
        groups = x.shape[1] // channels
        return F.conv2d(x, kernel.permute(0, 3, 1, 2), bias, strides, padding, groups=groups)

    return conv


def _depthwise(layer: keras.layers.DepthwiseConv2D, joined: _Joined, padding: int) -> Call:
    padding = _plain_padding(layer, padding)
    strides, channels, count = layer.strides, layer.kernel.shape[2], joined.count
    # (height, width, channels, 1), seen as torch's (channels, 1, height, width) without a copy.
    kernel, bias = joined(layer, "kernel", (2, 0, 1, 3)), joined.bias(layer)
    seen = (2, 3, 0, 1) if count == 1 else (0, 3, 1, 2)
    return lambda _, x: F.conv2d(
        x, kernel.permute(seen), bias, strides, padding, groups=count * channels
    )


def _plain_padding(layer: keras.layers.Conv2D | keras.layers.DepthwiseConv2D, padding: int) -> int:
    """Zeros on each side, those of a preceding padding included.

    Raises:
        CannotLower: an option that the torch call would not honour.
    """
    size = layer.kernel_size
    plain = (
        layer.data_format == "channels_last"
        and tuple(layer.dilation_rate) == (1, 1)
        and layer.activation is keras.activations.linear
    )
    if layer.padding == "same":
        # Only at stride 1 and odd sizes does Keras's "same" pad both sides alike.
        plain = plain and tuple(layer.strides) == (1, 1) and size[0] == size[1] and size[0] % 2 == 1
        padding += size[0] // 2
    elif layer.padding != "valid":
        plain = False
    if not plain:
        raise CannotLower(f"{_named(layer)} with these options")
    return padding


def _batch_norm(layer: BatchNormalization, joined: _Joined) -> Call:
    if layer.axis != -1 or not layer.center or not layer.scale:
        raise CannotLower(f"{_named(layer)} with these options")
    mean, variance, gamma, beta = (
        joined(layer, name, (0,)) for name in ("moving_mean", "moving_variance", "gamma", "beta")
    )
    momentum, epsilon, learns = 1.0 - layer.momentum, layer.epsilon, layer.trainable
    return lambda training, x: F.batch_norm(
        x, mean, variance, gamma, beta, training and learns, momentum, epsilon
    )
