"""`python -m mlflow_server`: MLflow's own UI on the store that the trainer filled."""

import argparse
import os
import socket
import sys
from pathlib import Path

from mlflow_server.contract import DEFAULT_TRACKING_URI


def parser() -> argparse.ArgumentParser:
    """The arguments of `python -m mlflow_server`."""
    parser = argparse.ArgumentParser(
        prog="python -m mlflow_server",
        description="Opens MLflow's tracking server and UI on a store.",
    )
    parser.add_argument(
        "--backend-store-uri",
        default=DEFAULT_TRACKING_URI,
        help="the database with the runs (default: %(default)s, where the trainer writes)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=5000, help="port to listen on")
    return parser


def command(backend_store_uri: str, host: str, port: int) -> list[str]:
    """The MLflow command that serves the store: one worker process, artifacts beside the database.

    Raises:
        ValueError: the database's folder is not there, or the port is taken.
    """
    artifacts = Path("mlartifacts")
    if backend_store_uri.startswith("sqlite:///"):
        database = Path(backend_store_uri.removeprefix("sqlite:///"))
        if not database.parent.is_dir():
            raise ValueError(f"{database.absolute()}: there is no such folder")
        artifacts = database.absolute().parent / "mlartifacts"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another --port"
            ) from None
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", backend_store_uri),
        *("--artifacts-destination", str(artifacts)),
        *("--host", host, "--port", str(port), "--workers", "1"),
    ]


def main() -> int:
    """Replaces this process by MLflow's server."""
    options = parser().parse_args()
    try:
        serve = command(options.backend_store_uri, options.host, options.port)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    # The job runner would start a dozen more processes that a study has no use for.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    page = f"http://{options.host}:{options.port}/#/experiments?workflowType=machine_learning"
    print(f"Open {page} (Ctrl-C stops the server)", flush=True)
    os.execv(serve[0], serve)


if __name__ == "__main__":
    sys.exit(main())
