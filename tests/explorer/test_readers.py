import math
from pathlib import Path

import polars as pl
import pytest
from mlflow import MlflowClient

from explorer.readers import ApiReader, SqlReader, StoreUnavailable, reader
from explorer.readers.frames import (
    SCHEMA,
    different,
    launches,
    merged,
    of_plan,
    pending,
    trainings,
)
from explorer.snapshot import Snapshot

READERS = {False: SqlReader, True: ApiReader}
PARAMS = {
    **{"network": "lenet-300-100", "dataset": "digits", "setting": "lt", "pruner": "imp"},
    **{"sparsity": "0.5", "learning_rate": "0.1", "trial": "1", "epochs": "4"},
}
_EMPTY = pl.DataFrame(schema=SCHEMA)


def test_sql_and_api_give_equal_frames(trained: str):
    sql, api = reader(trained).runs(), ApiReader(trained).runs()
    assert dict(sql.schema) == dict(api.schema) == dict(pl.Schema(SCHEMA))
    assert sql.equals(api)
    some = sql["run_id"][3:6].to_list()
    assert reader(trained).runs(some).equals(ApiReader(trained).runs(some))
    assert reader(trained).runs(some)["run_id"].to_list() == some
    assert reader(trained).runs([]).is_empty()


def test_sql_and_api_give_equal_frames_on_postgresql(
    postgresql: str, write_config, train, tmp_path: Path
):
    assert train(write_config(settings="[lt, sdt]"), "--tracking-uri", postgresql) == 0
    client = MlflowClient(postgresql)
    some = trainings(reader(postgresql).runs())["run_id"][0]
    for value in (math.nan, math.inf, -math.inf):
        for step in (4, 5):
            client.log_metric(some, "val_loss", value, step=step)
        sql, api = reader(postgresql), ApiReader(postgresql)
        assert dict(sql.runs().schema) == dict(pl.Schema(SCHEMA))
        assert sql.runs().equals(api.runs())
    assert sql.curves([some], "val_loss").equals(api.curves([some], "val_loss"))
    assert sql.curves([some], "val_loss")["value"].is_nan().any() is False
    assert sql.runs().height == 6, "five trainings and their launch"
    before = sql.runs()
    gone = trainings(before)["run_id"][1]
    client.delete_run(gone)
    listing = sql.listing()
    assert gone not in set(listing["run_id"])
    assert different(before, listing).is_empty()
    assert merged(before, sql.runs([]), listing["run_id"]).equals(api.runs())


def test_sql_and_api_read_equal_artifacts(trained: str):
    sql, api = reader(trained), ApiReader(trained)
    (launch,) = launches(sql.runs())["run_id"]
    assert sql.plan(launch).equals(api.plan(launch))
    with sql.artifact(launch, "config.yaml") as here, api.artifact(launch, "config.yaml") as copy:
        assert here.read_bytes() == copy.read_bytes()
        assert here != copy
    for missing in ("nothing.json", "../../mlflow.db"):
        with (
            pytest.raises(StoreUnavailable, match="cannot be had"),
            sql.artifact(launch, missing),
        ):
            pass


def test_the_frame_holds_what_was_trained(trained: str):
    runs = trainings(reader(trained).runs())
    finished = runs.filter(pl.col("status") == "FINISHED")
    assert finished.height == 2 * 2 * 9, "two rates, two trials, nine runs; the third diverges"
    assert runs.filter(pl.col("status") == "FAILED")["failure"].str.contains("became").all()
    assert set(finished["setting"]) == {"pretrain", "lt", "rr", "wr", "sdt"}
    assert finished.filter(pl.col("setting") == "pretrain")["pruner"].is_null().all()
    assert finished["val_accuracy"].is_between(0, 1).all()


def test_a_plan_finds_its_runs_by_key(trained: str):
    store = reader(trained)
    runs = store.runs()
    (launch,) = launches(runs)["run_id"]
    plan = store.plan(launch)
    assert plan.height == 3 * 2 * 9
    found = of_plan(runs, plan)
    assert found.height == trainings(runs).height
    # A failed attempt gives way to a finished one of the same key, and nothing is counted twice.
    twice = pl.concat([runs, runs.with_columns(pl.lit("FAILED").alias("status"))])
    assert of_plan(twice, plan).filter(pl.col("status") == "FINISHED").height == 36


def test_curves_have_one_point_per_epoch(trained: str):
    store = reader(trained)
    run = store.runs().filter(pl.col("setting") == "wr").row(0, named=True)
    curves = store.curves([run["run_id"]], "val_accuracy")
    assert curves["step"].to_list() == [2, 3, 4]
    assert curves["value"][-1] == run["val_accuracy"]
    several = store.runs()["run_id"].to_list()
    for metric in ("loss", "learning_rate"):
        assert store.curves(several, metric).equals(ApiReader(trained).curves(several, metric))
    assert store.curves([], "loss").is_empty()


@pytest.mark.parametrize("api", [False, True])
def test_a_refresh_sees_what_the_store_learns_late(write_config, train, store_uri: str, api: bool):
    assert train(write_config(settings="[pretrain]")) == 0
    snapshot = Snapshot(READERS[api](store_uri))
    snapshot.refresh()
    client = MlflowClient(store_uri)
    experiment = snapshot.runs["experiment_id"][0]

    def refreshed() -> pl.DataFrame:
        snapshot._read_at = snapshot._whole_at = -1e9  # As if time had passed.
        snapshot.refresh()
        return snapshot.runs

    # A run that began and ended long ago, delivered only now.
    late = client.create_run(experiment, start_time=1_000, tags={"kind": "training"}).info.run_id
    assert "RUNNING" in set(refreshed().filter(pl.col("run_id") == late)["status"])
    client.log_metric(late, "val_accuracy", 0.5)
    for name, value in PARAMS.items():
        client.log_param(late, name, value)
    client.set_terminated(late, "FINISHED", end_time=2_000)
    (row,) = refreshed().filter(pl.col("run_id") == late).to_dicts()
    assert (row["status"], row["val_accuracy"]) == ("FINISHED", 0.5)
    # A landscape measured after the run had ended.
    client.set_tag(late, "landscape", "pca")
    assert refreshed().filter(pl.col("run_id") == late)["landscape"].to_list() == ["pca"]
    client.delete_run(late)
    assert refreshed().filter(pl.col("run_id") == late).is_empty()


@pytest.mark.parametrize("missing", [*(name for name in PARAMS if name != "pruner")])
def test_a_run_without_a_param_that_every_training_has_is_no_result(store_uri: str, missing: str):
    client = MlflowClient(store_uri)
    run = client.create_run(client.create_experiment("alien"), tags={"kind": "training"})
    for name, value in PARAMS.items():
        if name != missing:
            client.log_param(run.info.run_id, name, value)
    client.log_metric(run.info.run_id, "val_accuracy", 0.9)
    client.set_terminated(run.info.run_id)
    (row,) = reader(store_uri).runs().to_dicts()
    assert row["status"] == "FAILED"
    assert row["failure"] == "it lacks a param that every training has"


def test_only_what_changed_is_read(trained: str, monkeypatch):
    snapshot = Snapshot(reader(trained))
    snapshot.refresh()
    asked = []
    monkeypatch.setattr(snapshot.store, "runs", lambda ids=None: asked.append(ids) or _EMPTY)
    snapshot._read_at = -1e9
    snapshot.refresh()
    assert asked == [[]], "nothing has changed since"


def test_a_plan_knows_what_may_yet_finish(trained: str):
    store = reader(trained)
    runs = store.runs()
    plan = store.plan(launches(runs)["run_id"][0])
    found = of_plan(runs, plan)
    # At rate 900 pretraining and small-dense training diverge, and all others wait for nothing.
    assert pending(plan, found).is_empty()
    half = found.filter(pl.col("learning_rate") != 0.1)
    left = pending(plan, half)
    assert set(left["learning_rate"]) == {0.1}
    assert left.height == 18


def test_changed_and_deleted_runs_are_merged(trained: str):
    runs = reader(trained).runs()
    changed = runs.head(3).with_columns(pl.lit("KILLED").alias("status"))
    ids = runs["run_id"][1:]
    result = merged(runs, changed, ids)
    assert result.height == runs.height - 1
    assert result.filter(pl.col("status") == "KILLED").height >= 2


def test_strangers_experiments_are_left_alone(trained: str, tmp_path: Path):
    uri = f"sqlite:///{tmp_path}/strangers.db"
    client = MlflowClient(uri)
    run = client.create_run(client.create_experiment("someone's"))
    client.log_metric(run.info.run_id, "auc", 0.5)
    for api in (False, True):
        assert READERS[api](uri).runs().is_empty()


def test_what_cannot_be_read_says_why(tmp_path: Path, trained: str):
    with pytest.raises(StoreUnavailable, match="there is no database"):
        reader(f"sqlite:///{tmp_path}/none.db").runs()
    (tmp_path / "text.db").write_text("no database at all, but long enough to be one" * 99)
    with pytest.raises(StoreUnavailable, match="not a database"):
        reader(f"sqlite:///{tmp_path}/text.db").runs()
    with pytest.raises(StoreUnavailable, match="cannot be had"):
        reader(trained).artifact("0" * 32, "plan.json").__enter__()


def test_two_contents_of_one_dataset_are_told_apart():
    """Stores of earlier versions may hold both in one study."""
    rows = [
        {"run_id": str(i), "run_key": str(i), "kind": "training", "dataset": "cifar10"}
        | {"dataset_sha256": digest, "status": "FINISHED", "start_time": i}
        for i, digest in enumerate(["a" * 64, "b" * 64, None])
    ]
    runs = pl.DataFrame(rows, schema=SCHEMA)
    plan = pl.DataFrame({"run_key": ["0", "1", "2"]})
    assert of_plan(runs, plan)["dataset"].to_list() == [
        "cifar10 (images aaaaaaaa)",
        "cifar10 (images bbbbbbbb)",
        "cifar10",
    ]
    assert of_plan(runs[:1], plan)["dataset"].to_list() == ["cifar10"]
