"""Eight processes that log at once: into SQLite, a server on SQLite, a server on PostgreSQL.

    python -m benchmarks.load [--processes 8] [--runs 4]

Each process makes runs through the trainer's own tracking code and logs 160 epochs of five metrics
to each, ten epochs per call, as fast as it can: far faster than training would. Prints the time of
all, the time of a call, and how many points are lost. PostgreSQL is Debian's, started on loopback;
without it that row is left out.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from jackpot.contract import Kind, Metric, Param, Tag
from tests.servers import PG_CTL, Postgresql, Server, free_port
from trainer.store.journal import RunStart
from trainer.store.tracking import Store

EPOCHS, PER_CALL = 160, 10
METRICS = (
    *(Metric.LOSS, Metric.ACCURACY, Metric.VAL_LOSS, Metric.VAL_ACCURACY),
    Metric.LEARNING_RATE,
)


def log_runs(uri: str, process: int, runs: int) -> list[float]:
    """Logs some runs; seconds of each call. Any error is the caller's."""
    store, took = Store(uri), []
    store.create_schema()  # Imports and the first connection are not what is measured.

    def timed(call: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        answer = call(*arguments)
        took.append(time.perf_counter() - began)
        return answer

    for number in range(runs):
        key = f"load-{process}-{number}"
        start = RunStart(
            key=key,
            kind=Kind.TRAINING,
            experiment="load",
            name=key,
            params={Param.SETTING: "pretrain", Param.TRIAL: str(number)},
            tags={Tag.KIND: Kind.TRAINING, Tag.RUN_KEY: key},
        )
        run_id = timed(store.create, start, 1_000, {})
        timed(store.log_params, run_id, start.params)
        for first in range(1, EPOCHS + 1, PER_CALL):
            points = [
                (metric, epoch / EPOCHS, 1_000 + epoch, epoch)
                for epoch in range(first, first + PER_CALL)
                for metric in METRICS
            ]
            timed(store.log, run_id, points, {Tag.HEARTBEAT: str(first)})
        timed(store.terminate, run_id, "FINISHED")
    return took


def lost_points(uri: str, processes: int, runs: int) -> int:
    """Points that were logged and are not in the store."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("load")
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    there = sum(
        len({point.step for point in client.get_metric_history(run.info.run_id, metric)})
        for run in found
        for metric in METRICS
    )
    return processes * runs * EPOCHS * len(METRICS) - there


def load(uri: str, processes: int, runs: int) -> tuple[float, np.ndarray, int]:
    """Seconds of all, seconds of each call, and points lost."""
    Store(uri).create_schema()
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        began = time.perf_counter()
        every = list(pool.map(log_runs, [uri] * processes, range(processes), [runs] * processes))
        took = time.perf_counter() - began
    return took, np.concatenate(every), lost_points(uri, processes, runs)


@contextmanager
def served(database: str, folder: Path) -> Iterator[str]:
    """A tracking server on a database, while it is used."""
    server = Server(folder, free_port(), database)
    server.start()
    try:
        yield server.uri
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--runs", type=int, default=4)
    options = parser.parse_args()

    def row(name: str, uri: str) -> None:
        took, calls, lost = load(uri, options.processes, options.runs)
        middle, worst = 1000 * np.quantile(calls, [0.5, 0.99])
        print(
            f"{name:>24}: {took:6.1f} s, a call {middle:6.0f} ms (median), {worst:6.0f} ms (p99), "
            f"{lost} points lost",
            flush=True,
        )

    with tempfile.TemporaryDirectory() as folder:
        row("SQLite", f"sqlite:///{folder}/direct.db")
        with served(f"sqlite:///{folder}/served.db", Path(folder)) as uri:
            row("server on SQLite", uri)
        if PG_CTL:
            with Postgresql() as database:
                row("PostgreSQL", database.uri)
            with Postgresql() as database, served(database.uri, Path(folder)) as uri:
                row("server on PostgreSQL", uri)


if __name__ == "__main__":
    main()
