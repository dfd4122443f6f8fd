"""Judges lottery tickets: the analysis of Ma et al. (NeurIPS 2021) on polars frames.

Pure: no Keras, torch, MLflow or Streamlit. A notebook needs a frame of finished runs, one row each:

    >>> import polars as pl
    >>> import jackpot
    >>> runs = pl.DataFrame(
    ...     {
    ...         "network": "resnet20",
    ...         "dataset": "cifar10",
    ...         "setting": ["pretrain", "lt", "rr", "sdt"],
    ...         "pruner": [None, "imp", "imp", None],
    ...         "sparsity": [0.0, 0.914, 0.914, 0.914],
    ...         "learning_rate": 0.1,
    ...         "trial": 1,
    ...         "accuracy": [0.924, 0.873, 0.872, 0.870],
    ...         "epochs": 160,
    ...     }
    ... )
    >>> (judgement,) = jackpot.judge(runs)
    >>> str(judgement.verdict), str(judgement.point_verdict)
    ('undecided', 'none')
    >>> [found.condition.symbol for found in judgement.conditions if not found.holds]
    ['②', '③', '④', '⑤']

One trial of each decides nothing: `point_verdict` is what the means say, whatever their noise. The
rows of a tracking store become such a frame by `accuracies`; `docs/extending.md` adds settings and
conditions of your own.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jackpot import (
        artifacts,
        conditions,
        contract,
        contrasts,
        correlation,
        guideline,
        marks,
        noise,
        published,
        settings,
        settling,
        stores,
    )
    from jackpot.conditions import CONDITIONS, Condition, Criteria, Verdict
    from jackpot.contrasts import Decision
    from jackpot.definition import Finding, Judgement, judge
    from jackpot.settings import SETTINGS, Setting
    from jackpot.settling import settle
    from jackpot.trials import accuracies, means

__all__ = [
    "CONDITIONS",
    "SETTINGS",
    "Condition",
    "Criteria",
    "Decision",
    "Finding",
    "Judgement",
    "Setting",
    "Verdict",
    "accuracies",
    "artifacts",
    "conditions",
    "contract",
    "contrasts",
    "correlation",
    "guideline",
    "judge",
    "marks",
    "means",
    "noise",
    "published",
    "settings",
    "settle",
    "settling",
    "stores",
]
_HOME = {
    **dict.fromkeys(("CONDITIONS", "Condition", "Criteria", "Verdict"), "conditions"),
    "Decision": "contrasts",
    "settle": "settling",
    **dict.fromkeys(("Finding", "Judgement", "judge"), "definition"),
    **dict.fromkeys(("SETTINGS", "Setting"), "settings"),
    **dict.fromkeys(("accuracies", "means"), "trials"),
}


def __getattr__(name: str) -> Any:
    """Imports on first use: `python -m trainer --help` needs the names alone, and no polars."""
    if name not in __all__:
        raise AttributeError(f"module 'jackpot' has no attribute {name!r}")
    if name not in _HOME:
        return importlib.import_module(f"jackpot.{name}")
    value = getattr(importlib.import_module(f"jackpot.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
