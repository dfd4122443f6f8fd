"""A pruner: LAMP (Lee et al., ICLR 2021), magnitudes normalised within their layer.

pruners: [imp, "examples.lamp:lamp"]
"""

import numpy as np

from trainer.pruning import Moment, Pruner
from trainer.pruning.look import Look
from trainer.pruning.scores import Scores


def score(look: Look) -> Scores:
    """w² over the sum of all squares in the layer that are at least as large (equation 4)."""
    return {path: _normalised(kernel) for path, kernel in look.weights.items()}


def _normalised(kernel: np.ndarray) -> np.ndarray:
    squares = kernel.astype(np.float64).ravel() ** 2
    ascending = np.argsort(squares, kind="stable")
    at_least = np.cumsum(squares[ascending][::-1])[::-1]
    scores = np.empty_like(squares)
    scores[ascending] = squares[ascending] / np.maximum(at_least, np.finfo(np.float64).tiny)
    return scores.reshape(kernel.shape)


lamp = Pruner(score, Moment.END, in_rounds=False)
