"""Keras's private names, all of them, as of keras 3.15. Check them when Keras is upgraded."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import keras
import numpy as np
import torch
from keras.src.backend.common import dtypes, global_state
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR
from keras.src.trainers.data_adapters.data_adapter import DataAdapter
from keras.src.utils.rng_utils import GLOBAL_RANDOM_SEED

__all__ = [
    "DataAdapter",
    "Node",
    "all_layers",
    "averages",
    "batch_norms",
    "functional",
    "in_float64",
    "in_order",
    "start_over",
    "stateless",
    "takes_training",
    "train_in_float32",
    "whole_precision",
]
_NAMES = "object_name_uids"


class Arguments(Protocol):
    """The arguments of one call of an operation."""

    keras_tensors: list[keras.KerasTensor]

    def fill_in(self, tensors: dict[int, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and named arguments with tensors in place of the symbolic ones."""


class Node(Protocol):
    """One call of an operation in a functional model."""

    operation: keras.Operation
    arguments: Arguments
    outputs: list[keras.KerasTensor]


def functional(model: keras.Model) -> keras.Model | None:
    """The functional model that `model` is or keeps; None if there is none."""
    # A sequential model keeps the functional one that it stands for.
    found = getattr(model, "_functional", None) or model
    return found if hasattr(found, "_nodes_by_depth") else None


def in_order(model: keras.Model) -> list[Node]:
    """The nodes of a functional model, each after those it reads."""
    by_depth = model._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def all_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers of a model, and those inside composite ones."""
    layers: list[keras.Layer] = model._flatten_layers(include_self=False)
    return layers


def batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """The batch-norm layers of a model, those inside composite layers too."""
    return [x for x in all_layers(model) if isinstance(x, keras.layers.BatchNormalization)]


def averages(optimizer: Any) -> dict[int, torch.Tensor]:
    """What an optimizer with `use_ema` keeps of each variable, by the variable's id."""
    kept = getattr(optimizer, "_model_variables_moving_average", None) or []
    variables = getattr(optimizer, "_trainable_variables", [])
    return {
        id(variable): average.value
        for variable, average in zip(variables, kept, strict=False)
        if average is not None
    }


def takes_training(operation: keras.Operation) -> bool:
    """Whether an operation's call has an argument `training`."""
    return bool(getattr(operation, "_call_has_training_arg", False))


def train_in_float32() -> None:
    """Sets this process to float32, whatever a user's `keras.json` says."""
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@contextmanager
def in_float64() -> Iterator[None]:
    """Networks that are built here are in float64, and compute in it while the context lasts.

    On torch, Keras would otherwise compute products of float64 tensors in float32.
    """
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    narrowed = dtypes.BIT64_TO_BIT32_DTYPE
    kept = narrowed["float64"]
    try:
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
        narrowed["float64"] = "float64"
        yield
    finally:
        narrowed["float64"] = kept
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


@contextmanager
def whole_precision() -> Iterator[None]:
    """Channels last, and float32 unless float64 is set: what networks are built in."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    data_format = keras.config.image_data_format()
    precision = "float64" if floatx == "float64" else "float32"
    try:
        keras.config.set_floatx(precision)
        keras.config.set_dtype_policy(precision)
        keras.config.set_image_data_format("channels_last")
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)
        keras.config.set_image_data_format(data_format)


def stateless(values: Sequence[tuple[keras.Variable, torch.Tensor]]) -> Any:
    """A context in which variables have other values, and themselves stay as they are."""
    return keras.StatelessScope(state_mapping=list(values))


@contextmanager
def start_over(seed: int) -> Iterator[None]:
    """Resets layer names and random generators as in a fresh process; restores them afterwards.

    Keras numbers unnamed layers through the whole process, and draws their weights from global
    generators of Python, NumPy and torch.

    Args:
        seed: of the draws.
    """
    kept = (_NAMES, GLOBAL_RANDOM_SEED, GLOBAL_SEED_GENERATOR)
    before = {name: global_state.get_global_attribute(name) for name in kept}
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            global_state.set_global_attribute(_NAMES, None)
            keras.utils.set_random_seed(seed % 2**32)
            yield
        finally:
            for name, value in before.items():
                global_state.set_global_attribute(name, value)
            random.setstate(python)
            np.random.set_state(numpy)
