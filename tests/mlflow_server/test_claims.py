"""Launches from two folders on one server train each run once."""

import subprocess
import sys
from pathlib import Path

from tests.configs import tiny
from tests.trainer import stored


def test_two_folders_on_one_server_train_each_run_once(postgresql_server: str, tmp_path: Path):
    processes = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        recipe = "{epochs: 6, batch_size: 16, rewind_epoch: 1}"
        config = tiny(tmp_path / name, study="twice", training=recipe)
        command = [sys.executable, "-m", "trainer", "--config", str(config)]
        processes.append(
            subprocess.Popen(
                [*command, "--tracking-uri", postgresql_server],
                cwd=tmp_path / name,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    said = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    runs = stored.runs(postgresql_server, study="twice")
    assert len(runs) == 9
    assert len({run.data.tags["run_key"] for run in runs}) == 9
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        first = 2 if run.info.run_name.startswith("wr") else 1
        assert stored.steps(postgresql_server, run, "loss") == list(range(first, 7))
