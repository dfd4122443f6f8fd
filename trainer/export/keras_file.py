"""A network as a `.keras` file that Keras opens without this program."""

from pathlib import Path

import keras

from jackpot.artifacts import Mask
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
    values = {v.path: v.value.detach().cpu().numpy() for v in model.variables}
    for path, entry in (mask or {}).items():
        values[path] = values[path] * entry
    for variable in copy.variables:
        variable.assign(values[variable.path])
    return copy


def write(path: Path, model: keras.Model, mask: Mask | None = None) -> None:
    """Writes `of_plain_layers` to a `.keras` file. Raises: OSError."""
    of_plain_layers(model, mask).save(path)
