import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.configs import tiny
from tests.servers import PG_CTL, Postgresql, free_port

os.environ["KERAS_BACKEND"] = "torch"
# Tests run side by side, one per core: threads that wait for each other at every layer would make
# a study many times slower on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# On a busy machine any example may be slow.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


# Folders whose files share what is made for them.
_SHARING = ("explorer", "mlflow_server")
# What takes longest, in this order, so that no process is left with one at the end.
_LONGEST = (
    *("explorer", "test_faults", "test_side_by_side", "mlflow_server", "test_ray"),
    *("test_data_parallel", "test_of_the_paper", "test_networks", "test_lowering", "test_study"),
    *("test_recording", "test_examples", "test_at_start", "test_methods", "test_export"),
    *("test_own", "test_line"),
)


def _group(path: Path) -> str:
    """Tests of a file share what they make, such as a trained study; of some folders too."""
    return path.parent.name if path.parent.name in _SHARING else path.stem


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest first."""
    rank = {group: i for i, group in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(_group(item.path), len(rank)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Runs a group in one process.

    pytest-xdist 3.8's own `--dist loadgroup` forms no groups with pytest 9.2 (its issue 1386).
    """

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(Path(nodeid.partition("::")[0]))

    return ByGroup(config, log)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Decoded datasets go to a folder of the test session, unless CI keeps one."""
    os.environ.setdefault("JACKPOT_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session", autouse=True)
def _memory_as_in_training() -> None:
    """Tests step networks without a study around them, which would see to that."""
    from trainer.training.process import keep_freed_memory

    keep_freed_memory()


@pytest.fixture(autouse=True)
def _own_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit's AppTest leaves a page as `__main__`, which processes spawned later would run."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(scope="session")
def _pages_are_as_fast_as_in_a_server() -> Iterator[None]:
    """What each AppTest would do besides, and a server does once or not at all.

    It reads the metadata of every installed package, and collects the garbage of Keras, which the
    explorer never imports.
    """
    from streamlit.components.v2 import manifest_scanner
    from streamlit.runtime.scriptrunner import script_runner

    with pytest.MonkeyPatch.context() as patch:
        scan = cache(manifest_scanner.scan_component_manifests)
        patch.setattr(manifest_scanner, "scan_component_manifests", scan)
        patch.setattr(script_runner, "_clean_problem_modules", lambda: None)
        yield


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
def server_folder(tmp_path: Path, _empty_database: Path) -> Path:
    """A folder with the database of a server that has been started before."""
    shutil.copyfile(_empty_database, tmp_path / "server.db")
    return tmp_path


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
