"""The guideline of section 3.2: four rules, and what studies say for or against each. Pure."""

import polars as pl

from jackpot.conditions import PRIZES, Criteria
from jackpot.definition import judge
from jackpot.settings import LT, PRETRAIN, RR
from jackpot.trials import best, means

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


def has_residuals(network: str) -> bool:
    """Whether a network of the paper has residual connections."""
    return network.startswith("resnet") and "no-residual" not in network


def evidence(runs: pl.DataFrame, criteria: Criteria | None = None) -> pl.DataFrame:
    """What each network, dataset and sparsity says about the rules.

    Args:
        runs: as in `jackpot.means`.
        criteria: gap and tolerance to count with.

    Returns:
        One row per rule, network, dataset and sparsity that can speak to it (rule 3: per network
        and dataset): `rule network dataset sparsity residual measure supports`. `measure` says in
        words and numbers what was found; `supports` is null where it is neither for nor against.
    """
    criteria = criteria or Criteria()
    table = means(runs)
    rows = [
        row
        for (network, dataset), here in table.group_by("network", "dataset", maintain_order=True)
        for row in _of(str(network), str(dataset), here, criteria)
    ]
    rows += _tickets(runs, criteria)
    schema = {
        "rule": pl.Int64,
        "network": pl.String,
        "dataset": pl.String,
        "sparsity": pl.Float64,
        "residual": pl.Boolean,
        "measure": pl.String,
        "supports": pl.Boolean,
    }
    return pl.DataFrame(rows, schema=schema).sort("rule", "network", "dataset", "sparsity")


def _of(network: str, dataset: str, table: pl.DataFrame, criteria: Criteria) -> list[dict]:
    residual, small = has_residuals(network), dataset in SMALL_DATASETS
    dense = best(table.filter(pl.col("setting") == PRETRAIN.name))
    rows = []
    for sparsity in table.filter(pl.col("setting") == LT.name)["sparsity"].unique().sort():
        at = table.filter(pl.col("sparsity") == sparsity)
        facts = {"network": network, "dataset": dataset, "sparsity": sparsity, "residual": residual}
        lt = at.filter(pl.col("setting") == LT.name)
        imp = best(lt.filter(pl.col("pruner") == "imp"))
        omp = best(lt.filter(pl.col("pruner") == "omp"))
        if small and imp and omp:
            gain = imp["accuracy"] - omp["accuracy"]
            rows.append(
                facts
                | {
                    "rule": 1,
                    "measure": f"best LT-IMP − best LT-OMP = {100 * gain:+.1f} points",
                    "supports": (gain > 0) if residual else gain <= criteria.gap,
                }
            )
        tickets = [
            best(lt.filter(pl.col("pruner") == name)) for name in lt["pruner"].unique().sort()
        ]
        ticket = max((x for x in tickets if x), key=lambda x: x["accuracy"], default=None)
        if ticket is None or dense is None:
            continue
        smaller = ticket["learning_rate"] < dense["learning_rate"]
        several = table.filter(pl.col("setting") == PRETRAIN.name).height > 1
        if small and several:
            rows.append(
                facts
                | {
                    "rule": 2,
                    "measure": f"LT is best at {ticket['learning_rate']:g}, "
                    f"pretraining at {dense['learning_rate']:g}",
                    "supports": smaller if residual else not smaller,
                }
            )
        rr = best(at.filter(pl.col("setting") == RR.name, pl.col("pruner") == ticket["pruner"]))
        if rr and several and not smaller:
            gap = ticket["accuracy"] - rr["accuracy"]
            rows.append(
                facts
                | {
                    "rule": 4,
                    "measure": f"LT is best at {ticket['learning_rate']:g}; "
                    f"best LT − best RR = {100 * gap:+.1f} points",
                    "supports": gap <= criteria.gap,
                }
            )
    return rows


def _tickets(runs: pl.DataFrame, criteria: Criteria) -> list[dict]:
    """Rule 3: the highest sparsity with a ticket, per network; networks are compared by reading."""
    found: dict[tuple[str, str], float | None] = {}
    for judgement in judge(runs, criteria):
        key = (judgement.network, judgement.dataset)
        found.setdefault(key, None)
        if judgement.verdict in PRIZES:
            found[key] = max(found[key] or 0.0, judgement.sparsity)
    return [
        {
            "rule": 3,
            "network": network,
            "dataset": dataset,
            "sparsity": highest,
            "residual": has_residuals(network),
            "measure": f"tickets up to sparsity {highest:.3f}" if highest else "no ticket found",
            "supports": None,
        }
        for (network, dataset), highest in found.items()
    ]
