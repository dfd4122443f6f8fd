from pathlib import Path

import polars as pl
from mlflow import MlflowClient

from explorer.readers import reader
from explorer.readers.frames import launches, of_plan, trainings
from mlflow_server.copy import main
from tests.trainer import stored
from trainer.store.ticket import load_ticket

_OF_THE_STORE = ["run_id", "experiment_id", "artifact_uri", "mask_run_id", "init_run_id"]


def of_the_study(uri: str) -> pl.DataFrame:
    """Runs of the study that is copied: other tests use the server too."""
    return reader(uri).runs().filter(pl.col("study") == "moved")


def test_a_study_moves_from_a_file_to_a_server(
    write_config, train, store_uri: str, postgresql_server: str, capsys
):
    config = write_config(study="moved", settings="[lt, sdt]")
    assert train(config) == 0
    assert main([store_uri, postgresql_server, "--study", "moved"]) == 0
    assert "moved: 6 runs copied, 0 were there" in capsys.readouterr().out
    here, there = reader(store_uri).runs(), of_the_study(postgresql_server)
    same = [name for name in here.columns if name not in (*_OF_THE_STORE, "launch_id")]
    assert here.select(same).equals(there.select(same))
    # What runs say of each other holds in the new store.
    (launch,) = launches(there)["run_id"]
    assert set(trainings(there)["launch_id"]) == {launch}
    ids = dict(here.select("run_key", "run_id").iter_rows())
    new = dict(there.select("run_key", "run_id").iter_rows())
    translated = {ids[key]: new[key] for key in ids}
    for column in ("mask_run_id", "init_run_id"):
        expected = here[column].replace_strict(translated, default=None)
        assert there[column].equals(expected)
    assert of_plan(there, reader(postgresql_server).plan(launch)).height == 5
    # Every point, at its time.
    run = trainings(here).filter(pl.col("setting") == "sdt").row(0, named=True)
    for metric in ("loss", "val_accuracy"):
        first = MlflowClient(store_uri).get_metric_history(run["run_id"], metric)
        second = MlflowClient(postgresql_server).get_metric_history(
            translated[run["run_id"]], metric
        )
        assert [(m.step, m.timestamp, m.value) for m in first] == [
            (m.step, m.timestamp, m.value) for m in second
        ]
    # What MLflow's own UI shows: the images, and the description of the study.
    first, second = (
        MlflowClient(uri).get_run(run_id).inputs.dataset_inputs
        for uri, run_id in (
            (store_uri, run["run_id"]),
            (postgresql_server, translated[run["run_id"]]),
        )
    )
    assert [i.to_dictionary() for i in first] == [i.to_dictionary() for i in second]
    assert len(first) == 1
    notes = {
        MlflowClient(uri).get_experiment_by_name("moved").tags["mlflow.note.content"]
        for uri in (store_uri, postgresql_server)
    }
    assert len(notes) == 1
    sparse = trainings(there).filter(pl.col("pruner") == "omp").row(0, named=True)
    _, mask = load_ticket(sparse["run_id"], postgresql_server)
    assert mask

    # Again: nothing; after a half-done copy: that run anew; the trainer knows them all.
    assert main([store_uri, postgresql_server]) == 0
    assert "moved: 0 runs copied, 6 were there" in capsys.readouterr().out
    client = MlflowClient(postgresql_server)
    client.update_run(sparse["run_id"], status="RUNNING")
    assert main([store_uri, postgresql_server]) == 0
    assert "moved: 1 runs copied, 5 were there" in capsys.readouterr().out
    assert len(stored.runs(postgresql_server, study="moved")) == 5
    assert train(config, "--tracking-uri", postgresql_server) == 0
    assert "nothing to train" in capsys.readouterr().out


def test_what_cannot_be_copied_is_said(tmp_path: Path, capsys, unused_tcp_port: int):
    assert main([f"sqlite:///{tmp_path}/none.db", "http://127.0.0.1:1"]) == 2
    assert "there is no such file" in capsys.readouterr().err
    assert not (tmp_path / "none.db").exists()
