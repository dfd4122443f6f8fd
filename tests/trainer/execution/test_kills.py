"""kill -9 of anything at any moment: the study ends as if nothing had been.

Each trial draws its moment from its number, from the first millisecond of the process, in which
there is not even a store, to after its end. It lets what was killed come back, launches the study
again if its driver died, and compares everything the store holds with an undisturbed study. Runs
that are stepped side by side may go on in another group, so of these the last bits may differ.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.configs import tiny
from tests.servers import PG_CTL, Postgresql, Server, free_port
from tests.trainer import stored
from tests.trainer.execution.test_faults import command, journals
from tests.trainer.execution.test_ray import end_state, training_worker

pytestmark = pytest.mark.slow

# Pretraining, two rounds of IMP and the rest: some eight seconds of training.
STUDY = {
    "dataset": "digits",
    "settings": "[lt, rr, wr, sdt]",
    "pruners": "[imp]",
    "training": "{epochs: 24, batch_size: 16, rewind_epoch: 2}",
    "checkpoint_every": "5",
}
TRAINING_S, START_S = 8.0, 8.0
TRIALS = {"driver": 36, "fused": 12, "ray": 8, "worker": 12, "server": 16, "database": 16}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple]:
    folder = tmp_path_factory.mktemp("undisturbed")
    uri = f"sqlite:///{folder}/mlflow.db"
    subprocess.run(command(tiny(folder, **STUDY), uri), check=True, cwd=folder)
    return end_state(uri)


@contextmanager
def launched(folder: Path, uri: str, *more: str) -> Iterator[subprocess.Popen]:
    """A launch in `folder`; what is left of it at the end is killed."""
    with (folder / "said").open("a") as said:
        process = subprocess.Popen(
            command(tiny(folder, **STUDY), uri, *more),
            cwd=folder,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"},
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def at_a_moment(folder: Path, process: subprocess.Popen, moment: random.Random) -> None:
    """Waits for the first run to begin, and then for some part of the training's time."""
    deadline = time.monotonic() + 120
    while len(journals(folder)) < 2:
        assert process.poll() is None, (folder / "said").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(moment.uniform(0, TRAINING_S))


def finish(folder: Path, uri: str, process: subprocess.Popen, *more: str) -> None:
    """Lets a launch end, or launches again if it was killed."""
    code = process.wait(timeout=240)
    if code != 0:
        with launched(folder, uri, *more) as again:
            assert again.wait(timeout=240) == 0, (folder / "said").read_text()


def assert_same(uri: str, undisturbed: dict[str, tuple]) -> None:
    found = end_state(uri)
    assert set(found) == set(undisturbed)
    for name, state in undisturbed.items():
        assert found[name] == state, name
    assert [run.info.status for run in stored.runs(uri, "launch")] == ["FINISHED"]


def without_values(state: dict[str, tuple]) -> dict[str, tuple]:
    return {
        name: (key, status, tuple(point[:2] for point in points), tuple(sorted(files)))
        for name, (key, status, points, files) in state.items()
    }


@pytest.mark.parametrize(
    ("kind", "trial"),
    [(kind, trial) for kind in ("driver", "fused", "ray") for trial in range(TRIALS[kind])],
)
def test_driver(kind: str, trial: int, tmp_path: Path, undisturbed):
    """Its whole process group, as a machine that is switched off; without a store before it."""
    if kind == "ray":
        pytest.importorskip("ray")
    moment, uri = random.Random(f"{kind} {trial}"), f"sqlite:///{tmp_path}/mlflow.db"
    more = {"driver": (), "fused": ("--set", "fuse=2"), "ray": ("--executor", "ray")}[kind]
    with launched(tmp_path, uri, *more) as process:
        time.sleep(moment.uniform(0, START_S + TRAINING_S))
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        finish(tmp_path, uri, process, *more)
    if kind != "fused":
        assert_same(uri, undisturbed)
        return
    found = end_state(uri)
    assert without_values(found) == without_values(undisturbed)
    for name, (_, _, points, _) in undisturbed.items():
        for (metric, _, value), (_, _, own) in zip(points, found[name][2], strict=True):
            if metric == "loss":
                assert own == pytest.approx(value, rel=0.2, abs=0.02), name


@pytest.mark.parametrize("trial", range(TRIALS["worker"]))
def test_worker(trial: int, tmp_path: Path, store_uri: str, undisturbed):
    pytest.importorskip("ray")
    moment = random.Random(f"worker {trial}")
    ray = ("--executor", "ray")
    with launched(tmp_path, store_uri, *ray) as process:
        at_a_moment(tmp_path, process, moment)
        victim = training_worker()
        # Two workers at once are done sooner than one process.
        if victim is not None:
            os.kill(victim, signal.SIGKILL)
        assert process.wait(timeout=240) == 0, (tmp_path / "said").read_text()
    assert_same(store_uri, undisturbed)


@pytest.fixture
def empty_database(_empty_database: Path, tmp_path: Path) -> Path:
    return Path(shutil.copyfile(_empty_database, tmp_path / "server.db"))


@pytest.mark.parametrize("trial", range(TRIALS["server"]))
def test_server(trial: int, tmp_path: Path, empty_database: Path, undisturbed):
    moment = random.Random(f"server {trial}")
    server = Server(tmp_path, free_port())
    server.start()
    try:
        with launched(tmp_path, server.uri) as process:
            at_a_moment(tmp_path, process, moment)
            server.stop()
            time.sleep(moment.uniform(0, 4))
            server.start()
            finish(tmp_path, server.uri, process)
        assert_same(server.uri, undisturbed)
    finally:
        server.stop()


@pytest.mark.skipif(not PG_CTL, reason="needs PostgreSQL's server")
@pytest.mark.parametrize("trial", range(TRIALS["database"]))
def test_database(trial: int, tmp_path: Path, undisturbed):
    """PostgreSQL, seen directly by every second trial, behind the server by the others."""
    moment = random.Random(f"database {trial}")
    with Postgresql() as database:
        subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", database.uri], check=True)
        server = Server(tmp_path, free_port(), database.uri)
        uri = server.uri if trial % 2 else database.uri
        if trial % 2:
            server.start()
        try:
            with launched(tmp_path, uri) as process:
                at_a_moment(tmp_path, process, moment)
                database.kill()
                time.sleep(moment.uniform(0, 4))
                database.start()
                finish(tmp_path, uri, process)
            assert_same(uri, undisturbed)
        finally:
            server.stop()


def recorded(folder: Path) -> int:
    """Epochs on disk, those of runs that have been delivered and removed left out."""
    return sum(path.read_text().count('"metrics"') for path in journals(folder))


def test_a_server_away_for_a_minute(tmp_path: Path, empty_database: Path):
    """Training goes on meanwhile, and every metric arrives."""
    server = Server(tmp_path, free_port())
    server.start()
    more = ("--set", "training.epochs=400", "--set", "training.rewind_epoch=2")
    try:
        with launched(tmp_path, server.uri, *more) as process:
            at_a_moment(tmp_path, process, random.Random(0))
            server.stop()
            before = recorded(tmp_path)
            time.sleep(60)
            assert process.poll() is None, "the study is to outlast the outage"
            assert recorded(tmp_path) > before + 100
            server.start()
            assert process.wait(timeout=400) == 0, (tmp_path / "said").read_text()
        found = stored.runs(server.uri)
        assert {run.info.status for run in found} == {"FINISHED"}
        for run in found:
            first = 3 if run.info.run_name.startswith("wr") else 1
            for metric in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
                assert stored.steps(server.uri, run, metric) == list(range(first, 401))
    finally:
        server.stop()
