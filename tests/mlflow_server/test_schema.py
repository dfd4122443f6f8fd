"""Other people's databases stay as they are; our own are made whole or not at all."""

import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy
from alembic import command as alembic
from alembic.script import ScriptDirectory
from mlflow import MlflowClient

from explorer.readers import StoreUnavailable, reader
from jackpot import schema
from mlflow_server import copy
from mlflow_server.__main__ import main as serve
from trainer.store.tracking import Store


def older(file: Path, back: int = 1) -> str:
    """A store as an MLflow of some migrations ago left it, with its experiment."""
    from mlflow.store.db import utils
    from mlflow.store.tracking.dbmodels.initial_models import Base

    uri = f"sqlite:///{file}"
    config = utils._get_alembic_config(uri)
    revision = ScriptDirectory.from_config(config).get_heads()[0]
    for _ in range(back):
        revision = ScriptDirectory.from_config(config).get_revision(revision).down_revision
    engine = sqlalchemy.create_engine(uri)
    Base.metadata.create_all(engine)
    alembic.upgrade(config, revision)
    with sqlite3.connect(file) as database:
        database.execute(
            "INSERT INTO experiments (experiment_id, name, lifecycle_stage) "
            "VALUES (0, 'Default', 'active')"
        )
    engine.dispose()
    return uri


def everything(folder: Path) -> dict[str, str]:
    """All files below a folder, by content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(params=[pytest.param(1, marks=pytest.mark.slow), 12])
def old_store(request, tmp_path: Path) -> str:
    (tmp_path / "theirs").mkdir()
    return older(tmp_path / "theirs" / "mlflow.db", request.param)


def test_no_program_migrates_another_ones_store(
    old_store: str, write_config: Callable[..., Path], train, tmp_path: Path, capsys, monkeypatch
):
    before = everything(tmp_path / "theirs")
    config = write_config()
    for more in ([], ["--dry-run"], ["--executor", "ray"]):
        assert train(config, "--tracking-uri", old_store, *more) == 2
        said = capsys.readouterr().err
        assert "is older than this MLflow's" in said
        assert "start once with --upgrade: python -m mlflow_server --backend-store-uri" in said
    assert copy.main([old_store, f"sqlite:///{tmp_path}/new.db"]) == 2
    assert copy.main([f"sqlite:///{tmp_path}/new.db", old_store]) == 2
    assert serve(["--backend-store-uri", old_store, "--port", "1"]) == 2
    with pytest.raises(StoreUnavailable), reader(old_store).artifact("0" * 32, "config.yaml"):
        pass
    assert everything(tmp_path / "theirs") == before


def test_a_newer_store_and_another_programs_are_named(tmp_path: Path, store_uri: str):
    with sqlite3.connect(tmp_path / "mlflow.db") as newer:
        newer.execute("UPDATE alembic_version SET version_num = 'fffffffffff0'")
    with pytest.raises(schema.SchemaError, match="newer than this MLflow"):
        Store(store_uri).check_schema()
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE things (id INTEGER)")
    with pytest.raises(schema.SchemaError, match="tables of another program"):
        Store(f"sqlite:///{tmp_path}/other.db").check_schema()
    (tmp_path / "text.db").write_text("no database at all, but long enough to be one" * 99)
    with pytest.raises(schema.SchemaError, match="cannot be read as a database"):
        Store(f"sqlite:///{tmp_path}/text.db").check_schema()


@pytest.mark.parametrize(
    "database", [pytest.param("mlflow.db", marks=pytest.mark.slow), "new/a/b.db"]
)
def test_a_dry_run_writes_nothing(write_config, tmp_path: Path, store_uri: str, database: str):
    config = write_config()
    before = everything(tmp_path)
    uri = f"sqlite:///{tmp_path}/{database}"
    # A process of its own: SQLite's files beside a database are there until it is closed.
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "--config", config, "--tracking-uri", uri, "--dry-run"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "epochs are left" in " ".join(done.stdout.split())
    assert everything(tmp_path) == before
    assert not (tmp_path / "new").exists()


def half_made(uri: str, runs: int = 0) -> None:
    """What a kill leaves while MLflow makes or migrates tables."""
    engine = sqlalchemy.create_engine(uri)
    with engine.begin() as database:
        database.execute(sqlalchemy.text("CREATE TABLE _alembic_tmp_metrics (key VARCHAR(250))"))
        for i in range(runs):
            database.execute(
                sqlalchemy.text(f"INSERT INTO runs (run_uuid, experiment_id) VALUES ('r{i}', 0)")
            )
    engine.dispose()


def test_a_half_made_store_is_set_aside_and_made_anew(
    tmp_path: Path, write_config, train, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    uri = older(tmp_path / "mlflow.db", 9)
    half_made(uri)
    os.utime(tmp_path / "mlflow.db", (time.time() - 60,) * 2)
    config = write_config(settings="[lt]", pruners="[omp]", learning_rates="[0.1]")
    assert train(config, "--tracking-uri", uri) == 0
    assert len(list(tmp_path.glob("mlflow.db.half-made-*[0-9]"))) == 1
    assert MlflowClient(uri).get_experiment_by_name("tiny") is not None


def test_a_half_migrated_store_with_runs_is_left_alone(tmp_path: Path):
    uri = older(tmp_path / "mlflow.db", 9)
    half_made(uri, runs=3)
    before = everything(tmp_path)
    with pytest.raises(schema.SchemaError, match=r"holds 3 runs\. Put back the copy"):
        Store(uri).check_schema()
    with pytest.raises(schema.SchemaError):
        schema.make(uri)
    assert everything(tmp_path) == before


_MAKE = "import sys; from jackpot import schema; print(schema.make(sys.argv[1]))"


@pytest.mark.slow
def test_a_kill_while_tables_are_made_leaves_all_or_nothing(tmp_path: Path):
    rng, uri = random.Random(0), f"sqlite:///{tmp_path}/mlflow.db"
    unfinished = 0
    for _ in range(20):
        process = subprocess.Popen([sys.executable, "-c", _MAKE, uri], stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, 4))
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = schema.look(uri)
        unfinished += found is None
        assert found is None or found.revision == schema.latest()
        for file in tmp_path.glob("mlflow.db*"):
            file.unlink()
    assert unfinished
    schema.make(uri)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


def test_tables_in_postgresql_are_made_in_one_transaction(postgresql: str):
    name = f"made{os.getpid()}"
    admin = sqlalchemy.create_engine(postgresql, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    uri = f"{postgresql.rpartition('/')[0]}/{name}"
    try:
        several = [subprocess.Popen([sys.executable, "-c", _MAKE, uri]) for _ in range(2)]
        seen = set()
        while any(process.poll() is None for process in several):
            found = schema.look(uri)
            seen.add(None if found is None or found.is_empty else found.revision)
        assert [process.returncode for process in several] == [0, 0]
        assert seen <= {None, schema.latest()}
        assert schema.check(uri).revision == schema.latest()
        assert schema.make(uri) is None
    finally:
        with admin.connect() as connection:
            connection.execute(sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def test_file_names_are_what_they_say(tmp_path: Path, write_config, train):
    from jackpot import stores

    name = "a#b [c] ä 100%25"
    folder = tmp_path / f"{name}-folder"
    folder.mkdir()
    uri = stores.sqlite_uri(folder / f"{name}.db")
    assert stores.sqlite_file(uri) == folder / f"{name}.db"
    config = write_config(settings="[lt]", pruners="[omp]", learning_rates="[0.1]")
    assert train(config, "--tracking-uri", uri) == 0
    assert (folder / f"{name}.db").is_file()
    runs = reader(uri).runs()
    assert set(runs["status"]) == {"FINISHED"}
    with reader(uri).artifact(runs.filter(kind="launch")["run_id"][0], "plan.json") as plan:
        assert plan.is_file()


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("sqlite:///:memory:", "gone when the process ends"),
        ("sqlite://", "gone when the process ends"),
        ("sqlite:////tmp", "is a folder"),
        ("mlflow.db", "expected sqlite:///file.db"),
        ("http://host:port", "expected sqlite:///file.db"),
    ],
)
def test_addresses_that_no_store_has(uri: str, words: str, write_config, train, capsys):
    assert train(write_config(), "--tracking-uri", uri) == 2
    assert words in capsys.readouterr().err
