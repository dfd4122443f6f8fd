import pytest

from jackpot import settings
from tests.trainer.study.test_plan import BASE, study
from trainer.execution.estimate import LAUNCH_S, RUN_S, Speed, Speeds, from_earlier_runs, seconds
from trainer.store.tracking import StoredRun
from trainer.study.groups import in_turn
from trainer.study.plan import plan

FAST, SLOW = Speed({1: 0.001, 4: 0.002}, 0.0005), Speed({1: 0.01}, 0.001)


def small(**replace: object):
    return study(
        dataset={"name": "cifar10", "train_images": 1000, "test_images": 200},
        training={"epochs": 10, "batch_size": 64, "rewind_epoch": 4},
        learning_rates=[0.1],
        trials=1,
        **replace,
    )


def took(config, speeds: Speeds, most: int = 1) -> float:
    """Of all runs, without what a launch and a run take besides."""
    runs = plan(config).runs
    return seconds(in_turn(runs, most), speeds) - LAUNCH_S - RUN_S * len(runs)


def test_the_time_of_one_run_is_that_of_its_images():
    alone = small(settings=["pretrain"])
    assert took(alone, Speeds({"pretrain": FAST}, "")) == pytest.approx(10 * (1 + 0.1))
    thinned = small(settings=["pretrain"])
    thinned = thinned.model_copy(
        update={"training": thinned.training.model_copy(update={"evaluate_every": 4})}
    )
    # After epochs 4, 8, and the last.
    assert took(thinned, Speeds({"pretrain": FAST}, "")) == pytest.approx(10 + 3 * 0.1)


def test_a_setting_has_its_own_speed_or_the_slowest_known():
    config = small(settings=["pretrain", "sdt"], pruning={"sparsities": [0.36]})
    known = Speeds({settings.PRETRAIN.name: SLOW, settings.SDT.name: FAST}, "")
    assert took(config, known) == pytest.approx(10 * (10 + 0.2) + 10 * (1 + 0.1))
    unknown = Speeds({settings.PRETRAIN.name: SLOW, settings.LT.name: FAST}, "")
    assert took(config, unknown) == pytest.approx(2 * 10 * (10 + 0.2))


def test_runs_leave_their_group_when_they_are_done():
    config = small(settings=["wr", "lt"], pruners=["omp"], pruning={"sparsities": [0.36]})
    speeds = Speeds({"pretrain": FAST}, "")
    # Pretraining alone; then LT beside WR for the six epochs of WR, and four alone.
    between = 0.001 + (0.002 - 0.001) / 3
    expected = 10 * 1.1 + 6 * 1000 * between + 4 * 1.0 + (10 + 6) * 0.1
    assert took(config, speeds, most=2) == pytest.approx(expected)


def test_more_networks_than_were_measured_cost_in_proportion():
    assert FAST.per_image(4) == 0.002
    assert FAST.per_image(8) == 0.004
    assert SLOW.per_image(3) == pytest.approx(0.03)


def test_earlier_runs_of_the_same_kind_count():
    config = study(training=BASE["training"])

    def run(rate: float, **of: object) -> StoredRun:
        params = {"setting": "lt", "batch_size": "64"} | of.pop("params", {})
        known = {"fused": 1, "device": "cpu"} | of
        return StoredRun(
            run_id="",
            key="",
            metrics={"images_per_second": rate},
            params=params,
            study="",
            dataset_sha256="",
            heartbeat_age_s=0,
            **known,
        )

    alike = [run(100), run(300), run(200), run(25, fused=4)]
    others = [
        run(9, device="NVIDIA H100"),
        run(9, params={"batch_size": "32"}),
        run(9, params={"precision": "bfloat16"}),
        run(9, params={"devices_per_run": "2"}),
    ]
    speeds = from_earlier_runs(config, [*alike, *others], "cpu")
    assert speeds is not None
    assert dict(speeds.by_setting["lt"].image_s) == {1: 1 / 200, 4: 1 / 25}
    assert speeds.origin == "the speed of 4 earlier runs"
    assert from_earlier_runs(config, others, "cpu") is None
