"""Loss landscapes as frames to draw: contours, path and basin (figures 4 and 5). Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from contourpy import contour_generator

from jackpot.contract import FILTER_LENGTHS


@dataclass(frozen=True)
class Landscape:
    """A measured plane through a run's final weights; see `trainer.landscape`.

    Attributes:
        a, b: coordinates of the grid, shapes (columns,) and (rows,); the final weights are at 0.
        loss, accuracy: shape (rows, columns).
        path: of training, projected on the plane, shape (n, 2).
        epochs: done at each point of the path, shape (n,).
        explained: shares of the path's variance along a and b; None for random directions.
        compares: whether coordinates are in lengths of the filters, so that areas compare.
        batch_norm: statistics that batch norm used: `re-estimated` at each point, or `fixed`.
    """

    a: np.ndarray
    b: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    path: np.ndarray
    epochs: np.ndarray
    explained: tuple[float, float] | None = None
    compares: bool = True
    batch_norm: str = "re-estimated"

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], about: Mapping[str, str]) -> "Landscape":
        """From the arrays and metadata of the artifact. Raises: KeyError, ValueError."""
        explained = arrays.get("explained")
        found = cls(
            a=arrays["a"],
            b=arrays["b"],
            loss=arrays["loss"],
            accuracy=arrays["accuracy"],
            path=arrays["path"],
            epochs=arrays["epochs"],
            explained=None if explained is None else (float(explained[0]), float(explained[1])),
            compares=about.get("units") == FILTER_LENGTHS,
            # Earlier versions had no other.
            batch_norm=about.get("batch_norm", "fixed"),
        )
        if found.loss.shape != (len(found.b), len(found.a)):
            raise ValueError(f"a loss of shape {found.loss.shape} on {len(found.b)} rows")
        if not np.isfinite(found.loss).any() or not (found.loss[np.isfinite(found.loss)] > 0).any():
            raise ValueError("no finite loss above 0 anywhere on the grid")
        return found


def levels(landscapes: Iterable[Landscape], count: int = 14) -> list[float]:
    """Loss levels, evenly spaced in the logarithm, that suit all landscapes together.

    From the lowest loss to the 90th percentile of all: a few far corners would take all levels.
    """
    losses = np.concatenate([landscape.loss.ravel() for landscape in landscapes])
    losses = losses[np.isfinite(losses) & (losses > 0)]
    low, high = losses.min(), max(np.percentile(losses, 90), losses.min() * 1.01)
    return np.geomspace(low, high, count + 1)[1:].tolist()


def contours(landscape: Landscape, at: Sequence[float]) -> pl.DataFrame:
    """Lines of equal loss: `level line order a b`, one row per vertex."""
    loss = np.ma.masked_invalid(landscape.loss)
    generator = contour_generator(landscape.a, landscape.b, loss)
    rows = [
        (level, f"{level:g}/{i}", order, float(a), float(b))
        for level in at
        for i, line in enumerate(generator.lines(level))
        for order, (a, b) in enumerate(line)
    ]
    schema = {"level": float, "line": str, "order": int, "a": float, "b": float}
    return pl.DataFrame(rows, schema=schema, orient="row")


def path(landscape: Landscape) -> pl.DataFrame:
    """The way of training: `epoch a b`."""
    return pl.DataFrame(
        {"epoch": landscape.epochs, "a": landscape.path[:, 0], "b": landscape.path[:, 1]}
    )


def basin(landscape: Landscape, level: float) -> float:
    """Area of the plane, in squared units of its coordinates, where the loss is at most `level`.

    In lengths of the filters, areas of several runs compare; in units of the weights they would
    tell the scale of the weights, which batch norm makes arbitrary (Dinh et al. 2017). Within the
    grid, between whose points the loss is taken to be linear.
    """
    loss = np.ma.masked_invalid(landscape.loss)
    generator = contour_generator(landscape.a, landscape.b, loss, fill_type="OuterOffset")
    polygons, offsets = generator.filled(-np.inf, level)
    return float(
        sum(
            # The outer boundary runs one way round, its holes the other.
            abs(sum(_signed_area(points[start:end]) for start, end in pairwise(of)))
            for points, of in zip(polygons, offsets, strict=True)
        )
    )


def is_cut_off(landscape: Landscape, level: float) -> bool:
    """Whether the basin reaches the edge of the grid, so that its area is a lower bound."""
    loss = landscape.loss
    edge = np.concatenate([loss[0], loss[-1], loss[:, 0], loss[:, -1]])
    return bool((edge[np.isfinite(edge)] <= level).any())


def _signed_area(polygon: np.ndarray) -> float:
    x, y = polygon[:, 0], polygon[:, 1]
    return 0.5 * float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
