"""Holds a lowered network against the Keras call that it stands for, on a batch of noise.

`trainer.training.lowering` knows what each layer computes; this is for what nobody thought of.
"""

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import torch
from torch import Tensor

from trainer.keras_internals import all_layers
from trainer.training.lowering import Lowered

# Two orders of sums in float32 differ by far less, two computations by far more.
_OUTPUTS, _GRADIENTS = 1e-3, 1e-2
_IMAGES = 4
# A change of images in their last bit, and how much further every layer's own rounding may lead.
_ROUNDING, _MAGNIFIED = 2.0**-22, 30.0

_known: dict[str, str | None] = {}
"""What was found in this process, by structure."""


def once(network: Lowered, models: Sequence[keras.Model]) -> str | None:
    """`difference`, found once in this process for all networks of one structure."""
    key = _structure(models)
    if key is None:
        return difference(network, models)
    if key not in _known:
        _known[key] = difference(network, models)
    return _known[key]


def _structure(models: Sequence[keras.Model]) -> str | None:
    """Layers with their options, and shapes: what one check holds for.

    None where a user's layer cannot say its options: it is not known to be like another.
    """
    model = models[0]
    try:
        layers = [
            (type(layer).__module__, type(layer).__qualname__, _options(layer))
            for layer in all_layers(model)
        ]
    except Exception:
        return None
    device = _weight(model).device.type
    shapes = [tuple(v.shape) for v in model.variables]
    return repr((len(models), device, model.inputs[0].shape, shapes, layers))


def _options(layer: keras.Layer) -> dict[str, Any]:
    """But what it is called and starts from, which changes nothing that it computes."""
    return {
        name: value
        for name, value in layer.get_config().items()
        if name not in ("name", "seed") and not name.endswith("_initializer")
    }


def _weight(model: keras.Model) -> Tensor:
    """Tells where the model is, and in what precision; a seed's state may come before it."""
    value: Tensor = model.trainable_variables[0].value
    return value


def difference(network: Lowered, models: Sequence[keras.Model], seed: int = 0) -> str | None:
    """What differs between a lowered network and Keras beyond rounding; None if nothing does.

    Outputs in training and inference, gradients, and what a step changes without a gradient, such
    as the statistics of batch norm. Variables and gradients are left as they were.

    Args:
        network: `lower(*models)`.
        models: built; they return one output, shape (batch, classes).
        seed: of the batch, and of layers that draw.

    Raises:
        ValueError: Keras itself cannot compute a model.
    """
    device = _weight(models[0]).device
    generator = torch.Generator().manual_seed(seed)
    shape = [size or 1 for size in models[0].inputs[0].shape[1:]]
    dtype = _weight(models[0]).dtype
    images = [torch.randn(_IMAGES, *shape, generator=generator).to(device, dtype) for _ in models]
    if "int" in keras.backend.standardize_dtype(models[0].inputs[0].dtype):
        images = [(x > 0).long() for x in images]  # What an embedding looks up.
    joined = torch.cat(images, -1)
    for training in (True, False):
        with _undone(models), _seeded(seed, device):
            expected = _of_keras(models, images, training)
        with _undone(models), _seeded(seed, device):
            try:
                each = network(joined, training).unflatten(1, (len(models), -1)).unbind(1)
                found = _observed(models, each, training)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, ValueError, TypeError) as error:
                # Such as a layer that writes to its inputs.
                return f"it fails ({str(error).splitlines()[0]})"
        if any(map(_first_difference, found, expected)):
            # Deep networks with batch norm over few values magnify rounding: by how much?
            with _undone(models), _seeded(seed, device):
                near = [x * (1 + _ROUNDING) if x.is_floating_point() else x for x in images]
                rounded = _of_keras(models, near, training)
            for what in map(_first_difference, found, expected, rounded):
                if what is not None:
                    return f"{what} in {'training' if training else 'inference'}"
    return None


def _of_keras(
    models: Sequence[keras.Model], images: Sequence[Tensor], training: bool
) -> list[dict[str, Tensor]]:
    try:
        outputs = [model(x, training=training) for model, x in zip(models, images, strict=True)]
        return _observed(models, outputs, training)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError) as error:
        words = " ".join(re.sub("\x1b\\[[0-9]*m", "", str(error)).split())
        when = "in training" if training else "in inference"
        raise ValueError(
            f"network {models[0].name!r} cannot be computed by Keras {when}: {words[:300]}"
        ) from error


def _observed(
    models: Sequence[keras.Model], outputs: Sequence[Tensor], training: bool
) -> list[dict[str, Tensor]]:
    """Of each model outputs, and in training gradients and statistics, by what they are."""
    seen = [{"outputs": y.detach().clone()} for y in outputs]
    if not training:
        return seen
    weights = torch.linspace(-1, 1, outputs[0].numel(), device=outputs[0].device)
    sum((y * weights.view(y.shape).to(y.dtype)).sum() for y in outputs).backward()  # type: ignore[union-attr]
    for model, known in zip(models, seen, strict=True):
        for variable in model.trainable_variables:
            if variable.value.grad is not None:
                known[f"the gradient of {variable.path}"] = variable.value.grad.clone()
        for variable in model.non_trainable_variables:
            if variable.value.is_floating_point():
                known[variable.path] = variable.value.detach().clone()
    return seen


def _first_difference(
    ours: dict[str, Tensor], theirs: dict[str, Tensor], rounded: dict[str, Tensor] | None = None
) -> str | None:
    """What differs by more than rounding may.

    Args:
        ours, theirs: tensors by what they are.
        rounded: what Keras gives for images that differ by rounding, if that is known.
    """
    if set(ours) != set(theirs):
        return f"there is no {', '.join(sorted(set(ours) ^ set(theirs)))}"
    gradients = [x for name, x in theirs.items() if name.startswith("the gradient")]
    whole = max((float(x.norm()) for x in gradients), default=0.0)
    for name, keras_ in theirs.items():
        own = ours[name]
        if own.shape != keras_.shape:
            return f"{name}: shape {tuple(own.shape)}, of Keras {tuple(keras_.shape)}"
        size, away = float(keras_.norm()), float((own - keras_).norm())
        if name.startswith("the gradient"):
            allowed = _GRADIENTS * size + 1e-4 * whole
        else:
            allowed = _OUTPUTS * (size + 1e-3)
        if rounded:
            allowed = max(allowed, _MAGNIFIED * float((rounded[name] - keras_).norm()))
        if not away <= allowed and not (keras_.isnan().any() and own.isnan().any()):
            return f"{name} are {away / max(size, 1e-12):.2g} off"
    return None


@contextmanager
def _undone(models: Sequence[keras.Model]) -> Iterator[None]:
    """Puts all variables back: statistics, and the states of layers that draw; and no gradients.

    The gradients of networks side by side are views of common ones, and are kept, at 0.
    """
    variables = {id(v): v for model in models for v in model.variables}.values()
    before = [v.value.detach().clone() for v in variables]
    had = [v.value.grad is not None for v in variables]
    try:
        yield
    finally:
        with torch.no_grad():
            for variable, value, kept in zip(variables, before, had, strict=True):
                variable.value.copy_(value)
                if kept and variable.value.grad is not None:
                    variable.value.grad.zero_()
                elif not kept:
                    variable.value.grad = None


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Layers that draw from the generators of torch, NumPy or Python draw the same both times."""
    devices = [device] if device.type == "cuda" else []
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices):
        keras.utils.set_random_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
