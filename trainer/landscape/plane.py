"""Planes in the space of weights. Pure NumPy; weights are vectors, shape (weights,)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

Vector = np.ndarray


@dataclass(frozen=True)
class Plane:
    """origin + a · first + b · second.

    Attributes:
        origin, first, second: shape (weights,).
        explained: shares of the trajectory's variance along the directions; None if they are
            random.
    """

    origin: Vector
    first: Vector
    second: Vector
    explained: tuple[float, float] | None = None

    def at(self, a: float, b: float) -> Vector:
        """Weights at coordinates (a, b)."""
        return self.origin + a * self.first + b * self.second

    def project(self, points: np.ndarray) -> np.ndarray:
        """Coordinates of the nearest points of the plane.

        Args:
            points: shape (n, weights).

        Returns:
            Shape (n, 2).
        """
        basis = np.stack([self.first, self.second]).astype(np.float64)
        from_origin = (points - self.origin) @ basis.T
        return np.linalg.solve(basis @ basis.T, from_origin.T).T


def principal(trajectory: np.ndarray) -> Plane:
    """The plane of a trajectory's two principal directions, through its last point (Lorch 2016).

    The directions have length 1; Li et al. (2018, section 7) draw training on the same plane.

    Args:
        trajectory: shape (n, weights), n ≥ 3, in order of training.

    Raises:
        ValueError: fewer points, or points on one line.
    """
    if len(trajectory) < 3:
        raise ValueError(
            f"a trajectory of {len(trajectory)} points spans no plane; keep weights more often "
            "(trajectory_every)"
        )
    last = trajectory[-1]
    differences = trajectory - trajectory.mean(0)
    # The Gram matrix is n × n: far smaller than the covariance of all weights.
    values, vectors = np.linalg.eigh(differences.astype(np.float64) @ differences.T)
    if values[-2] <= 1e-12 * max(values[-1], 1e-300):
        raise ValueError("the trajectory lies on one line: it spans no plane")
    first, second = (
        (vectors[:, -i] @ differences / np.sqrt(values[-i])).astype(last.dtype) for i in (1, 2)
    )
    shares = values[::-1][:2] / values.clip(0).sum()
    return Plane(last, first, second, explained=(float(shares[0]), float(shares[1])))


def filter_normalised(
    weights: Mapping[str, np.ndarray], mask: Mapping[str, np.ndarray], rng: np.random.Generator
) -> Vector:
    """A random direction, each of its filters as long as that of the weights (Li et al. 2018).

    Biases and batch norm stay where they are, and so do pruned weights: a sparse network is
    looked at among networks of the same mask.

    Args:
        weights: arrays by variable path; of a kernel, the last axis counts the filters (of a
            depthwise one, the third).
        mask: see `trainer.pruning.masks`; empty for a dense network.
        rng: draws the direction.
    """
    parts = []
    for path, array in weights.items():
        if not path.endswith("kernel"):
            parts.append(np.zeros(array.size, array.dtype))
            continue
        direction = rng.standard_normal(array.shape) * mask.get(path, True)
        # A depthwise kernel, (height, width, channels, 1), is a filter per channel.
        depthwise = array.ndim == 4 and array.shape[-1] == 1
        axes = (0, 1) if depthwise else tuple(range(array.ndim - 1))
        lengths = np.sqrt((direction**2).sum(axes, keepdims=True))
        wanted = np.sqrt((array.astype(np.float64) ** 2).sum(axes, keepdims=True))
        direction *= np.divide(wanted, lengths, out=np.zeros_like(wanted), where=lengths > 0)
        parts.append(direction.ravel().astype(array.dtype))
    return np.concatenate(parts)
