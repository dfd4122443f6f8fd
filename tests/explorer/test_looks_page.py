"""An adaptive study in the explorer: its way, and verdicts at the level of its last look."""

import json
from pathlib import Path

import polars as pl
import pytest

from benchmarks.judging import CLEAR, EDGE
from explorer import snapshot
from explorer.figures import looks
from explorer.readers import reader
from explorer.readers.frames import launches
from jackpot.conditions import Criteria
from jackpot.looks import Standing
from tests.explorer.test_pages import PAGE, open_page
from tests.trainer.study.test_adaptive import adaptive as config
from tests.trainer.study.test_adaptive import drawing, drawing_each
from trainer.study.adaptive import simulated, table


@pytest.fixture(autouse=True)
def _fresh():
    snapshot.snapshot.clear()


VIEW = {"study": "s", "launch": "l"}


@pytest.fixture
def recorded(adaptive: str) -> tuple:
    store = reader(adaptive)
    launch = launches(store.runs())["run_id"][0]
    return store.planned(launch).looks


def test_a_store_tells_the_looks_of_its_launch(recorded: tuple):
    assert [look.number for look in recorded] == list(range(1, len(recorded) + 1))
    assert recorded[0].trials == 2
    # 2 of 3 trials, then the third.
    assert [look.share for look in recorded] == pytest.approx([2 / 3, 1 / 3][: len(recorded)])
    # Two epochs at these rates are too few: the larger ones are better.
    assert recorded[0].grown
    assert recorded[-1].why


def test_verdicts_are_judged_at_the_level_of_the_last_look(adaptive: str, recorded: tuple):
    known = snapshot.Snapshot(reader(adaptive))
    known.refresh()
    (study,) = snapshot.studies(known)
    assert study.looks == recorded
    read = study.read_by(Criteria())
    assert read.level == pytest.approx(0.05 * recorded[-1].share)
    (judgement,) = study.judged(Criteria(), "last")
    # What the launch said is what the explorer says.
    ticket = recorded[-1].tickets[0]
    assert str(judgement.verdict) == ticket.verdict
    assert {
        found.condition.name: found.decision and str(found.decision)
        for found in judgement.conditions
    } == ticket.decisions


def test_what_a_launch_still_plans_is_read_again(adaptive: str):
    known = snapshot.Snapshot(reader(adaptive))
    known.refresh()
    launch = launches(known.runs)["run_id"][0]
    first = known.plan(launch)
    assert known.plan(launch) is first
    known.version += 1
    assert known.plan(launch) is not first


def test_the_page_says_what_was_asked_for_and_why(adaptive: str, recorded: tuple, monkeypatch):
    app = open_page(PAGE["looks"], adaptive, monkeypatch)
    assert not app.exception
    assert f"{recorded[-1].runs} runs asked for" in app.text[0].value
    assert recorded[-1].why in app.text[0].value
    asked = app.dataframe[0].value
    assert list(asked["look"]) == [look.number for look in recorded]
    assert list(asked["runs in all"]) == [look.runs for look in recorded]


def test_a_plain_study_has_no_looks(trained: str, monkeypatch):
    app = open_page(PAGE["looks"], trained, monkeypatch)
    assert "until: decided" in app.info[0].value


def way(name: str) -> list:
    path = simulated(config(), drawing((CLEAR | EDGE)[name].curves, noise=0.2))
    return [look.then() for look in path.looks]


def test_the_chart_has_a_cell_for_each_look_ticket_and_condition():
    found = way("2 at its edge")
    data = looks.cells(found, VIEW)
    assert data.height == len(found) * 6
    assert data["look"].unique(maintain_order=True).to_list()[0] == "1: 2 trials"
    marks = data.filter(pl.col("row") == "verdict")["mark"].to_list()
    assert marks[-1] in ("△", "✓△")
    looks.chart(data).to_dict()


def test_the_table_adds_up():
    found = way("2 at its edge")
    asked_for = looks.table(found, 0.05)
    assert asked_for["runs added"].sum() == found[-1].runs
    assert asked_for["level (%)"].to_list() == [1.25, 0.625, 1.25, 1.875][: len(found)]
    assert asked_for[str(Standing.OPEN)].to_list() == [1] * (len(found) - 1) + [0]
    needs = looks.needs(found)
    for asked in needs.rows(named=True):
        both = f"{asked['more trials at']}, {asked['dropped']}".strip(", ").split(", ")
        assert sorted(map(float, both)) == [0.01, 0.03, 0.1, 0.3, 1.0]


def test_trials_are_counted_where_they_went():
    frame = pl.DataFrame(
        {
            "setting": ["lt", "lt", "lt", "pretrain"],
            "pruner": ["imp", "imp", "imp", None],
            "sparsity": [0.5, 0.5, 0.5, 0.0],
            "learning_rate": [0.1, 0.1, 0.01, 0.1],
        }
    )
    data = looks.trials(frame)
    assert data.select("panel", "line", "learning_rate", "trials").rows() == [
        ("dense", "pretrain", "0.1", 1),
        ("sparsity 0.500", "LT-IMP", "0.01", 1),
        ("sparsity 0.500", "LT-IMP", "0.1", 2),
    ]
    looks.trials_chart(data).to_dict()


def test_a_decided_verdict_is_that_of_the_look_that_decided_it():
    """Runs that later looks asked for change nothing of it; what is open is judged on all runs."""
    chosen = config(pruning={"sparsities": [0.59, 0.832]})
    for seed in range(20):
        kept: dict = {}

        def draw(runs, seed=seed, kept=kept):
            curves = CLEAR["secondary, margin of 4 = 0.4"].curves
            found = drawing_each(curves, 0.2, seed)(runs)
            kept.update(found)
            return found

        course = simulated(chosen, draw)
        early = [t for t in course.looks[-1].tickets if t.look < len(course.looks)]
        if early:
            break
    judged_by = table(course.plan.runs, kept)
    nothing = dict.fromkeys(("heldout_accuracy", "best_heldout_accuracy"), pl.Float64)
    nothing |= {
        "rewind_epoch": pl.Int64,
        "failure": pl.String,
        "pretrain_learning_rate": pl.Float64,
    }
    frame = judged_by.with_columns(
        pl.Series("run_key", [run.key for run in course.plan.runs]),
        pl.Series("look", [course.asked[run.key] for run in course.plan.runs]),
        pl.col("accuracy").alias("val_accuracy"),
        *(pl.lit(None, kind).alias(name) for name, kind in nothing.items()),
    )
    plan = frame.with_columns(pl.lit("").alias("parent_run_keys"))
    study = snapshot.Study("s", "l", plan, frame, looks=tuple(k.then() for k in course.looks))
    judged = {(j.pruner, j.sparsity): j for j in study.judged(Criteria(), "last")}
    assert early
    for ticket in early:
        found = judged[ticket.pruner, ticket.sparsity]
        assert found.verdict is ticket.verdict
        assert [f.low for f in found.conditions] == [f.low for f in ticket.judgement.conditions]
        assert found.criteria.share == course.looks[ticket.look - 1].share


def test_damaged_looks_are_one_sentence(adaptive: str, monkeypatch):
    folder = Path(adaptive.removeprefix("sqlite:///")).parent
    (path,) = folder.rglob("artifacts/plan.json")
    whole = path.read_text()
    plan = json.loads(whole)
    plan["looks"][0]["share"] = "much"
    path.write_text(json.dumps(plan))
    try:
        app = open_page(PAGE["looks"], adaptive, monkeypatch)
    finally:
        path.write_text(whole)
    assert not app.exception
    assert "is damaged" in app.text[0].value
