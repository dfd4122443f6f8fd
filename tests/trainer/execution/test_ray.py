"""Several runs at once end as the same runs one after another do."""

import logging
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.trainer import stored
from tests.trainer.execution.test_faults import command, journals, wait_for_epochs

ray = pytest.importorskip("ray")
METRICS = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray that runs already: its workers have imported all they need after the first study."""
    ray.init(
        address="local",
        include_dashboard=False,
        # Beside the other tests, workers as nice as Ray has them would hardly run at all.
        _system_config={"worker_niceness": 0},
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": {"KERAS_BACKEND": "torch"}},
    )
    yield
    ray.shutdown()


def end_state(uri: str) -> dict[str, tuple]:
    """What a study leaves, by run name: key, status, every point, every file."""
    client = MlflowClient(uri)
    found = {}
    for run in stored.runs(uri):
        points = tuple(
            (metric, point.step, point.value)
            for metric in METRICS
            for point in client.get_metric_history(run.info.run_id, metric)
        )
        key = run.data.tags["run_key"]
        assert run.info.run_name not in found, "no run twice"
        found[run.info.run_name] = (key, run.info.status, points, stored.files(uri, run))
    return found


def test_a_study_ends_as_the_serial_one(cluster, write_config, store_uri, train, tmp_path, capsys):
    config = write_config()
    serial = f"sqlite:///{tmp_path}/serial/mlflow.db"
    assert train(config, "--tracking-uri", serial) == 0
    capsys.readouterr()
    assert train(config, "--executor", "ray", "--runs-per-device", "2") == 0
    said = capsys.readouterr().out
    # On a busy machine there are lines of its progress too: "trial=1: epoch 2, …".
    assert len(re.findall(r"trial=1: (?!epoch)", said)) == 9, "the end of each run is told once"
    assert end_state(store_uri) == end_state(serial)
    assert ray.is_initialized(), "left as it was found"
    assert train(config, "--executor", "ray") == 0
    assert "nothing to train" in capsys.readouterr().out


def test_workers_step_groups_of_runs_and_fill_all_places(
    cluster, write_config, store_uri, train, tmp_path
):
    config = write_config(
        settings="[lt]", pruners="[omp]", learning_rates="[0.05, 0.1, 0.02, 0.2, 0.01]", fuse="4"
    )
    assert train(config, "--executor", "ray", "--runs-per-device", "2") == 0
    found = {run.info.run_name: run for run in stored.runs(store_uri)}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    # Five runs of a kind, two places: groups of three and two.
    groups = sorted(run.data.tags["fused"] for run in found.values())
    assert groups == ["2"] * 4 + ["3"] * 6
    serial = f"sqlite:///{tmp_path}/serial/mlflow.db"
    assert train(config, "--set", "fuse=off", "--tracking-uri", serial) == 0
    for run in stored.runs(serial):
        same = found[run.info.run_name].data.metrics
        assert same["loss"] == pytest.approx(run.data.metrics["loss"], rel=1e-3)


def test_a_cluster_of_ones_own_is_started_and_stopped():
    from trainer.execution.ray_executor import connected

    running = ray.is_initialized()
    if running:
        ray.shutdown()
    with connected(None):
        assert ray.is_initialized()
        assert ray.cluster_resources()["CPU"] >= 1
    assert not ray.is_initialized()


def training_worker() -> int | None:
    """The process of a Ray worker that trains."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if line.startswith(b"ray::_trained"):
            return int(folder.name)
    return None


@pytest.mark.slow
def test_a_killed_worker_costs_nothing(write_config, store_uri, train, tmp_path):
    config = write_config(
        settings="[lt]", pruners="[omp]", training="{epochs: 60, batch_size: 16, rewind_epoch: 1}"
    )
    process = subprocess.Popen(
        [*command(config, store_uri), "--executor", "ray"], stdout=subprocess.PIPE, text=True
    )
    wait_for_epochs(tmp_path, 10, process)
    victim = training_worker()
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert "going on after" in said
    undisturbed = f"sqlite:///{tmp_path}/undisturbed/mlflow.db"
    assert train(config, "--tracking-uri", undisturbed) == 0
    assert end_state(store_uri) == end_state(undisturbed)


@pytest.mark.slow
def test_ctrl_c_stops_all_workers_and_the_same_command_goes_on(
    write_config, store_uri, train, tmp_path
):
    config = write_config(
        settings="[pretrain]",
        learning_rates="[0.05, 0.1, 0.2]",
        training="{epochs: 80, batch_size: 16}",
    )
    process = subprocess.Popen(
        [*command(config, store_uri), "--executor", "ray"], stdout=subprocess.PIPE, text=True
    )
    wait_for_epochs(tmp_path, 5, process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    deadline = time.monotonic() + 20
    while training_worker() is not None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert training_worker() is None
    kept = max(path.read_text().count('"metrics"') for path in journals(tmp_path))
    assert kept >= 5
    assert train(config, "--set", "training.epochs=80") == 0
    for run in stored.runs(store_uri):
        assert stored.steps(store_uri, run, "loss") == list(range(1, 81))


@pytest.mark.parametrize(
    ("free", "needed", "busy", "cores", "expected"),
    [
        (80, 2, 0.25, 16, 4),  # as many as keep it busy
        (80, 30, 0.25, 16, 2),  # as many as fit
        (80, 2, 0.25, 3, 3),  # as many as are fed
        (80, 2, 0.01, 64, 8),
        (80, 100, 1.0, 16, 1),
    ],
)
def test_runs_share_a_gpu_while_they_fit_and_it_idles(free, needed, busy, cores, expected):
    from trainer.execution.ray_executor import groups_per_gpu

    assert groups_per_gpu(free, needed, busy, cores=cores) == expected


def test_without_a_cluster_at_the_address_it_says_so(write_config, train, capsys, unused_tcp_port):
    address = f"127.0.0.1:{unused_tcp_port}"
    arguments = ("--executor", "ray", "--ray-address", address)
    assert train(write_config(settings="[pretrain]"), *arguments) == 2
    assert f"--ray-address {address}: no Ray cluster answers" in capsys.readouterr().err
    assert train(write_config(), "--runs-per-device", "2") == 2
    assert "need --executor ray" in capsys.readouterr().err


@pytest.mark.slow
def test_a_lost_node_costs_nothing(write_config, store_uri, train, tmp_path):
    from ray.cluster_utils import Cluster

    config = write_config(trials="2", training="{epochs: 30, batch_size: 16, rewind_epoch: 1}")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    other = cluster.add_node(num_cpus=1)
    process = subprocess.Popen(
        [*command(config, store_uri), "--executor", "ray", "--ray-address", cluster.address],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_epochs(tmp_path, 10, process)
        cluster.remove_node(other, allow_graceful=False)
        said, _ = process.communicate(timeout=280)
        assert process.returncode == 0, said
    finally:
        process.kill()
        cluster.shutdown()
    undisturbed = f"sqlite:///{tmp_path}/undisturbed/mlflow.db"
    assert train(config, "--tracking-uri", undisturbed) == 0
    assert end_state(store_uri) == end_state(undisturbed)
