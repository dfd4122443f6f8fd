"""`python -m mlflow_server`: MLflow's tracking server and UI on the store the trainer fills."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from jackpot.contract import DEFAULT_TRACKING_URI

OK, BAD_INPUT = 0, 2
_AUTH_INI = """\
[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/basic_auth.db
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
# Without it every request hashes the password anew, which takes a quarter of a second.
auth_cache_ttl_seconds = 60
"""


def parser() -> argparse.ArgumentParser:
    """The arguments of `python -m mlflow_server`."""
    parser = argparse.ArgumentParser(
        prog="python -m mlflow_server",
        description="Starts MLflow's tracking server and UI. Checks first that port, database and "
        "artifact folder are usable.",
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument
    add("--config", type=Path, default=None, help="YAML file with any of the settings below")
    add(
        "--backend-store-uri",
        help="the database: sqlite:///file.db or postgresql+psycopg://user@host/name "
        f"(default: {DEFAULT_TRACKING_URI}, where the trainer writes)",
    )
    add("--artifacts", help="folder or s3://bucket/path for files of runs (default: mlartifacts)")
    add("--host", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=int, help="port to listen on (default: 5000)")
    add("--workers", type=int, help="processes (default: 1 on SQLite, 4 on PostgreSQL)")
    add(
        "--allowed-hosts",
        type=lambda text: text.split(","),
        help="names under which it may be reached, beside localhost, such as mlflow.lab.org",
    )
    add(
        "--cors-allowed-origins",
        type=lambda text: text.split(","),
        help="other sites whose pages may call it",
    )
    add("--auth", action="store_true", help="ask for user and password")
    add("--pool-size", type=int, help="database connections per process (default: 50)")
    add("--upgrade", action="store_true", default=False, help="migrate an older database first")
    add(
        "--check",
        action="store_true",
        default=False,
        help="do not start anything: say whether the server at --host and --port is healthy",
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Checks, then replaces this process by MLflow's server."""
    from jackpot import stores
    from mlflow_server import checks, settings

    stores.print_anywhere()

    flags: dict[str, Any] = vars(parser().parse_args(arguments))
    config, upgrade, check = (flags.pop(name) for name in ("config", "upgrade", "check"))
    try:
        chosen = settings.load(config, flags)
        address = f"http://{chosen.host}:{chosen.port}"
        if check:
            print(checks.health(address))
            return OK
        checks.port(chosen)
        checks.artifact_root(chosen)
        checks.auth(chosen)
        print(f"database: {checks.database(chosen, upgrade)}", flush=True)
    except (settings.SettingsError, checks.NotUsable) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    page = f"{address}/#/experiments?workflowType=machine_learning"
    print(f"Open {page} (Ctrl-C stops the server)", flush=True)
    os.environ.update(environment(chosen))
    serve = command(chosen)
    os.execv(serve[0], serve)


def command(settings: Any) -> list[str]:
    """The MLflow command that serves with these settings."""
    serve = [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", settings.backend_store_uri),
        *("--artifacts-destination", settings.artifact_root),
        *("--host", settings.host, "--port", str(settings.port)),
        *("--workers", str(settings.processes)),
    ]
    if settings.allowed_hosts:
        local = ["localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*"]
        serve += ["--allowed-hosts", ",".join([*local, *settings.allowed_hosts])]
    if settings.cors_allowed_origins:
        serve += ["--cors-allowed-origins", ",".join(settings.cors_allowed_origins)]
    if settings.auth:
        serve += ["--app-name", "basic-auth"]
    return serve


def environment(settings: Any) -> dict[str, str]:
    """Environment variables that the server needs beside its command."""
    values = {
        # The job runner would start a dozen more processes that a study has no use for.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    if settings.sqlite_file is None:
        values["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"] = str(settings.pool_size)
    if settings.auth:
        folder = settings.sqlite_file.parent if settings.sqlite_file else Path.cwd()
        ini = folder / "basic_auth.ini"
        if not ini.exists():
            ini.write_text(_AUTH_INI.format(folder=folder))
        values["MLFLOW_AUTH_CONFIG_PATH"] = str(ini)
    return values


if __name__ == "__main__":
    sys.exit(main())
