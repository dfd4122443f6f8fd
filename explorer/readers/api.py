"""Reads a tracking store through MLflow's API, which every store has."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from explorer.readers.frames import (
    METRICS,
    PLAN_SCHEMA,
    POINTS,
    SCHEMA,
    Planned,
    labelled,
    raw_type,
    typed,
)
from jackpot import schema, stores
from jackpot.contract import PARENT_TAG, Artifact, Kind, Tag
from jackpot.looks import LookThen

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

stores.quiet_client()
_PAGE = 1000


class StoreUnavailable(Exception):
    """The store cannot be read; the message says why."""


class NoStore(StoreUnavailable):
    """There is none yet."""


class ApiReader:
    """A tracking store, read only, through MLflow's client.

    Args:
        uri: `sqlite:///file`, `postgresql://…` or a server's `http(s)://host:port`.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def runs(self, ids: Sequence[str] | None = None) -> pl.DataFrame:
        """Active launches and trainings of the trainer, one row each, columns as in `SCHEMA`.

        Args:
            ids: of the runs to read; None: all of them.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        if ids is not None and not ids:
            return pl.DataFrame(schema=SCHEMA)
        file = stores.sqlite_file(self.uri)
        if file is not None and not file.exists():
            raise NoStore(f"there is no database {file}")
        try:
            stores.check_driver(self.uri)
        except stores.DriverMissing as error:
            raise StoreUnavailable(str(error)) from None
        with reading():
            return typed(self._raw_runs(ids))

    def listing(self) -> pl.DataFrame | None:
        """What tells whether a run has changed: `run_id status end_time landscape` of active runs.

        None: the API could only tell by reading all of them.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        return None

    def changed_since(self, since: int) -> pl.DataFrame:
        """As `runs`, only those that started or ended after `since` (ms) or are running.

        A run of which the store learns late is not among them.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        with reading():
            found = {
                run.info.run_id: run
                # MLflow's filters have no "or": three searches.
                for condition in (
                    f" and attributes.start_time > {since}",
                    f" and attributes.end_time > {since}",
                    " and attributes.status = 'RUNNING'",
                )
                for run in self._found(condition)
            }
            return typed(_rows(found.values()))

    def curves(self, run_ids: Sequence[str], metric: str) -> pl.DataFrame:
        """One metric of some runs by epoch: `run_id step value`, the last value of each step.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        with reading():
            points = self._points(run_ids, metric)
        return (
            points.sort("run_id", "step", "timestamp")
            .unique(["run_id", "step"], keep="last", maintain_order=True)
            .select("run_id", "step", "value")
        )

    def plan(self, launch_id: str) -> pl.DataFrame:
        """The runs that a launch planned; see `planned`. Raises: StoreUnavailable."""
        return self.planned(launch_id).runs

    def planned(self, launch_id: str) -> Planned:
        """What a launch planned, of an adaptive study so far.

        Raises:
            StoreUnavailable: the artifact is gone, or its store away.
        """
        with (
            self.artifact(launch_id, Artifact.LAUNCH_PLAN) as path,
            reading(f"the plan of launch {launch_id} is damaged: "),
        ):
            plan = json.loads(path.read_text(encoding="utf-8"))
            rows = [
                {name: run.get(name) for name in PLAN_SCHEMA}
                | {"parent_run_keys": ",".join(run.get("parent_run_keys", []))}
                for run in plan["runs"]
            ]
            frame = pl.DataFrame(rows, schema=dict.fromkeys(PLAN_SCHEMA, pl.String))
            said = plan.get("criteria", {})
            criteria = {
                str(name): value if isinstance(value, str) else float(value)
                for name, value in dict(said).items()
            }
            looks = tuple(LookThen.of(look) for look in plan.get("looks", []))
        runs = frame.with_columns(
            pl.col(name).cast(kind, strict=False) for name, kind in PLAN_SCHEMA.items()
        )
        return Planned(labelled(runs), criteria, looks)

    @contextmanager
    def artifact(self, run_id: str, name: str) -> Iterator[Path]:
        """A local copy of a run's artifact, for use within the `with` block.

        Raises:
            StoreUnavailable: the artifact is gone, or its store away.
        """
        with tempfile.TemporaryDirectory(prefix="jackpot-explorer-") as folder:
            with reading(f"'{name}' of run {run_id} cannot be had: "):
                path = Path(self._client.download_artifacts(run_id, name, folder))
            yield path

    @cached_property
    def _client(self) -> "MlflowClient":
        from mlflow import MlflowClient

        # MLflow would migrate a database of an older one.
        schema.check(self.uri)
        return MlflowClient(self.uri)

    def _raw_runs(self, ids: Sequence[str] | None) -> pl.DataFrame:
        """Runs as the store has them: params and tags as text."""
        return _rows(self._found() if ids is None else map(self._client.get_run, ids))

    def _points(self, run_ids: Sequence[str], metric: str) -> pl.DataFrame:
        """`run_id step timestamp value`, all that the store has."""
        rows = [
            (run_id, point.step, point.timestamp, point.value)
            for run_id in run_ids
            for point in self._client.get_metric_history(run_id, metric)
        ]
        return pl.DataFrame(rows, schema=POINTS, orient="row")

    def _found(self, condition: str = "") -> Iterator["Run"]:
        experiments = [e.experiment_id for e in self._client.search_experiments()]
        for kind in Kind if experiments else ():
            asked = f"tags.{Tag.KIND} = '{kind}'{condition}"
            ask = partial(self._client.search_runs, experiments, asked, max_results=_PAGE)
            yield from stores.every(ask)


def _rows(runs: Iterable["Run"]) -> pl.DataFrame:
    """Runs as MLflow's API gives them, as a frame of the store's own types."""
    raw = {name: raw_type(name) for name in SCHEMA}
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
        **{name: value for name, value in run.data.metrics.items() if name in METRICS},
        **run.data.tags,
        "launch_id": run.data.tags.get(PARENT_TAG),
    }


@contextmanager
def reading(what: str = "") -> Iterator[None]:
    """Turns whatever MLflow, its drivers or a damaged file raise into `StoreUnavailable`."""
    try:
        yield
    except Exception as error:
        raise StoreUnavailable(f"{what}{type(error).__name__}: {stores.one_line(error)}") from error
