"""The tables of a launch, as a terminal shows them."""

import io

from rich.console import Console, RenderableType

from tests.trainer.study.test_plan import study
from trainer.execution.outcome import Outcome, Status
from trainer.report import tables
from trainer.study.plan import plan

# Two learning rates, two trials, IMP rounds at 0.2 and 0.36.
PLAN = plan(study(settings=["pretrain", "lt", "sdt"], pruners=["imp"], pruning={"rounds": 2}))


def printed(table: RenderableType) -> list[list[str]]:
    """Words by line, without rules."""
    file = io.StringIO()
    Console(file=file, width=100).print(table)
    lines = [line.replace("│", "|").replace("┃", "|") for line in file.getvalue().splitlines()]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    return [[lines[0].strip()], *rows]


def test_a_plan_says_how_many_trials_and_what_is_done():
    done = [run.key for run in PLAN.runs if run.setting.is_pretraining and run.learning_rate == 0.1]
    assert printed(tables.planned(PLAN, done[:1])) == [
        ["Plan of study 's': 2 trials at each of the learning rates 0.01, 0.1"],
        ["setting", "sparsity", "runs", "finished"],
        ["pretrain", "dense", "4", "1"],
        ["lt-imp", "0.200, 0.360", "8", "–"],
        ["sdt", "0.200, 0.360", "8", "–"],
    ]


def test_the_plan_of_a_large_study_fits_a_terminal():
    long = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.5]
    rounds = {"rounds": 14}
    large = plan(study(learning_rates=long, pruners=["imp"], pruning=rounds))
    file = io.StringIO()
    Console(file=file, width=80).print(tables.planned(large, []))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    # One line for each of pretrain, lt-imp, rr-imp, wr-imp and sdt.
    assert sum(line.startswith("│") for line in lines) == 5
    assert "14 from 0.200 to 0.956" in file.getvalue()


def test_results_are_means_with_their_spread_over_trials():
    at = [r for r in PLAN.runs if r.learning_rate == 0.1]
    dense = [r for r in at if r.setting.is_pretraining]
    ticket = next(r for r in at if r.round == 2)
    failed = next(r for r in at if r.round == 1)
    outcomes = [
        Outcome(dense[0], Status.FINISHED, 0.90),
        Outcome(dense[1], Status.KNOWN, 0.92),
        Outcome(ticket, Status.FINISHED, 0.855),
        Outcome(failed, Status.FAILED, 0.1, reason="diverged"),
    ]
    # The sample standard deviation of 90 and 92 is √2.
    assert printed(tables.results(PLAN, outcomes)) == [
        ["Study 's': accuracy after the last epoch, % (mean ± s.d., n = 1 to 2)"],
        ["setting", "sparsity", "lr 0.01", "lr 0.1"],
        ["pretrain", "0", "–", "91.0 ± 1.4"],
        ["lt-imp", "0.200", "–", "–"],
        ["sdt", "0.200", "–", "–"],
        ["lt-imp", "0.360", "–", "85.5"],
        ["sdt", "0.360", "–", "–"],
    ]


def test_nothing_finished_is_said():
    assert tables.results(PLAN, []) == "No run has finished."
