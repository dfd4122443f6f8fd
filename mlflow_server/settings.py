"""What a tracking server is started with: flags, or a YAML file that flags override."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from jackpot import stores
from jackpot.contract import DEFAULT_TRACKING_URI


class SettingsError(Exception):
    """The settings cannot be used; the message names the file or flag, and what was expected."""


class Settings(BaseModel):
    """A tracking server.

    Attributes:
        backend_store_uri: database: `sqlite:///file` or `postgresql+psycopg://…`.
        artifacts: where files of runs go, through the server: a folder, or `s3://bucket/path`.
            Left out: `mlartifacts` beside a SQLite database, else in the current folder.
        host, port: where it listens.
        workers: processes that answer. Left out: 1 on SQLite, which has one writer anyway, else 4.
        allowed_hosts: names under which browsers may reach it, beside localhost.
        cors_allowed_origins: other sites whose pages may call it.
        auth: ask for user and password (MLflow's basic auth).
        pool_size: database connections per worker.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    backend_store_uri: str = DEFAULT_TRACKING_URI
    artifacts: str | None = None
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 5000
    workers: Annotated[int, Field(ge=1, le=64)] | None = None
    allowed_hosts: list[str] = []
    cors_allowed_origins: list[str] = []
    auth: bool = False
    # Sixty writers at once drain MLflow's own pool of fifteen (HTTP 400 "QueuePool limit").
    pool_size: Annotated[int, Field(ge=1, le=500)] = 50

    @field_validator("backend_store_uri")
    @classmethod
    def _is_a_database(cls, uri: str) -> str:
        if not uri.startswith(("sqlite:///", "postgresql")) or uri == "sqlite:///":
            raise ValueError("expected sqlite:///file.db or postgresql+psycopg://user@host/name")
        return uri

    @property
    def sqlite_file(self) -> Path | None:
        """The database file, if the database is one."""
        return stores.sqlite_file(self.backend_store_uri)

    @property
    def artifact_root(self) -> str:
        """Where files of runs go."""
        if self.artifacts is not None:
            return self.artifacts
        folder = self.sqlite_file.parent if self.sqlite_file else Path.cwd()
        return str(folder / "mlartifacts")

    @property
    def processes(self) -> int:
        """Worker processes."""
        return self.workers or (1 if self.sqlite_file else 4)


def load(path: Path | None, flags: dict[str, Any]) -> Settings:
    """The settings in a YAML file, if one is named, with `flags` in their place.

    Raises:
        SettingsError: the file cannot be read, or something in it or a flag is wrong.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")) or {}
        except (OSError, ValueError, RecursionError, YAMLError) as error:
            raise SettingsError(f"{path}: {stores.one_line(error)}") from None
        if not isinstance(values, dict):
            raise SettingsError(f"{path}: expected keys such as 'port: 5000'")
    try:
        return Settings.model_validate(values | flags)
    except ValidationError as error:
        lines = [_line(path, flags, detail) for detail in error.errors()]
        raise SettingsError("\n".join(lines)) from None


def _line(path: Path | None, flags: dict[str, Any], detail: Any) -> str:
    key = str(detail["loc"][0]) if detail["loc"] else ""
    place = f"--{key.replace('_', '-')}" if key in flags else f"{path}: {key}"
    if detail["type"] == "extra_forbidden":
        return f"{place}: unknown; known are {', '.join(Settings.model_fields)}"
    message = str(detail["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return f"{place}: {message}, received {detail['input']!r}"
