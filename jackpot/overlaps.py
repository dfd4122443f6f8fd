"""What two masks have in common, how dense layers are, and whose signs training keeps. Pure."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from jackpot.artifacts import Arrays, Mask


def overlap(mask: Mask, other: Mask) -> pl.DataFrame:
    """Survivors that two masks have in common, layer by layer, and of all layers together.

    Args:
        mask, other: of one network.

    Returns:
        One row per layer and one for `all`: `layer`, `common` (survivors of both), `iou` (of those
        of either), and `by_chance`, the share that independent masks of these layers' densities
        have: d e / (d + e − d e).

    Raises:
        ValueError: masks of different layers.

    Example:
        >>> one, two = np.array([True, True, False, False]), np.array([True, False, True, False])
        >>> overlap({"a": one}, {"a": two}).row(0)
        ('a', 1, 0.3333333333333333, 0.3333333333333333)
    """
    if list(mask) != list(other) or any(mask[p].shape != other[p].shape for p in mask):
        raise ValueError(f"masks of different layers: {list(mask)} and {list(other)}")
    rows = []
    chance = 0.0
    for path, entry in mask.items():
        both, either = (entry & other[path]).sum(), (entry | other[path]).sum()
        d, e = entry.mean(), other[path].mean()
        expected = d * e * entry.size
        chance += expected
        union = (d + e) * entry.size - expected
        rows.append((path, int(both), _share(both, either), _share(expected, union)))
    common = sum(row[1] for row in rows)
    kept = sum(int(m.sum()) for masks in (mask, other) for m in masks.values())
    rows.append(("all", common, _share(common, kept - common), _share(chance, kept - chance)))
    schema = {"layer": pl.String, "common": pl.Int64, "iou": pl.Float64, "by_chance": pl.Float64}
    return pl.DataFrame(rows, schema, orient="row")


def densities(masks: Mapping[str, Mask]) -> pl.DataFrame:
    """The share of each layer's weights that survives: `layer`, `mask`, `density`.

    Args:
        masks: of one network, by name.
    """
    return pl.DataFrame(
        [
            (path.removesuffix("/kernel"), name, float(entry.mean()))
            for name, mask in masks.items()
            for path, entry in mask.items()
        ],
        {"layer": pl.String, "mask": pl.String, "density": pl.Float64},
        orient="row",
    )


def sign_agreement(initial: Arrays, trained: Arrays, mask: Mask) -> pl.DataFrame:
    """The share of survivors whose sign training has kept, layer by layer, and of all of them.

    Args:
        initial, trained: weights before and after training, by path.
        mask: which of them survive.

    Returns:
        One row per layer and one for `all`: `layer`, `survivors`, `same_sign`; null of a layer
        without survivors.

    Example:
        >>> w, t = np.array([1.0, -1.0, 2.0]), np.array([0.5, 1.0, 0.1])
        >>> sign_agreement({"a": w}, {"a": t}, {"a": np.array([True, True, False])}).row(0)
        ('a', 2, 0.5)
    """
    rows = []
    for path, entry in mask.items():
        same = np.sign(initial[path][entry]) == np.sign(trained[path][entry])
        rows.append((path.removesuffix("/kernel"), int(entry.sum()), int(same.sum())))
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    return pl.DataFrame(
        [(layer, count, _share(same, count)) for layer, count, same in rows],
        {"layer": pl.String, "survivors": pl.Int64, "same_sign": pl.Float64},
        orient="row",
    )


def _share(part: float, of: float) -> float | None:
    return float(part / of) if of else None
