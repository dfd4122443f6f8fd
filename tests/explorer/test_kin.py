"""Which masks a ticket's is compared with."""

import numpy as np
import polars as pl
import pytest

from explorer import diagnosing


def test_masks_of_another_rate_are_no_kin(monkeypatch: pytest.MonkeyPatch):
    """Where each rate was trained under the masks of others too; SNIP's are found at θ₀."""
    mask = {"a/kernel": np.array([True, True, False, False])}
    monkeypatch.setattr(diagnosing, "mask_of", lambda uri, run_id: mask)
    found = {
        "ours": ("imp", 1, 0.01),
        "its next trial": ("imp", 2, 0.01),
        "its next trial, another mask": ("imp", 2, 0.1),
        "omp": ("omp", 1, 0.01),
        "omp, another mask": ("omp", 1, 0.1),
        "snip": ("snip", 1, None),
    }
    runs = pl.DataFrame(
        [
            {
                "run_id": name,
                "name": name,
                "status": "FINISHED",
                "setting": "lt",
                "sparsity": 0.5,
                "learning_rate": 0.05,
                "pruner": pruner,
                "trial": trial,
                "pretrain_learning_rate": rate,
            }
            for name, (pruner, trial, rate) in found.items()
        ]
    )
    rows = {row["name"]: row for row in runs.iter_rows(named=True)}
    kin = diagnosing.kin("", rows["ours"], runs, mask)
    assert kin.overlaps["with"].to_list() == ["its next trial", "omp", "snip"]
    # To SNIP's the others are those of its own rate, of which there are none here.
    assert diagnosing.kin("", rows["snip"], runs, mask).overlaps.is_empty()
