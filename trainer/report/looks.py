"""What a look of an adaptive study says, for the terminal."""

from collections.abc import Iterator, Mapping

from rich.table import Table

from jackpot import plugins, wording
from jackpot.contrasts import Decision
from jackpot.definition import Judgement
from jackpot.looks import Standing
from trainer.execution.forecast import Ahead, Amount
from trainer.study.adaptive import Course, Look

MARKS: Mapping[Decision | None, str] = {
    Decision.HOLDS: "✓",
    Decision.FAILS: "×",
    Decision.UNDECIDED: "△",
    None: "?",
}


def lines(look: Look) -> Iterator[str]:
    """A line for each ticket: its conditions, its verdict, and what becomes of it."""
    for judgement, standing in zip(look.judgements, look.standings, strict=True):
        marks = "  ".join(f"{name} {mark}" for name, mark in _marks(judgement))
        yield f"{_ticket(judgement)}: {marks}  {judgement.verdict}{_next(standing)}"


def table(look: Look) -> Table:
    """The same as a table, a column for each condition."""
    found = Table(title=f"look {look.number}: {look.trials} trials", title_justify="left")
    found.add_column("ticket")
    for name, _ in _marks(look.judgements[0]) if look.judgements else ():
        found.add_column(name, justify="center")
    found.add_column("verdict")
    for judgement, standing in zip(look.judgements, look.standings, strict=True):
        marks = [mark for _, mark in _marks(judgement)]
        found.add_row(_ticket(judgement), *marks, f"{judgement.verdict}{_next(standing)}")
    return found


def sentence(course: Course, runs: int, epochs: int) -> str:
    """What comes after a look, for a study with that many runs and epochs to train."""
    judged = [look for look in course.looks if look.judgements]
    if course.stopped:
        return f"Look {judged[-1].number}, the last: {course.why}."
    look = course.looks[-1]
    said = f"Look {look.number}: {wording.count(runs, 'run')}, {wording.count(epochs, 'epoch')}"
    if judged and judged[-1] is not look:
        opened = judged[-1].standings.count(Standing.OPEN)
        said += f" for {wording.count(opened, 'open verdict')}, up to {look.trials} trials"
    if look.grown:
        rates = ", ".join(f"{rate:g}" for rate in look.grown)
        said += f"; a setting was best at the end of the learning rates, so {rates} was added"
    return f"{said}."


def ahead(course: Course, left: Ahead, epoch_s: float | None) -> str:
    """How much is left of an adaptive study: a line for each of best, drawn and most.

    Args:
        course: how far it has come.
        left: what may come.
        epoch_s: seconds that an epoch takes; None if nothing is to be trained.
    """
    if course.stopped:
        return f"The study has stopped: {course.why}."

    def amount(of: Amount) -> str:
        said = f"{wording.count(of.runs, 'run')}, {wording.count(of.epochs, 'epoch')}"
        return said if epoch_s is None else f"{said}, {wording.duration(of.epochs * epoch_s)}"

    look = course.looks[-1]
    said = [
        f"Look {look.number} is under way, with up to {look.trials} trials.",
        f"- at best, if it decides every verdict: {amount(left.least)}",
    ]
    if left.typical and left.low and left.high and left.decided is not None:
        said.append(
            f"- drawn {left.drawn} times from the trials so far: {amount(left.typical)} "
            f"({left.low.runs:,} to {left.high.runs:,} runs in eight of ten), "
            f"{left.decided:.0%} of verdicts decided"
        )
    else:
        said.append("- after the first look, what is to be expected can be drawn from its trials")
    said.append(f"- at most: {amount(left.most)}")
    return "\n".join(said)


def _ticket(judgement: Judgement) -> str:
    return f"{plugins.short(judgement.pruner)} {wording.sparsity(judgement.sparsity)}"


def _marks(judgement: Judgement) -> list[tuple[str, str]]:
    return [(found.condition.name, MARKS[found.decision]) for found in judgement.conditions]


def _next(standing: Standing) -> str:
    return "" if standing is Standing.DECIDED else f" ({standing})"
