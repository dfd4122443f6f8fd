"""A map of verdicts: every ticket of a study, its verdict and its conditions at a glance."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from explorer import links
from explorer.figures import appearance, curves
from jackpot import Judgement, settings, wording
from jackpot.conditions import Verdict
from jackpot.contrasts import MARKS, Decision

# Of a cell: its fill, and a text that reads on it in either theme.
_DARK, _LIGHT = "#111111", "#ffffff"
_OPEN_FILL = "#cfcfcf"
_LOOKS = {
    Verdict.JACKPOT: (appearance.PRIZES[Verdict.JACKPOT], _DARK),
    Verdict.SECONDARY: (appearance.PRIZES[Verdict.SECONDARY], _DARK),
    Verdict.NONE: ("#6e6e6e", _LIGHT),
    Decision.HOLDS: (appearance.DECISIONS[Decision.HOLDS], _LIGHT),
    Decision.FAILS: (appearance.DECISIONS[Decision.FAILS], _LIGHT),
}
_COLUMNS = ["network", "dataset", "pruner", "sparsity", "row", "mark", "means"]
_DRAWN = ["fill", "border", "text", "is", "link"]
VERDICT_ROW = "verdict"


def cells(judgements: Sequence[Judgement], view: Mapping[str, str]) -> pl.DataFrame:
    """A row per cell of the map.

    Args:
        judgements: of one study.
        view: study and launch, as links name them.

    Returns:
        `network dataset pruner sparsity row mark means`, all text: `row` is `verdict` or a
        condition in plain words, `mark` its symbol, `means` what that says; `fill border text is`:
        how the cell looks (`is`: `decided` or `open`); `link`: the page with its evidence.
    """
    rows = []
    several = len({(j.network, j.dataset) for j in judgements}) > 1
    for judgement in judgements:
        of = f"{judgement.network} on {judgement.dataset}" if several else None
        about = {
            "network": judgement.network,
            "dataset": judgement.dataset,
            "pruner": settings.method(judgement.pruner),
            "sparsity": wording.sparsity(judgement.sparsity),
            "link": links.page("definition", **view, of=of, detail=appearance.ticket(judgement)),
        }
        rows.append(about | {"row": VERDICT_ROW} | _verdict(judgement))
        rows += [
            about
            | {"row": appearance.asked(found.condition)}
            | _condition(found.decision, judgement.pending)
            for found in judgement.conditions
        ]
    return pl.DataFrame(rows, schema=dict.fromkeys([*_COLUMNS, *_DRAWN], pl.String))


def verdict_mark(judgement: Judgement) -> str:
    """The symbol of a verdict: ★ jackpot, ✓ secondary prize, × none, ? runs missing.

    △ stands after what only the means say. A secondary prize that may be a jackpot is `✓△`.
    """
    if judgement.verdict is Verdict.NOT_ENOUGH_RUNS:
        return "?"
    if judgement.verdict is Verdict.TICKET:
        return "✓△"
    prize = appearance.box(judgement)
    if prize is None:
        decided = judgement.verdict is Verdict.NONE and not judgement.pending
        return "×" if decided else "△"
    mark = "★" if prize[0] is Verdict.JACKPOT else "✓"
    return mark if prize[1] else f"{mark}△"


def _verdict(judgement: Judgement) -> dict[str, str]:
    mark, words = verdict_mark(judgement), str(judgement)
    if judgement.verdict is Verdict.NOT_ENOUGH_RUNS:
        return still_open(mark, words)
    if judgement.verdict is Verdict.TICKET and not judgement.pending:
        return decided(mark, words, Verdict.SECONDARY)
    if mark.endswith("△"):
        prize = appearance.box(judgement)
        said = f"{words}; by the means: {judgement.point_verdict}"
        return still_open(mark, said, None if prize is None else prize[0])
    return decided(mark, words, judgement.verdict)


def _condition(decision: Decision | None, pending: int) -> dict[str, str]:
    mark = MARKS[decision]
    if decision is None or decision is Decision.UNDECIDED:
        return still_open(mark, "runs are missing" if decision is None else str(decision))
    if pending:
        return still_open(mark, f"{decision} so far: {wording.count(pending, 'run')} to come")
    return decided(mark, str(decision), decision)


def decided(mark: str, words: str, of: Verdict | Decision) -> dict[str, str]:
    """How a cell looks that the trials decide."""
    fill, text = _LOOKS[of]
    return {
        "mark": mark, "means": words, "fill": fill, "border": fill, "text": text, "is": "decided",
    }  # fmt: skip


def still_open(mark: str, words: str, means: Verdict | None = None) -> dict[str, str]:
    """How a cell looks that they leave open; `means`: what the means say."""
    border = appearance.NEUTRAL if means is None else _LOOKS[means][0]
    return {
        "mark": mark, "means": words, "fill": _OPEN_FILL, "border": border, "text": _DARK,
        "is": "open",
    }  # fmt: skip


def panel(
    data: pl.DataFrame,
    across: str = "sparsity",
    title: str | None = None,
    axis: Mapping[str, Any] | None = None,
) -> appearance.Layers:
    """The cells of one pruner: sparsities side by side, the verdict above its conditions.

    A cell that the trials decide is filled; one that they leave open is grey with a dashed border.
    A click opens its evidence.

    Args:
        data: from `cells`.
        across: the column that stands side by side.
        title: of its axis, if it is not called as the column is.
        axis: how that axis differs.
    """
    rows = data["row"].unique(maintain_order=True).to_list()
    base = alt.Chart(data).encode(
        x=alt.X(
            f"{across}:N",
            title=title or across,
            sort=None,
            axis=alt.Axis(orient="top", **{"labelAngle": -45} | dict(axis or {})),
            scale=alt.Scale(paddingInner=0.06),
        ),
        y=alt.Y(
            "row:N",
            title=None,
            sort=rows,
            axis=alt.Axis(labelLimit=260),
            scale=alt.Scale(paddingInner=0.1),
        ),
        tooltip=[
            *(alt.Tooltip(f"{name}:N") for name in dict.fromkeys(("pruner", "sparsity", across))),
            alt.Tooltip("row:N", title="asked"),
            alt.Tooltip("means:N", title="answer"),
        ],
        href="link:N",
    )
    boxes = base.mark_rect(strokeWidth=2, cornerRadius=3).encode(
        fill=alt.Fill("fill:N", scale=None),
        stroke=alt.Stroke("border:N", scale=None),
        strokeDash=alt.StrokeDash(
            "is:N",
            legend=None,
            scale=alt.Scale(domain=["decided", "open"], range=[[1, 0], appearance.UNDECIDED_DASH]),
        ),
    )
    marks = base.mark_text(fontSize=15, fontWeight="bold").encode(
        text="mark:N", color=alt.Color("text:N", scale=None)
    )
    return alt.layer(boxes, marks).properties(width=380, height=alt.Step(30))


def chart(data: pl.DataFrame) -> alt.FacetChart:
    """All pruners, for print."""
    return curves.faceted(panel(data.with_columns(pl.col("pruner").alias("panel"))))
