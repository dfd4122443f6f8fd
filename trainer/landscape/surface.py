"""Loss and accuracy on a grid over a plane, row by row, resuming where an earlier call stopped."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jackpot import artifacts
from trainer.landscape.plane import Plane, Vector

Measure = Callable[[Vector], tuple[float, float]]
"""Loss and accuracy of the network at some weights."""


@dataclass(frozen=True)
class Surface:
    """What was measured over a plane.

    Attributes:
        a, b: coordinates of the grid's columns and rows, shapes (columns,) and (rows,).
        loss, accuracy: shape (rows, columns); NaN where not measured yet.
    """

    a: np.ndarray
    b: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray


def around(path: np.ndarray, points: int, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of a square grid that holds a projected path, with room on all sides.

    Args:
        path: shape (n, 2).
        points: along each side.
        margin: room on each side, as a share of the longer side of the path's extent.
    """
    low, high = path.min(0), path.max(0)
    half = (0.5 + margin) * float((high - low).max())
    a, b = (np.linspace(middle - half, middle + half, points) for middle in (low + high) / 2)
    return a, b


def measure(
    plane: Plane,
    a: np.ndarray,
    b: np.ndarray,
    at: Measure,
    progress: Path,
    identity: dict[str, str],
    on_row: Callable[[int], None] = lambda row: None,
) -> Surface:
    """Measures the grid; each finished row is written to `progress`.

    Args:
        plane: which plane.
        a, b: grid coordinates.
        at: gives loss and accuracy at some weights.
        progress: file to resume from; it is ignored if its identity differs.
        identity: everything that determines the result.
        on_row: called with the index of each row, whether measured now or read from `progress`.
    """
    loss, accuracy = np.full((2, len(b), len(a)), np.nan)
    try:
        earlier, about = artifacts.read(progress)
        if (
            about == identity
            and np.array_equal(earlier["a"], a)
            and np.array_equal(earlier["b"], b)
        ):
            loss, accuracy = earlier["loss"], earlier["accuracy"]
    except artifacts.ArtifactError:
        pass  # None yet, or half of one: from the beginning.
    for row, second in enumerate(b):
        # Whole rows are kept, so a row is there or it is not.
        if np.isnan(accuracy[row]).any():
            for column, first in enumerate(a):
                measured = at(plane.at(float(first), float(second)))
                loss[row, column], accuracy[row, column] = measured
            arrays = {"a": a, "b": b, "loss": loss, "accuracy": accuracy}
            artifacts.write(progress, arrays, identity)
        on_row(row)
    return Surface(a, b, loss, accuracy)
