"""Checks before a server starts, and the health check of a running one."""

import os
import socket
import tempfile
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen
from uuid import uuid4

from jackpot import schema, stores
from mlflow_server.settings import Settings


class NotUsable(Exception):
    """A server would not work; the message says what is wrong and how to mend it."""


def port(settings: Settings) -> None:
    """The port is free. Raises: NotUsable."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise NotUsable(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; choose "
                "another --port"
            ) from None


def artifact_root(settings: Settings) -> None:
    """A folder or bucket for artifacts can be written. Raises: NotUsable."""
    root = settings.artifact_root
    if root.startswith("s3://"):
        return _bucket(root)
    if "://" in root and not root.startswith("file://"):
        raise NotUsable(f"--artifacts {root}: expected a folder or s3://bucket/path")
    folder = Path(root.removeprefix("file://"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise NotUsable(f"--artifacts {folder}: cannot be written: {error.strerror}") from None


def _bucket(root: str) -> None:
    """Writes, and removes, an object, where MLflow's own environment variables lead."""
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise NotUsable(f"--artifacts {root}: S3 needs boto3: pip install 'jackpot[s3]'") from None
    bucket, _, prefix = root.removeprefix("s3://").partition("/")
    name = f"{prefix.rstrip('/')}/.writable-{uuid4().hex}".lstrip("/")
    try:
        client = boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL"))
        client.put_object(Bucket=bucket, Key=name, Body=b"")
        client.delete_object(Bucket=bucket, Key=name)
    except (BotoCoreError, ClientError, ValueError) as error:
        raise NotUsable(
            f"--artifacts {root}: cannot be written: {stores.one_line(error)}. Credentials "
            "are found as boto3 finds them; MLFLOW_S3_ENDPOINT_URL names a service other than AWS"
        ) from None


def auth(settings: Settings) -> None:
    """Basic auth has what it needs. Raises: NotUsable."""
    if not settings.auth:
        return
    try:
        import flask_wtf  # noqa: F401
    except ImportError:
        raise NotUsable("--auth needs more packages: pip install 'jackpot[auth]'") from None
    missing = [
        name
        for name in ("MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_AUTH_ADMIN_PASSWORD")
        if not os.environ.get(name)
    ]
    if missing:
        raise NotUsable(
            f"--auth: set {' and '.join(missing)}: a random secret that signs forms, and the first "
            "password of user 'admin'"
        )


def database(settings: Settings, upgrade: bool = False) -> str:
    """Connects, makes a new database's tables, migrates an old one's if asked to.

    SQLite is set to write-ahead logging (`jackpot.schema.make`).

    Args:
        settings: whose database.
        upgrade: migrate an older schema.

    Returns:
        What was found or done, in words.

    Raises:
        NotUsable: it cannot be reached, has an older schema and `upgrade` is not set, or a newer
            one than this MLflow knows.
    """
    uri, file = settings.backend_store_uri, settings.sqlite_file
    try:
        stores.check_driver(uri)
    except stores.DriverMissing as error:
        raise NotUsable(f"--backend-store-uri {error}") from None
    if file is not None and not file.parent.is_dir():
        raise NotUsable(f"{file}: there is no folder {file.parent}")
    try:
        if upgrade:
            found = schema.look(uri)
            if found is not None and found.revision not in (None, schema.latest()):
                schema.upgrade(uri)
                return f"schema migrated from {found.revision} to {schema.latest()}"
        made = schema.make(uri)
    except schema.SchemaError as error:
        raise NotUsable(str(error)) from None
    except Exception as error:
        raise NotUsable(
            f"{stores.shown(uri)}: {type(error).__name__}: {stores.one_line(error)}"
        ) from None
    return made or "schema is up to date"


def health(address: str, timeout_s: float = 10.0) -> str:
    """What a running server says of itself.

    Args:
        address: such as `http://127.0.0.1:5000`.
        timeout_s: patience.

    Raises:
        NotUsable: it does not answer, or its database does not.
    """
    try:
        with urlopen(f"{address}/health", timeout=timeout_s) as answer:
            if answer.status != 200:
                raise NotUsable(f"{address}: /health answers {answer.status}")
        with urlopen(f"{address}/version", timeout=timeout_s) as answer:
            version = answer.read().decode()
    except (URLError, OSError) as error:
        raise NotUsable(f"{address}: does not answer: {error}") from None
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    stores.quiet_client()
    try:
        count = len(MlflowClient(address).search_experiments())
    except MlflowException as error:
        raise NotUsable(
            f"{address}: answers, but its database does not: {stores.one_line(error)}"
        ) from None
    return f"{address}: well; MLflow {version}, {count} experiments"
