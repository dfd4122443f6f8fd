"""Reads an MLflow tracking store into polars frames: the explorer's only door to MLflow.

Two ways lead to equal frames: MLflow's API, which every store has, and read-only SQL where the
store is a SQLite or PostgreSQL database, which is many times faster. SQL reads MLflow's private
tables, so the API stays the reference (`tests/explorer/test_store.py` compares them).
"""

import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from jackpot import stores as drivers
from jackpot.contract import PARENT_TAG, Artifact, Kind, Metric, Param, Tag
from mlflow_server import search

if TYPE_CHECKING:
    import sqlalchemy
    from mlflow import MlflowClient
    from mlflow.entities import Run

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

# MLflow stores NaN as 0 and a flag.
_NAN = pl.when("is_nan").then(math.nan).otherwise("value")
_NUMBERS: dict[str, type[pl.DataType]] = {
    Param.SPARSITY: pl.Float64,
    Param.ROUND: pl.Int64,
    Param.LEARNING_RATE: pl.Float64,
    Param.PRETRAIN_LEARNING_RATE: pl.Float64,
    Param.EPOCHS: pl.Int64,
    Param.BATCH_SIZE: pl.Int64,
    Param.MOMENTUM: pl.Float64,
    Param.WEIGHT_DECAY: pl.Float64,
    Param.WARMUP_EPOCHS: pl.Int64,
    Param.REWIND_EPOCH: pl.Int64,
    Param.VALIDATION_IMAGES: pl.Int64,
    Param.TRIAL: pl.Int64,
    Param.SEED: pl.Int64,
}
# A metric that is also a param (learning_rate) appears once, as the param.
_METRICS = [m for m in Metric if m not in set(Param)]
_TAGS = [
    *(Tag.RUN_KEY, Tag.PLAN_KEY, Tag.STUDY, Tag.KIND, Tag.PARENT_RUN_KEYS),
    *(Tag.MASK_RUN_ID, Tag.INIT_RUN_ID, Tag.FAILURE, Tag.DEVICE, Tag.LANDSCAPE),
]
SCHEMA: dict[str, type[pl.DataType]] = {
    "run_id": pl.String,
    "experiment_id": pl.String,
    "name": pl.String,
    "status": pl.String,
    "start_time": pl.Int64,
    "end_time": pl.Int64,
    "artifact_uri": pl.String,
    **{str(param): _NUMBERS.get(param, pl.String) for param in Param},
    **{str(metric): pl.Float64 for metric in _METRICS},
    **{str(tag): pl.String for tag in _TAGS},
    "launch_id": pl.String,
}


PLAN_SCHEMA: dict[str, type[pl.DataType]] = {
    **dict.fromkeys(("run_key", "name", "parent_run_keys"), pl.String),
    **{str(param): SCHEMA[param] for param in Param},
}
_LISTED = ["run_id", "status", "end_time", str(Tag.LANDSCAPE)]
_RUNS = (
    "FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id "
    f"JOIN tags k ON k.run_uuid = r.run_uuid AND k.key = '{Tag.KIND}'"
)
_ACTIVE = "r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active'"


class StoreUnavailable(Exception):
    """The store cannot be read; the message says why."""


class Store:
    """A tracking store, read only.

    Args:
        uri: `sqlite:///file`, `postgresql://…` or a server's `http(s)://host:port`.
        api: read through MLflow's API even where SQL would do.
    """

    def __init__(self, uri: str, *, api: bool = False) -> None:
        self.uri = uri
        self._sql = not api and uri.startswith(("sqlite:///", "postgresql"))

    def runs(self, ids: Sequence[str] | None = None) -> pl.DataFrame:
        """Active launches and trainings of the trainer, one row each, columns as in `SCHEMA`.

        Args:
            ids: of the runs to read; None: all of them.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        if ids is not None and not ids:
            return pl.DataFrame(schema=SCHEMA)
        if self.uri.startswith("sqlite:///") and not Path(self.uri[10:]).exists():
            raise StoreUnavailable(f"there is no database {Path(self.uri[10:]).absolute()}")
        try:
            drivers.check(self.uri)
        except drivers.DriverMissing as error:
            raise StoreUnavailable(str(error)) from None
        with _reading():
            return _typed(self._sql_runs(ids) if self._sql else self._api_runs(ids))

    def listing(self) -> pl.DataFrame | None:
        """What tells whether a run has changed: `run_id status end_time landscape` of active runs.

        None where only the slow API could tell.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        if not self._sql:
            return None
        with _reading():
            return self._query(
                f"SELECT r.run_uuid, r.status, r.end_time, t.value {_RUNS} LEFT JOIN tags t "
                f"ON t.run_uuid = r.run_uuid AND t.key = '{Tag.LANDSCAPE}' WHERE {_ACTIVE}",
                {name: _raw(name) for name in _LISTED},
            )

    def curves(self, run_ids: Sequence[str], metric: str) -> pl.DataFrame:
        """One metric of some runs by epoch: `run_id step value`, the last value of each step.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        schema = {"run_id": pl.String, "step": pl.Int64, "timestamp": pl.Int64, "value": pl.Float64}
        with _reading():
            if self._sql and run_ids:
                names = [f"run{i}" for i in range(len(run_ids))]
                # Said so that the index on key is of no use: that of the runs is much narrower.
                points = self._query(
                    "SELECT run_uuid, step, timestamp, value, is_nan FROM metrics WHERE "
                    f"key || '' = :metric AND run_uuid IN ({', '.join(':' + n for n in names)})",
                    schema | {"is_nan": pl.Boolean},
                    metric=metric,
                    **dict(zip(names, run_ids, strict=True)),
                ).with_columns(_NAN.alias("value"))
            else:
                rows = [
                    (run_id, point.step, point.timestamp, point.value)
                    for run_id in run_ids
                    for point in self._client.get_metric_history(run_id, metric)
                ]
                points = pl.DataFrame(rows, schema=schema, orient="row")
        return (
            points.sort("run_id", "step", "timestamp")
            .unique(["run_id", "step"], keep="last", maintain_order=True)
            .select("run_id", "step", "value")
        )

    def plan(self, launch_id: str) -> pl.DataFrame:
        """The runs that a launch planned: `run_key name parent_run_keys` and the contract's params.

        Raises:
            StoreUnavailable: the artifact is gone, or its store away.
        """
        with (
            self.artifact(launch_id, Artifact.LAUNCH_PLAN) as path,
            _reading(f"the plan of launch {launch_id} is damaged: "),
        ):
            runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
            rows = [
                {name: run.get(name) for name in PLAN_SCHEMA}
                | {"parent_run_keys": ",".join(run.get("parent_run_keys", []))}
                for run in runs
            ]
            frame = pl.DataFrame(rows, schema=dict.fromkeys(PLAN_SCHEMA, pl.String))
        return frame.with_columns(
            pl.col(name).cast(kind, strict=False) for name, kind in PLAN_SCHEMA.items()
        )

    @contextmanager
    def artifact(self, run_id: str, name: str) -> Iterator[Path]:
        """A local copy of a run's artifact, for as long as it is looked at.

        Raises:
            StoreUnavailable: the artifact is gone, or its store away.
        """
        with tempfile.TemporaryDirectory(prefix="jackpot-explorer-") as folder:
            with _reading(f"'{name}' of run {run_id} cannot be had: "):
                path = Path(self._client.download_artifacts(run_id, name, folder))
            yield path

    @cached_property
    def _client(self) -> "MlflowClient":
        from mlflow import MlflowClient

        return MlflowClient(self.uri)

    @cached_property
    def _engine(self) -> "sqlalchemy.Engine":
        import sqlalchemy

        if self.uri.startswith("sqlite:///"):
            path = Path(self.uri.removeprefix("sqlite:///")).absolute()
            return sqlalchemy.create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
        engine = sqlalchemy.create_engine(self.uri)
        return engine.execution_options(postgresql_readonly=True)

    def _query(
        self, query: str, schema: dict[str, type[pl.DataType]], **values: Any
    ) -> pl.DataFrame:
        import sqlalchemy

        with self._engine.connect() as connection:
            rows = connection.execute(sqlalchemy.text(query), values).fetchall()
        return pl.DataFrame(list(map(tuple, rows)), schema=schema, orient="row")

    def _sql_runs(self, ids: Sequence[str] | None) -> pl.DataFrame:
        """One table after another, the names beside a run's values turned into columns."""
        chosen, values = f"{_RUNS} WHERE {_ACTIVE}", {}
        if ids is not None:
            values = {f"id{i}": run_id for i, run_id in enumerate(ids)}
            chosen += f" AND r.run_uuid IN ({', '.join(f':{name}' for name in values)})"
        text, number = {"run_id": pl.String, "key": pl.String}, pl.Float64
        runs = self._query(
            "SELECT r.run_uuid, CAST(r.experiment_id AS VARCHAR(20)), r.name, r.status, "
            f"r.start_time, r.end_time, r.artifact_uri {chosen}",
            {name: _raw(name) for name in list(SCHEMA)[:7]},
            **values,
        )
        for table, names, columns in (
            ("params", Param, {"value": pl.String}),
            ("tags", [*_TAGS, PARENT_TAG], {"value": pl.String}),
            ("latest_metrics", _METRICS, {"value": number, "is_nan": pl.Boolean}),
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

    def _api_runs(self, ids: Sequence[str] | None) -> pl.DataFrame:
        return _rows(self._api_found() if ids is None else map(self._client.get_run, ids))

    def changed_since(self, since: int) -> pl.DataFrame:
        """As `runs`, only those that started or ended after `since` (ms) or are running: the API.

        A run of which the store learns late is not among them.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        with _reading():
            found = {
                run.info.run_id: run
                # MLflow's filters know no "or": three questions.
                for condition in (
                    f" and attributes.start_time > {since}",
                    f" and attributes.end_time > {since}",
                    " and attributes.status = 'RUNNING'",
                )
                for run in self._api_found(condition)
            }
            return _typed(_rows(found.values()))

    def _api_found(self, condition: str = "") -> Iterator["Run"]:
        experiments = [e.experiment_id for e in self._client.search_experiments()]
        for kind in Kind:
            asked = f"tags.{Tag.KIND} = '{kind}'{condition}"
            yield from search.found(self._client, experiments, asked)


def different(old: pl.DataFrame, listing: pl.DataFrame) -> pl.Series:
    """Ids of the runs in a `listing` that `old` lacks or has otherwise, or that still run."""
    held = old.select(_LISTED)
    same = listing.filter(pl.col("status") != "RUNNING").join(
        held, on=_LISTED, how="semi", nulls_equal=True
    )
    return listing.join(same, on="run_id", how="anti")["run_id"]


def merged(old: pl.DataFrame, new: pl.DataFrame, ids: pl.Series | None = None) -> pl.DataFrame:
    """`old` with the rows of `new` in place of theirs; without runs that are not in `ids`."""
    kept = old.join(new.select("run_id"), on="run_id", how="anti")
    frame = pl.concat([kept, new])
    if ids is not None:
        frame = frame.filter(pl.col("run_id").is_in(ids.implode()))
    return frame.sort("start_time", "run_id")


def trainings(runs: pl.DataFrame) -> pl.DataFrame:
    """The training runs among `runs`."""
    return runs.filter(pl.col(Tag.KIND) == Kind.TRAINING)


def launches(runs: pl.DataFrame) -> pl.DataFrame:
    """The launches among `runs`, the newest first."""
    return runs.filter(pl.col(Tag.KIND) == Kind.LAUNCH).sort("start_time", descending=True)


def of_plan(runs: pl.DataFrame, plan: pl.DataFrame) -> pl.DataFrame:
    """The trainings of a plan, in whichever experiment they were logged; one per run key.

    Of several attempts at a key, the finished one counts, else the newest.
    """
    return (
        trainings(runs)
        .join(plan.select("run_key").unique(), on="run_key", how="semi")
        .sort(pl.col("status") != "FINISHED", -pl.col("start_time"))
        .unique("run_key", keep="first", maintain_order=True)
        .sort("start_time", "run_id")
    )


def pending(plan: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """The runs of a plan that may yet finish: neither finished nor failed, nor below a failed one.

    Args:
        plan: from `Store.plan`.
        runs: of that plan; see `of_plan`.
    """
    ended = dict(runs.select("run_key", "status").iter_rows())
    lost = {key for key, status in ended.items() if status == "FAILED"}
    for key, parents in plan.select("run_key", "parent_run_keys").iter_rows():
        # Parents come first in a plan.
        if lost & set((parents or "").split(",")):
            lost.add(key)
    finished = {key for key, status in ended.items() if status == "FINISHED"}
    return plan.filter(~pl.col("run_key").is_in(list(lost | finished)))


def _rows(runs: Iterable["Run"]) -> pl.DataFrame:
    """Runs as MLflow's API gives them, as a frame of the store's own types."""
    raw = {name: _raw(name) for name in SCHEMA}
    rows = [{name: row.get(name) for name in raw} for row in map(_api_row, runs)]
    return pl.DataFrame(rows, schema=raw)


def _api_row(run: "Run") -> dict[str, Any]:
    info = run.info
    return {
        "run_id": info.run_id,
        "experiment_id": info.experiment_id,
        "name": info.run_name,
        "status": info.status,
        "start_time": info.start_time,
        "end_time": info.end_time,
        "artifact_uri": info.artifact_uri,
        **run.data.params,
        **{name: value for name, value in run.data.metrics.items() if name in _METRICS},
        **run.data.tags,
        "launch_id": run.data.tags.get(PARENT_TAG),
    }


def _raw(name: str) -> type[pl.DataType]:
    """A column's type in the store, which keeps params and tags as text."""
    is_number = name in ("start_time", "end_time") or name in _METRICS
    return SCHEMA[name] if is_number else pl.String


def _typed(raw: pl.DataFrame) -> pl.DataFrame:
    """The columns of `SCHEMA`; what is no number where one belongs becomes null."""
    return raw.select(
        (pl.col(name) if name in raw.columns else pl.lit(None, _raw(name)).alias(name)).cast(
            kind, strict=False
        )
        for name, kind in SCHEMA.items()
    ).sort("start_time", "run_id")


@contextmanager
def _reading(what: str = "") -> Iterator[None]:
    """Whatever MLflow, its drivers or a damaged file raise means: this cannot be read."""
    try:
        yield
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise StoreUnavailable(f"{what}{type(error).__name__}: {text}") from error
