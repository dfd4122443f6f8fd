import math
from pathlib import Path

import polars as pl
import pytest
from mlflow import MlflowClient

from explorer.store import SCHEMA, Store, StoreUnavailable, launches, merged, of_plan, trainings


def test_sql_and_api_give_equal_frames(trained: str):
    sql, api = Store(trained).runs(), Store(trained, api=True).runs()
    assert dict(sql.schema) == dict(api.schema) == dict(pl.Schema(SCHEMA))
    assert sql.equals(api)
    since = int(sql["start_time"].median())
    some, same = Store(trained).runs(since), Store(trained, api=True).runs(since)
    assert some.equals(same)
    assert 0 < some.height < sql.height


def test_sql_and_api_give_equal_frames_on_postgresql(
    postgresql: str, write_config, train, tmp_path: Path
):
    assert train(write_config(settings="[lt, sdt]"), "--tracking-uri", postgresql) == 0
    client = MlflowClient(postgresql)
    some = trainings(Store(postgresql).runs())["run_id"][0]
    for value in (math.nan, math.inf, -math.inf):
        for step in (4, 5):
            client.log_metric(some, "val_loss", value, step=step)
        sql, api = Store(postgresql), Store(postgresql, api=True)
        assert dict(sql.runs().schema) == dict(pl.Schema(SCHEMA))
        assert sql.runs().equals(api.runs())
    assert sql.curves([some], "val_loss").equals(api.curves([some], "val_loss"))
    assert sql.curves([some], "val_loss")["value"].is_nan().any() is False
    assert sql.runs().height == 6, "five trainings and their launch"
    since = int(sql.runs()["start_time"].median())
    assert sql.runs(since).equals(api.runs(since))
    gone = trainings(sql.runs())["run_id"][1]
    client.delete_run(gone)
    assert gone not in set(sql.ids())
    assert merged(sql.runs(), sql.runs(since), sql.ids()).equals(api.runs())


def test_the_frame_holds_what_was_trained(trained: str):
    runs = trainings(Store(trained).runs())
    finished = runs.filter(pl.col("status") == "FINISHED")
    assert finished.height == 2 * 2 * 9, "two rates, two trials, nine runs; the third diverges"
    assert runs.filter(pl.col("status") == "FAILED")["failure"].str.contains("became").all()
    assert set(finished["setting"]) == {"pretrain", "lt", "rr", "wr", "sdt"}
    assert finished.filter(pl.col("setting") == "pretrain")["pruner"].is_null().all()
    assert finished["val_accuracy"].is_between(0, 1).all()


def test_a_plan_finds_its_runs_by_key(trained: str):
    store = Store(trained)
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
    store = Store(trained)
    run = store.runs().filter(pl.col("setting") == "wr").row(0, named=True)
    curves = store.curves([run["run_id"]], "val_accuracy")
    assert curves["step"].to_list() == [2, 3, 4]
    assert curves["value"][-1] == run["val_accuracy"]
    several = store.runs()["run_id"].to_list()
    for metric in ("loss", "learning_rate"):
        assert store.curves(several, metric).equals(
            Store(trained, api=True).curves(several, metric)
        )
    assert store.curves([], "loss").is_empty()


def test_changed_and_deleted_runs_are_merged(trained: str):
    runs = Store(trained).runs()
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
        assert Store(uri, api=api).runs().is_empty()


def test_what_cannot_be_read_says_why(tmp_path: Path, trained: str):
    with pytest.raises(StoreUnavailable, match="there is no database"):
        Store(f"sqlite:///{tmp_path}/none.db").runs()
    (tmp_path / "text.db").write_text("no database at all, but long enough to be one" * 99)
    with pytest.raises(StoreUnavailable, match="not a database"):
        Store(f"sqlite:///{tmp_path}/text.db").runs()
    with pytest.raises(StoreUnavailable, match="cannot be had"):
        Store(trained).artifact("0" * 32, "plan.json")
