"""Tables of a study for the terminal: what a launch will train, and what came out."""

from collections.abc import Callable, Container, Iterable, Sequence

import polars as pl
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jackpot import settings, wording
from trainer.execution.outcome import Outcome
from trainer.study.plan import Plan, RunSpec


def planned(plan: Plan, known: Iterable[str]) -> RenderableType:
    """A line for each setting and pruner: at which sparsities, how many runs, how many finished."""
    known = set(known)
    rates = sorted({spec.learning_rate for spec in plan.runs})
    trials = max((spec.trial for spec in plan.runs), default=0)
    table = Table()
    for name in ("setting", "sparsity", "runs", "finished"):
        table.add_column(name, justify="right" if name in ("runs", "finished") else "left")
    for label, runs in _by_label(plan).items():
        depths = sorted({spec.sparsity for spec in runs if spec.sparsity})
        done = sum(spec.key in known for spec in runs)
        table.add_row(label, _range(depths), f"{len(runs):,}", f"{done:,}" if done else "–")
    at = ", ".join(f"{rate:g}" for rate in rates)
    title = (
        f"Plan of study '{plan.study}': {wording.count(trials, 'trial')} at "
        f"{'learning rate' if len(rates) == 1 else 'each of the learning rates'} {at}"
    )
    return Group(Text(title), table)


def _by_label(plan: Plan) -> dict[str, list[RunSpec]]:
    names = settings.ordered(spec.setting.name for spec in plan.runs)
    found: dict[str, list[RunSpec]] = {}
    for spec in sorted(plan.runs, key=lambda spec: (names.index(spec.setting.name), spec.label)):
        found.setdefault(spec.label, []).append(spec)
    return found


def _range(depths: Sequence[float]) -> str:
    """Sparsities, all of them if they are few.

    >>> _range([]), _range([0.59, 0.832]), _range([0.2, 0.36, 0.488, 0.59, 0.672])
    ('dense', '0.590, 0.832', '5 from 0.200 to 0.672')
    """
    names = [wording.sparsity(depth) for depth in depths]
    if len(names) > 4:
        return f"{len(names)} from {names[0]} to {names[-1]}"
    return ", ".join(names) or "dense"


def results(
    plan: Plan, outcomes: Iterable[Outcome], collapsed: Container[str] = ()
) -> RenderableType:
    """Last-epoch accuracy in percent by setting, sparsity and learning rate, over trials.

    Args:
        plan: of the launch.
        outcomes: of its runs.
        collapsed: keys of runs with a collapsed layer, beside those whose outcome says so.
    """
    rated = [o for o in outcomes if o.val_accuracy is not None and not o.reason]
    if not rated:
        return "No run has finished."
    frame = _frame([outcome.spec for outcome in rated]).with_columns(
        pl.Series("accuracy", [100.0 * (outcome.val_accuracy or 0.0) for outcome in rated]),
        pl.Series("collapsed", [o.has_collapsed or o.spec.key in collapsed for o in rated]),
    )
    cells = frame.group_by("label", "sparsity", "rate").agg(
        pl.len(),
        pl.col("accuracy").mean().alias("mean"),
        pl.col("accuracy").std().alias("std"),
        pl.col("collapsed").any(),
    )

    def cell(group: dict) -> str:
        spread = f" ± {group['std']:.1f}" if group["std"] is not None else ""
        return f"{group['mean']:.1f}{spread}{' †' * group['collapsed']}"

    trials = cells["len"].to_list()
    few, many = min(trials), max(trials)
    counted = f"n = {few}" if few == many else f"n = {few} to {many}"
    title = f"Study '{plan.study}': accuracy after the last epoch, % (mean ± s.d., {counted})"
    table = _table(plan, cells, cell, title)
    count = frame["collapsed"].sum()
    if not count:
        return table
    note = f"† Layer collapse in {count} runs: no weight of a layer is on a path to the output."
    return Group(table, Text(note))


def _frame(runs: Sequence[RunSpec]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "label": [spec.label for spec in runs],
            "sparsity": [spec.sparsity for spec in runs],
            "rate": [spec.learning_rate for spec in runs],
        }
    )


def _table(
    plan: Plan, cells: pl.DataFrame, cell: Callable[[dict], str], title: str
) -> RenderableType:
    rates = sorted({spec.learning_rate for spec in plan.runs})
    table = Table()
    table.add_column("setting")
    table.add_column("sparsity", justify="right")
    for rate in rates:
        table.add_column(f"lr {rate:g}", justify="right")
    groups = {(g["label"], g["sparsity"], g["rate"]): g for g in cells.iter_rows(named=True)}
    names = settings.ordered(spec.setting.name for spec in plan.runs)
    rows = sorted(
        {(spec.sparsity, names.index(spec.setting.name), spec.label) for spec in plan.runs}
    )
    for i, (sparsity, _, label) in enumerate(rows):
        found = [groups.get((label, sparsity, rate)) for rate in rates]
        table.add_row(
            label,
            wording.sparsity(sparsity) if sparsity else "0",
            *(cell(group) if group else "–" for group in found),
            end_section=i + 1 < len(rows) and rows[i + 1][0] != sparsity,
        )
    # A title of the table's own would be wrapped to the table's width.
    return Group(Text(title), table)
