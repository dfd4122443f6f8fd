"""Which runs an adaptive study trains next, or why it stops: on accuracies that are made up."""

import random
from dataclasses import asdict
from json import dumps, loads
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.judging import CLEAR, EDGE, RATES
from jackpot.conditions import Verdict
from jackpot.looks import LookThen, Standing
from tests.trainer.study.test_plan import study
from trainer.study.adaptive import Cell, Result, follow, simulated, worst
from trainer.study.config import Study
from trainer.study.plan import RunSpec, plan


def adaptive(**replace: object) -> Study:
    """Looks at 2, 3, 5 and 8 trials at the planted truths' rates, with OMP at one sparsity."""
    parts = {
        "settings": ["pretrain", "lt", "rr", "sdt"],
        "learning_rates": list(RATES),
        "trials": {"from": 2, "to": 8},
        "until": "decided",
        "pruners": ["omp"],
        "pruning": {"sparsities": [0.832]},
    }
    return study(**(parts | replace))


def drawing(curves: dict[str, np.ndarray], noise: float, seed: int = 0, rates=RATES):
    """Accuracies of runs, in percent around curves; a trial's is the same whenever it is asked."""

    def accuracy(run: RunSpec) -> Result:
        own = crc32(f"{run.setting.name} {run.learning_rate} {run.trial} {seed}".encode())
        draw = np.random.default_rng(own).standard_normal()
        nearest = min(range(len(rates)), key=lambda i: abs(np.log(rates[i] / run.learning_rate)))
        return Result((curves[run.setting.name][nearest] + noise * draw) / 100)

    return lambda runs: {run.key: accuracy(run) for run in runs}


def cells(course) -> dict[Cell, int]:
    found: dict[Cell, int] = {}
    for run in course.plan.runs:
        found[Cell.of(run)] = max(found.get(Cell.of(run), 0), run.trial)
    return found


def test_it_begins_with_the_grid_at_the_fewest_trials():
    course = follow(adaptive(), {})
    grid = plan(study(**(adaptive().model_dump(by_alias=True) | {"trials": 2, "until": None})))
    assert [run.key for run in course.plan.runs] == [run.key for run in grid.runs]
    assert not course.stopped
    assert course.judged is None


def test_clear_truths_are_decided_at_the_first_look():
    truth = CLEAR["jackpot, margins 0.5 or more"]
    course = simulated(adaptive(), drawing(truth.curves, noise=0.01))
    assert len(course.looks) == 1
    assert course.why == "the verdict is decided"
    assert course.looks[0].tickets[0].verdict is Verdict.JACKPOT
    assert {run.trial for run in course.plan.runs} == {1, 2}


def test_trials_are_added_only_where_they_may_matter():
    """RR is a point worse at all rates but one, SDT and the dense network never come near."""
    at_its_edge = EDGE["3 at its edge, both flat"].curves
    curves = at_its_edge | {"rr": np.array([89.0, 90.0, 91.4, 90.0, 89.0])}
    course = simulated(adaptive(trials={"from": 3, "to": 8}), drawing(curves, noise=0.12))
    found = cells(course)
    assert len(course.looks) > 1
    assert {c.learning_rate for c, trials in found.items() if c.setting == "rr" and trials > 3} == {
        RATES[2]
    }
    assert {trials for cell, trials in found.items() if cell.setting == "sdt"} == {3}
    # A run's parents are trained with it, and no others.
    keys = {run.key for run in course.plan.runs}
    assert all(parent.key in keys for run in course.plan.runs for parent in run.parents)


def test_a_chain_of_rounds_comes_together():
    """IMP's ticket at 0.59 of one more trial needs pretraining and three rounds of that trial."""
    config = adaptive(pruners=["imp"], pruning={"sparsities": [0.59]}, learning_rates=[0.1])
    curves = {"pretrain": [92.0], "lt": [92.0], "rr": [91.5], "sdt": [88.0]}
    curves = {name: np.array(curve) for name, curve in curves.items()}
    course = simulated(config, drawing(curves, noise=0.3, rates=(0.1,)))
    assert len(course.looks) > 1
    extra = [run for run in course.plan.runs if run.trial == 3]
    assert [run.name.partition(" lr=")[0] for run in extra] == [
        "pretrain",
        "lt-imp s=0.200",
        "lt-imp s=0.360",
        "lt-imp s=0.488",
        "lt-imp s=0.590",
        "rr-imp s=0.590",
    ]


def test_what_nobody_can_decide_stops_for_futility():
    course = simulated(adaptive(), drawing(EDGE["3 at its edge, both flat"].curves, noise=0.2))
    assert course.looks[-1].tickets[0].standing is Standing.FUTILE
    assert course.looks[-1].trials < 8
    assert "at the boundary" in course.why


def test_it_stops_at_the_most_trials():
    config = adaptive(trials={"from": 2, "to": 2})
    course = simulated(config, drawing(EDGE["3 at its edge, both flat"].curves, noise=0.2))
    assert course.looks[-1].tickets[0].standing is Standing.MOST
    assert course.why == "0 of 1 verdict decided, 1 undecided with the most trials"


def test_who_was_given_up_has_not_had_the_most_trials():
    """One ticket is at the boundary early, the other is open to the end."""
    quiet = drawing(EDGE["3 at its edge, both flat"].curves, noise=0.02)
    loud = drawing(CLEAR["jackpot, margins 0.5 or more"].curves, noise=0.5, seed=3)

    def results(runs):
        deep = [run for run in runs if run.sparsity and run.sparsity > 0.9]
        return quiet(runs) | loud(deep)

    config = adaptive(pruning={"sparsities": [0.832, 0.914]}, trials={"from": 2, "to": 3})
    course = simulated(config, results)
    standings = [[ticket.standing for ticket in look.tickets] for look in course.looks]
    assert standings == [
        [Standing.FUTILE, Standing.OPEN],
        [Standing.FUTILE, Standing.MOST],
    ]
    assert course.why == (
        "0 of 2 verdicts decided, 1 at the boundary, 1 undecided with the most trials"
    )


def test_trivial_sparsities_get_no_more_trials():
    config = adaptive(pruning={"sparsities": [0.36, 0.832]})
    course = simulated(config, drawing(EDGE["3 at its edge, both flat"].curves, noise=0.2))
    assert {trials for cell, trials in cells(course).items() if cell.sparsity == 0.36} == {2}
    first = {ticket.sparsity: ticket for ticket in course.looks[0].tickets}
    assert first[0.36].verdict is Verdict.NONE


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(CLEAR | EDGE)))
def test_a_kill_at_any_moment_changes_nothing(seed: int, name: str):
    """However many runs had ended, in whatever order, the next launch asks for the same ones."""
    truth, moment = (CLEAR | EDGE)[name], random.Random(seed)
    draw = drawing(truth.curves, noise=0.2, seed=seed)
    undisturbed = simulated(adaptive(), draw)
    known: dict[str, Result] = {}
    while True:
        course = follow(adaptive(), known)
        missing = [run for run in course.plan.runs if run.key not in known]
        if not missing:
            break
        some = moment.sample(missing, moment.randint(1, len(missing)))
        known |= draw(some)
        # What another study has trained of it makes no difference either.
        others = [run for run in worst(adaptive()).runs if moment.random() < 0.01]
        known |= draw(others)
    assert [run.key for run in course.plan.runs] == [run.key for run in undisturbed.plan.runs]
    assert course.looks == undisturbed.looks


def test_the_plan_only_grows_and_its_key_stays():
    draw = drawing(EDGE["2 at its edge"].curves, noise=0.2)
    known: dict[str, Result] = {}
    before, keys = set(), set()
    while True:
        course = follow(adaptive(), known)
        now = {run.key for run in course.plan.runs}
        assert before <= now
        keys.add(course.plan.key)
        if course.stopped:
            break
        known |= draw(course.plan.runs)
        before = now
    assert len(keys) == 1
    assert keys != {follow(adaptive(trials={"from": 2, "to": 9}), {}).plan.key}


RISING = {
    "pretrain": np.array([88.0, 90.0, 92.0]),
    "lt": np.array([88.0, 90.0, 92.0]),
    "rr": np.array([80.0, 82.0, 84.0]),
    "sdt": np.array([80.0, 82.0, 84.0]),
}
RANGE = {"from": 0.01, "to": 0.16, "count": 3}


def test_a_range_grows_where_the_best_is_at_its_end():
    """Accuracies rise up to 0.64, two rates beyond the range, and fall at 2.6."""
    rates = (0.01, 0.04, 0.16, 0.64, 2.6)
    curves = {name: np.array([*c, c[-1] + 1, c[0]]) for name, c in RISING.items()}
    course = simulated(adaptive(learning_rates=RANGE), drawing(curves, noise=0.01, rates=rates))
    assert sorted({run.learning_rate for run in course.plan.runs}) == list(rates)
    assert course.looks[0].grown == (0.64, 2.6)
    assert course.looks[0].tickets[0].verdict is Verdict.JACKPOT
    # The other end was never the best: nothing was tried beyond it.
    assert course.looks[0].rates == rates


def test_a_range_that_diverges_at_its_end_grows_no_further():
    inside = drawing(RISING, noise=0.01, rates=(0.01, 0.04, 0.16))

    def draw(runs):
        return {
            run.key: Result(diverged=True) if run.learning_rate > 0.2 else inside([run])[run.key]
            for run in runs
        }

    course = simulated(adaptive(learning_rates=RANGE), draw)
    assert course.looks[0].grown == (0.64,)
    assert course.looks[0].tickets[0].verdict is Verdict.JACKPOT


def test_a_list_of_rates_does_not_grow_and_neither_does_a_plain_study():
    draw = drawing(RISING, noise=0.01, rates=(0.01, 0.04, 0.16))
    course = simulated(adaptive(learning_rates=[0.01, 0.04, 0.16]), draw)
    assert course.looks[-1].grown == ()
    plain = study(learning_rates=RANGE)
    assert sorted({run.learning_rate for run in plan(plain).runs}) == [0.01, 0.04, 0.16]
    with pytest.raises(ValueError, match="no looks"):
        follow(plain, {})


def test_networks_that_learn_nowhere_do_not_make_it_grow_for_ever():
    chance = {name: np.array([10.0, 10.0, 10.0]) for name in RISING}
    draw = drawing(chance, noise=0.0, rates=(0.01, 0.04, 0.16))
    assert simulated(adaptive(learning_rates=RANGE), draw).looks[-1].grown == ()
    for seed in range(5):
        draw = drawing(chance, noise=0.5, seed=seed, rates=(0.01, 0.04, 0.16))
        course = simulated(adaptive(learning_rates=RANGE), draw)
        assert len(course.looks[-1].rates) <= 2 * RANGE["count"]


def test_a_parent_that_diverged_is_a_result_of_its_children():
    draw = drawing(CLEAR["jackpot, margins 0.5 or more"].curves, noise=0.01)

    def lost(runs):
        found = draw(runs)
        for run in runs:
            if run.learning_rate == RATES[-1]:
                found[run.key] = Result(diverged=not run.parents)
        return found

    course = simulated(adaptive(), lost)
    assert course.looks[0].tickets[0].verdict is Verdict.JACKPOT
    assert course.stopped


def test_settings_that_no_condition_compares_get_the_fewest_trials():
    config = adaptive(settings=["pretrain", "lt", "rr", "wr", "sdt"])
    curves = EDGE["2 at its edge"].curves | {"wr": np.full(5, 90.0)}
    course = simulated(config, drawing(curves, noise=0.2))
    assert len(course.looks) > 1
    assert {trials for cell, trials in cells(course).items() if cell.setting == "wr"} == {2}


def test_a_look_is_recorded_and_read_back():
    course = simulated(adaptive(), drawing(EDGE["2 at its edge"].curves, noise=0.2))
    for look in course.looks:
        then = look.then()
        assert LookThen.of(loads(dumps(asdict(then)))) == then
    assert course.looks[-1].then().why == course.why
    assert course.looks[-1].then().runs == len(course.plan.runs)
    assert [look.then().share for look in course.looks] == [0.25, 0.125, 0.25, 0.375][
        : len(course.looks)
    ]


def test_the_studys_own_criteria_count():
    curves = CLEAR["jackpot, margins 0.5 or more"].curves
    config = adaptive(criteria={"gap": 0.02})
    course = simulated(config, drawing(curves, noise=0.01))
    # RR is one point below, which is no clear gap of two.
    assert course.looks[-1].tickets[0].verdict is Verdict.NONE


def lost_where(draw, is_lost, children=True):
    """Results of which some diverged, and their children with them."""

    def found(runs):
        results = draw(runs)
        for run in runs:
            if is_lost(run):
                results[run.key] = Result(diverged=not run.parents)
        return results

    return found


def test_tickets_that_gave_nothing_are_missing_not_forgotten():
    """Two sparsities are asked for: at one nothing with a mask gave a number."""
    config = adaptive(pruning={"sparsities": [0.672, 0.832]})
    draw = drawing(CLEAR["jackpot, margins 0.5 or more"].curves, noise=0.01)
    gone = lost_where(draw, lambda run: run.sparsity == 0.832 and run.pruner)
    course = simulated(config, gone)
    assert [t.standing for t in course.looks[-1].tickets] == [Standing.DECIDED, Standing.MISSING]
    assert course.why == "1 of 2 verdicts decided, 1 without runs to judge"
    # And where no mask at all was found.
    course = simulated(config, lost_where(draw, lambda run: run.setting.name != "sdt"))
    assert course.stopped
    assert course.why == "0 of 2 verdicts decided, 2 without runs to judge"


def test_a_verdict_that_a_look_decided_stands():
    """Each look has its share of the level: a later one that would leave it open does not count."""
    config = adaptive(pruning={"sparsities": [0.59, 0.672, 0.832]})
    name = "secondary, margin of 4 = 0.4"
    seen = 0
    for seed in range(12):
        course = simulated(config, drawing_each(CLEAR[name].curves, noise=0.2, seed=seed))
        before: dict[float, object] = {}
        for look in course.looks:
            for ticket in look.tickets:
                if ticket.sparsity in before:
                    assert ticket == before[ticket.sparsity]
                    seen += 1
                elif ticket.standing is Standing.DECIDED:
                    assert ticket.look == look.number
                    before[ticket.sparsity] = ticket
    assert seen, "some were decided before the last look"


def drawing_each(curves, noise: float, seed: int):
    """As `drawing`, with noise of its own at each sparsity."""
    return lambda runs: {
        key: result
        for run in runs
        for key, result in drawing(curves, noise, seed + round(1e6 * run.sparsity))([run]).items()
    }


def test_a_rate_that_one_ticket_needs_all_tickets_get():
    """LT rises at one sparsity alone: both are compared with the dense network at all rates."""
    config = adaptive(learning_rates=RANGE, pruning={"sparsities": [0.672, 0.832]})
    rates = (0.01, 0.04, 0.16, 0.64, 2.6)
    inside = {name: np.array([90.0, 92.0, 90.0, 88.0, 80.0]) for name in ("pretrain", "rr", "sdt")}
    falling = drawing(inside | {"lt": inside["rr"]}, noise=0.01, rates=rates)
    rising = drawing({"lt": np.array([90.0, 91.0, 92.0, 93.0, 80.0])}, noise=0.01, rates=rates)

    def draw(runs):
        here = [r for r in runs if r.setting.name == "lt" and r.sparsity == 0.832]
        return falling([run for run in runs if run not in here]) | rising(here)

    course = simulated(config, draw)
    assert course.looks[0].grown == (0.64, 2.6)
    tried: dict[tuple[str, float], set[float]] = {}
    for cell in cells(course):
        tried.setdefault((cell.setting, cell.sparsity), set()).add(cell.learning_rate)
    assert all(found == set(rates) for found in tried.values())


def test_a_range_of_which_one_rate_is_left_grows():
    """The two larger rates diverge: the smallest is the best, at the end."""
    rates = (0.0025, 0.01, 0.04, 0.16)
    falling = {name: np.array([80.0, *curve[::-1]]) for name, curve in RISING.items()}
    draw = drawing(falling, noise=0.01, rates=rates)
    course = simulated(
        adaptive(learning_rates=RANGE), lost_where(draw, lambda run: run.learning_rate > 0.02)
    )
    assert course.looks[0].grown == (0.0025,)
    assert course.looks[0].tickets[0].verdict is Verdict.JACKPOT


def test_a_range_too_narrow_to_grow_by_two_digits_does_not():
    narrow = {"from": 0.101, "to": 0.102, "count": 2}
    curves = {name: curve[:2] for name, curve in RISING.items()}
    course = simulated(
        adaptive(learning_rates=narrow), drawing(curves, noise=0.01, rates=(0.101, 0.102))
    )
    assert course.looks[0].grown == ()


def test_other_criteria_or_another_kind_of_rates_are_another_record():
    listed = follow(adaptive(learning_rates=[0.01, 0.04, 0.16]), {}).plan
    ranged = follow(adaptive(learning_rates=RANGE), {}).plan
    assert [r.key for r in listed.runs] == [r.key for r in ranged.runs]
    assert listed.key != ranged.key
    assert follow(adaptive(criteria={"gap": 0.01}), {}).plan.key != follow(adaptive(), {}).plan.key


def test_every_run_knows_the_look_that_asked_for_it():
    course = simulated(adaptive(), drawing(EDGE["2 at its edge"].curves, noise=0.2))
    assert set(course.asked) == {run.key for run in course.plan.runs}
    for look in course.looks:
        assert sum(number <= look.number for number in course.asked.values()) == look.runs


@pytest.mark.parametrize(
    ("ticket", "control", "pruner"), [("lt", "sh", "omp"), ("lrr", "as_long", "imp_lrr")]
)
def test_rivals_of_conditions_beside_the_five_get_new_rates_too(
    ticket: str, control: str, pruner: str
):
    """M and L compare maxima over rates: over the same ones."""
    config = adaptive(
        settings=["pretrain", ticket, "rr", "sdt", control],
        learning_rates={"from": 0.05, "to": 0.2, "count": 3},
        pruners=[pruner],
        pruning={"sparsities": [0.36]},
        criteria={"sparsity": 0.3, "ticket": ticket},
        trials={"from": 2, "to": 3},
    )
    rising = {name: np.array([88.0, 89.0, 90.0, 91.0, 90.0]) for name in ("pretrain", ticket)}
    others = {name: np.array([86.0, 87.0, 88.0, 89.0, 88.0]) for name in ("rr", "sdt", control)}
    rates = (0.05, 0.1, 0.2, 0.4, 0.8)
    course = simulated(config, drawing(rising | others, noise=0.3, rates=rates))
    assert course.looks[-1].rates[-1] > 0.2
    found = cells(course)
    tried = {c.learning_rate for c in found if c.setting == control and c.sparsity == 0.36}
    assert tried == set(course.looks[-1].rates)
    assert all(ticket_.verdict for ticket_ in course.looks[-1].tickets)


def test_a_pruner_under_which_the_ticket_has_no_meaning_is_not_waited_for():
    config = adaptive(
        settings=["pretrain", "lt", "lrr", "rr", "sdt"],
        pruners=["omp", "snip"],
        criteria={"ticket": "lrr"},
    )
    curves = CLEAR["jackpot, margins 0.5 or more"].curves
    course = simulated(config, drawing(curves | {"lrr": curves["lt"]}, noise=0.01))
    assert [ticket.pruner for ticket in course.looks[-1].tickets] == ["omp"]
    assert course.why == "the verdict is decided"
