"""What the terminal says of an adaptive study: conditions settling, and what comes next."""

import io
import re

import numpy as np
from rich.console import Console

from benchmarks.judging import CLEAR
from tests.trainer.study.test_adaptive import RANGE, RISING, adaptive, drawing
from trainer.execution.forecast import Ahead, Amount
from trainer.report import live, looks
from trainer.study.adaptive import Course, Result, follow, simulated

NONE = CLEAR["none, margin of 3 = −0.4"].curves


def going_on() -> Course:
    """After a first look at which condition 3 is open, RR's best rate being one."""
    curves = NONE | {"rr": np.array([88.0, 89.0, 91.6, 89.0, 88.0])}
    known = drawing(curves, noise=0.05)(follow(adaptive(), {}).plan.runs)
    return follow(adaptive(), known)


def plain(view, file: io.StringIO, course: Course) -> list[str]:
    text = looks.sentence(course, 7, 1120)
    view.look_ended(course.judged, text, 1120)
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    return [line.strip() for line in drawn.splitlines()]


def test_a_log_gets_a_line_for_each_ticket_and_one_for_what_comes():
    file = io.StringIO()
    said = plain(live.reporter(Console(file=file, width=40), 0), file, going_on())
    assert said == [
        "omp 0.832: 1 ✓  2 ✓  3 △  4 ✓  5 ✓  undecided (more trials)",
        "Look 2: 7 runs, 1,120 epochs for 1 open verdict, up to 3 trials.",
    ]


def test_a_terminal_has_the_conditions_above_the_bars():
    file = io.StringIO()
    view = live.reporter(Console(file=file, force_terminal=True, width=100), 0)
    with view:
        said = plain(view, file, going_on())
        study = next(task for task in view._progress.tasks if task.description == "study")
        assert study.total == 1120
        view._progress.refresh()
    said = " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue()).split())
    assert "look 1: 2 trials" in said
    assert re.search(r"omp 0\.832 │ +✓ │ +✓ │ +△ │ +✓ │ +✓ │ undecided \(more trials\)", said)


def test_what_the_first_look_asks_for():
    course = follow(adaptive(), {})
    assert looks.sentence(course, 40, 6400) == "Look 1: 40 runs, 6,400 epochs."


def test_a_range_that_grew_is_told():
    rising = drawing(RISING, noise=0.01, rates=(0.01, 0.04, 0.16))
    known = rising(follow(adaptive(learning_rates=RANGE), {}).plan.runs)
    course = follow(adaptive(learning_rates=RANGE), known)
    assert looks.sentence(course, 8, 1280) == (
        "Look 1: 8 runs, 1,280 epochs; a setting was best at the end of the learning rates, so "
        "0.64 was added."
    )


def test_the_end_is_told():
    course = simulated(adaptive(), drawing(NONE, noise=0.01))
    assert looks.sentence(course, 0, 0) == "Look 1, the last: the verdict is decided."
    assert looks.ahead(course, Ahead(Amount(0, 0), Amount(0, 0)), None) == (
        "The study has stopped: the verdict is decided."
    )


def test_what_is_ahead_is_said_with_its_time():
    left = Ahead(
        Amount(7, 1120),
        Amount(120, 19200),
        drawn=10,
        typical=Amount(40, 6400),
        low=Amount(7, 1120),
        high=Amount(90, 14400),
        decided=0.8,
    )
    assert looks.ahead(going_on(), left, 3.0).splitlines() == [
        "Look 2 is under way, with up to 3 trials.",
        "- at best, if it decides every verdict: 7 runs, 1,120 epochs, 56 min",
        "- drawn 10 times from the trials so far: 40 runs, 6,400 epochs, 5 h 20 min (7 to 90 runs "
        "in eight of ten), 80% of verdicts decided",
        "- at most, if the learning rates grow no further: 120 runs, 19,200 epochs, 16 h 00 min",
    ]


def test_a_ticket_whose_rivals_gave_nothing_has_no_verdict():
    runs = follow(adaptive(), {}).plan.runs
    known = drawing(NONE, noise=0.1)(runs)
    known |= {run.key: Result(diverged=True) for run in runs if run.setting.name == "pretrain"}
    course = follow(adaptive(), known)
    assert course.why == "0 of 1 verdict decided, 1 without runs to judge"
    (line,) = looks.lines(course.looks[-1])
    assert line.endswith("not enough runs (runs are missing)")
