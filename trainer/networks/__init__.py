"""Registry of Keras networks.

Example:
    >>> from trainer import networks
    >>> model = networks.build("resnet20", input_shape=(32, 32, 3), classes=10)
    >>> model.count_params() - sum(v.shape[0] for v in model.non_trainable_variables)
    272474
"""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Network:
    """A registered network: where its builder lives, and which layers the paper's authors prune.

    `module` and `function` are imported on first use, so that listing names costs no Keras.
    `pruned` and `kept` are shell patterns over layer names: a layer with a kernel is pruned when a
    pattern of `pruned` matches it and none of `kept` does.
    """

    module: str
    function: str
    pruned: tuple[str, ...] = ("*",)
    kept: tuple[str, ...] = ("stem", "classifier")


NETWORKS: dict[str, Network] = {
    "lenet-300-100": Network("trainer.networks.lenet", "lenet_300_100", kept=("classifier",)),
    "resnet20": Network("trainer.networks.resnet", "resnet20"),
    "vgg16": Network("trainer.networks.vgg", "vgg16"),
}


def names() -> list[str]:
    """Names that `build` knows."""
    return sorted(NETWORKS)


def build(
    name: str,
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    width: float = 1.0,
    seed: int = 0,
) -> "keras.Model":
    """Builds a Keras model with freshly drawn weights.

    Args:
        name: one of `names()`.
        input_shape: (height, width, channels) of one image.
        classes: outputs of the classifier; the model returns logits, shape (batch, classes).
        width: multiplier of every layer's channels, rounded, at least 1 (small-dense networks).
        seed: decides every initial weight; the same seed gives the same bits on the same device.

    Raises:
        ValueError: unknown name, or a shape that the network cannot take.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; known are {', '.join(names())}")
    if len(input_shape) != 3 or min(input_shape) < 1 or classes < 2 or width <= 0:
        raise ValueError(
            "expected input_shape=(height, width, channels), classes >= 2 and width > 0; received "
            f"input_shape={input_shape}, classes={classes}, width={width}"
        )
    from trainer.networks.layers import Blocks

    blocks = Blocks(width=width, seed=seed)
    builder = getattr(importlib.import_module(NETWORKS[name].module), NETWORKS[name].function)
    return builder(blocks, tuple(input_shape), classes)
