"""Delivery to a real store that goes away, forgets, refuses and is cut off in the middle."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.trainer import stored
from trainer.store.delivery import Delivery
from trainer.store.journal import RunFolder, RunStart, WorkDir
from trainer.store.tracking import Store, StoreAway, StoreRefused

LAUNCH = RunStart("plan", "launch", "study", "launch", {}, {"kind": "launch", "run_key": "plan"})


def start(key: str, **more: Any) -> RunStart:
    tags = {"kind": "training", "run_key": key}
    return RunStart(key, "training", "study", f"run {key}", {"setting": "lt"}, tags, **more)


class Troubled:
    """A real store, whose calls first ask `trouble` whether they may be made."""

    def __init__(self, uri: str) -> None:
        self.real = Store(uri)
        self.uri = uri
        self.trouble: Callable[[str], None] = lambda call: None
        self.after: Callable[[str], None] = lambda call: None

    def __getattr__(self, call: str) -> Callable:
        def made(*arguments: Any, **named: Any) -> Any:
            self.trouble(call)
            result = getattr(self.real, call)(*arguments, **named)
            self.after(call)
            return result

        return made


@pytest.fixture
def store(store_uri: str) -> Troubled:
    return Troubled(store_uri)


@pytest.fixture
def work(tmp_path: Path) -> WorkDir:
    return WorkDir(tmp_path / "work")


def begun(work: WorkDir, of: RunStart) -> RunFolder:
    folder = work.open(of.key)
    folder.start(of)
    return folder


def delivered(store: Troubled, work: WorkDir, patience_s: float = 20.0, **options: Any) -> Any:
    """Delivers all that is there with a delivery of its own; what was left, and what it said."""
    said: list[str] = []
    delivery = Delivery(store, work, every_s=0.01, patience_s=0.01, say=said.append, **options)
    keys = {folder.key for folder in work.folders()}
    left = delivery.start().close(patience_s, keys)
    return left, said


def away(call: str) -> None:
    raise StoreAway("connection refused")


def test_a_run_arrives_whole_and_its_folder_goes(store: Troubled, work: WorkDir):
    begun(work, LAUNCH)
    folder = begun(work, start("a", launch="plan"))
    folder.metrics(1, {"loss": 2.0})
    folder.metrics(2, {"loss": 1.0, "val_accuracy": 0.5})
    folder.summary(2, {"best_val_accuracy": 0.5}, {"device": "a"})
    folder.artifact("notes").mkdir()
    folder.artifact("notes/one.txt").write_text("kept")
    folder.artifact_written("notes/one.txt")
    folder.end("FINISHED")
    assert delivered(store, work) == (None, [])
    assert not folder.path.exists()
    (run,) = stored.runs(store.uri)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run a")
    assert run.data.params == {"setting": "lt"}
    assert run.data.metrics == {"loss": 1.0, "val_accuracy": 0.5, "best_val_accuracy": 0.5}
    assert run.data.tags["device"] == "a"
    assert stored.steps(store.uri, run, "loss") == [1, 2]
    assert stored.file(run, "notes/one.txt").read_text() == "kept"
    (launch,) = stored.runs(store.uri, "launch")
    assert run.data.tags["mlflow.parentRunId"] == launch.info.run_id


def test_a_child_names_its_parents_runs(store: Troubled, work: WorkDir):
    parent = begun(work, start("parent"))
    parent.end("FINISHED")
    assert delivered(store, work)[0] is None
    begun(work, start("child", init_key="parent", mask_key="parent")).end("FINISHED")
    assert delivered(store, work)[0] is None
    runs = {run.data.tags["run_key"]: run for run in stored.runs(store.uri)}
    tags, id_ = runs["child"].data.tags, runs["parent"].info.run_id
    assert (tags["init_run_id"], tags["mask_run_id"]) == (id_, id_)


def test_a_store_that_is_away_is_told_once_and_loses_nothing(store: Troubled, work: WorkDir):
    folder = begun(work, start("a"))
    for epoch in range(1, 6):
        folder.metrics(epoch, {"loss": 1 / epoch})
    store.trouble = away
    left, said = delivered(store, work, patience_s=0.5)
    assert (left.runs, left.reason) == (1, "connection refused")
    assert len(said) == 1
    assert "connection refused. Training goes on" in said[0]
    assert stored.runs(store.uri) == []
    folder.end("FINISHED")
    store.trouble = lambda call: None
    assert delivered(store, work) == (None, [])
    (run,) = stored.runs(store.uri)
    assert stored.steps(store.uri, run, "loss") == [1, 2, 3, 4, 5]


def test_a_store_that_comes_back_is_told_of(store: Troubled, work: WorkDir):
    begun(work, start("a")).end("FINISHED")
    calls: list[str] = []

    def twice(call: str) -> None:
        calls.append(call)
        if len(calls) < 3:
            raise StoreAway("timed out")

    store.trouble = twice
    left, said = delivered(store, work)
    assert left is None
    assert len(said) == 2
    assert said[1].endswith("back, all caught up")


def test_files_wait_while_metrics_of_all_runs_are_sent(store: Troubled, work: WorkDir):
    for key in ("a", "b"):
        folder = begun(work, start(key))
        folder.metrics(1, {"loss": 1.0})
        folder.artifact("one.txt").write_text(key)
        folder.artifact_written("one.txt")
        folder.end("FINISHED")

    def no_room(call: str) -> None:
        if call == "put":
            raise StoreAway("no space left in the bucket")

    store.trouble = no_room
    left, _ = delivered(store, work, patience_s=0.5)
    assert left.runs == 2
    runs = stored.runs(store.uri)
    assert [run.data.metrics for run in runs] == [{"loss": 1.0}] * 2
    assert {run.info.status for run in runs} == {"RUNNING"}, "not finished before its files are in"
    store.trouble = lambda call: None
    assert delivered(store, work)[0] is None
    assert {run.info.status for run in stored.runs(store.uri)} == {"FINISHED"}


def test_what_is_sent_twice_is_kept_once(store: Troubled, work: WorkDir):
    """The process dies after the store took the points, before that is noted."""
    folder = begun(work, start("a"))
    for epoch in (1, 2, 3):
        folder.metrics(epoch, {"loss": 1 / epoch})
    assert delivered(store, work)[0] is None
    notes = json.loads((folder.path / "delivered.json").read_text())
    assert notes["offset"] > 0
    folder.note_delivered(offset=0)
    folder.end("FINISHED")
    assert delivered(store, work)[0] is None
    (run,) = stored.runs(store.uri)
    assert stored.steps(store.uri, run, "loss") == [1, 2, 3]


def test_a_run_is_made_once_though_its_maker_dies(store: Troubled, work: WorkDir):
    """The answer is lost after the store made the run: its id was never noted."""
    folder = begun(work, start("a"))
    folder.metrics(1, {"loss": 1.0})
    folder.end("FINISHED")
    created: list[str] = []

    def lost(call: str) -> None:
        if call == "create":
            created.append(call)
            raise StoreAway("the connection broke")

    store.after = lost
    assert delivered(store, work)[0] is None
    (run,) = stored.runs(store.uri)
    assert run.info.status == "FINISHED"
    assert len(created) == 1


def test_a_run_that_the_store_lost_is_sent_again(store: Troubled, work: WorkDir):
    folder = begun(work, start("a"))
    folder.metrics(1, {"loss": 2.0})
    assert delivered(store, work)[0] is None
    client = MlflowClient(store.uri)
    (lost,) = stored.runs(store.uri)
    client.delete_run(lost.info.run_id)
    folder.metrics(2, {"loss": 1.0})
    folder.end("FINISHED")
    assert delivered(store, work)[0] is None
    (run,) = stored.runs(store.uri)
    assert run.info.run_id != lost.info.run_id
    assert stored.steps(store.uri, run, "loss") == [1, 2]


def test_what_the_store_refuses_twice_is_given_up_and_keeps_no_other_waiting(
    store: Troubled, work: WorkDir
):
    bad = begun(work, start("bad"))
    bad.metrics(1, {"loss": 1.0})
    begun(work, start("good")).end("FINISHED")
    real = store.real.log_params

    def refuse(run_id: str, params: dict) -> None:
        if MlflowClient(store.uri).get_run(run_id).data.tags["run_key"] == "bad":
            raise StoreRefused("Param value is too long")
        real(run_id, params)

    store.real.log_params = refuse
    left, said = delivered(store, work, patience_s=1.0)
    assert (left.runs, left.reason) == (1, "Param value is too long")
    assert said == ["bad: MLflow refuses its data: Param value is too long"]
    runs = {run.data.tags["run_key"]: run.info.status for run in stored.runs(store.uri)}
    assert runs["good"] == "FINISHED"
    assert bad.path.exists(), "kept, for whoever mends it"


def test_a_run_whose_process_went_away_is_ended_by_the_next(
    store: Troubled, work: WorkDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    begun(WorkDir(tmp_path / "elsewhere"), start("a")).metrics(1, {"loss": 1.0})
    assert delivered(store, WorkDir(tmp_path / "elsewhere"))[0] is None
    (old,) = stored.runs(store.uri)
    # Its heartbeat is an hour old.
    MlflowClient(store.uri).set_tag(old.info.run_id, "heartbeat", str(int(time.time()) - 3600))
    begun(work, start("a")).end("FINISHED")
    assert delivered(store, work)[0] is None
    ended = {run.info.run_id: run for run in stored.runs(store.uri)}
    assert ended.pop(old.info.run_id).info.status == "KILLED"
    assert [run.info.status for run in ended.values()] == ["FINISHED"]
