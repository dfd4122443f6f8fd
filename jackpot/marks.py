"""The four marks of the paper's Table 3, computed for a study and as published. Pure.

In the table's order: a jackpot ticket exists, a secondary prize ticket exists, subnetworks prefer
a small learning rate, subnetworks prefer IMP.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import polars as pl

from jackpot import noise
from jackpot.conditions import PRIZES, Criteria, Verdict
from jackpot.contrasts import Decision, exceeds
from jackpot.definition import Judgement
from jackpot.noise import Noise
from jackpot.preferences import prefers_small
from jackpot.settings import PRETRAIN
from jackpot.trials import Cell, curve, means

YES, NO, BOUNDARY, UNKNOWN = "✓", "×", "△", "?"
NAMES = ("jackpot", "secondary", "prefers small lr", "prefers IMP")


@dataclass(frozen=True)
class Marks:
    """Marks of one network on one dataset, each `✓`, `×`, `△` (at the boundary) or `?`."""

    jackpot: str
    secondary: str
    small_learning_rate: str
    imp: str

    def __str__(self) -> str:
        return " ".join(astuple(self))


PUBLISHED = {
    ("resnet20", "cifar10"): Marks(*"×✓✓✓"),
    ("resnet32", "cifar10"): Marks(*"×✓✓✓"),
    ("mobilenet-v1", "cifar10"): Marks(*"△✓××"),
    ("resnet18", "cifar10"): Marks(*"×✓✓×"),
    ("vgg16", "cifar10"): Marks(*"××××"),
    ("resnet20", "cifar100"): Marks(*"×✓✓✓"),
    ("resnet32", "cifar100"): Marks(*"×✓✓✓"),
    ("mobilenet-v1", "cifar100"): Marks(*"××××"),
    ("resnet18", "cifar100"): Marks(*"△✓✓✓"),
    ("vgg16", "cifar100"): Marks(*"××××"),
    ("resnet18", "tiny_imagenet"): Marks(*"××××"),
    ("resnet50", "tiny_imagenet"): Marks(*"××××"),
    ("resnet18", "imagenet2012"): Marks(*"××××"),
    ("resnet50", "imagenet2012"): Marks(*"××××"),
}


def marks(
    runs: pl.DataFrame, judgements: Sequence[Judgement], criteria: Criteria | None = None
) -> dict[tuple[str, str], tuple[Marks, float | None]]:
    """Marks of every network and dataset in `runs`, and the highest sparsity with a ticket.

    A ticket exists if there is one at any non-trivial sparsity (section 3.1). For the two
    preferences the paper gives no numbers. Here a small learning rate is preferred where, at more
    than half of the non-trivial sparsities, the best ticket is trained at a smaller rate than the
    best dense network; IMP where at more than half of them the best LT-IMP is clearly (by the gap)
    better than the best LT-OMP. Where the trials do not decide that (`jackpot.contrasts`), the mark
    is `△`; without a second trial anywhere, `?`.

    Args:
        runs: as in `jackpot.means`, of one study.
        judgements: of those runs by `jackpot.judge`: while one waits for planned runs, only a ✓
            that they cannot take back is said.
        criteria: with which they were judged.
    """
    criteria = criteria or Criteria()
    least = criteria.sparsity - 1e-9
    table = means(runs).filter((pl.col("sparsity") >= least) | (pl.col("setting") == PRETRAIN.name))
    judgements = [j for j in judgements if j.sparsity >= least]
    found = {}
    for network, dataset in table.select("network", "dataset").unique(maintain_order=True).rows():
        here = table.filter(pl.col("network") == network, pl.col("dataset") == dataset)
        own = [j for j in judgements if (j.network, j.dataset) == (network, dataset)]
        mine = pl.col("network") == network, pl.col("dataset") == dataset
        dense = curve(here.filter(pl.col("setting") == PRETRAIN.name))
        tickets = {
            (float(sparsity), str(pruner)): curve(cells)
            for (sparsity, pruner), cells in here.filter(
                pl.col("setting") == criteria.ticket
            ).group_by("sparsity", "pruner", maintain_order=True)
        }
        known = noise.of(runs.filter(*mine))
        waiting = any(j.pending for j in own)
        found[network, dataset] = (
            Marks(
                _exists(own, Verdict.JACKPOT),
                _exists(own, Verdict.SECONDARY),
                UNKNOWN if waiting else _prefers_small(dense, tickets, known),
                UNKNOWN if waiting else _prefers_imp(tickets, criteria.gap, known),
            ),
            max((j.sparsity for j in own if j.verdict in PRIZES), default=None),
        )
    return found


def _exists(judgements: Sequence[Judgement], verdict: Verdict) -> str:
    """Whether one of the judgements is `verdict` or a higher one."""
    as_high = PRIZES[: PRIZES.index(verdict) + 1]
    known = [j for j in judgements if j.verdict != Verdict.NOT_ENOUGH_RUNS and not j.pending]
    needed = [(j.verdict in as_high, j.needed_for(verdict)) for j in known]
    if any(is_one and not any(f.boundary for f in findings) for is_one, findings in needed):
        return YES
    if not known or any(j.pending for j in judgements):
        return UNKNOWN
    undecided = [(is_one, of) for is_one, of in needed if any(f.boundary for f in of)]
    if any(is_one or all(f.is_possible for f in of) for is_one, of in undecided):
        return BOUNDARY
    return NO


def _prefers_small(
    dense: list[Cell], tickets: Mapping[tuple[float, str], list[Cell]], known: Noise | None
) -> str:
    if len(dense) < 2 or not tickets:
        return UNKNOWN
    best_of: dict[float, list[Cell]] = {}
    for (sparsity, _), cells in tickets.items():
        other = best_of.get(sparsity)
        if other is None or _highest(cells) > _highest(other):
            best_of[sparsity] = cells
    return _mostly([prefers_small(cells, dense, known) for cells in best_of.values()], known)


def _prefers_imp(
    tickets: Mapping[tuple[float, str], list[Cell]], gap: float, known: Noise | None
) -> str:
    both = [
        exceeds(cells, tickets[sparsity, "omp"], gap, known).decision
        for (sparsity, pruner), cells in tickets.items()
        if pruner == "imp" and (sparsity, "omp") in tickets
    ]
    return _mostly(both, known) if both else UNKNOWN


def _highest(cells: list[Cell]) -> float:
    return max(cell.accuracy for cell in cells)


def _mostly(said: list[Decision], known: Noise | None) -> str:
    """Whether a claim holds at more than half of the sparsities, as far as trials decide that."""
    if known is None:
        return UNKNOWN
    holds, fails = said.count(Decision.HOLDS), said.count(Decision.FAILS)
    if 2 * holds > len(said):
        return YES
    return NO if 2 * fails >= len(said) else BOUNDARY
