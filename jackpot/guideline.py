"""The guideline of section 3.2: four rules, and what studies say for or against each. Pure.

A rule counts as supported, or as contradicted, only where the trials decide it: see
`jackpot.contrasts`.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from typing import Any

import polars as pl

from jackpot import majority, noise, wording
from jackpot.conditions import CONDITIONS, Condition, Criteria
from jackpot.contract import Tag
from jackpot.contrasts import Contrast, Decision, exceeds
from jackpot.definition import Judgement, judge
from jackpot.noise import Noise
from jackpot.preferences import NOWHERE, prefers_small
from jackpot.settings import LT, PRETRAIN, RR
from jackpot.trials import Cell, able, best, curve, means, own_rate, with_destroyed

RULES = {
    1: "On a small dataset, IMP is better than OMP for networks with residual connections; "
    "without them IMP has no advantage.",
    2: "On a small dataset, subnetworks with residual connections prefer a relatively small "
    "learning rate; without them a small one is not preferable.",
    3: "The more redundant the network, the higher the sparsity up to which a ticket is found.",
    4: "Where the subnetwork prefers a large learning rate, the choice of initial weights makes no "
    "difference.",
}
SMALL_DATASETS = ("digits", "mnist1d", "mnist", "cifar10", "cifar100")
_PAPER = {
    **dict.fromkeys(("resnet18", "resnet20", "resnet32", "resnet50"), True),
    **dict.fromkeys(("lenet-300-100", "mobilenet-v1", "resnet32-no-residual", "vgg16"), False),
}
"""Of runs that were logged before the trainer looked at the network's graph."""
_Curves = dict[float, dict[str, list[Cell]]]
"""Cells by sparsity and pruner."""
_SCHEMA: dict[str, type[pl.DataType]] = {
    "rule": pl.Int64,
    "network": pl.String,
    "dataset": pl.String,
    "sparsities": pl.String,
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


def evidence(
    runs: pl.DataFrame,
    criteria: Criteria | None = None,
    pending: pl.DataFrame | None = None,
    conditions: Sequence[Condition] = CONDITIONS,
    judgements: Sequence[Judgement] | None = None,
) -> pl.DataFrame:
    """What each network and dataset says about the rules: one vote for each rule at most.

    The sparsities of a study share its runs: they are one vote, for what is true at more than half
    of the non-trivial ones (see `jackpot.majority`).

    Args:
        runs: as in `jackpot.means`; of one study.
        criteria: gap, tolerance and non-trivial sparsity to count with.
        pending: planned runs that may yet finish: until then a study has no vote.
        conditions: see `jackpot.judge`.
        judgements: of an adaptive study, whose looks have decided some; None: they are made here.

    Returns:
        One row per rule, network and dataset that can speak to it: `rule network dataset
        sparsities residual measure supports`. `measure` says in words and numbers what was found,
        with the bounds that decide; `supports` is null where the trials do not decide it, where
        runs are to come, or where it is not known whether the network has residual connections.
    """
    criteria = criteria or Criteria()
    runs = runs if criteria.any_rate else own_rate(runs)
    deep = with_destroyed(runs).filter(
        pl.col("setting").is_in([PRETRAIN.name]) | (pl.col("sparsity") >= criteria.sparsity - 1e-9)
    )
    rows: list[dict[str, Any]] = []
    for (network, dataset), here in deep.group_by("network", "dataset", maintain_order=True):
        residual = has_residuals(here, str(network))
        facts = {"network": network, "dataset": dataset, "residual": residual}
        rows += [
            facts | row for row in _of(here, str(dataset) in SMALL_DATASETS, residual, criteria)
        ]
    if judgements is None:
        judgements = judge(runs, criteria, pending, conditions)
    rows += _tickets(runs, judgements)
    waiting = [] if pending is None else pending.select("network", "dataset").unique().rows()
    for row in rows:
        if (row["network"], row["dataset"]) in waiting:
            row |= {"measure": f"so far: {row['measure']}", "supports": None}
    return pl.DataFrame(rows, schema=_SCHEMA).sort("rule", "network", "dataset")


def _of(
    runs: pl.DataFrame, small: bool, residual: bool | None, criteria: Criteria
) -> Iterator[dict[str, Any]]:
    """Rules 1, 2 and 4 on one network and dataset."""
    table, known = means(runs), noise.of(runs)
    dense = able(curve(table.filter(pl.col("setting") == PRETRAIN.name)))
    lt, rr = (_by_sparsity(table.filter(pl.col("setting") == s.name)) for s in (LT, RR))
    if small:
        yield from _rule_1(lt, residual, criteria, known)
    if len(dense) > 1 and lt:
        if small:
            yield _rule_2(lt, dense, residual, criteria.level, known)
        yield from _rule_4(lt, rr, dense, criteria, known)


def _by_sparsity(table: pl.DataFrame) -> _Curves:
    found: _Curves = {}
    for (sparsity, pruner), cells in table.group_by("sparsity", "pruner", maintain_order=True):
        # A rate at which a trial diverged cannot be the best.
        if can := able(curve(cells)):
            found.setdefault(float(sparsity), {})[str(pruner)] = can
    return dict(sorted(found.items()))


def _rule_1(
    lt: _Curves, residual: bool | None, criteria: Criteria, known: Noise | None
) -> Iterator[dict[str, Any]]:
    both = {s: of for s, of in lt.items() if {"imp", "omp"} <= set(of)}
    if not both:
        return
    gap, alpha = criteria.gap, majority.level(len(both), criteria.level)
    found = majority.of(
        [
            exceeds(of["imp"], of["omp"], gap, known, alpha=alpha, alpha_against=alpha)
            for of in both.values()
        ]
    )
    yield {
        "rule": 1,
        "sparsities": _sparsities(both),
        "measure": f"best LT-IMP − best LT-OMP = {_points(found, gap)} points",
        "supports": _as_expected(found.decision, residual),
    }


def _rule_2(
    lt: _Curves, dense: list[Cell], residual: bool | None, level: float, known: Noise | None
) -> dict[str, Any]:
    alpha = majority.level(len(lt), level)
    found = majority.of([prefers_small(_best_of(of), dense, known, alpha) for of in lt.values()])
    peak = best(dense).learning_rate
    measure = (
        f"best LT below pretraining's best rate − at or above it = {_points(found, 0.0)} points "
        f"(pretraining is best at {peak:g})"
    )
    if found.value == NOWHERE.value:
        measure = f"pretraining is best at {peak:g}, below which none was tried"
    elif isnan(found.value):
        measure = f"pretraining is best at {peak:g}; LT was not trained on both sides of it"
    return {
        "rule": 2,
        "sparsities": _sparsities(lt),
        "measure": measure,
        "supports": _as_expected(found.decision, residual),
    }


def _rule_4(
    lt: _Curves, rr: _Curves, dense: list[Cell], criteria: Criteria, known: Noise | None
) -> Iterator[dict[str, Any]]:
    # It speaks of tickets that prefer a large rate: of others it says nothing.
    large = {
        s: of
        for s, of in lt.items()
        if s in rr and best(_best_of(of)).learning_rate >= best(dense).learning_rate
    }
    if not large:
        return
    gap, alpha = criteria.gap, majority.level(len(large), criteria.level)
    small = majority.of([prefers_small(_best_of(of), dense, known, alpha) for of in large.values()])
    # Whichever pruner's is best. A difference either way counts: each has half of the level.
    ours = {s: [cell for cells in of.values() for cell in cells] for s, of in large.items()}
    theirs = {s: [cell for cells in rr[s].values() for cell in cells] for s in large}

    def each(one: dict[float, list[Cell]], other: dict[float, list[Cell]]) -> list[Contrast]:
        return [
            exceeds(one[s], other[s], gap, known, alpha=alpha / 2, alpha_against=alpha / 2)
            for s in large
        ]

    better, worse = each(ours, theirs), each(theirs, ours)
    said = [{one.decision, other.decision} for one, other in zip(better, worse, strict=True)]
    differ = sum(Decision.HOLDS in decisions for decisions in said)
    alike = sum(decisions == {Decision.FAILS} for decisions in said)
    supports = None
    if small.decision is Decision.FAILS:
        if 2 * differ > len(said):
            supports = False
        elif 2 * alike > len(said):
            supports = True
    yield {
        "rule": 4,
        "sparsities": _sparsities(large),
        "measure": f"best LT − best RR = {_points(majority.of(better), gap)} points",
        "supports": supports,
    }


def _best_of(curves: Mapping[str, list[Cell]]) -> list[Cell]:
    """The curve of the pruner whose best is highest."""
    return max(curves.values(), key=lambda cells: best(cells).accuracy)


def _sparsities(found: Mapping[float, object]) -> str:
    names = [wording.sparsity(s) for s in sorted(found)]
    return names[0] if len(names) == 1 else f"{len(names)} from {names[0]} to {names[-1]}"


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
    # One of the rates that may be the dense network's best is the smallest that was tried.
    low = "−∞" if contrast.low <= NOWHERE.value else f"{100 * (contrast.low + allowance):+.1f}"
    return f"{shown} ({low} to {100 * (contrast.high + allowance):+.1f})"


def _tickets(runs: pl.DataFrame, judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Rule 3: the highest sparsity with a ticket, per network; networks are compared by reading."""
    found: dict[tuple[str, str], float | None] = {}
    for judgement in judgements:
        key = (judgement.network, judgement.dataset)
        found.setdefault(key, None)
        if judgement.wins and not judgement.pending:
            found[key] = max(found[key] or 0.0, judgement.sparsity)
    return [
        {
            "rule": 3,
            "network": network,
            "dataset": dataset,
            "sparsities": None,
            "residual": has_residuals(runs, network),
            "measure": f"tickets up to sparsity {wording.sparsity(highest)}"
            if highest
            else "no ticket decided",
            "supports": None,
        }
        for (network, dataset), highest in found.items()
    ]
