"""Networks that runs of this process are done with, for the next runs of the same structure.

Keras takes as long to build a ResNet-20 as a GPU to train it for an epoch.
"""

from collections import deque
from collections.abc import Callable, Hashable

import keras

# Together they hold as much memory as a group of runs; the longest idle ones are let go.
_MOST = 16
_idle: deque[tuple[Hashable, keras.Model]] = deque(maxlen=_MOST)


def borrow(structure: Hashable, build: Callable[[], keras.Model]) -> keras.Model:
    """An idle network of a structure, with whatever weights it was left with; else a new one.

    Args:
        structure: all that decides a network's layers and their shapes.
        build: makes a network of that structure.
    """
    for entry in _idle:
        if entry[0] == structure:
            _idle.remove(entry)
            return entry[1]
    return build()


def give_back(structure: Hashable, network: keras.Model) -> None:
    """Returns `network`, which no run trains any more, to the pool."""
    _idle.append((structure, network))
