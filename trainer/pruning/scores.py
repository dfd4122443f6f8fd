"""Scores: how important each weight is."""

from collections.abc import Mapping

import numpy as np

Weights = Mapping[str, np.ndarray]
Scores = dict[str, np.ndarray]


def magnitude(weights: Weights) -> Scores:
    """|w| of each weight (table 1: OMP and IMP are both magnitude-based).

    Args:
        weights: kernels by variable path, any shape.

    Returns:
        Scores of the same paths, shapes and dtypes; larger is more important.
    """
    return {path: np.abs(kernel) for path, kernel in weights.items()}
