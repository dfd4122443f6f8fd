"""What a launch shows while it trains: lines in a log, bars on a terminal."""

import io
import re

import pytest
from rich.console import Console

from tests.trainer.study.test_plan import study
from trainer.execution.outcome import Outcome, Status
from trainer.report import live
from trainer.study.plan import plan

FIRST, SECOND = plan(study(settings=["pretrain"], learning_rates=[0.1])).runs
GOOD = {"loss": 0.5, "val_accuracy": 0.875}


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(live, "time", clock)
    return clock


def lines(file: io.StringIO) -> list[str]:
    return file.getvalue().splitlines()


def plain(epochs: int) -> tuple[live.PlainLines, io.StringIO]:
    file = io.StringIO()
    view = live.reporter(Console(file=file, width=40), epochs)
    assert isinstance(view, live.PlainLines)
    return view, file


def test_a_log_gets_a_line_as_a_run_ends_and_one_every_half_minute(clock: Clock):
    view, file = plain(epochs=320)
    with view as told:
        told.run_began(FIRST, 0)
        for epoch in range(1, 41):
            clock.now += 1.0
            told.epoch_ended(FIRST, epoch, GOOD)
        told.run_ended(Outcome(FIRST, Status.FINISHED, 0.9012))
    # Epoch 31 is the first more than 30 s after the start; 289 of 320 epochs at 1 s are left then.
    # The run ends early: its other 120 epochs need no time. 160 are left.
    assert lines(file) == [
        "pretrain lr=0.1 trial=1: epoch 31, 87.5 % (5 min left)",
        "pretrain lr=0.1 trial=1: 90.1 % (3 min left)",
    ]


def test_a_run_that_goes_on_is_told_and_its_epochs_are_not_counted_again(clock: Clock):
    view, file = plain(epochs=320)
    view.run_began(FIRST, 100)
    clock.now += 10.0
    view.epoch_ended(FIRST, 101, {"loss": 1.25})
    # Its worker dies, and it begins again from an earlier checkpoint: 240 + 1 are left.
    view.run_began(FIRST, 80)
    view.run_ended(Outcome(FIRST, Status.FAILED, reason="out of memory"))
    assert lines(file) == [
        "pretrain lr=0.1 trial=1: going on after 100 of 160 epochs",
        "pretrain lr=0.1 trial=1: going on after 80 of 160 epochs",
        "pretrain lr=0.1 trial=1: failed: out of memory (27 min left)",  # 160 epochs of 10 s
    ]


def test_what_a_message_says_is_no_markup(clock: Clock):
    view, file = plain(epochs=1)
    view.say("[red]conv[1x1] is [bold]Keras's[/]")
    assert lines(file) == ["[red]conv[1x1] is [bold]Keras's[/]"]


def test_an_epoch_without_evaluation_shows_its_loss(clock: Clock):
    view, file = plain(epochs=160)
    view.run_began(FIRST, 0)
    clock.now += 31
    view.epoch_ended(FIRST, 1, {"loss": 1.2345})
    assert lines(file) == ["pretrain lr=0.1 trial=1: epoch 1, loss 1.234 (82 min left)"]


def test_a_terminal_has_a_bar_for_the_study_and_one_for_each_run():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100)
    view = live.reporter(console, 320)
    assert isinstance(view, live.LiveView)
    bars = view._progress

    def shown() -> dict[str, tuple[float, float | None]]:
        return {task.description: (task.completed, task.total) for task in bars.tasks}

    with view as told:
        told.run_began(FIRST, 40)
        told.run_began(SECOND, 0)
        told.epoch_ended(FIRST, 41, GOOD)
        assert shown() == {
            "study": (41, 320),
            "pretrain lr=0.1 trial=1": (41, 160),
            "pretrain lr=0.1 trial=2": (0, 160),
        }
        # Its worker died: it begins again, 20 epochs back.
        told.run_began(FIRST, 21)
        assert shown()["study"] == (21, 320)
        assert shown()["pretrain lr=0.1 trial=1"] == (21, 160)
        told.run_ended(Outcome(FIRST, Status.FINISHED, 0.5))
        told.run_ended(Outcome(SECOND, Status.SKIPPED, reason="it needs 'x', which failed"))
        assert shown() == {"study": (320, 320)}
    text = file.getvalue()
    assert "pretrain lr=0.1 trial=1: 50.0 %" in text
    assert "trial=2: skipped: it needs 'x', which failed" in text


def test_a_narrow_terminal_shows_all_of_it():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=60)
    view = live.reporter(console, 320)
    with view as told:
        told.run_began(FIRST, 40)
        told.epoch_ended(FIRST, 41, GOOD)
        view._progress.refresh()
    drawn = " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue()).split())
    assert "pretrain lr=0.1 trial=1 41/160 87.5 %" in drawn
    assert "…" not in drawn
