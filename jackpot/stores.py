"""What trainer, explorer and server share about tracking stores: addresses and result pages."""

import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from jackpot.contract import DEFAULT_TRACKING_URI

Item = TypeVar("Item", covariant=True)
_SQLITE = "sqlite:///"


class DriverMissing(ValueError):
    """No package for the database; the message names it and what to install."""


def tracking_uri() -> str:
    """The store to use if none is named: $MLFLOW_TRACKING_URI, else the default."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_TRACKING_URI


def sqlite_file(uri: str) -> Path | None:
    """The database file of a SQLite store; None of any other store.

    As SQLAlchemy has it, `%20` in a URI is a space in the file's name.

    >>> sqlite_file("http://127.0.0.1:5000") is None
    True
    >>> sqlite_file("sqlite:////tmp/my%20runs.db")
    PosixPath('/tmp/my runs.db')
    """
    return Path(unquote(uri.removeprefix(_SQLITE))).absolute() if uri.startswith(_SQLITE) else None


def sqlite_uri(file: Path) -> str:
    """The URI of a SQLite store by its file, which `sqlite_file` gives back.

    >>> sqlite_uri(Path("/tmp/100%25.db"))
    'sqlite:////tmp/100%2525.db'
    """
    return _SQLITE + str(file.absolute()).replace("%", "%25").replace("?", "%3F")


def shown(uri: str) -> str:
    """A store's address without a password.

    >>> shown("postgresql://me:secret@host/runs")
    'postgresql://me:***@host/runs'
    """
    # To the last "@": where it is not escaped, a password may hold "@", "/" and ":".
    return re.sub(r"(?<=://)([^/@:]*):.*@", r"\1:***@", uri)


def is_server(uri: str) -> bool:
    """Whether the store is a tracking server's address."""
    return uri.startswith(("http://", "https://"))


def local_folder(uri: str) -> Path | None:
    """The folder of artifacts that an address names, if it is on this machine.

    >>> local_folder("file:///data/my%20runs"), local_folder("s3://bucket/runs")
    (PosixPath('/data/my runs'), None)
    """
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(url2pathname(parts.path))
    return Path(uri) if not parts.scheme and Path(uri).is_absolute() else None


ARTIFACTS = "mlartifacts"
"""The folder of artifacts beside a SQLite file."""


def beside(folder: Path, file: Path) -> Path:
    """Where a run's artifacts are if they were moved together with their SQLite file.

    MLflow keeps whole paths, which another machine or folder does not have.

    Args:
        folder: of the artifacts, as the store has it.
        file: of the store.

    >>> beside(Path("/old/mlartifacts/study/1f/artifacts"), Path("/new/mlflow.db"))
    PosixPath('/new/mlartifacts/study/1f/artifacts')
    """
    if ARTIFACTS not in folder.parts:
        return folder
    last = len(folder.parts) - 1 - folder.parts[::-1].index(ARTIFACTS)
    return file.parent.joinpath(*folder.parts[last:])


def experiment_settings(uri: str, study: str) -> dict[str, Any]:
    """How a study's experiment is created: keyword arguments of MLflow's `create_experiment`.

    Beside a SQLite file the artifacts go to `mlartifacts`; anywhere else the server decides.
    """
    file = sqlite_file(uri)
    location = None if file is None else (file.parent / ARTIFACTS / study).as_uri()
    # MLflow's UI would otherwise take an experiment for one of language models.
    tags = {"mlflow.experimentKind": "custom_model_development"}
    return {"artifact_location": location, "tags": tags}


def print_anywhere() -> None:
    """Lets a program print every text on every terminal: what it cannot show becomes `?`.

    An ASCII terminal would otherwise end it with a UnicodeEncodeError.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def quiet_client() -> None:
    """Sets up MLflow's client before its first use: fails fast, and prints nothing of its own.

    Callers do their own retries, for as long as it takes.
    """
    for name, value in {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }.items():
        os.environ.setdefault(name, value)


_URI = re.compile(
    r"sqlite:///[^?]+|(postgresql|mysql|mssql)(\+\w+)?://\S+|https?://[^/\s:]+(:\d+)?(/\S*)?"
)


def check_uri(uri: str) -> None:
    """Sees whether a store can be at such an address at all.

    Raises:
        ValueError: it cannot; or a Python package for its database is missing.
    """
    if ":memory:" in uri or uri in ("sqlite://", _SQLITE):
        raise ValueError(
            f"tracking URI '{uri}': a database in memory is gone when the process ends; name a "
            "file, such as sqlite:///mlflow.db"
        )
    if not _URI.fullmatch(uri):
        raise ValueError(
            f"tracking URI '{shown(uri)}': expected sqlite:///file.db, postgresql://… or "
            "http://host:port"
        )
    file = sqlite_file(uri)
    if file is not None and (file.is_dir() or "\0" in str(file)):
        raise ValueError(f"tracking URI '{uri}': {file} is a folder; name a file in it")
    check_driver(uri)


def check_driver(uri: str) -> None:
    """Looks for the Python package that a database URI needs; servers' addresses need none.

    Args:
        uri: `sqlite:///file`, `postgresql+psycopg://…`, `http://host:port`, ….

    Raises:
        DriverMissing: it is not installed, or there is none for such a URI.
    """
    if is_server(uri) or uri.startswith(_SQLITE):
        return
    import sqlalchemy

    safe = uri.partition("://")[0] + "://…"
    try:
        url = sqlalchemy.engine.make_url(uri)
        safe = url.render_as_string(hide_password=True)
        url.get_dialect().import_dbapi()
    except (ImportError, sqlalchemy.exc.NoSuchModuleError) as error:
        hint = (
            "write postgresql+psycopg://… and pip install 'jackpot[postgresql]'"
            if uri.startswith("postgresql")
            else "install it with pip"
        )
        raise DriverMissing(f"'{safe}' needs a Python package ({error}): {hint}") from None
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise DriverMissing(f"'{safe}' is no database URI: {one_line(error)}") from None


class Page(Protocol[Item]):
    """A page of what MLflow's client finds; `token` asks for the next one."""

    token: str | None

    def __iter__(self) -> Iterator[Item]: ...


def every(ask: Callable[..., Page[Item]]) -> Iterator[Item]:
    """All that is found, page by page.

    Args:
        ask: MLflow's search for one page, all but its argument `page_token`.
    """
    token: str | None = None
    while True:
        page = ask(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def one_line(error: object, most: int = 300) -> str:
    """An error's text on one line, cut to `most` characters.

    >>> one_line(ValueError("two\\n  lines"))
    'two lines'
    """
    return " ".join(str(error).split())[:most]
