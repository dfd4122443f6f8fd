"""What a look of an adaptive study says, for the terminal."""

from collections.abc import Iterator

from rich.table import Table

from jackpot import plugins, wording
from jackpot.contrasts import MARKS
from jackpot.looks import Standing
from trainer.execution.forecast import Ahead, Amount
from trainer.study.adaptive import Course, Look, Ticket


def lines(look: Look) -> Iterator[str]:
    """A line for each ticket: its conditions, its verdict, and what becomes of it."""
    for ticket in look.tickets:
        marks = "".join(f"{name} {mark}  " for name, mark in _marks(ticket))
        yield f"{_name(ticket)}: {marks}{_verdict(ticket)}"


def table(look: Look) -> Table:
    """The same as a table, a column for each condition."""
    found = Table(title=f"look {look.number}: {look.trials} trials", title_justify="left")
    names = max((_marks(ticket) for ticket in look.tickets), key=len, default=[])
    found.add_column("ticket")
    for name, _ in names:
        found.add_column(name, justify="center")
    found.add_column("verdict")
    for ticket in look.tickets:
        marks = [mark for _, mark in _marks(ticket)] or ["?"] * len(names)
        found.add_row(_name(ticket), *marks, _verdict(ticket))
    return found


def sentence(course: Course, runs: int, epochs: int) -> str:
    """What comes after a look, for a study with that many runs and epochs to train."""
    if course.stopped:
        return f"Look {course.looks[-1].number}, the last: {course.why}."
    look, judged = course.looks[-1], course.judged
    said = f"Look {look.number}: {wording.count(runs, 'run')}, {wording.count(epochs, 'epoch')}"
    if judged is not None:
        opened = wording.count(judged.count(Standing.OPEN), "open verdict")
        said += f" for {opened}, up to {look.trials} trials"
    if look.grown:
        rates = ", ".join(f"{rate:g}" for rate in look.grown)
        were = "was" if len(look.grown) == 1 else "were"
        said += f"; a setting was best at the end of the learning rates, so {rates} {were} added"
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
    said.append(f"- at most, if the learning rates grow no further: {amount(left.most)}")
    return "\n".join(said)


def _name(ticket: Ticket) -> str:
    return f"{plugins.short(ticket.pruner)} {wording.sparsity(ticket.sparsity)}"


def _marks(ticket: Ticket) -> list[tuple[str, str]]:
    conditions = () if ticket.judgement is None else ticket.judgement.conditions
    return [(found.condition.name, MARKS[found.decision]) for found in conditions]


def _verdict(ticket: Ticket) -> str:
    after = "" if ticket.standing is Standing.DECIDED else f" ({ticket.standing})"
    return f"{ticket.verdict}{after}"
