"""Revisions of networks and datasets: one that changes is another, and their runs are never mixed.

Revisions count from 1. The current one is what the trainer builds or reads now; earlier ones are
what a store may still hold. A revision after the first is part of the run key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from jackpot import plugins


@dataclass(frozen=True)
class Earlier:
    """A network or dataset as it once was.

    Attributes:
        words: how it differs from the next revision.
        same_function: of a network, whether the next revision computes the same from the same
            weights, so that files of weights can still be loaded.
    """

    words: str
    same_function: bool = True


_START = Earlier("its initial weights were torch's default")
_VGG = Earlier(
    "its initial weights were torch's default, and it had a fifth max pooling in place of the "
    "average pooling",
    same_function=False,
)
_NETWORKS: Mapping[str, Sequence[Earlier]] = MappingProxyType(
    {
        "resnet32": (_START,),
        "resnet32-no-residual": (_START,),
        "resnet18": (_START,),
        "resnet50": (_START,),
        "vgg16": (_VGG,),
    }
)
# Layers that `blocks` gives to a user's own network started as torch's.
_OWN_NETWORK = (_START,)
_DATASETS: Mapping[str, Sequence[Earlier]] = MappingProxyType(
    {"cifar100": (Earlier("images were divided by CIFAR-10's deviations"),)}
)


def of_network(name: str) -> Sequence[Earlier]:
    """The revisions of a network before the current one, in order.

    >>> [revision.same_function for revision in of_network("vgg16")]
    [False]
    """
    return _OWN_NETWORK if plugins.is_plugin(name) else _NETWORKS.get(name, ())


def of_dataset(name: str) -> Sequence[Earlier]:
    """The revisions of a dataset before the current one, in order.

    >>> len(of_dataset("cifar100")), len(of_dataset("cifar10"))
    (1, 0)
    """
    return _DATASETS.get(name, ())


def current(earlier: Sequence[Earlier]) -> int:
    """The number of the current revision.

    >>> current(of_network("resnet20")), current(of_network("resnet32"))
    (1, 2)
    """
    return len(earlier) + 1


def label(name: str, earlier: Sequence[Earlier], revision: int | None) -> str:
    """How runs of a network or dataset are called on screen: only current ones by the name alone.

    Args:
        name: its name.
        earlier: the revisions before the current one.
        revision: that a store names; None: the first, which stores do not name.

    >>> label("resnet32", of_network("resnet32"), 2)
    'resnet32'
    >>> label("resnet32", of_network("resnet32"), None)
    'resnet32 (revision 1)'
    """
    number = revision or 1
    return name if number == current(earlier) else f"{name} (revision {number})"
