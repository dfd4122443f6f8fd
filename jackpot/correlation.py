"""The correlation indicator R_p (appendix G), on arrays of weights by layer. Pure."""

from collections.abc import Mapping

import numpy as np
import polars as pl

Weights = Mapping[str, np.ndarray]


def by_layer(weights: Weights, other: Weights, p: float) -> pl.DataFrame:
    """Overlap of the p · 100 % largest magnitudes of two sets of weights, layer by layer.

    Args:
        weights, other: arrays by layer, the same layers and shapes. For a sparse network, its
            surviving values alone, in the same order: the appendix counts those only.
        p: share of each layer's weights, in (0, 1].

    Returns:
        One row per layer: `layer`, `weights` (N_l), `top` (⌊p · N_l⌉, at least 1), `overlap`
        (indices that are among the largest of both) and `correlation` (overlap / top).

    Raises:
        ValueError: layers or shapes that differ, or p outside (0, 1].
    """
    if not 0 < p <= 1:
        raise ValueError(f"expected p in (0, 1], received {p}")
    if list(weights) != list(other):
        raise ValueError(f"layers differ: {list(weights)} and {list(other)}")
    rows = []
    for layer, array in weights.items():
        if array.shape != other[layer].shape:
            raise ValueError(f"layer '{layer}' has shapes {array.shape} and {other[layer].shape}")
        if array.size == 0:
            continue
        top = max(1, int(np.floor(p * array.size + 0.5)))
        among = np.zeros(array.size, bool)
        among[_largest(array, top)] = True
        overlap = int(np.count_nonzero(among[_largest(other[layer], top)]))
        rows.append((layer, array.size, top, overlap))
    return pl.DataFrame(
        rows, schema={"layer": str, "weights": int, "top": int, "overlap": int}, orient="row"
    ).with_columns((pl.col("overlap") / pl.col("top")).alias("correlation"))


def indicator(weights: Weights, other: Weights, p: float) -> float:
    """R_p(θ, θ′): the overlap counts of all layers, pooled.

    Identical weights give 1, independent ones about p. The appendix divides by p · Σ N_l; the
    number of indices compared stands here instead, which differs by the rounding of p · N_l.

    Args:
        weights, other, p: see `by_layer`.

    Example:
        >>> first, second = np.array([4.0, -3.0, 2.0, 1.0]), np.array([5.0, 1.0, -6.0, 0.5])
        >>> indicator({"conv": first}, {"conv": second}, p=0.5)
        0.5
    """
    totals = by_layer(weights, other, p).select(pl.col("overlap", "top").sum())
    return float(totals["overlap"][0] / totals["top"][0])


def _largest(array: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest magnitudes."""
    if count == array.size:
        return np.arange(count)
    return np.argpartition(np.abs(array.ravel()), array.size - count)[array.size - count :]
