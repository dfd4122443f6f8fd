"""What is left of an adaptive study: at best, as drawn, and at most."""

from dataclasses import replace

import pytest

from benchmarks.judging import CLEAR, EDGE
from tests.trainer.study.test_adaptive import adaptive, drawing
from trainer.execution import forecast
from trainer.study.adaptive import Cell, Result, follow, simulated

EACH = 20
"""Runs of one trial: four settings at five rates."""


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch):
    monkeypatch.setattr(forecast, "_DRAWS", 10)


def test_before_the_first_look_there_is_nothing_to_draw_from():
    course = follow(adaptive(), {})
    left = forecast.ahead(adaptive(), course, {})
    assert (left.least.runs, left.most.runs, left.drawn) == (2 * EACH, 8 * EACH, 0)
    assert left.typical is None
    assert left.most.epochs == 160 * 8 * EACH


def test_half_of_a_look():
    course = follow(adaptive(), {})
    draw = drawing(EDGE["2 at its edge"].curves, noise=0.2)
    known = draw(course.plan.runs[:10])
    left = forecast.ahead(adaptive(), follow(adaptive(), known), known)
    assert (left.least.runs, left.most.runs, left.drawn) == (2 * EACH - 10, 8 * EACH - 10, 0)


def test_after_a_look_it_is_drawn_from_its_trials():
    draw = drawing(EDGE["2 at its edge"].curves, noise=0.2)
    known = draw(follow(adaptive(), {}).plan.runs)
    course = follow(adaptive(), known)
    left = forecast.ahead(adaptive(), course, known)
    assert left.drawn == 10
    # The look under way is trained whatever comes; no study needs more than all.
    assert left.least.runs == len(course.plan.runs) - len(known) > 0
    assert left.least.runs <= left.low.runs <= left.typical.runs <= left.high.runs
    assert left.high.runs <= left.most.runs == 8 * EACH - 2 * EACH
    assert 0 <= left.decided <= 1
    # The draws are the same each time.
    assert forecast.ahead(adaptive(), course, known) == left


def test_where_the_margins_are_wide_it_expects_a_decision_soon():
    """Trials that say little at a small noise: the next look decides nearly always."""
    curves = CLEAR["none, margin of 3 = −0.4"].curves
    draw = drawing(curves, noise=0.14, seed=3)
    known = draw(follow(adaptive(), {}).plan.runs)
    course = follow(adaptive(), known)
    assert not course.stopped
    left = forecast.ahead(adaptive(), course, known)
    assert left.decided > 0.5
    assert left.typical.runs < 0.6 * left.most.runs


def test_a_study_that_has_stopped_needs_nothing():
    known: dict[str, Result] = {}
    draw = drawing(CLEAR["jackpot, margins 0.5 or more"].curves, noise=0.01)

    def remembered(runs):
        known.update(draw(runs))
        return draw(runs)

    course = simulated(adaptive(), remembered)
    left = forecast.ahead(adaptive(), course, known)
    assert (left.least.runs, left.most.runs) == (0, 0)


def test_a_cell_without_a_number_stays_without():
    """SDT diverges at the largest rate: its trials to come do so in every draw."""
    draw = drawing(EDGE["2 at its edge"].curves, noise=0.2)

    def lost(runs):
        found = draw(runs)
        for run in runs:
            if run.setting.name == "sdt" and run.learning_rate == 1.0:
                found[run.key] = Result(diverged=True)
        return found

    known = lost(follow(adaptive(), {}).plan.runs)
    course = follow(adaptive(), known)
    told = course.judged.tickets[0].judgement.noise
    pilot = forecast._Pilot(told, [r for r in course.plan.runs if r.key in known], known)
    gone = next(
        Cell.of(run) for run in course.plan.runs if run.setting.name == "sdt" and run.trial == 1
    )
    gone = replace(gone, learning_rate=1.0)
    assert pilot.nearest(gone) is None
    # At a rate that nobody has tried, the nearest one that gave numbers tells.
    assert pilot.nearest(replace(gone, learning_rate=3.0)).learning_rate == 0.3
