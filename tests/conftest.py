import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.configs import tiny
from tests.servers import PG_CTL, Postgresql, free_port

os.environ["KERAS_BACKEND"] = "torch"
# Tests run side by side, one per core: threads that wait for each other at every layer would make
# a study many times slower on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Decoded datasets go to a folder of the test session, unless CI keeps one."""
    os.environ.setdefault("JACKPOT_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _own_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit's AppTest leaves a page as `__main__`, which processes spawned later would run."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small digits study; keyword arguments replace parts of it."""

    def write(**replace: str) -> Path:
        return tiny(tmp_path, **replace)

    return write


@pytest.fixture(scope="session")
def _empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes seconds to make its tables: once per session."""
    from trainer.store.tracking import Store

    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    Store(f"sqlite:///{file}").create_schema()
    return file


@pytest.fixture
def store_uri(tmp_path: Path, _empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh SQLite store in the test's folder, which becomes the current one."""
    shutil.copyfile(_empty_database, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def unused_tcp_port() -> int:
    """A port on loopback that nothing listens on."""
    return free_port()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URI of a fresh PostgreSQL database on loopback, of Debian's package."""
    if not PG_CTL:
        pytest.skip("needs PostgreSQL's server")
    with Postgresql() as database:
        yield database.uri


@pytest.fixture
def train(store_uri: str) -> Callable[..., int]:
    """Runs the command line in this process and returns its exit code."""
    from trainer.cli import main

    def run(config: Path, *more: str) -> int:
        return main(["--config", str(config), "--tracking-uri", store_uri, *more])

    return run
