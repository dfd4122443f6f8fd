"""The way of an adaptive study: what each look said, and where its trials went."""

from collections.abc import Mapping, Sequence

import altair as alt
import polars as pl

from explorer import links
from explorer.figures import appearance, curves, verdicts
from jackpot import settings, wording
from jackpot.conditions import BESIDE, CONDITIONS, Verdict
from jackpot.contrasts import MARKS, Decision
from jackpot.looks import LookThen, Standing, TicketThen

_SYMBOLS = {Verdict.JACKPOT: "★", Verdict.SECONDARY: "✓", Verdict.NONE: "×"}
_ROWS = {condition.name: appearance.asked(condition) for condition in (*CONDITIONS, *BESIDE)}
_CELL = ["setting", "pruner", "sparsity", "learning_rate"]
# "2: 5 trials" in two lines, down from the place of the first: a study may have many looks.
_AXIS = {
    "labelAngle": 0,
    "labelPadding": 18,
    "labelExpr": "split(replace(datum.label, / trials?$/, ''), ': ')",
}


def name(look: LookThen) -> str:
    """What a look is called in charts.

    >>> name(LookThen(2, 3, 0.125, 90, (0.1,), (), (), ""))
    '2: 3 trials'
    """
    return f"{look.number}: {wording.count(look.trials, 'trial')}"


def cells(looks: Sequence[LookThen], view: Mapping[str, str]) -> pl.DataFrame:
    """What each look said of each ticket and condition.

    Args:
        looks: of one study; those that lack runs say nothing.
        view: study and launch, as links name them.

    Returns:
        Columns as `explorer.figures.verdicts.cells` has them, with `look` and `panel`, the ticket.
    """
    pruners = {ticket.pruner for look in looks for ticket in look.tickets}
    methods = {pruner: settings.method(pruner) for pruner in sorted(pruners)}
    if len(set(methods.values())) < len(methods):
        # Two of a user's own may have one short name.
        methods = {pruner: pruner for pruner in methods}
    rows = []
    for look in looks:
        for ticket in look.tickets:
            method = methods[ticket.pruner]
            panel = f"{method} at {wording.sparsity(ticket.sparsity)}"
            about = {
                "panel": panel,
                "look": name(look),
                "pruner": method,
                "sparsity": wording.sparsity(ticket.sparsity),
                "link": links.page("definition", **view, detail=panel),
            }
            rows.append(about | {"row": verdicts.VERDICT_ROW} | _verdict(ticket))
            rows += [
                about | {"row": _ROWS.get(condition, condition)} | _condition(decision)
                for condition, decision in ticket.decisions.items()
            ]
    return pl.DataFrame(rows)


def _verdict(ticket: TicketThen) -> dict[str, str]:
    if ticket.standing is Standing.MISSING:
        return verdicts.still_open("?", str(ticket.standing))
    if ticket.verdict in _SYMBOLS:
        verdict = Verdict(ticket.verdict)
        return verdicts.decided(_SYMBOLS[verdict], str(verdict), verdict)
    mark = "✓△" if ticket.verdict == Verdict.TICKET else "△"
    return verdicts.still_open(mark, f"{ticket.verdict}; {ticket.standing}")


def _condition(decision: Decision | None) -> dict[str, str]:
    mark = MARKS[decision]
    if decision in (Decision.HOLDS, Decision.FAILS):
        return verdicts.decided(mark, str(decision), decision)
    return verdicts.still_open(mark, str(decision or "runs are missing"))


def chart(data: pl.DataFrame) -> alt.FacetChart:
    """All tickets, looks side by side.

    Args:
        data: from `cells`.
    """
    title = "look, and trials up to then"
    return curves.faceted(verdicts.panel(data, across="look", title=title, axis=_AXIS))


def table(looks: Sequence[LookThen], alpha: float) -> pl.DataFrame:
    """A row for each look: what it could spend, what it asked for, and why.

    Args:
        looks: of one study.
        alpha: share of studies that may be wrong.
    """
    rows, before = [], 0
    for look in looks:
        counts = [ticket.standing for ticket in look.tickets]
        rows.append(
            {
                "look": look.number,
                "trials up to": look.trials,
                "level (%)": round(100 * alpha * look.share, 4),
                "runs added": look.runs - before,
                "runs in all": look.runs,
                "learning rates added": ", ".join(f"{rate:g}" for rate in look.grown),
                **{
                    str(standing): sum(one is standing for one in counts) if counts else None
                    for standing in Standing
                },
            }
        )
        before = look.runs
    return pl.DataFrame(rows, infer_schema_length=None)


def needs(looks: Sequence[LookThen]) -> pl.DataFrame:
    """Which learning rates got more trials after each look, and which were dropped, by ticket."""
    rows = [
        {
            "after look": look.number,
            "pruner": settings.method(ticket.pruner),
            "sparsity": ticket.sparsity,
            "setting": settings.line(setting),
            "more trials at": ", ".join(f"{rate:g}" for rate in rates),
            "dropped": ", ".join(f"{rate:g}" for rate in look.rates if rate not in rates),
        }
        for look in looks
        for ticket in look.tickets
        for setting, rates in ticket.needs.items()
    ]
    return pl.DataFrame(rows)


def trials(runs: pl.DataFrame) -> pl.DataFrame:
    """Trials that ended, by setting and learning rate.

    Args:
        runs: as `jackpot.accuracies` gives them.

    Returns:
        `panel` (the sparsity), `line`, `learning_rate` (text), `trials` and the share of the most.
    """
    counted = (
        appearance.named(runs)
        .group_by(*_CELL, "line", maintain_order=True)
        .len("trials")
        .sort("sparsity", "line", "learning_rate")
    )
    panel = pl.col("sparsity").map_elements(
        lambda value: f"sparsity {wording.sparsity(value)}" if value else "dense", pl.String
    )
    rates = counted["learning_rate"].unique().sort().to_list()
    order = {f"{rate:g}": place for place, rate in enumerate(rates)}
    rate = pl.col("learning_rate").map_elements(lambda value: f"{value:g}", pl.String)
    return counted.select(
        panel.alias("panel"),
        "line",
        rate.alias("learning_rate"),
        rate.replace_strict(order, return_dtype=pl.Int64).alias("place"),
        "trials",
        (pl.col("trials") / pl.col("trials").max()).alias("share"),
    )


def trials_panel(data: pl.DataFrame) -> appearance.Layers:
    """Settings by learning rates, each cell with its number of trials.

    Args:
        data: from `trials`.
    """
    base = alt.Chart(data).encode(
        x=alt.X(
            "learning_rate:N",
            title="learning rate",
            sort=alt.EncodingSortField("place", order="ascending"),
            axis=alt.Axis(labelAngle=0, orient="top"),
        ),
        y=alt.Y("line:N", title=None, sort=None, axis=alt.Axis(labelLimit=180)),
        tooltip=["line:N", alt.Tooltip("learning_rate:N", title="learning rate"), "trials:Q"],
    )
    boxes = base.mark_rect(cornerRadius=3, stroke=appearance.NEUTRAL).encode(
        fill=alt.Fill(
            "share:Q", legend=None, scale=alt.Scale(domain=[0, 1], range=["#f2f6fc", "#8fb8ea"])
        )
    )
    # On a light fill, in either theme.
    numbers = base.mark_text(fontSize=14, fontWeight="bold", color="#111111").encode(
        text="trials:Q"
    )
    return alt.layer(boxes, numbers).properties(width=380, height=alt.Step(28))


def trials_chart(data: pl.DataFrame) -> alt.FacetChart:
    """A panel for each sparsity.

    Args:
        data: from `trials`.
    """
    return curves.faceted(trials_panel(data)).resolve_scale(y="independent")
