"""The four marks of the paper's Table 3, computed for a study and as published. Pure.

In the table's order: a jackpot ticket exists, a secondary prize ticket exists, subnetworks prefer
a small learning rate, subnetworks prefer IMP.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import polars as pl

from jackpot.conditions import PRIZES, Criteria, Verdict
from jackpot.definition import Judgement
from jackpot.settings import PRETRAIN
from jackpot.trials import best, means

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
    better than the best LT-OMP.

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
        highest = _best_by_sparsity(here, criteria.ticket)
        waiting = any(j.pending for j in own)
        found[network, dataset] = (
            Marks(
                _exists(own, Verdict.JACKPOT),
                _exists(own, Verdict.SECONDARY),
                UNKNOWN if waiting else _prefers_small(here, highest),
                UNKNOWN if waiting else _prefers_imp(highest, criteria.gap),
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


def _best_by_sparsity(table: pl.DataFrame, ticket: str) -> pl.DataFrame:
    """The best mean of each sparsity and pruner; of equal ones that of the lowest rate."""
    return (
        table.filter(pl.col("setting") == ticket)
        .sort("sparsity", "pruner", -pl.col("accuracy"), "learning_rate")
        .unique(["sparsity", "pruner"], keep="first", maintain_order=True)
    )


def _prefers_small(table: pl.DataFrame, tickets: pl.DataFrame) -> str:
    pretraining = table.filter(pl.col("setting") == PRETRAIN.name)
    dense = best(pretraining)
    if tickets.is_empty() or dense is None or pretraining.height < 2:
        return UNKNOWN
    at = tickets.sort("sparsity", -pl.col("accuracy"), "learning_rate").unique(
        "sparsity", keep="first", maintain_order=True
    )
    return _mostly(at["learning_rate"] < dense["learning_rate"])


def _prefers_imp(tickets: pl.DataFrame, gap: float) -> str:
    both = tickets.pivot("pruner", index="sparsity", values="accuracy")
    if not {"imp", "omp"} <= set(both.columns):
        return UNKNOWN
    both = both.drop_nulls(["imp", "omp"])
    return _mostly(both["imp"] - both["omp"] > gap + 1e-12) if both.height else UNKNOWN


def _mostly(said: pl.Series) -> str:
    return YES if 2 * said.sum() > said.len() else NO
