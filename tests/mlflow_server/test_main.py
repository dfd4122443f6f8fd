import json
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from alembic.script import ScriptDirectory
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from explorer.readers import StoreUnavailable, reader
from mlflow_server import checks, settings
from mlflow_server.__main__ import command, environment, main
from tests.servers import Server
from tests.trainer import stored
from trainer.store.ticket import load_ticket


def test_the_ui_opens_on_the_trainers_store(
    store_uri: str, tmp_path: Path, unused_tcp_port: int, capsys
):
    url = f"http://127.0.0.1:{unused_tcp_port}"
    flags = ["--port", str(unused_tcp_port)]
    assert main([*flags, "--check"]) == 2
    assert "does not answer" in capsys.readouterr().err
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow_server", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert "schema is up to date" in server.stdout.readline()
        assert f"Open {url}/#/experiments" in server.stdout.readline()
        deadline = time.monotonic() + 90
        while True:
            try:
                page = urllib.request.urlopen(url, timeout=5).read().decode()
                break
            except OSError:
                assert time.monotonic() < deadline
                assert server.poll() is None
                time.sleep(0.3)
        assert "<title>MLflow" in page
        request = urllib.request.Request(
            f"{url}/api/2.0/mlflow/experiments/search",
            json.dumps({"max_results": 5}).encode(),
            {"Content-Type": "application/json"},
        )
        answer = json.loads(urllib.request.urlopen(request, timeout=10).read())
        assert [e["name"] for e in answer["experiments"]] == ["Default"]
        assert main([*flags, "--check"]) == 0
        assert "well; MLflow" in capsys.readouterr().out
        # It does not start twice.
        assert main(flags) == 2
        assert "choose another --port" in capsys.readouterr().err
    finally:
        server.terminate()
        server.wait(timeout=20)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_server_on_postgresql_takes_a_whole_study(postgresql_server: str, write_config, train):
    config = write_config(study="on_postgresql", settings="[lt]", learning_rates="[0.1]")
    assert train(config, "--tracking-uri", postgresql_server) == 0
    runs = stored.runs(postgresql_server, study="on_postgresql")
    assert {run.info.status for run in runs} == {"FINISHED"}
    model, mask = load_ticket(runs[-1].info.run_id, postgresql_server)
    assert mask
    assert model.built


@pytest.fixture
def s3(monkeypatch) -> Iterator[str]:
    """A bucket of a real S3 server (moto's) on loopback."""
    import boto3
    from moto.server import ThreadedMotoServer

    service = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    service.start()
    host, port = service.get_host_and_port()
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="lab")
    yield "s3://lab/runs"
    service.stop()


def test_a_password_and_artifacts_in_a_bucket(
    s3: str,
    write_config,
    train,
    tmp_path: Path,
    server_folder: Path,
    unused_tcp_port: int,
    monkeypatch,
    capsys,
):
    with pytest.raises(checks.NotUsable, match=r"s3://none/runs: cannot be written: .*bucket"):
        checks.artifact_root(of("sqlite:///a.db", artifacts="s3://none/runs"))
    server = Server(server_folder, unused_tcp_port, None, "--auth", "--artifacts", s3)
    for name in ("MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_AUTH_ADMIN_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    assert main(server.arguments) == 2
    assert "set MLFLOW_FLASK_SERVER_SECRET_KEY and MLFLOW_AUTH_ADMIN" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", "a secret for one test")
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", "a long password 123")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a long password 123")
    server.start()
    try:
        config = write_config(settings="[lt]", pruners="[omp]")
        assert train(config, "--tracking-uri", server.uri) == 0
        assert {run.info.status for run in stored.runs(server.uri)} == {"FINISHED"}
        ticket = stored.labelled(server.uri)["lt-omp s=0.750"]
        assert set(stored.files(server.uri, ticket)) == {
            "ticket/initial.safetensors",
            "ticket/mask.safetensors",
            "weights/final.safetensors",
        }
        model, mask = load_ticket(ticket.info.run_id, server.uri)
        assert mask
        assert model.built
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
        with pytest.raises(MlflowException, match=r"401|not authenticated"):
            MlflowClient(server.uri).search_experiments()
    finally:
        server.stop()
    assert not list(tmp_path.rglob("*.safetensors")), "files are in the bucket alone"


def test_a_database_without_its_package_is_named(train, write_config, capsys):
    assert train(write_config(), "--tracking-uri", "postgresql+pg8000://a:secret@127.0.0.1/b") == 2
    error = capsys.readouterr().err
    assert "'postgresql+pg8000://a:***@127.0.0.1/b' needs a Python package" in error
    assert "write postgresql+psycopg://… and pip install 'jackpot[postgresql]'" in error
    assert main(["--backend-store-uri", "postgresql+pg8000://a:secret@127.0.0.1/b"]) == 2
    assert "needs a Python package" in capsys.readouterr().err
    with pytest.raises(StoreUnavailable, match=r"postgresql\+psycopg"):
        reader("postgresql+pg8000://a:secret@127.0.0.1/b").runs()


def test_flags_stand_above_the_file(tmp_path: Path):
    file = tmp_path / "server.yaml"
    file.write_text("port: 6000\nallowed_hosts: [mlflow.lab.org]\nartifacts: s3://bucket/runs\n")
    found = settings.load(file, {"port": 7000})
    assert (found.port, found.host, found.artifact_root) == (7000, "127.0.0.1", "s3://bucket/runs")
    serve = command(found)
    assert serve[serve.index("--allowed-hosts") + 1].endswith("127.0.0.1:*,mlflow.lab.org")
    assert serve[serve.index("--workers") + 1] == "1"
    several = settings.load(None, {"backend_store_uri": "postgresql+psycopg://a@b/c"})
    assert command(several)[command(several).index("--workers") + 1] == "4"
    assert environment(several)["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"] == "50"


@pytest.mark.parametrize(
    ("text", "flags", "words"),
    [
        ("prot: 1", {}, "server.yaml: prot: unknown; known are backend_store_uri"),
        ("port: x", {}, "server.yaml: port: "),
        ("port: 99999", {}, "less than or equal to 65535, received 99999"),
        ("port: [", {}, "server.yaml: "),
        ("- a", {}, "expected keys such as"),
        ("", {"backend_store_uri": "mysql://x"}, "--backend-store-uri: expected sqlite"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, flags: dict, words: str):
    file = tmp_path / "server.yaml"
    file.write_text(text)
    with pytest.raises(settings.SettingsError) as caught:
        settings.load(file, flags)
    assert words in str(caught.value)


def of(uri: str, **more: object) -> settings.Settings:
    return settings.load(None, {"backend_store_uri": uri, **more})


def test_databases_are_looked_at_before_anything_starts(tmp_path: Path, store_uri: str):
    fresh = of(f"sqlite:///{tmp_path}/fresh.db")
    assert checks.database(fresh) == "new database: tables made"
    assert checks.database(fresh) == "schema is up to date"
    with pytest.raises(checks.NotUsable, match="there is no folder"):
        checks.database(of(f"sqlite:///{tmp_path}/nowhere/a.db"))
    (tmp_path / "text.db").write_text("no database at all, but long enough to be one" * 99)
    with pytest.raises(checks.NotUsable, match="not a database"):
        checks.database(of(f"sqlite:///{tmp_path}/text.db"))
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE things (id INTEGER)")
    with pytest.raises(checks.NotUsable, match="another program"):
        checks.database(of(f"sqlite:///{tmp_path}/other.db"))
    with sqlite3.connect(tmp_path / "fresh.db") as newer:
        newer.execute("UPDATE alembic_version SET version_num = 'fffffffffff0'")
    with pytest.raises(checks.NotUsable, match="newer than this MLflow"):
        checks.database(fresh)
    with pytest.raises(checks.NotUsable, match=r"jackpot:\*\*\*@127\.0\.0\.1:1"):
        checks.database(of("postgresql+psycopg://jackpot:secret@127.0.0.1:1/none"))


def test_an_older_database_is_migrated_when_asked(tmp_path: Path):
    from alembic import command as alembic
    from mlflow.store.db import utils
    from mlflow.store.tracking.dbmodels.initial_models import Base

    uri = f"sqlite:///{tmp_path}/old.db"
    config = utils._get_alembic_config(uri)
    script = ScriptDirectory.from_config(config)
    before = script.get_revision(script.get_heads()[0]).down_revision
    # The first migration expects the tables of MLflow's first release.
    Base.metadata.create_all(sqlalchemy.create_engine(uri))
    alembic.upgrade(config, before)
    with pytest.raises(checks.NotUsable, match="start once with --upgrade"):
        checks.database(of(uri))
    assert checks.database(of(uri), upgrade=True).startswith(f"schema migrated from {before}")
    assert checks.database(of(uri)) == "schema is up to date"


def test_an_artifact_folder_must_be_writable(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    for root, words in (
        (f"{tmp_path}/file/folder", "cannot be written"),
        ("ftp://somewhere", "expected a folder or s3"),
    ):
        with pytest.raises(checks.NotUsable, match=words):
            checks.artifact_root(of(f"sqlite:///{tmp_path}/a.db", artifacts=root))
    checks.artifact_root(of(f"sqlite:///{tmp_path}/a.db"))
    assert (tmp_path / "mlartifacts").is_dir()
