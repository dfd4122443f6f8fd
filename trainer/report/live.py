"""Progress on the terminal: a live view where there is one, plain lines elsewhere."""

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from jackpot.contract import Metric
from jackpot.wording import duration
from trainer.execution.outcome import Outcome
from trainer.report import looks
from trainer.study.adaptive import Look
from trainer.study.plan import RunSpec

_EVERY_S = 30.0
_NARROW = 90


class _Pace:
    """Epochs done and to do, and the time left at the pace so far."""

    def __init__(self, epochs: int) -> None:
        self.left, self._trained = epochs, 0
        self._began: float | None = None

    def began(self) -> None:
        """Starts the clock at the first run: what came before (imports, images) does not count."""
        self._began = self._began or time.monotonic()

    def trained(self) -> None:
        self._trained += 1
        self.left -= 1

    def dropped(self, epochs: int) -> None:
        self.left -= epochs

    def time_left(self) -> str:
        if not self._trained or self._began is None:
            return ""
        each = (time.monotonic() - self._began) / self._trained
        return f"{duration(each * self.left)} left"


class PlainLines:
    """One line as a run begins and ends, and one every half minute in between."""

    def __init__(self, console: Console, epochs: int) -> None:
        self._console, self._pace = console, _Pace(epochs)
        self._last = time.monotonic()
        self._done: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run_began(self, spec: RunSpec, epochs_done: int) -> None:
        """Prints a line only if the run resumes; otherwise its end is enough."""
        self._pace.began()
        self._pace.dropped(epochs_done - self._done.get(spec.key, 0))
        self._done[spec.key] = epochs_done
        if epochs_done:
            self._print(f"{spec.name}: going on after {epochs_done} of {spec.epochs} epochs")

    def epoch_ended(self, spec: RunSpec, epoch: int, metrics: dict[str, float]) -> None:
        """A line if the last one is long ago."""
        self._done[spec.key] += 1
        self._pace.trained()
        if time.monotonic() - self._last > _EVERY_S:
            self._print(
                f"{spec.name}: epoch {epoch}, {_reached(metrics)} ({self._pace.time_left()})"
            )

    def run_ended(self, outcome: Outcome) -> None:
        """How the run ended."""
        self._pace.dropped(outcome.spec.epochs - self._done.pop(outcome.spec.key, 0))
        self._print(f"{_sentence(outcome)} ({self._pace.time_left() or 'starting'})")

    def look_ended(self, look: Look | None, text: str, epochs: int) -> None:
        """A line for each verdict, and one for what comes next."""
        self._pace.left = epochs
        for line in looks.lines(look) if look else ():
            self._print(line)
        self._print(text)

    def say(self, message: str) -> None:
        """Prints the message."""
        self._print(message)

    def _print(self, line: str) -> None:
        self._last = time.monotonic()
        self._console.print(escape(line), highlight=False, soft_wrap=True)


class _Board(Progress):
    """Progress bars, and above them what the last look said."""

    settling: RenderableType | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        """What is shown, from top to bottom."""
        if self.settling is not None:
            yield self.settling
        yield from super().get_renderables()


class LiveView:
    """A bar for the study and one for each run under way, below the lines of those that ended."""

    def __init__(self, console: Console, epochs: int) -> None:
        self._pace = _Pace(epochs)
        # What a narrow terminal has no room for is left out, not cut.
        is_narrow = console.width < _NARROW
        wide = [] if is_narrow else [TextColumn("epochs"), TimeElapsedColumn()]
        self._progress = _Board(
            TextColumn("{task.description}"),
            *([] if is_narrow else [BarColumn(bar_width=None)]),
            MofNCompleteColumn(),
            *wide,
            TextColumn("{task.fields[note]}"),
            console=console,
            expand=True,
            # Bars of finished runs would pile up.
            transient=True,
        )
        self._study = self._progress.add_task("study", total=epochs, note="")
        self._runs: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def run_began(self, spec: RunSpec, epochs_done: int) -> None:
        """Adds a bar; one that begins again, its worker having died, gets a new one."""
        self._pace.began()
        self._moved(epochs_done - self._drop(spec.key))
        self._runs[spec.key] = self._progress.add_task(
            escape(spec.name), total=spec.epochs, completed=epochs_done, note=""
        )

    def epoch_ended(self, spec: RunSpec, epoch: int, metrics: dict[str, float]) -> None:
        """Moves both bars."""
        self._pace.trained()
        self._progress.update(self._runs[spec.key], advance=1, note=_reached(metrics))
        self._progress.update(self._study, advance=1, note=self._pace.time_left())

    def run_ended(self, outcome: Outcome) -> None:
        """Leaves a line above the bars."""
        self._moved(outcome.spec.epochs - self._drop(outcome.spec.key))
        self.say(_sentence(outcome))

    def look_ended(self, look: Look | None, text: str, epochs: int) -> None:
        """Shows the conditions above the bars, and leaves a line on what comes next."""
        self._pace.left = epochs
        study = next(t for t in self._progress.tasks if t.id == self._study)
        self._progress.update(self._study, total=study.completed + epochs)
        self._progress.settling = looks.table(look) if look else None
        self.say(text)

    def _moved(self, epochs: int) -> None:
        """Subtracts epochs that were not trained now from what is left."""
        self._pace.dropped(epochs)
        self._progress.advance(self._study, epochs)

    def _drop(self, key: str) -> int:
        """Removes a run's bar and returns how many epochs it had; 0 if there is none."""
        task = self._runs.pop(key, None)
        if task is None:
            return 0
        done = next(int(t.completed) for t in self._progress.tasks if t.id == task)
        self._progress.remove_task(task)
        return done

    def say(self, message: str) -> None:
        """Leaves a line above the bars."""
        self._progress.console.print(escape(message), highlight=False)


View = LiveView | PlainLines
"""What a launch shows: on a terminal, and elsewhere."""


def reporter(console: Console, epochs: int) -> View:
    """The reporter that fits the console, for `epochs` epochs to train."""
    return LiveView(console, epochs) if console.is_terminal else PlainLines(console, epochs)


def _reached(metrics: dict[str, float]) -> str:
    """How good an epoch was, by what was measured after it."""
    if Metric.VAL_ACCURACY in metrics:
        return f"{100 * metrics[Metric.VAL_ACCURACY]:.1f} %"
    return f"loss {metrics[Metric.LOSS]:.3f}"


def _sentence(outcome: Outcome) -> str:
    name = outcome.spec.name
    if outcome.status.is_trained and outcome.val_accuracy is not None:
        return f"{name}: {100 * outcome.val_accuracy:.1f} %"
    return f"{name}: {outcome.status}{': ' if outcome.reason else ''}{outcome.reason}"
