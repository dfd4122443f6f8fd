"""The barrier on a line between two networks. Pure."""

from dataclasses import dataclass

import numpy as np

STABLE = 0.02
"""Below this error barrier two networks are taken to be connected (Frankle et al. 2020)."""


@dataclass(frozen=True)
class Barrier:
    """How much worse the networks between two others are.

    Attributes:
        height: the highest error on the line minus the mean of the ends'; 0 or more.
        alpha: where it is highest, as a share of the way.
        ends: errors of the two networks.
    """

    height: float
    alpha: float
    ends: tuple[float, float]


def barrier(alpha: np.ndarray, error: np.ndarray) -> Barrier:
    """The barrier of errors (fractions) at shares `alpha` of the way, both ends included.

    Raises:
        ValueError: arrays that are no line from 0 to 1, or an error that is no number.

    Example:
        >>> found = barrier(np.array([0.0, 0.5, 1.0]), np.array([0.1, 0.4, 0.2]))
        >>> round(found.height, 3), found.alpha
        (0.25, 0.5)
    """
    if alpha.shape != error.shape or alpha.ndim != 1 or alpha[0] != 0 or alpha[-1] != 1:
        raise ValueError(f"expected errors on a line from 0 to 1, received {alpha} and {error}")
    if not np.isfinite(error).all():
        raise ValueError("an error on the line is no number")
    highest = int(np.argmax(error))
    ends = float(error[0]), float(error[-1])
    return Barrier(max(float(error[highest]) - sum(ends) / 2, 0.0), float(alpha[highest]), ends)
