"""Real tracking servers for tests."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PG_CTL = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))


def free_port() -> int:
    """A port on loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running_postgresql() -> Iterator[str]:
    """URI of a fresh PostgreSQL database on loopback, of Debian's package, while it is used."""
    # It refuses to run as root, and its user must be able to reach the folder.
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="jackpot-postgresql-"))
    if user:
        shutil.chown(folder, user)
    data, port = folder / "data", free_port()

    def call(program: str, *arguments: str) -> None:
        subprocess.run(
            [PG_CTL[-1].with_name(program), "-D", data, *arguments],
            user=user,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    call("initdb", "--username=jackpot", "--auth=trust", "--encoding=UTF8", "--no-sync")
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"
    call("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://jackpot@127.0.0.1:{port}/postgres"
    finally:
        call("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


class Server:
    """A real MLflow tracking server on loopback that can be stopped and started."""

    def __init__(self, folder: Path, port: int, database: str | None = None, *flags: str):
        self.folder, self.process = folder, None
        self.uri = f"http://127.0.0.1:{port}"
        self.arguments = [
            *("--port", str(port)),
            *("--backend-store-uri", database or f"sqlite:///{folder}/server.db"),
            *flags,
        ]

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow_server", *self.arguments],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        from mlflow import MlflowClient

        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                MlflowClient(self.uri).search_experiments()
                return
            except Exception:
                time.sleep(0.2)
        raise AssertionError("the server did not start")

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
