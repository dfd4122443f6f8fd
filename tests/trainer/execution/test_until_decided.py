"""Adaptive studies end to end: real trainings, kills, two launches at once, budgets."""

import json
import random
import time
from pathlib import Path

import pytest

from jackpot.looks import LookThen
from tests.trainer import stored
from tests.trainer.execution.test_faults import start
from tests.trainer.execution.test_ray import end_state
from trainer.execution.budget import Budget
from trainer.study.config_file import load_study
from trainer.study.plan import plan

# Two epochs leave much open: the range grows, and a second look follows the first.
STUDY = {
    "settings": "[pretrain, lt, rr, sdt]",
    "pruners": "[imp]",
    "learning_rates": "{from: 0.02, to: 0.1, count: 2}",
    "trials": "{from: 2, to: 3}",
    "until": "decided",
    "training": "{epochs: 4, batch_size: 64, rewind_epoch: 1}",
}
STUDY_EPOCHS = 4


def plan_of(uri: str) -> dict:
    (launch,) = stored.runs(uri, "launch")
    return json.loads(stored.file(launch, "plan.json").read_text())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The store of a study that nothing disturbed."""
    from tests.configs import tiny

    folder = tmp_path_factory.mktemp("undisturbed")
    uri = f"sqlite:///{folder}/mlflow.db"
    assert start(folder, tiny(folder, **STUDY), uri).wait() == 0
    return uri


def assert_same(uri: str, undisturbed: str) -> None:
    assert end_state(uri) == end_state(undisturbed)
    assert plan_of(uri)["looks"] == plan_of(undisturbed)["looks"]
    assert [run.info.status for run in stored.runs(uri, "launch")] == ["FINISHED"]


def test_a_launch_records_its_way_and_trains_what_it_asks_for(undisturbed: str):
    plan = plan_of(undisturbed)
    looks = [LookThen.of(look) for look in plan["looks"]]
    assert looks[-1].why
    assert len(looks) > 1, "there is something between looks"
    assert looks[0].grown
    assert [look.number for look in looks] == list(range(1, len(looks) + 1))
    runs = stored.runs(undisturbed)
    keys = {run.data.tags["run_key"] for run in runs}
    assert keys == {run["run_key"] for run in plan["runs"]}
    assert len(runs) == looks[-1].runs
    # Every rate that was tried is recorded, also those that the range did not have.
    assert {float(run.data.params["learning_rate"]) for run in runs} == set(looks[-1].rates)
    # At each rate that got a third trial, what it needs was trained too.
    for run in runs:
        parents = run.data.tags["parent_run_keys"].split(",")
        assert {parent for parent in parents if parent} <= keys


def test_another_launch_has_nothing_to_do(undisturbed: str, write_config, train, capsys):
    before = end_state(undisturbed)
    assert train(write_config(**STUDY), "--tracking-uri", undisturbed) == 0
    said = capsys.readouterr().out
    assert "nothing to train" in said
    assert f"Stopped: {plan_of(undisturbed)['looks'][-1]['why']}"[:40] in said
    assert end_state(undisturbed) == before
    assert len(stored.runs(undisturbed, "launch")) == 1


@pytest.mark.slow
def test_a_dry_run_says_what_is_left(write_config, train, store_uri, capsys):
    assert train(write_config(**STUDY), "--dry-run") == 0
    said = capsys.readouterr().out
    # Of two rates and trials: pretraining, two rounds, RR and SDT.
    assert "at best, if it decides every verdict: 20 runs" in said
    assert "at most, if the learning rates grow no further: 30 runs" in said


def test_a_dry_run_of_a_study_that_has_stopped(write_config, train, undisturbed, capsys):
    assert train(write_config(**STUDY), "--tracking-uri", undisturbed, "--dry-run") == 0
    assert "The study has stopped" in capsys.readouterr().out


@pytest.mark.slow
def test_budgets_in_epochs_add_up(write_config, train, store_uri, undisturbed, capsys):
    """Each launch stops once its epochs are spent, and the next one goes on."""
    config = write_config(**STUDY)
    total = sum(len(stored.steps(undisturbed, run, "loss")) for run in stored.runs(undisturbed))
    launches = 0
    while train(config, "--budget", "60 epochs") != 0:
        launches += 1
        assert "The budget of 60 epochs is spent" in capsys.readouterr().out
    assert launches == (total - 1) // 60
    assert_same(store_uri, undisturbed)


def test_a_budget_that_is_just_enough_interrupts_nothing(write_config, train, store_uri, capsys):
    config = write_config(
        settings="[sdt]",
        pruners="[omp]",
        learning_rates="[0.1]",
        training="{epochs: 3, batch_size: 64}",
    )
    runs = len(plan(load_study(config)).runs)
    assert train(config, "--budget", f"{3 * runs} epochs") == 0
    assert "goes on where" not in capsys.readouterr().out
    assert stored.runs(store_uri, "launch")[0].info.status == "FINISHED"


def test_a_budget_of_time_stops_a_launch(write_config, train, store_uri, capsys):
    config = write_config(**STUDY | {"training": "{epochs: 4000, batch_size: 16}"})
    began = time.monotonic()
    assert train(config, "--budget", "0.05m") == 1
    assert "The budget of 3 s is spent" in capsys.readouterr().out
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("text", ["6", "h", "-1h", "0h", "1.5epochs", "6 hours", "1e3epochs", ""])
def test_budgets_that_say_nothing_are_refused(text: str, write_config, train, capsys):
    with pytest.raises(ValueError, match="--budget"):
        Budget.of(text)
    assert train(write_config(**STUDY), f"--budget={text}") == 2
    assert "expected a time such as 90m" in capsys.readouterr().err


@pytest.mark.slow
def test_a_budget_that_ends_with_a_look_is_no_end(write_config, train, store_uri, undisturbed):
    """All that was asked for has ended, and the study has not stopped."""
    first = plan_of(undisturbed)["looks"][0]
    epochs = STUDY_EPOCHS * first["runs"]
    config = write_config(**STUDY)
    assert train(config, "--budget", f"{epochs} epochs") == 1
    looks = plan_of(store_uri)["looks"]
    assert [bool(look["tickets"]) for look in looks] == [True, False], "it was judged"
    assert train(config) == 0
    assert_same(store_uri, undisturbed)


def test_a_run_that_fails_for_good_ends_the_launch(write_config, train, store_uri, capsys):
    """It is neither a result nor trained for ever."""
    config = write_config(**STUDY | {"pruners": "[imp, 'tests.trainer.execution.failing:pruner']"})
    assert train(config) == 1
    said = capsys.readouterr().out
    assert "the pruner fails" in said
    assert said.count("Look 1:") == 1
    (look,) = plan_of(store_uri)["looks"]
    assert look["tickets"] == []


def test_another_launch_takes_the_record_over(
    write_config, train, store_uri, tmp_path, undisturbed
):
    """The launch that keeps the record is killed; the one beside it trains on, and records that."""
    config = write_config(**STUDY)
    first = start(tmp_path, config, store_uri, "first.txt")
    _wait_for_look(tmp_path, 1, first)
    second = start(tmp_path, config, store_uri, "second.txt")
    time.sleep(1.0)
    first.kill()
    first.wait()
    assert second.wait() == 0
    assert_same(store_uri, undisturbed)


@pytest.mark.slow
def test_killed_at_every_look_it_ends_the_same(write_config, store_uri, tmp_path, undisturbed):
    """kill -9 as soon as each look is written: between looks."""
    config = write_config(**STUDY)
    looks = len(plan_of(undisturbed)["looks"])
    for look in range(1, looks + 1):
        process = start(tmp_path, config, store_uri)
        _wait_for_look(tmp_path, look, process)
        process.kill()
        process.wait()
    process = start(tmp_path, config, store_uri)
    assert process.wait() == 0
    assert_same(store_uri, undisturbed)


def _wait_for_look(folder: Path, look: int, process) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for path in (folder / ".jackpot").glob("*/runs/*/artifacts/plan.json"):
            try:
                found = json.loads(path.read_text()).get("looks", [])
            except (ValueError, FileNotFoundError):
                continue
            if len(found) >= look:
                return
        assert process.poll() is None, "it ended before"
        time.sleep(0.01)
    raise AssertionError(f"look {look} did not come")


def test_two_launches_at_once_train_nothing_twice(write_config, store_uri, tmp_path, undisturbed):
    config = write_config(**STUDY)
    processes = [start(tmp_path, config, store_uri, f"said{i}.txt") for i in (1, 2)]
    assert [process.wait() for process in processes] == [0, 0]
    # `end_state` refuses a run that is there twice.
    assert_same(store_uri, undisturbed)


@pytest.mark.slow
def test_ray_takes_the_same_way(write_config, store_uri, train, undisturbed):
    pytest.importorskip("ray")
    assert train(write_config(**STUDY), "--executor", "ray", "--runs-per-device", "2") == 0
    assert_same(store_uri, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(12))
def test_killed_at_any_moment_it_ends_the_same(
    trial: int, write_config, store_uri, tmp_path, undisturbed
):
    moment, config = random.Random(f"adaptive {trial}"), write_config(**STUDY)
    for _ in range(3):
        process = start(tmp_path, config, store_uri)
        time.sleep(moment.uniform(0, 8))
        process.kill()
        process.wait()
    assert start(tmp_path, config, store_uri).wait() == 0
    assert_same(store_uri, undisturbed)
