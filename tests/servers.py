"""Real tracking servers for tests."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PG_CTL = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))


def free_port() -> int:
    """A port on loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Postgresql:
    """A fresh PostgreSQL database on loopback, of Debian's package, that can be killed."""

    def __init__(self) -> None:
        # It refuses to run as root, and its user must be able to reach the folder.
        self._user = "postgres" if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="jackpot-postgresql-"))
        if self._user:
            shutil.chown(self._folder, self._user)
        self._port = free_port()
        self.uri = f"postgresql+psycopg://jackpot@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> "Postgresql":
        self._call("initdb", "--username=jackpot", "--auth=trust", "--encoding=UTF8", "--no-sync")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._call("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        options = f"-c listen_addresses=127.0.0.1 -p {self._port} -k {self._folder} -c fsync=off"
        deadline = time.monotonic() + 60
        while True:
            try:
                self._call("pg_ctl", "-w", "-l", str(self._folder / "log"), "-o", options, "start")
                return
            except subprocess.CalledProcessError:
                # After a kill its own processes take a moment to notice, and hold the files.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def kill(self) -> None:
        """kill -9 of the server's first process; the others notice and end."""
        pid = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

    def _call(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [PG_CTL[-1].with_name(program), "-D", self._folder / "data", *arguments],
            user=self._user,
            cwd=self._folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )


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
