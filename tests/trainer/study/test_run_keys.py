"""Run keys of the shipped configs never change: a finished run is found again by its key."""

import json
from pathlib import Path

import pytest

from jackpot import revisions
from trainer.study.config_file import load_study
from trainer.study.plan import plan

CONFIGS = Path(__file__).parents[3] / "configs"
# Written from commit 2e8229f, before anything was moved.
GOLDEN = json.loads((Path(__file__).parent / "run_keys.json").read_text())


# Studies that plan more since then: runs, and what their names start with.
MORE = {"weight-rewinding.yaml": (90, "sdt ")}
# What recipes say since then.
BEFORE = ["training.label_smoothing=0", "training.mixup=0", "training.decay_batch_norm=true"]


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_run_keys_of_a_shipped_config_are_those_of_old_stores(name: str, monkeypatch):
    """But for revisions: of networks and datasets that were changed since then."""
    monkeypatch.setattr(revisions, "_NETWORKS", {})
    monkeypatch.setattr(revisions, "_DATASETS", {})
    before = BEFORE if name.endswith("-imagenet.yaml") and "tiny" not in name else []
    found, golden = plan(load_study(CONFIGS / name, before)), GOLDEN[name]
    more, prefix = MORE.get(name, (0, ""))
    assert len(found.runs) == golden["runs"] + more
    # Keys of the first trial by name, so that a difference says where it is.
    keys = {r.name: r.key for r in found.runs if r.trial == 1}
    assert golden["trial 1"].items() <= keys.items()
    assert all(prefix and run.startswith(prefix) for run in keys.keys() - golden["trial 1"].keys())
    assert more or found.key == golden["plan_key"]


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_a_new_revision_shares_no_key_with_the_old_one(name: str):
    study = load_study(CONFIGS / name)
    kept = study.network in ("resnet20", "mobilenet-v1", "lenet-300-100") and (
        study.dataset.name != "cifar100"
    )
    keys = {run.key for run in plan(study).runs}
    old = set(GOLDEN[name]["trial 1"].values())
    assert old <= keys if kept else not old & keys


def test_every_shipped_config_has_its_keys_written_down():
    shipped = {path.name for path in CONFIGS.glob("*.yaml")}
    assert set(GOLDEN) <= shipped
    assert len(GOLDEN) >= 24
