"""A network as a `.keras` file that Keras opens without this program."""

from pathlib import Path

import keras

from jackpot.artifacts import Mask
from trainer.keras_internals import all_layers
from trainer.networks.layers import BatchNormalization


def of_plain_layers(model: keras.Model, mask: Mask | None = None) -> keras.Model:
    """A copy of a network in Keras's own layers, its pruned weights 0.0.

    This trainer's batch norm differs from Keras's in training alone: it keeps the unbiased variance
    of each batch, as torch does. Where statistics are not moved, both compute the same.

    Args:
        model: functional.
        mask: boolean arrays by variable path, True where a weight survives.
    """

    def plain(layer: keras.Layer) -> keras.Layer:
        kind = keras.layers.BatchNormalization
        found = kind if type(layer) is BatchNormalization else type(layer)
        made: keras.Layer = found.from_config(layer.get_config())
        return made

    copy: keras.Model = keras.models.clone_model(model, clone_function=plain)
    # By their order: a copy's own names may differ, as those of seed generators do.
    for variable, original in zip(copy.variables, model.variables, strict=True):
        value = original.value.detach().cpu().numpy()
        entry = (mask or {}).get(original.path)
        variable.assign(value if entry is None else value * entry)
    return copy


def not_of_keras(model: keras.Model) -> list[str]:
    """Layers that Keras opens only after the module that defines them was imported."""
    return sorted(
        {
            f"{type(layer).__module__}:{type(layer).__qualname__}"
            for layer in all_layers(model)
            if not type(layer).__module__.startswith("keras.")
        }
    )


def write(path: Path, model: keras.Model, mask: Mask | None = None) -> list[str]:
    """Writes `of_plain_layers` to a file, and returns `not_of_keras` of it. Raises: OSError."""
    copy = of_plain_layers(model, mask)
    copy.save(path)
    return not_of_keras(copy)
