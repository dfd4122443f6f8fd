"""Whether a network of a user's own is one that the trainer trains as Keras would."""

from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

import keras

from trainer.keras_internals import all_layers, functional


def check(name: str, model: Any, input_shape: tuple[int, ...], classes: int) -> None:
    """Checks what a builder returned.

    Args:
        name: of the network, for messages.
        model: what it returned.
        input_shape: (height, width, channels) of the images.
        classes: outputs that it was asked for.

    Raises:
        ValueError: something that cannot be trained, or would silently be trained otherwise than
            Keras's own `fit` does.
    """

    def refuse(what: str) -> NoReturn:
        raise ValueError(f"network {name!r} {what}")

    if not isinstance(model, keras.Model):
        refuse(f"returned {type(model).__name__}: expected a built keras.Model")
    if not model.built or not model.variables:
        refuse(
            "is not built: call it on keras.Input(input_shape) before it is returned, or make it a "
            "functional model"
        )
    twice = [path for path, n in Counter(v.path for v in model.variables).items() if n > 1]
    if twice:
        refuse(
            f"has several variables called {twice[0]!r}: give the layers names of their own, since "
            "weights and masks are stored by these"
        )
    graph = functional(model)
    if graph is not None:
        _check_ends(refuse, graph, input_shape, classes)
    _check_losses(refuse, model)


def _check_ends(
    refuse: Callable[[str], NoReturn],
    graph: keras.Model,
    input_shape: tuple[int, ...],
    classes: int,
) -> None:
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        refuse(
            f"has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs: expected one of each"
        )
    shape = tuple(graph.outputs[0].shape)
    if shape != (None, classes):
        refuse(f"returns outputs of shape {shape}: expected (None, {classes}), one logit a class")
    taken = tuple(graph.inputs[0].shape)
    if any(a is not None and a != b for a, b in zip(taken[1:], input_shape, strict=False)):
        refuse(f"takes images of shape {taken[1:]}: expected {input_shape}")
    last = graph.layers[-1]
    activation = getattr(last, "activation", None)
    if isinstance(last, keras.layers.Softmax) or activation in (
        keras.activations.softmax,
        keras.activations.log_softmax,
        keras.activations.sigmoid,
    ):
        refuse(
            f"ends in probabilities ({last.name!r}): expected logits, of which the loss takes the "
            "softmax itself; leave the activation out"
        )


def _check_losses(refuse: Callable[[str], NoReturn], model: keras.Model) -> None:
    """Refuses what Keras's own step adds to the loss or does to weights, and ours does not."""
    for variable in model.variables:
        for kind in ("regularizer", "constraint"):
            rule = getattr(variable, kind, None)
            if rule is not None:
                refuse(
                    f"has a {kind} on {variable.path!r} ({type(rule).__name__}), which this "
                    "trainer does not apply: leave it out"
                    + (", and set training.optimizer.weight_decay" if kind == "regularizer" else "")
                )
    for layer in all_layers(model):
        if getattr(layer, "activity_regularizer", None) is not None:
            refuse(f"has an activity regularizer on {layer.name!r}, which this trainer leaves out")
    if model.losses:
        refuse("adds losses of its own (add_loss), which this trainer leaves out")
