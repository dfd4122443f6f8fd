"""The four marks of the paper's Table 3, computed for a study and as published. Pure.

In the table's order: a jackpot ticket exists, a secondary prize ticket exists, subnetworks prefer
a small learning rate, subnetworks prefer IMP.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass

import polars as pl

from jackpot import majority
from jackpot.conditions import CONDITIONS, Condition, Criteria, Verdict
from jackpot.contrasts import Contrast, Decision, exceeds
from jackpot.definition import Judgement, compared, judging
from jackpot.noise import Noise
from jackpot.preferences import prefers_small
from jackpot.settings import PRETRAIN
from jackpot.trials import OWN_RATE, Cell, able, best, curve, means, own_rate, with_destroyed

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
    runs: pl.DataFrame,
    criteria: Criteria | None = None,
    pending: pl.DataFrame | None = None,
    conditions: Sequence[Condition] = CONDITIONS,
) -> dict[tuple[str, str], tuple[Marks, float | None]]:
    """Marks of every network and dataset in `runs`, and the highest sparsity with a ticket.

    A ticket exists if there is one at any non-trivial sparsity (section 3.1). The more sparsities
    and pruners are looked at, the more chances there are to be wrong: ✓ is decided at α over their
    number (Holm 1979), × needs every one decided against it, and △ is what is left.

    For the two preferences the paper gives no numbers. Here a small learning rate is preferred
    where, at more than half of the non-trivial sparsities, the best ticket is trained at a smaller
    rate than the best dense network; IMP where at more than half of them the best LT-IMP is clearly
    (by the gap) better than the best LT-OMP.

    Args:
        runs, criteria, pending, conditions: see `jackpot.judge`; of one study. While planned runs
            may change a mark, it is `?`, as it is where no trials tell the noise.
    """
    criteria = criteria or Criteria()
    known = with_destroyed(runs if criteria.any_rate else own_rate(runs))
    return {
        (str(network), str(dataset)): _of(here, criteria, pending, conditions)
        for (network, dataset), here in known.group_by("network", "dataset", maintain_order=True)
    }


def _of(
    runs: pl.DataFrame,
    criteria: Criteria,
    pending: pl.DataFrame | None,
    conditions: Sequence[Condition],
) -> tuple[Marks, float | None]:
    """Marks of one network and dataset."""
    least = criteria.sparsity - 1e-9
    deep = runs.filter((pl.col("sparsity") >= least) | (pl.col("setting") == PRETRAIN.name))

    at = judging(runs, criteria, pending, conditions)

    def judged(alpha: float) -> list[Judgement]:
        return [j for j in at(alpha) if j.sparsity >= least and not j.missing]

    table = means(deep)
    dense = able(curve(table.filter(pl.col("setting") == PRETRAIN.name)))
    tickets = {
        (float(sparsity), str(pruner)): able(curve(cells))
        for (sparsity, pruner), cells in table.filter(
            pl.col("setting") == criteria.ticket
        ).group_by("sparsity", "pruner", maintain_order=True)
    }
    every = [j for j in at(None) if j.sparsity >= least]
    each = [j for j in every if not j.missing]
    waiting = _may_change(runs, criteria, pending, conditions)
    noises = every[0].noise if every else None
    winning = _holm(judged, len(each), criteria.alpha, lambda j: j.wins)
    jackpots = _holm(judged, len(each), criteria.alpha, lambda j: j.verdict is Verdict.JACKPOT)
    return Marks(
        _exists(jackpots, each, (Verdict.SECONDARY, Verdict.NONE), noises, waiting),
        _exists(winning, each, (Verdict.NONE,), noises, waiting),
        UNKNOWN if waiting else _prefers_small(dense, tickets, criteria.level, noises),
        UNKNOWN if waiting else _prefers_imp(tickets, criteria, noises),
    ), max((j.sparsity for j in winning), default=None)


def _may_change(
    runs: pl.DataFrame,
    criteria: Criteria,
    pending: pl.DataFrame | None,
    conditions: Sequence[Condition],
) -> bool:
    """Whether planned runs may yet change a mark: of sparsities not begun, too."""
    if pending is None or pending.is_empty():
        return False
    here = runs.select("network", "dataset").row(0)
    return not pending.filter(
        pl.col("network") == here[0],
        pl.col("dataset") == here[1],
        pl.col("setting").is_in(compared(criteria, conditions)),
        (pl.col("sparsity").fill_null(0.0) == 0) | (pl.col("sparsity") >= criteria.sparsity - 1e-9),
        pl.lit(criteria.any_rate) | OWN_RATE,
    ).is_empty()


def _holm(
    judged: Callable[[float], list[Judgement]],
    looked_at: int,
    alpha: float,
    is_one: Callable[[Judgement], bool],
) -> list[Judgement]:
    """The judgements that are decided to be one, however many were looked at (Holm 1979)."""
    found: list[Judgement] = []
    while looked_at > len(found):
        more = [j for j in judged(alpha / (looked_at - len(found))) if is_one(j)]
        if len(more) == len(found):
            break
        found = more
    return [j for j in found if not j.pending]


def _exists(
    found: list[Judgement],
    each: list[Judgement],
    against: tuple[Verdict, ...],
    known: Noise | None,
    waiting: bool,
) -> str:
    if found:
        return YES
    if not each or waiting:
        return UNKNOWN
    if all(j.verdict in against for j in each):
        return NO
    return BOUNDARY if known is not None else UNKNOWN


def _prefers_small(
    dense: list[Cell],
    tickets: Mapping[tuple[float, str], list[Cell]],
    level: float,
    known: Noise | None,
) -> str:
    tickets = {key: cells for key, cells in tickets.items() if cells}
    if len(dense) < 2 or not tickets:
        return UNKNOWN
    best_of: dict[float, list[Cell]] = {}
    for (sparsity, _), cells in tickets.items():
        other = best_of.get(sparsity)
        if other is None or best(cells).accuracy > best(other).accuracy:
            best_of[sparsity] = cells
    alpha = majority.level(len(best_of), level)
    return _mostly([prefers_small(cells, dense, known, alpha) for cells in best_of.values()], known)


def _prefers_imp(
    tickets: Mapping[tuple[float, str], list[Cell]], criteria: Criteria, known: Noise | None
) -> str:
    both = [
        (cells, tickets[sparsity, "omp"])
        for (sparsity, pruner), cells in tickets.items()
        if pruner == "imp" and cells and tickets.get((sparsity, "omp"))
    ]
    if not both:
        return UNKNOWN
    gap, alpha = criteria.gap, majority.level(len(both), criteria.level)
    found = [exceeds(*pair, gap, known, alpha=alpha, alpha_against=alpha) for pair in both]
    return _mostly(found, known)


def _mostly(found: list[Contrast], known: Noise | None) -> str:
    """Whether a claim holds at more than half of the sparsities, as far as trials decide that."""
    if known is None:
        return UNKNOWN
    decision = majority.of(found).decision
    return {Decision.HOLDS: YES, Decision.FAILS: NO, Decision.UNDECIDED: BOUNDARY}[decision]
