"""Registry of Keras networks, and a door for a user's own.

Example:
    >>> from trainer import networks
    >>> model = networks.build("resnet20", input_shape=(32, 32, 3), classes=10)
    >>> model.count_params() - sum(v.shape[0] for v in model.non_trainable_variables)
    272474
"""

import hashlib
import importlib
import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

    from trainer.networks.layers import Blocks

    Builder = Callable[[Blocks, tuple[int, int, int], int], keras.Model]

OWN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""A user's own network: `package.module:function`."""


@dataclass(frozen=True)
class Network:
    """A network: where its builder lives, and which of its layers are pruned by default.

    `module` and `function` are imported on first use, so that listing names costs no Keras.
    `pruned` and `kept` are shell patterns over layer names: a layer with a kernel is pruned when a
    pattern of `pruned` matches it and none of `kept` does.
    """

    module: str
    function: str
    pruned: tuple[str, ...] = ("*",)
    kept: tuple[str, ...] = ("stem", "classifier")


_RESNET = "trainer.networks.resnet"
_WITHOUT_SHORTCUTS = ("stem", "classifier", "*_shortcut")
NETWORKS: dict[str, Network] = {
    "lenet-300-100": Network("trainer.networks.lenet", "lenet_300_100", kept=("classifier",)),
    "resnet20": Network(_RESNET, "resnet20"),
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
}


def names() -> list[str]:
    """Names of the registered networks."""
    return sorted(NETWORKS)


def find(name: str) -> Network:
    """The network of a registered name, or a user's own by `package.module:function`.

    Raises:
        ValueError: neither.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    if OWN.fullmatch(name):
        return Network(*name.split(":"))
    raise ValueError(
        f"unknown network {name!r}; known are {', '.join(names())}, and a network of your own as "
        "'package.module:function'"
    )


def build(
    name: str,
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    channels: Mapping[int, int] | None = None,
    seed: int = 0,
) -> "keras.Model":
    """Builds a Keras model with freshly drawn weights.

    Args:
        name: one of `names()`, or `package.module:function` of a network of your own.
        input_shape: (height, width, channels) of one image.
        classes: outputs of the classifier; the model returns logits, shape (batch, classes).
        channels: channel counts in place of the network's own, such as {64: 20} for layers of 64
            (small-dense networks); counts without an entry stay.
        seed: decides every initial weight; the same seed gives the same bits on the same device.

    Raises:
        ValueError: unknown name, a network that cannot be imported, or a shape that it cannot take.
    """
    return _build(name, input_shape, classes, channels, seed)[0]


def channel_counts(name: str, input_shape: tuple[int, int, int], classes: int) -> tuple[int, ...]:
    """The distinct channel counts that a network's layers have, ascending. Raises: ValueError."""
    import keras

    with keras.device("meta"):
        _, blocks = _build(name, input_shape, classes, None, 0)
    return tuple(sorted(blocks.counts))


def _build(
    name: str,
    input_shape: tuple[int, int, int],
    classes: int,
    channels: Mapping[int, int] | None,
    seed: int,
) -> tuple["keras.Model", "Blocks"]:
    network = find(name)
    if len(input_shape) != 3 or min(input_shape) < 1 or classes < 2:
        raise ValueError(
            "expected input_shape=(height, width, channels) and classes >= 2; received "
            f"input_shape={input_shape}, classes={classes}"
        )
    if channels and min(channels.values()) < 1:
        raise ValueError(f"expected channel counts of at least 1; received {dict(channels)}")
    from trainer.networks.layers import Blocks

    blocks = Blocks(channels, seed)
    if name not in NETWORKS:
        _start_over(seed)
    return _builder(name, network)(blocks, tuple(input_shape), classes), blocks


def _start_over(seed: int) -> None:
    """Names and draws of layers that `Blocks` did not make begin as in a fresh process.

    Keras numbers unnamed layers through the whole process and draws their weights from a global
    generator: the same network built again would have other paths and other weights.
    """
    import keras
    from keras.src.backend.common import global_state

    global_state.set_global_attribute("object_name_uids", None)
    keras.utils.set_random_seed(seed % 2**32)


def fingerprint(name: str) -> str | None:
    """SHA-256 of the source of a user's own network; None for a registered one.

    Of the file that holds the builder, not of what it imports. Finding the file may import the
    packages around it, not the module.

    Raises:
        ValueError: there is no such module.
    """
    if name in NETWORKS:
        return None
    module = find(name).module
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise ValueError(
            f"network '{name}' cannot be imported: there is no module '{module}'. Start the "
            "trainer in the folder that holds it, or install its package"
        )
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:20]


def _builder(name: str, network: Network) -> "Builder":
    try:
        return getattr(importlib.import_module(network.module), network.function)
    except (ImportError, AttributeError) as error:
        if name in NETWORKS:
            raise
        raise ValueError(
            f"network '{name}' cannot be imported: {error}. Start the trainer in the folder that "
            "holds the module, or install its package"
        ) from error
