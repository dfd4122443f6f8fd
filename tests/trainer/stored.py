"""Reads a store the way a stranger would: through MLflow's client alone."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Run

from jackpot import artifacts


def runs(uri: str, kind: str = "training", study: str | None = None) -> list[Run]:
    client = MlflowClient(uri)
    experiments = [e for e in client.search_experiments() if study in (None, e.name)]
    found = client.search_runs(
        [e.experiment_id for e in experiments], f"tags.kind = '{kind}'", max_results=1000
    )
    return sorted(found, key=lambda run: run.info.start_time)


def labelled(uri: str) -> dict[str, Run]:
    """Runs by name without learning rate and trial."""
    found = runs(uri)
    named = {run.info.run_name.partition(" lr=")[0]: run for run in found}
    assert len(named) == len(found)
    return named


def steps(uri: str, run: Run, metric: str) -> list[int]:
    return [m.step for m in MlflowClient(uri).get_metric_history(run.info.run_id, metric)]


def file(run: Run, name: str) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://")) / name


def mask(run: Run) -> dict[str, np.ndarray]:
    return artifacts.read_mask(file(run, "ticket/mask.safetensors"))[0]


def weights(run: Run, name: str = "weights/final.safetensors") -> dict[str, np.ndarray]:
    sparse = file(run, "ticket/mask.safetensors").exists()
    return artifacts.read_weights(file(run, name), mask(run) if sparse else None)[0]


def files(uri: str, run: Run) -> dict[str, tuple]:
    """Arrays and metadata of each of a run's files, as its store gives them out."""
    with TemporaryDirectory() as folder:
        root = Path(MlflowClient(uri).download_artifacts(run.info.run_id, "", folder))
        read = {
            str(path.relative_to(root)): artifacts.read(path)
            for path in root.rglob("*.safetensors")
        }
    assert read
    return {
        name: ({key: array.tobytes() for key, array in arrays.items()}, metadata)
        for name, (arrays, metadata) in read.items()
    }
