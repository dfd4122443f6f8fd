"""The correlation indicator R_p (appendix G), on arrays of weights by layer. Pure."""

from collections.abc import Mapping

import numpy as np
import polars as pl

Weights = Mapping[str, np.ndarray]
LEAST_TOP = 5
"""The fewest largest weights p · N_l for which a layer counts.

Of n weights, ⌊p · n⌉ are compared, which is p · n only up to half an index: of 3 survivors and
p = 0.1 it is one, and independent weights agree on it in a third of cases, not in a tenth.
"""


def by_layer(weights: Weights, other: Weights, p: float) -> pl.DataFrame:
    """Overlap of the p · 100 % largest magnitudes of two sets of weights, layer by layer.

    Args:
        weights, other: arrays by layer, the same layers and shapes. For a sparse network, its
            surviving values alone, in the same order: the appendix counts those only.
        p: share of each layer's weights, in (0, 1].

    Returns:
        One row per layer: `layer`, `weights` (N_l), `top` (⌊p · N_l⌉, at least 1), `overlap`
        (indices that are among the largest of both), `correlation` (overlap / top) and `counts`:
        whether p · N_l is at least `LEAST_TOP`, so that independent weights give about p.

    Raises:
        ValueError: layers or shapes that differ, weights that are no finite numbers, or p outside
            (0, 1].
    """
    if not 0 < p <= 1:
        raise ValueError(f"expected p in (0, 1], received {p}")
    if list(weights) != list(other):
        raise ValueError(f"layers differ: {list(weights)} and {list(other)}")
    rows = []
    for layer, array in weights.items():
        if array.shape != other[layer].shape:
            raise ValueError(f"layer '{layer}' has shapes {array.shape} and {other[layer].shape}")
        if not (np.isfinite(array).all() and np.isfinite(other[layer]).all()):
            raise ValueError(f"layer '{layer}' has weights that are no finite numbers: it diverged")
        if array.size == 0:
            continue
        top = max(1, int(np.floor(p * array.size + 0.5)))
        among = np.zeros(array.size, bool)
        among[_largest(array, top)] = True
        overlap = int(np.count_nonzero(among[_largest(other[layer], top)]))
        rows.append((layer, array.size, top, overlap))
    return pl.DataFrame(
        rows, schema={"layer": str, "weights": int, "top": int, "overlap": int}, orient="row"
    ).with_columns(
        (pl.col("overlap") / pl.col("top")).alias("correlation"),
        (p * pl.col("weights") >= LEAST_TOP - 1e-9).alias("counts"),
    )


def pooled(table: pl.DataFrame) -> float:
    """R_p over the layers of `by_layer` that count.

    Raises:
        ValueError: none counts.
    """
    counted = table.filter("counts")
    if counted.is_empty():
        raise ValueError(
            f"no layer has enough weights left: p times their number is below {LEAST_TOP} in each; "
            "choose a larger p, or a lower sparsity"
        )
    overlap, top = counted.select(pl.col("overlap", "top").sum()).row(0)
    return float(overlap / top)


def indicator(weights: Weights, other: Weights, p: float) -> float:
    """R_p(θ, θ′): the overlap counts of all layers, pooled.

    Identical weights give 1, independent ones about p. The appendix divides by p · Σ N_l; the
    number of indices compared stands here instead, which differs by the rounding of p · N_l.
    Layers with few weights (`counts` of `by_layer`) are left out: they would lift the value of
    independent weights above p.

    Args:
        weights, other, p: see `by_layer`. Of a dense and a sparse network alike give the layers
            that are pruned, or the two values are of different layers.

    Raises:
        ValueError: see `by_layer`; or no layer has enough weights.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> first, second = rng.normal(size=(2, 1000))
        >>> indicator({"conv": first}, {"conv": first}, p=0.1)
        1.0
        >>> indicator({"conv": first}, {"conv": second}, p=0.1)
        0.1
    """
    return pooled(by_layer(weights, other, p))


def _largest(array: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest magnitudes."""
    if count == array.size:
        return np.arange(count)
    return np.argpartition(np.abs(array.ravel()), array.size - count)[array.size - count :]
