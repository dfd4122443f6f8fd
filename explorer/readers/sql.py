"""Reads SQLite and PostgreSQL stores by read-only SQL: many times faster than MLflow's API.

MLflow's tables are its own (as of 3.17): the API stays the reference, and
`tests/explorer/test_readers.py` compares the two.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import polars as pl

from explorer.readers.api import ApiReader, reading
from explorer.readers.frames import LISTED, METRICS, POINTS, SCHEMA, TAGS, raw_type
from jackpot import stores
from jackpot.contract import PARENT_TAG, Param, Tag

if TYPE_CHECKING:
    import sqlalchemy

# MLflow stores NaN as 0 and a flag.
_NAN = pl.when("is_nan").then(math.nan).otherwise("value")
_RUNS = (
    "FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id "
    f"JOIN tags k ON k.run_uuid = r.run_uuid AND k.key = '{Tag.KIND}'"
)
_ACTIVE = "r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active'"


def _quoted(file: Path) -> str:
    # Twice: SQLAlchemy reads it as a part of its URL, SQLite as a file's URI.
    return quote("file:" + quote(str(file)), safe=":/")


class SqlReader(ApiReader):
    """A tracking store in a database, read only.

    Artifacts that lie on this machine are read where they are: MLflow's client takes seconds to
    load. Others come through the API.
    """

    @contextmanager
    def artifact(self, run_id: str, name: str) -> Iterator[Path]:
        """A run's artifact, for use within the `with` block; not to be changed.

        Raises:
            StoreUnavailable: the artifact is gone, or its store away.
        """
        with reading(f"'{name}' of run {run_id} cannot be had: "):
            kept = self._query(
                "SELECT artifact_uri FROM runs WHERE run_uuid = :run",
                {"uri": pl.String},
                run=run_id,
            )["uri"].to_list()
        folder = stores.local_folder(kept[0]) if kept and kept[0] else None
        store = stores.sqlite_file(self.uri)
        if folder is not None:
            moved = [] if store is None else [stores.beside(folder, store)]
            for file in (at / name for at in (folder, *moved)):
                if ".." not in file.parts and file.is_file():
                    yield file
                    return
        with super().artifact(run_id, name) as path:
            yield path

    def listing(self) -> pl.DataFrame | None:
        """What tells whether a run has changed: the columns `LISTED` of active runs.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        with reading():
            return self._query(
                f"SELECT r.run_uuid, r.status, r.end_time, t.value, c.value {_RUNS} "
                f"LEFT JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = '{Tag.LANDSCAPE}' "
                f"LEFT JOIN tags c ON c.run_uuid = r.run_uuid AND c.key = '{Tag.CONNECTIVITY}' "
                f"WHERE {_ACTIVE}",
                {name: raw_type(name) for name in LISTED},
            )

    def _raw_runs(self, ids: Sequence[str] | None) -> pl.DataFrame:
        """One table after another, the names beside a run's values turned into columns."""
        chosen, values = f"{_RUNS} WHERE {_ACTIVE}", {}
        if ids is not None:
            values = {f"id{i}": run_id for i, run_id in enumerate(ids)}
            chosen += f" AND r.run_uuid IN ({', '.join(f':{name}' for name in values)})"
        text, number = {"run_id": pl.String, "key": pl.String}, pl.Float64
        runs = self._query(
            "SELECT r.run_uuid, CAST(r.experiment_id AS VARCHAR(20)), r.name, r.status, "
            f"r.start_time, r.end_time, r.artifact_uri {chosen}",
            {name: raw_type(name) for name in list(SCHEMA)[:7]},
            **values,
        )
        for table, names, columns in (
            ("params", Param, {"value": pl.String}),
            ("tags", [*TAGS, PARENT_TAG], {"value": pl.String}),
            ("latest_metrics", METRICS, {"value": number, "is_nan": pl.Boolean}),
        ):
            listed = ", ".join(f"'{name}'" for name in names)
            long = self._query(
                f"SELECT run_uuid, key, {', '.join(columns)} FROM {table} "
                f"WHERE key IN ({listed}) AND run_uuid IN (SELECT r.run_uuid {chosen})",
                text | columns,
                **values,
            )
            if "is_nan" in columns:
                long = long.select("run_id", "key", _NAN.alias("value"))
            runs = runs.join(long.pivot("key", index="run_id", values="value"), "run_id", "left")
        return runs.rename({PARENT_TAG: "launch_id"}, strict=False)

    def _points(self, run_ids: Sequence[str], metric: str) -> pl.DataFrame:
        if not run_ids:
            return super()._points(run_ids, metric)
        names = [f"run{i}" for i in range(len(run_ids))]
        return self._query(
            # So that the index on key cannot be used: the index on runs is far more selective.
            "SELECT run_uuid, step, timestamp, value, is_nan FROM metrics WHERE "
            f"key || '' = :metric AND run_uuid IN ({', '.join(':' + n for n in names)})",
            POINTS | {"is_nan": pl.Boolean},
            metric=metric,
            **dict(zip(names, run_ids, strict=True)),
        ).with_columns(_NAN.alias("value"))

    @cached_property
    def _engine(self) -> "sqlalchemy.Engine":
        import sqlalchemy

        file = stores.sqlite_file(self.uri)
        if file is not None:
            return sqlalchemy.create_engine(f"sqlite:///{_quoted(file)}?mode=ro&uri=true")
        engine = sqlalchemy.create_engine(self.uri)
        return engine.execution_options(postgresql_readonly=True)

    def _query(
        self, query: str, schema: Mapping[str, type[pl.DataType]], **values: Any
    ) -> pl.DataFrame:
        import sqlalchemy

        with self._engine.connect() as connection:
            rows = connection.execute(sqlalchemy.text(query), values).fetchall()
        return pl.DataFrame(list(map(tuple, rows)), schema=schema, orient="row")
