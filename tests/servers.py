"""Real tracking servers for tests."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mlflow import MlflowClient


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
