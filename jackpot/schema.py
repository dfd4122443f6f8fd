"""Schemas of MLflow databases: looked at without a change, and made whole or not at all.

MLflow's own client migrates a database of an older MLflow as soon as it opens it, after which the
older one cannot, and leaves a database half made if it is killed meanwhile. So every program asks
here first. MLflow's private names are those of mlflow 3.17: check them when it is upgraded.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from jackpot import stores

if TYPE_CHECKING:
    import sqlalchemy

# Any number, the same for all: launches that make tables of one PostgreSQL database take turns.
_LOCK = 0x6A61636B
# A file that has not changed for so long is not being made any more.
_GROWING_S = 3.0
_RUNS = ("runs", "experiments")


class SchemaError(ValueError):
    """A database that cannot be used as it is; the message says how to mend it."""


class Unreadable(SchemaError):
    """A database that does not answer, or is none."""


@dataclass(frozen=True)
class Found:
    """What a database holds.

    Attributes:
        revision: of MLflow's schema; None if it says none.
        tables: names of its tables.
        runs, experiments: how many rows it has of these; 0 where there is no such table.
    """

    revision: str | None
    tables: frozenset[str]
    runs: int
    experiments: int

    @property
    def is_empty(self) -> bool:
        """Whether nobody has made anything in it."""
        return not self.tables - {"alembic_version"}

    @property
    def is_half_made(self) -> bool:
        """Whether MLflow was killed while it made the tables, or migrated them.

        The first thing that MLflow writes to finished tables is an experiment.
        """
        left_over = any(name.startswith("_alembic_tmp_") for name in self.tables)
        unnamed = self.revision is None and "experiments" in self.tables
        return left_over or (unnamed and not self.experiments)


def latest() -> str:
    """The revision of the installed MLflow's own schema."""
    from mlflow.store.db import utils

    revision: str = utils._get_latest_schema_revision()
    return revision


def look(uri: str) -> Found | None:
    """What a database holds, read without changing it; None if there is no such file.

    Args:
        uri: `sqlite:///file` or another database's URI.

    Raises:
        Unreadable: it does not answer, or is no database.
    """
    file = stores.sqlite_file(uri)
    try:
        if file is None:
            return _look_by_sqlalchemy(uri)
        return _look_at_file(file) if file.exists() else None
    except Exception as error:
        raise Unreadable(
            f"{stores.shown(uri)}: cannot be read as a database: {stores.one_line(error)}"
        ) from None


def copy_of(file: Path, folder: Path) -> str:
    """URI of a copy of a SQLite store in `folder`, which MLflow may open as it likes."""
    copy = folder / "copy.db"
    with closing(_opened(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return stores.sqlite_uri(copy)


def _opened(file: Path) -> sqlite3.Connection:
    # Without a write-ahead log nobody writes to it, and SQLite need not make one to read it.
    alone = not Path(f"{file}-wal").exists()
    how = "immutable=1" if alone else "mode=ro"
    return sqlite3.connect(f"{file.as_uri()}?{how}", uri=True, timeout=20)


def _look_at_file(file: Path) -> Found:
    with closing(_opened(file)) as database:

        def column(query: str) -> list[Any]:
            return [row[0] for row in database.execute(query)]

        tables = frozenset(column("SELECT name FROM sqlite_master WHERE type = 'table'"))
        return _found(tables, column)


def _look_by_sqlalchemy(uri: str) -> Found:
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri)
    try:
        with engine.connect() as connection:
            tables = frozenset(sqlalchemy.inspect(connection).get_table_names())
            return _found(
                tables, lambda query: list(connection.execute(sqlalchemy.text(query)).scalars())
            )
    finally:
        engine.dispose()


def _found(tables: frozenset[str], column: Any) -> Found:
    named = "alembic_version" in tables
    revisions = column("SELECT version_num FROM alembic_version") if named else []
    runs, experiments = (
        column(f"SELECT count(*) FROM {name}")[0] if name in tables else 0 for name in _RUNS
    )
    return Found(revisions[0] if len(revisions) == 1 else None, tables, runs, experiments)


def check(uri: str) -> Found | None:
    """Sees whether MLflow may open a store: nothing in it would be migrated or made.

    Args:
        uri: of any store; a tracking server looks after its own database.

    Returns:
        What is there; None of a server, of no file, and of an empty or half-made database without
        runs, which `make` makes.

    Raises:
        SchemaError: a database of an older or newer MLflow, of another program, or half made.
    """
    if stores.is_server(uri):
        return None
    found = look(uri)
    if found is None or found.is_empty:
        return None
    name = stores.shown(uri)
    if found.is_half_made:
        if found.runs:
            raise SchemaError(
                f"{name}: MLflow was killed while it migrated this database, which holds "
                f"{found.runs:,} runs. Put back the copy that was made before; without one, drop "
                "the tables that are called _alembic_tmp_… and start the server with --upgrade"
            )
        return None
    if found.revision == latest():
        return found
    if found.revision is None:
        raise SchemaError(f"{name}: holds tables of another program; name another database")
    if not _knows(found.revision):
        raise SchemaError(
            f"{name}: its schema ({found.revision}) is newer than this MLflow's; install the "
            "MLflow that wrote it"
        )
    raise SchemaError(
        f"{name}: its schema ({found.revision}) is older than this MLflow's ({latest()}), and once "
        "it is migrated the MLflow that wrote it cannot open it any more. Use another store; or "
        f"back it up, then start once with --upgrade: python -m mlflow_server --backend-store-uri "
        f"{name} --upgrade"
    )


def _knows(revision: str) -> bool:
    """Whether this MLflow knows a revision of the schema."""
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError
    from mlflow.store.db import utils

    script = ScriptDirectory.from_config(utils._get_alembic_config(db_url=""))
    try:
        return script.get_revision(revision) is not None
    except CommandError:
        return False


def make(uri: str) -> str | None:
    """Makes the tables of a new database, whole or not at all; of an existing one, nothing.

    A SQLite file is made beside its name and gets that name when it is whole. A half-made one
    without runs is set aside. In PostgreSQL all happens in one transaction.

    Returns:
        What was done, in words; None if nothing was.

    Raises:
        SchemaError: see `check`.
        OSError: the folder cannot be written.
    """
    stores.quiet_client()
    file = stores.sqlite_file(uri)
    if file is not None:
        check(uri)  # Before even a lock is made beside somebody's file.
        with only_one(file):
            _wait_for_others(file)
            if check(uri) is not None:
                _use_wal(file)
                return None
            aside = _set_aside(file)
            _make_file(file)
        return f"new database: tables made{aside}"
    if stores.is_server(uri) or check(uri) is not None:
        return None
    found = look(uri)
    if found is not None and not found.is_empty:
        raise SchemaError(
            f"{stores.shown(uri)}: MLflow was killed while it made the tables of this database, "
            "which holds no run. Drop the database, create it again, and run the same command"
        )
    return _make_in_one_transaction(uri)


def _wait_for_others(file: Path) -> None:
    """Waits while a half-made file grows: an MLflow that does not ask here may be making it."""
    with suppress(FileNotFoundError):
        while (
            time.time() - file.stat().st_mtime < _GROWING_S
            and check(stores.sqlite_uri(file)) is None
        ):
            time.sleep(0.1)


def _set_aside(file: Path) -> str:
    if not file.exists():
        return ""
    if file.stat().st_size:
        aside = file.with_name(f"{file.name}.half-made-{time.time_ns()}")
        file.rename(aside)
        for suffix in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{file}{suffix}").rename(f"{aside}{suffix}")
        return f"; a half-made one without runs is now {aside.name}"
    file.unlink()
    return ""


def _make_file(file: Path) -> None:
    import sqlalchemy
    from mlflow.store.db import utils

    for left in file.parent.glob(f".{file.name}.making-*"):
        left.unlink(missing_ok=True)  # By a process that was killed: nobody else is here.
    new = file.with_name(f".{file.name}.making-{os.getpid()}")
    engine = sqlalchemy.create_engine(stores.sqlite_uri(new))
    try:
        utils._initialize_tables(engine)
    finally:
        engine.dispose()
    _use_wal(new)
    new.rename(file)


def _use_wal(file: Path) -> None:
    """Readers and the writer do not block each other then; kept in the file."""
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode=WAL")


def _make_in_one_transaction(uri: str) -> str:
    import sqlalchemy
    from alembic import command
    from mlflow.store.db import utils
    from mlflow.store.tracking.dbmodels.initial_models import Base

    engine = sqlalchemy.create_engine(uri)
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            if sqlalchemy.inspect(connection).has_table("experiments"):
                return "tables were made by another process"
            Base.metadata.create_all(connection)
            config = utils._get_alembic_config(uri)
            config.attributes["connection"] = _the_same(connection)
            command.upgrade(config, "heads")
    finally:
        engine.dispose()
    return "new database: tables made"


def _the_same(connection: "sqlalchemy.Connection") -> Any:
    """What MLflow's migrations take for an engine's connection; they open another one of it."""

    @contextmanager
    def connect() -> "Iterator[sqlalchemy.Connection]":
        yield connection

    return SimpleNamespace(engine=SimpleNamespace(connect=connect))


def upgrade(uri: str) -> None:
    """Migrates a database to the installed MLflow's revision."""
    import sqlalchemy
    from mlflow.store.db import utils

    engine = sqlalchemy.create_engine(uri)
    try:
        utils._upgrade_db(engine)
    finally:
        engine.dispose()


@contextmanager
def only_one(file: Path) -> Iterator[None]:
    """Admits one process at a time to what changes a SQLite store as a whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        yield
