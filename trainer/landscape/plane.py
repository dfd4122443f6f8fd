"""Planes in the space of weights. Pure NumPy; weights are vectors, shape (weights,).

Lengths are filter-normalised: a weight is measured in lengths of its own filter (Li et al. 2018).
Batch norm makes a network blind to the scale of the filters before it, so lengths in the weights'
own units tell its scale and not its shape (Dinh et al. 2017).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Vector = np.ndarray
Lengths = dict[str, np.ndarray]


@dataclass(frozen=True)
class Plane:
    """origin + a · first + b · second.

    Attributes:
        origin, first, second: shape (weights,).
        lengths: of each weight's filter, shape (weights,); 0 if all of it is 0.
        explained: shares of the trajectory's variance along the directions; None if they are
            random.
    """

    origin: Vector
    first: Vector
    second: Vector
    lengths: Vector
    explained: tuple[float, float] | None = None

    def at(self, a: float, b: float) -> Vector:
        """Weights at coordinates (a, b)."""
        return self.origin + a * self.first + b * self.second

    def project(self, points: np.ndarray) -> np.ndarray:
        """Coordinates of the nearest points of the plane, by filter-normalised distance.

        Args:
            points: shape (n, weights).

        Returns:
            Shape (n, 2).
        """
        basis = _in_lengths(np.stack([self.first, self.second]), self.lengths).astype(np.float64)
        from_origin = _in_lengths(points - self.origin, self.lengths) @ basis.T
        return np.linalg.solve(basis @ basis.T, from_origin.T).T


def filter_lengths(weights: Mapping[str, np.ndarray]) -> Lengths:
    """The length of each weight's filter, by variable path, to be broadcast over the variable.

    Args:
        weights: arrays by variable path; of a kernel, the last axis counts the filters (of a
            depthwise one, the third). Any other variable is one filter.
    """
    found = {}
    for path, array in weights.items():
        if not path.endswith("kernel"):
            axes = tuple(range(array.ndim))
        elif array.ndim == 4 and array.shape[-1] == 1:
            # A depthwise kernel, (height, width, channels, 1), is a filter per channel.
            axes = (0, 1)
        else:
            axes = tuple(range(array.ndim - 1))
        found[path] = np.sqrt((array.astype(np.float64) ** 2).sum(axes, keepdims=True))
    return found


def principal(trajectory: Sequence[Mapping[str, np.ndarray]]) -> Plane:
    """The plane of a trajectory's two principal directions, through its last point (Lorch 2016).

    Li et al. (2018, section 7) draw training on the same plane. Here each filter is measured in its
    own length, the root mean square over the trajectory: weight decay takes the last length of an
    unused filter near 0. A step of 1 along a direction moves the filters by their lengths, in root
    mean square.

    Args:
        trajectory: 3 points or more, in order of training; arrays by variable path.

    Raises:
        ValueError: fewer points, or points on one line.
    """
    if len(trajectory) < 3:
        raise ValueError(
            f"a trajectory of {len(trajectory)} points spans no plane; keep weights more often "
            "(trajectory_every)"
        )
    each = [filter_lengths(weights) for weights in trajectory]
    lengths = {
        path: np.sqrt(np.mean([point[path] ** 2 for point in each], axis=0)) for path in each[0]
    }
    filters = sum(np.count_nonzero(of) for of in lengths.values())
    points = np.stack([vector(weights) for weights in trajectory])
    spread = _spread(lengths, trajectory[0])
    differences = _in_lengths(points - points.mean(0), spread)
    # The Gram matrix is n × n: far smaller than the covariance of all weights.
    values, vectors = np.linalg.eigh(differences.astype(np.float64) @ differences.T)
    if values[-2] <= 1e-12 * max(values[-1], 1e-300):
        raise ValueError("the trajectory lies on one line: it spans no plane")
    first, second = (
        (vectors[:, -i] @ differences / np.sqrt(values[-i] / filters) * spread).astype(points.dtype)
        for i in (1, 2)
    )
    shares = values[::-1][:2] / values.clip(0).sum()
    return Plane(points[-1], first, second, spread, (float(shares[0]), float(shares[1])))


def random(
    weights: Mapping[str, np.ndarray], mask: Mapping[str, np.ndarray], rng: np.random.Generator
) -> Plane:
    """A plane through `weights` along two directions of `filter_normalised`."""
    first, second = (vector(filter_normalised(weights, mask, rng)) for _ in range(2))
    return Plane(vector(weights), first, second, _spread(filter_lengths(weights), weights))


def filter_normalised(
    weights: Mapping[str, np.ndarray], mask: Mapping[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """A random direction, each of its filters as long as that of the weights (Li et al. 2018).

    Biases and batch norm stay where they are, and so do pruned weights: a sparse network is
    looked at among networks of the same mask.

    Args:
        weights: arrays by variable path.
        mask: see `trainer.pruning.masks`; empty for a dense network.
        rng: draws the direction.
    """
    wanted = filter_lengths(weights)
    found = {}
    for path, array in weights.items():
        if not path.endswith("kernel"):
            found[path] = np.zeros_like(array)
            continue
        drawn = rng.standard_normal(array.shape) * mask.get(path, True)
        lengths = filter_lengths({path: drawn})[path]
        drawn *= np.divide(wanted[path], lengths, out=np.zeros_like(lengths), where=lengths > 0)
        found[path] = drawn.astype(array.dtype)
    return found


def vector(weights: Mapping[str, np.ndarray]) -> Vector:
    """All weights behind one another, in the mapping's order."""
    return np.concatenate([array.ravel() for array in weights.values()])


def _spread(lengths: Lengths, like: Mapping[str, np.ndarray]) -> Vector:
    """Each weight's length of its filter."""
    parts = [
        np.broadcast_to(lengths[path], array.shape).ravel().astype(array.dtype)
        for path, array in like.items()
    ]
    return np.concatenate(parts)


def _in_lengths(points: np.ndarray, lengths: Vector) -> np.ndarray:
    return np.divide(points, lengths, out=np.zeros_like(points), where=lengths > 0)
