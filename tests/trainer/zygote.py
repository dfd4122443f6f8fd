"""The trainer's command in a process of its own, without the seconds that its imports take.

The first process imports what the trainer needs; each command is a fork of that one. Several tests
disturb such processes; `python -m trainer` itself is run where the command line is what is tested.
"""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path


def imported() -> ForkServerContext:
    """Starts processes as forks of one that has imported what the trainer needs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainer.launch", "trainer.execution.run", "mlflow"])
    return context


def _main(arguments: Sequence[str], said: str, environment: dict[str, str]) -> None:
    os.setsid()
    os.environ.update(environment)
    with Path(said).open("w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    from trainer.cli import main

    sys.exit(main(list(arguments)))


class Command:
    """`python -m trainer` with arguments, started in a session of its own.

    Args:
        said: file that takes what it prints.
        arguments: of the command line.
    """

    def __init__(self, said: Path, *arguments: str) -> None:
        context = imported()
        self._said = said
        self._process = context.Process(target=_main, args=(arguments, str(said), dict(os.environ)))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int | None:
        """Waits for its end: its exit code."""
        self._process.join(timeout)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> str:
        """Waits for its end: what it printed."""
        self.wait(timeout)
        return self._said.read_text()
