"""The trainer's only interface to MLflow."""

import getpass
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from jackpot import schema, stores
from jackpot.contract import (
    DATASET_CONTEXT_TAG,
    DIVERGED,
    NOTE_TAG,
    PARENT_TAG,
    SOURCE_NAME_TAG,
    SOURCE_TYPE_TAG,
    USER_TAG,
    Kind,
    Tag,
)
from trainer.store.journal import RunStart

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

stores.quiet_client()
STALE_AFTER_S = 300
_METRICS_PER_BATCH = _PAGE = 1000
_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")


class StoreAway(Exception):
    """The store cannot be reached, or cannot do it now: trying again may help."""


class StoreRefused(Exception):
    """The store answered, and will answer the same again: the run is gone or the value is bad."""


@dataclass(frozen=True)
class StoredRun:
    """A run in the store.

    Attributes:
        fused: how many runs were stepped side by side, this one included.
        device: what it was trained on.
        study: whose it is.
        dataset_sha256: of the images that it was trained on; empty if it does not say.
        init_run_id, mask_run_id: of the runs that gave its initial weights and its mask; empty if
            none did.
        launch_id: run id of the launch that trained it.
        status: as MLflow has it.
    """

    run_id: str
    key: str
    metrics: dict[str, float]
    params: dict[str, str]
    fused: int
    device: str
    study: str
    dataset_sha256: str
    heartbeat_age_s: float
    init_run_id: str = ""
    mask_run_id: str = ""
    launch_id: str = ""
    status: str = "FINISHED"


class Store:
    """An MLflow tracking store.

    Args:
        uri: `sqlite:///file`, a database URL, or a tracking server's `http(s)://host:port`.
        read_only: nothing is written: a copy of a SQLite store is read.

    Raises:
        ValueError: the URI is invalid, or a Python package for its database is missing.
    """

    def __init__(self, uri: str, read_only: bool = False) -> None:
        stores.check_uri(uri)
        self.uri, self._read_only = uri, read_only
        self._client: MlflowClient | None = None
        self._experiments: dict[str, str] = {}

    @property
    def sqlite_file(self) -> Path | None:
        """The database file, if the store is one."""
        return stores.sqlite_file(self.uri)

    def check_schema(self) -> None:
        """Sees that MLflow would not migrate the store, which others may still open with an older.

        Raises:
            SchemaError: it would, or cannot read the database. One that does not answer is no error
                here: training goes on without it.
        """
        if self.sqlite_file is not None:
            schema.check(self.uri)
            return
        with suppress(schema.Unreadable):
            schema.check(self.uri)

    def create_schema(self) -> None:
        """Connects, and makes a new database's tables. Raises: StoreAway."""
        with _errors():
            self._connected()

    def finished(self, network: str, dataset: str) -> dict[str, StoredRun]:
        """Finished trainings of a network on a dataset by run key, whichever study's.

        Raises:
            StoreAway: the store cannot be reached.
        """
        runs = self._search(
            f"attributes.status = 'FINISHED' and tags.{Tag.KIND} = '{Kind.TRAINING}' "
            f"and params.network = '{network}' and params.dataset = '{dataset}'"
        )
        return {run.key: run for run in map(_stored, runs)}

    def diverged(self, network: str, dataset: str) -> dict[str, str]:
        """Why trainings of a network on a dataset failed that would diverge again, by run key.

        Raises:
            StoreAway: the store cannot be reached.
        """
        runs = self._search(
            f"attributes.status = 'FAILED' and tags.{Tag.KIND} = '{Kind.TRAINING}' "
            f"and params.network = '{network}' and params.dataset = '{dataset}' "
            f"and tags.{Tag.FAILURE} LIKE '%loss became%'"
        )
        reasons = {run.data.tags.get(Tag.RUN_KEY, ""): run.data.tags[Tag.FAILURE] for run in runs}
        return {key: why for key, why in reasons.items() if re.match(DIVERGED, why)}

    def divergence(self, key: str) -> str | None:
        """Why a training of one key diverged; None if none has. Raises: StoreAway."""
        failed = self._search(_with_key(key, "FAILED"))
        reasons = (run.data.tags.get(Tag.FAILURE, "") for run in failed)
        return next((why for why in reasons if re.match(DIVERGED, why)), None)

    def running(self, key: str) -> list[StoredRun]:
        """Runs of one key that say they are running. Raises: StoreAway."""
        return [_stored(run) for run in self._search(_with_key(key, "RUNNING"))]

    def finished_run(self, key: str) -> StoredRun | None:
        """A finished run of one key. Raises: StoreAway."""
        return next(map(_stored, self._search(_with_key(key, "FINISHED"))), None)

    def launch_of(self, study: str, plan_key: str) -> tuple[str, str] | None:
        """Run id and status of an earlier launch of the same plan. Raises: StoreAway."""
        launches = self._search(
            f"tags.{Tag.KIND} = '{Kind.LAUNCH}' and tags.{Tag.PLAN_KEY} = '{plan_key}' "
            f"and tags.{Tag.STUDY} = '{study}'"
        )
        return next(((run.info.run_id, run.info.status) for run in launches), None)

    def launches(self, study: str) -> list[str]:
        """Run ids of a study's launches, the newest first. Raises: StoreAway."""
        found = self._search(f"tags.{Tag.KIND} = '{Kind.LAUNCH}' and tags.{Tag.STUDY} = '{study}'")
        latest = sorted(found, key=lambda run: run.info.start_time, reverse=True)
        return [run.info.run_id for run in latest]

    def create(self, start: RunStart, start_time: int, tags: dict[str, str]) -> str:
        """Creates the run that `start` describes, without its params, and returns its id.

        Raises:
            StoreAway, StoreRefused.
        """
        with _errors():
            experiment = self._experiment(start.experiment)
            # Asked for anew next time if this one turns out to be deleted.
            del self._experiments[start.experiment]
            run = self._connected().create_run(
                experiment,
                start_time=start_time,
                run_name=start.name,
                tags={
                    SOURCE_NAME_TAG: "python -m trainer",
                    SOURCE_TYPE_TAG: "LOCAL",
                    USER_TAG: _user(),
                    **start.tags,
                    **tags,
                },
            )
            self._experiments[start.experiment] = experiment
            run_id: str = run.info.run_id
            if start.about:
                self._describe(experiment, start.about)
        return run_id

    def _describe(self, experiment: str, about: str) -> None:
        """Sets the experiment's description, unless somebody has written another."""
        client = self._connected()
        known = client.get_experiment(experiment).tags.get(NOTE_TAG, "")
        # Ours begin with the study's name, whatever its network was then.
        if not known or known.partition(":")[0] == about.partition(":")[0]:
            client.set_experiment_tag(experiment, NOTE_TAG, about)

    def log_dataset(self, run_id: str, name: str, digest: str) -> None:
        """Says which images the run was trained on; the same again is no error.

        Args:
            run_id: of the run.
            name: of the dataset.
            digest: SHA-256 of its images and labels.

        Raises:
            StoreAway, StoreRefused.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        # MLflow's digests have 36 characters at most.
        images = Dataset(name, digest[:36], "code", json.dumps({"tags": {"dataset": name}}))
        used = [InputTag(DATASET_CONTEXT_TAG, "training")]
        with _errors():
            self._connected().log_inputs(run_id, [DatasetInput(images, used)])

    def log_params(self, run_id: str, params: dict[str, str]) -> None:
        """Logs params; the same again is no error. Raises: StoreAway, StoreRefused."""
        from mlflow.entities import Param

        with _errors():
            self._connected().log_batch(run_id, params=[Param(*item) for item in params.items()])

    def created_at(self, key: str, start_time: int) -> str | None:
        """Id of the run of one key made at `start_time` (ms), if it is there. Raises: StoreAway."""
        runs = self._search(f"tags.{Tag.RUN_KEY} = '{key}'")
        return next((r.info.run_id for r in runs if r.info.start_time == start_time), None)

    def log(
        self, run_id: str, metrics: list[tuple[str, float, int, int]], tags: dict[str, str]
    ) -> None:
        """Logs metrics (name, value, time in ms, step) and tags, as few calls as MLflow allows.

        Raises:
            StoreAway, StoreRefused.
        """
        from mlflow.entities import Metric as MlflowMetric
        from mlflow.entities import RunTag

        points = [MlflowMetric(*metric) for metric in metrics]
        labels = [RunTag(name, value) for name, value in tags.items()]
        with _errors():
            for first in range(0, max(len(points), 1), _METRICS_PER_BATCH):
                self._connected().log_batch(
                    run_id,
                    metrics=points[first : first + _METRICS_PER_BATCH],
                    tags=labels if first == 0 else [],
                )

    def put(self, run_id: str, file: Path, name: str) -> None:
        """Stores `file` as the run's artifact `name`. Raises: StoreAway, StoreRefused."""
        folder = name.rpartition("/")[0] or None
        with _errors():
            self._connected().log_artifact(run_id, str(file), folder)

    def fetch(self, run_id: str, name: str, into: Path) -> Path:
        """A local file of the run's artifact `name`, downloaded into `into` if it is elsewhere.

        Raises:
            StoreAway: the store or its artifacts cannot be reached, or there is no such artifact.
            StoreRefused: there is no such run.
        """
        with _errors():
            moved = self._moved(run_id)
            if moved is not None and (moved / name).exists():
                return moved / name
            return Path(self._connected().download_artifacts(run_id, name, str(into)))

    def _moved(self, run_id: str) -> Path | None:
        """Where a run's artifacts are if they were moved together with their SQLite file."""
        if self.sqlite_file is None:
            return None
        kept = stores.local_folder(self._connected().get_run(run_id).info.artifact_uri)
        if kept is None or kept.exists() or ".." in kept.parts:
            return None
        return stores.beside(kept, self.sqlite_file)

    def run(self, run_id: str) -> StoredRun:
        """The run of an id. Raises: StoreAway, StoreRefused."""
        with _errors():
            return _stored(self._connected().get_run(run_id))

    def listed(self, run_id: str, folder: str) -> list[str]:
        """Names of a run's artifacts in a folder. Raises: StoreAway, StoreRefused."""
        with _errors():
            return [item.path for item in self._connected().list_artifacts(run_id, folder)]

    def resume(self, run_id: str) -> None:
        """Marks the run as running again, without the reason for which it had ended.

        Raises:
            StoreAway, StoreRefused.
        """
        with _errors():
            client = self._connected()
            client.update_run(run_id, status="RUNNING")
            if Tag.FAILURE in client.get_run(run_id).data.tags:
                client.delete_tag(run_id, Tag.FAILURE)

    def withdraw(self, run_id: str) -> None:
        """Deletes a run that was only claimed. Raises: StoreAway, StoreRefused."""
        with _errors():
            self._connected().delete_run(run_id)

    def terminate(self, run_id: str, status: str, end_time: int | None = None) -> None:
        """Ends the run. Raises: StoreAway, StoreRefused."""
        with _errors():
            self._connected().set_terminated(run_id, status, end_time)

    def _search(self, condition: str) -> Iterator["Run"]:
        if self.sqlite_file and not self.sqlite_file.exists():
            return  # There is no store yet, and a search should not create it.
        if self._read_only and not stores.is_server(self.uri):
            with _errors():
                if schema.check(self.uri) is None:
                    return
        with _errors():
            client = self._connected()
            experiments = [e.experiment_id for e in client.search_experiments()]
            if experiments:
                ask = partial(client.search_runs, experiments, condition, max_results=_PAGE)
                yield from stores.every(ask)

    def _connected(self) -> "MlflowClient":
        if self._client is None:
            from mlflow import MlflowClient

            uri = self.uri
            if self._read_only and self.sqlite_file:
                # MLflow's client writes to a store by opening it.
                self._copy = TemporaryDirectory(prefix="jackpot-")
                uri = schema.copy_of(self.sqlite_file, Path(self._copy.name))
            elif not self._read_only:
                schema.make(uri)
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
            self._client = client
        return self._client

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Admits one process at a time: several cannot create an experiment at once."""
        with schema.only_one(self.sqlite_file) if self.sqlite_file else nullcontext():
            yield

    def _experiment(self, study: str) -> str:
        if study not in self._experiments:
            client = self._connected()
            with self._alone():
                found = client.get_experiment_by_name(study)
                if found is not None and found.lifecycle_stage == "deleted":
                    self._restore(found.experiment_id)
                self._experiments[study] = (
                    found.experiment_id if found else self._create_experiment(study)
                )
        return self._experiments[study]

    def _restore(self, experiment: str) -> None:
        """Restores a deleted experiment, whose name MLflow keeps taken, but none of its runs."""
        client = self._connected()
        from mlflow.entities import ViewType

        ask = partial(client.search_runs, [experiment], "", ViewType.ALL, max_results=_PAGE)
        runs = stores.every(ask)
        deleted = [run.info.run_id for run in runs]
        client.restore_experiment(experiment)
        for run_id in deleted:
            client.delete_run(run_id)

    def _create_experiment(self, study: str) -> str:
        from mlflow.exceptions import MlflowException

        try:
            return self._connected().create_experiment(
                study, **stores.experiment_settings(self.uri, study)
            )
        except MlflowException:
            # Another launch, on another machine, was faster.
            found = self._connected().get_experiment_by_name(study)
            if found is None:
                raise
            return found.experiment_id


def _with_key(key: str, status: str) -> str:
    return f"tags.{Tag.RUN_KEY} = '{key}' and attributes.status = '{status}'"


def _stored(run: "Run") -> StoredRun:
    tags: dict[str, Any] = run.data.tags
    beat = run.info.start_time / 1000
    with suppress(KeyError, ValueError):
        beat = float(tags[Tag.HEARTBEAT])
    return StoredRun(
        run_id=run.info.run_id,
        key=tags.get(Tag.RUN_KEY, ""),
        metrics=dict(run.data.metrics),
        params=dict(run.data.params),
        fused=int(tags.get(Tag.FUSED, "1")),
        device=tags.get(Tag.DEVICE, ""),
        study=tags.get(Tag.STUDY, ""),
        dataset_sha256=tags.get(Tag.DATASET_SHA256, ""),
        # A clock ahead of ours must not make a run immortal.
        heartbeat_age_s=abs(time.time() - beat),
        init_run_id=tags.get(Tag.INIT_RUN_ID, ""),
        mask_run_id=tags.get(Tag.MASK_RUN_ID, ""),
        launch_id=tags.get(PARENT_TAG, ""),
        status=run.info.status,
    )


@contextmanager
def _errors() -> Iterator[None]:
    """Sorts what MLflow and its drivers raise into "away" and "refused"."""
    try:
        yield
    except (StoreAway, StoreRefused):
        raise
    except Exception as error:
        text = stores.one_line(error)
        # MlflowException, which is not imported here because that takes seconds.
        if getattr(error, "error_code", "") in _REFUSALS:
            raise StoreRefused(text) from error
        raise StoreAway(f"{type(error).__name__}: {text}") from error


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
