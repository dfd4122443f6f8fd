"""The guideline of section 3.2: four rules, and what studies say for or against each. Pure.

A rule counts as supported, or as contradicted, only where the trials decide it: see
`jackpot.contrasts`.
"""

from collections.abc import Iterator
from typing import Any

import polars as pl

from jackpot import noise, wording
from jackpot.conditions import ALPHA, Criteria
from jackpot.contract import Tag
from jackpot.contrasts import Contrast, Decision, exceeds
from jackpot.definition import judge
from jackpot.noise import Noise
from jackpot.preferences import prefers_small
from jackpot.settings import LT, PRETRAIN, RR
from jackpot.trials import Cell, best, curve, means

RULES = {
    1: "On a small dataset, IMP is better than OMP for networks with residual connections; "
    "without them IMP has no advantage.",
    2: "On a small dataset, subnetworks with residual connections prefer a relatively small "
    "learning rate; without them a small one is not preferable.",
    3: "The more redundant the network, the higher the sparsity up to which a ticket is found.",
    4: "Where the subnetwork prefers a large learning rate, the choice of initial weights makes no "
    "difference.",
}
SMALL_DATASETS = ("digits", "cifar10", "cifar100")
_PAPER = {
    **dict.fromkeys(("resnet18", "resnet20", "resnet32", "resnet50"), True),
    **dict.fromkeys(("lenet-300-100", "mobilenet-v1", "resnet32-no-residual", "vgg16"), False),
}
"""Of runs that were logged before the trainer looked at the network's graph."""
_SCHEMA: dict[str, type[pl.DataType]] = {
    "rule": pl.Int64,
    "network": pl.String,
    "dataset": pl.String,
    "sparsity": pl.Float64,
    "residual": pl.Boolean,
    "measure": pl.String,
    "supports": pl.Boolean,
}


def has_residuals(runs: pl.DataFrame, network: str) -> bool | None:
    """Whether a network has residual connections; None if nothing says so.

    The trainer finds that in the network's graph, and tags each run with it.

    Args:
        runs: of a store, with the tag `residual` as a column, if they have it.
        network: name.
    """
    if Tag.RESIDUAL in runs.columns:
        found = runs.filter(pl.col("network") == network)[Tag.RESIDUAL].drop_nulls()
        if len(found):
            return bool(found[0] == "true")
    return _PAPER.get(network.partition(" ")[0])


def evidence(runs: pl.DataFrame, criteria: Criteria | None = None) -> pl.DataFrame:
    """What each network, dataset and sparsity says about the rules.

    Args:
        runs: as in `jackpot.means`.
        criteria: gap and tolerance to count with.

    Returns:
        One row per rule, network, dataset and sparsity that can speak to it (rule 3: per network
        and dataset): `rule network dataset sparsity residual measure supports`. `measure` says in
        words and numbers what was found, by the means; `supports` is null where the trials do not
        decide it, or where it is not known whether the network has residual connections.
    """
    criteria = criteria or Criteria()
    rows: list[dict[str, Any]] = []
    for (network, dataset), here in runs.group_by("network", "dataset", maintain_order=True):
        residual = has_residuals(here, str(network))
        facts = {"network": network, "dataset": dataset, "residual": residual}
        rows += [
            facts | row for row in _of(here, str(dataset) in SMALL_DATASETS, residual, criteria)
        ]
    rows += _tickets(runs, criteria)
    return pl.DataFrame(rows, schema=_SCHEMA).sort("rule", "network", "dataset", "sparsity")


def _of(
    runs: pl.DataFrame, small: bool, residual: bool | None, criteria: Criteria
) -> Iterator[dict[str, Any]]:
    """Rules 1, 2 and 4 on one network and dataset."""
    table, known = means(runs), noise.of(runs)
    dense = curve(table.filter(pl.col("setting") == PRETRAIN.name))
    lt = table.filter(pl.col("setting") == LT.name)
    for sparsity in lt["sparsity"].unique().sort():
        at = lt.filter(pl.col("sparsity") == sparsity)
        tickets = {
            str(pruner): curve(here)
            for (pruner,), here in at.group_by("pruner", maintain_order=True)
        }
        if small and {"imp", "omp"} <= set(tickets):
            yield {"sparsity": sparsity} | _rule_1(
                tickets["imp"], tickets["omp"], residual, criteria.gap, known
            )
        if len(dense) < 2:
            continue
        pruner = max(tickets, key=lambda name: best(tickets[name]).accuracy)
        ticket = tickets[pruner]
        is_small = prefers_small(ticket, dense, known)
        if small:
            yield {"sparsity": sparsity} | _rule_2(ticket, dense, residual, is_small)
        rr = curve(
            table.filter(
                pl.col("setting") == RR.name,
                pl.col("pruner") == pruner,
                pl.col("sparsity") == sparsity,
            )
        )
        if rr and best(ticket).learning_rate >= best(dense).learning_rate:
            yield {"sparsity": sparsity} | _rule_4(ticket, rr, is_small, criteria.gap, known)


def _rule_1(
    imp: list[Cell], omp: list[Cell], residual: bool | None, gap: float, known: Noise | None
) -> dict[str, Any]:
    clearly = exceeds(imp, omp, gap, known)
    return {
        "rule": 1,
        "measure": f"best LT-IMP − best LT-OMP = {_points(clearly, gap)} points",
        "supports": _as_expected(clearly.decision, residual),
    }


def _rule_2(
    ticket: list[Cell], dense: list[Cell], residual: bool | None, is_small: Decision
) -> dict[str, Any]:
    return {
        "rule": 2,
        "measure": f"LT is best at {best(ticket).learning_rate:g}, "
        f"pretraining at {best(dense).learning_rate:g}",
        "supports": _as_expected(is_small, residual),
    }


def _rule_4(
    ticket: list[Cell], rr: list[Cell], is_small: Decision, gap: float, known: Noise | None
) -> dict[str, Any]:
    # It speaks of tickets that prefer a large rate: of others it says nothing. A difference either
    # way counts, so each side has half of the level.
    better, worse = (
        exceeds(one, other, gap, known, alpha=ALPHA / 2)
        for one, other in ((ticket, rr), (rr, ticket))
    )
    decisions = {better.decision, worse.decision}
    supports = None
    if is_small is Decision.FAILS:
        if Decision.HOLDS in decisions:
            supports = False
        elif decisions == {Decision.FAILS}:
            supports = True
    return {
        "rule": 4,
        "measure": f"LT is best at {best(ticket).learning_rate:g}; "
        f"best LT − best RR = {_points(better, gap)} points",
        "supports": supports,
    }


def _as_expected(decision: Decision, expected: bool | None) -> bool | None:
    """Whether a claim came out as a rule expects it; None while either is not known."""
    if expected is None or decision is Decision.UNDECIDED:
        return None
    return (decision is Decision.HOLDS) is expected


def _points(contrast: Contrast, allowance: float) -> str:
    """A difference in points, with the bounds that decide about it."""
    shown = f"{100 * (contrast.value + allowance):+.1f}"
    if contrast.low is None or contrast.high is None:
        return f"{shown} (no interval)"
    low, high = (100 * (bound + allowance) for bound in (contrast.low, contrast.high))
    return f"{shown} ({low:+.1f} to {high:+.1f})"


def _tickets(runs: pl.DataFrame, criteria: Criteria) -> list[dict[str, Any]]:
    """Rule 3: the highest sparsity with a ticket, per network; networks are compared by reading."""
    found: dict[tuple[str, str], float | None] = {}
    for judgement in judge(runs, criteria):
        key = (judgement.network, judgement.dataset)
        found.setdefault(key, None)
        if judgement.wins:
            found[key] = max(found[key] or 0.0, judgement.sparsity)
    return [
        {
            "rule": 3,
            "network": network,
            "dataset": dataset,
            "sparsity": highest,
            "residual": has_residuals(runs, network),
            "measure": f"tickets up to sparsity {wording.sparsity(highest)}"
            if highest
            else "no ticket decided",
            "supports": None,
        }
        for (network, dataset), highest in found.items()
    ]
