"""Run keys of the shipped configs never change: a finished run is found again by its key."""

import json
from pathlib import Path

import pytest

from trainer.study.config_file import load_study
from trainer.study.plan import plan

CONFIGS = Path(__file__).parents[3] / "configs"
# Written from commit 2e8229f, before anything was moved.
GOLDEN = json.loads((Path(__file__).parent / "run_keys.json").read_text())


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_run_keys_of_a_shipped_config_are_those_of_old_stores(name: str):
    found = plan(load_study(CONFIGS / name))
    golden = GOLDEN[name]
    assert len(found.runs) == golden["runs"]
    # Keys of the first trial by name, so that a difference says where it is.
    assert {r.name: r.key for r in found.runs if r.trial == 1} == golden["trial 1"]
    assert found.key == golden["plan_key"]


def test_every_shipped_config_has_its_keys_written_down():
    shipped = {path.name for path in CONFIGS.glob("*.yaml")}
    assert set(GOLDEN) <= shipped
    assert len(GOLDEN) >= 24
