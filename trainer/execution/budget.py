"""How long a launch may train: `--budget 6h`, or `--budget 500epochs`."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jackpot import wording
from trainer.execution.outcome import Outcome, Reporter
from trainer.study.plan import RunSpec

_SECONDS = {"m": 60.0, "h": 3600.0, "d": 86400.0}
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?) *(m|h|d|epochs?)")


@dataclass(frozen=True)
class Budget:
    """What one launch may spend; then it stops as on Ctrl-C, and the next one goes on.

    Attributes:
        seconds: of training; None: as many as it takes.
        epochs: of all runs together; None: as many as it takes.
    """

    seconds: float | None = None
    epochs: int | None = None

    @classmethod
    def of(cls, text: str) -> "Budget":
        """A budget as it is written on the command line.

        Raises:
            ValueError: it is not written like the examples, or is nothing.

        Example:
            >>> Budget.of("1.5h"), Budget.of("500 epochs")
            (Budget(seconds=5400.0, epochs=None), Budget(seconds=None, epochs=500))
        """
        found = _WRITTEN.fullmatch(text.strip())
        amount = float(found[1]) if found else 0.0
        if found is None or amount <= 0 or (found[2].startswith("e") and amount % 1):
            raise ValueError(
                f"--budget {text}: expected a time such as 90m, 6h or 2d, or a number of epochs "
                "such as 500epochs"
            )
        if found[2].startswith("e"):
            return cls(epochs=int(amount))
        return cls(seconds=amount * _SECONDS[found[2]])

    def __str__(self) -> str:
        """In words, such as "6 h 00 min"."""
        if self.epochs is not None:
            return wording.count(self.epochs, "epoch")
        return wording.duration(self.seconds or 0.0)


class Spending:
    """A reporter that passes everything on, and sets `stop` once a budget is spent.

    Args:
        budget: what may be spent.
        reporter: is told what this one is told.
        stop: is set at the end.
    """

    def __init__(self, budget: Budget, reporter: Reporter, stop: threading.Event) -> None:
        self._budget, self._reporter, self._stop = budget, reporter, stop
        self._epochs = 0
        self.is_spent = False

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Counts the time inside."""
        if self._budget.seconds is None:
            yield
            return
        clock = threading.Timer(self._budget.seconds, self._spent)
        clock.daemon = True
        clock.start()
        try:
            yield
        finally:
            clock.cancel()

    def _spent(self) -> None:
        if not self._stop.is_set():
            self.is_spent = True
            self._stop.set()

    def run_began(self, spec: RunSpec, epochs_done: int) -> None:
        """Passes it on."""
        self._reporter.run_began(spec, epochs_done)

    def epoch_ended(self, spec: RunSpec, epoch: int, metrics: dict[str, float]) -> None:
        """Counts the epoch."""
        self._reporter.epoch_ended(spec, epoch, metrics)
        self._epochs += 1
        if self._budget.epochs is not None and self._epochs >= self._budget.epochs:
            self._spent()

    def run_ended(self, outcome: Outcome) -> None:
        """Passes it on."""
        self._reporter.run_ended(outcome)

    def say(self, message: str) -> None:
        """Passes it on."""
        self._reporter.say(message)
