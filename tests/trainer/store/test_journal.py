import os
from pathlib import Path

import pytest

from trainer.store.journal import RunFolder, RunStart, WorkDir

START = RunStart("key", "training", "study", "name", {"a": "1"}, {})


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = WorkDir(tmp_path).open("key")
    folder.start(START)
    return folder


def kinds(folder: RunFolder) -> list[str]:
    return [event["event"] for event, _ in folder.events()]


def test_an_attempt_is_gone_on_with_until_it_has_ended(tmp_path: Path, folder: RunFolder):
    work = WorkDir(tmp_path)
    assert work.open("key").path == folder.path
    folder.end("KILLED", "interrupted")
    assert work.open("key").path == folder.path
    folder.start(START)
    assert kinds(folder) == ["start", "end", "resume"]
    folder.end("FAILED", "nan")
    assert work.open("key").path.name == "key.2"
    assert work.finished("key") is None
    second = work.open("key")
    second.start(START)
    second.end("FINISHED")
    assert work.finished("key").path == second.path
    assert [f.path.name for f in work.folders()] == ["key.1", "key.2"]


def test_a_replayed_epoch_is_recorded_once(tmp_path: Path, folder: RunFolder):
    for step in (1, 2, 3):
        folder.metrics(step, {"loss": step})
    again = RunFolder(folder.path)
    again.start(START)
    for step in (2, 3, 4):
        again.metrics(step, {"loss": step})
    assert [event["step"] for event in again.history()] == [1, 2, 3, 4]


def test_a_torn_line_is_dropped_at_the_next_start(folder: RunFolder):
    folder.metrics(1, {"loss": 1.0})
    journal = folder.path / "journal.jsonl"
    with journal.open("a") as file:
        file.write('{"event": "met')
    assert kinds(folder) == ["start", "metrics"], "a reader waits for the rest of the line"
    folder.start(START)
    folder.metrics(2, {"loss": 1.0})
    assert [event["step"] for event in folder.history()] == [1, 2]


def test_a_line_that_is_no_event_is_skipped(folder: RunFolder, caplog):
    with (folder.path / "journal.jsonl").open("ab") as file:
        file.write(b"\x00\x00\x00\n")
    folder.metrics(1, {"loss": 1.0})
    assert kinds(folder) == ["start", "metrics"]
    assert "skipping a line" in caplog.text


def test_a_failed_write_is_taken_back(folder: RunFolder, monkeypatch):
    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        folder.end("FINISHED")
    monkeypatch.undo()
    assert folder.status() is None
    folder.end("FINISHED")
    assert kinds(folder) == ["start", "end"]


def test_a_removed_folder_is_gone_at_once(tmp_path: Path, folder: RunFolder):
    folder.end("FINISHED")
    folder.remove()
    assert WorkDir(tmp_path).folders() == []
    assert WorkDir(tmp_path).open("key").path.name == "key.1"
    (tmp_path / "trash" / "left by a kill").mkdir()
    WorkDir(tmp_path).empty_trash()
    assert not (tmp_path / "trash").exists()
