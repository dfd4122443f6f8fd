"""Registry of Keras networks, which also finds custom ones.

Example:
    >>> from trainer import networks
    >>> model = networks.build("resnet20", input_shape=(32, 32, 3), classes=10)
    >>> model.count_params() - sum(v.shape[0] for v in model.non_trainable_variables)
    272474
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jackpot import plugins

if TYPE_CHECKING:
    import keras

    from trainer.networks.layers import Blocks

    Builder = Callable[[Blocks, tuple[int, ...], int], keras.Model]


@dataclass(frozen=True)
class Network:
    """A network: where its builder lives, and which of its layers are pruned by default.

    `module` and `function` are imported on first use, so that listing names costs no Keras.
    A network of images takes (height, width, channels), another examples of any shape.
    `pruned` and `kept` are shell patterns over layer names: a layer with a kernel is pruned when a
    pattern of `pruned` matches it and none of `kept` does.
    """

    module: str
    function: str
    pruned: tuple[str, ...] = ("*",)
    kept: tuple[str, ...] = ("stem", "classifier")
    of_images: bool = True


_RESNET = "trainer.networks.resnet"
_WITHOUT_SHORTCUTS = ("stem", "classifier", "*_shortcut")
NETWORKS: dict[str, Network] = {
    "lenet-300-100": Network(
        "trainer.networks.lenet", "lenet_300_100", kept=("classifier",), of_images=False
    ),
    "resnet20": Network(_RESNET, "resnet20"),
    "resnet20-no-residual": Network(_RESNET, "resnet20_no_residual"),
    "resnet32": Network(_RESNET, "resnet32", kept=_WITHOUT_SHORTCUTS),
    "resnet32-no-residual": Network(_RESNET, "resnet32_no_residual"),
    "resnet18": Network(_RESNET, "resnet18"),
    "resnet50": Network(_RESNET, "resnet50"),
    # A depthwise kernel has nine weights per channel: pruning it removes channels, not weights.
    "mobilenet-v1": Network(
        "trainer.networks.mobilenet",
        "mobilenet_v1",
        kept=("stem", "classifier", "*_depthwise"),
    ),
    "vgg16": Network("trainer.networks.vgg", "vgg16"),
    "vit-small": Network("trainer.networks.vit", "vit_small", pruned=("*", "*/*")),
}


def names() -> list[str]:
    """Names of the registered networks."""
    return sorted(NETWORKS)


def find(name: str) -> Network:
    """The registered network with that name, or a custom one as `package.module:function`.

    Raises:
        ValueError: the name is neither.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    if plugins.is_plugin(name):
        module, _, function = name.partition(":")
        return Network(module, function, of_images=False)
    raise ValueError(
        f"unknown network {name!r}; known are {', '.join(names())}, and a network of your own as "
        "'package.module:function'"
    )


def build(
    name: str,
    *,
    input_shape: tuple[int, ...],
    classes: int,
    channels: Mapping[int, int] | None = None,
    seed: int = 0,
) -> "keras.Model":
    """Builds a Keras model with freshly drawn weights.

    Args:
        name: one of `names()`, or `package.module:function` of a network of your own.
        input_shape: (height, width, channels) of one image, or the shape of one example.
        classes: outputs of the classifier; the model returns logits, shape (batch, classes).
        channels: channel counts in place of the network's own, such as {64: 20} for layers of 64
            (small-dense networks); counts without an entry stay.
        seed: decides every initial weight; the same seed gives the same bits on the same device.
            The caller's own generators stay as they are.

    Raises:
        ValueError: unknown name, a network that cannot be imported, or a shape that it cannot take.
    """
    return _build(name, input_shape, classes, channels, seed)[0]


def channel_counts(name: str, input_shape: tuple[int, ...], classes: int) -> tuple[int, ...]:
    """The distinct channel counts that a network's layers have, ascending. Raises: ValueError."""
    import keras

    with keras.device("meta"):
        _, blocks = _build(name, input_shape, classes, None, 0)
    return tuple(sorted(blocks.counts))


def _build(
    name: str,
    input_shape: tuple[int, ...],
    classes: int,
    channels: Mapping[int, int] | None,
    seed: int,
) -> tuple["keras.Model", "Blocks"]:
    network = find(name)
    if (network.of_images and len(input_shape) != 3) or min(input_shape) < 1 or classes < 2:
        raise ValueError(
            f"network {name!r}: expected input_shape=(height, width, channels) and classes >= 2; "
            f"received input_shape={input_shape}, classes={classes}"
        )
    if channels and min(channels.values()) < 1:
        raise ValueError(f"expected channel counts of at least 1; received {dict(channels)}")
    from trainer.keras_internals import start_over, whole_precision
    from trainer.networks.layers import Blocks

    blocks = Blocks(channels, seed)
    builder = _builder(name, network)
    # `Blocks` names and seeds its layers. A network of one's own may have others.
    if name in NETWORKS:
        with whole_precision():
            return builder(blocks, input_shape, classes), blocks
    from trainer.networks import usable

    with whole_precision(), start_over(seed):
        try:
            model = builder(blocks, input_shape, classes)
        except (Exception, SystemExit) as error:
            raise ValueError(
                f"network {name!r} cannot be built for inputs of "
                f"{' × '.join(map(str, input_shape))}: {plugins.told(error)}"
            ) from error
    usable.check(name, model, input_shape, classes)
    return model, blocks


def fingerprint(name: str) -> str | None:
    """SHA-256 of the source of a user's own network; None for a registered one.

    Raises:
        PluginError: there is no such module.
    """
    if name in NETWORKS:
        return None
    find(name)
    return plugins.fingerprint("network", name)


def _builder(name: str, network: Network) -> "Builder":
    if name in NETWORKS:
        builder: Builder = getattr(importlib.import_module(network.module), network.function)
        return builder
    return plugins.load_function("network", name)
