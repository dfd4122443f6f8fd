"""No two recipes share a run key; names of kinds have no defaults."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from jackpot.settings import SETTINGS
from trainer.study.config import DatasetChoice, Training
from trainer.study.optimizers import OPTIMIZERS, SGD
from trainer.study.plan import RunSpec

# Few values of each, the defaults among them, so that two draws often differ in one fact alone.
few = st.sampled_from


def recipes(optimizer: str) -> st.SearchStrategy[dict[str, Any]]:
    own = {"weight_decay": few([0.0, 5e-4, 0.01])}
    if optimizer == "sgd":
        own |= {"momentum": few([0.0, 0.9]), "nesterov": st.just(False)}
    else:
        own |= {"beta1": few([0.0, 0.9]), "epsilon": few([1e-8, 1e-6])}
    schedules = few(
        [
            {"name": "constant"},
            {"name": "cosine"},
            {"name": "step", "milestones": [4]},
            {"name": "step", "milestones": [4], "factor": 0.2},
            {"name": "step", "milestones": [4, 6]},
        ]
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "optimizer": st.fixed_dictionaries({"name": st.just(optimizer)}, optional=own),
            "schedule": schedules,
            "warmup_epochs": few([0, 1]),
            "label_smoothing": few([0.0, 0.1]),
            "precision": few(["float32", "bfloat16"]),
            "evaluate_every": few([1, 2]),
            "devices_per_run": few([1, 2]),
            "rewind_epoch": few([1, 2]),
        },
    )


@st.composite
def runs(draw: st.DrawFn) -> RunSpec:
    training = draw(few(sorted(OPTIMIZERS)).flatmap(recipes))
    dataset = {"name": draw(few(["cifar10", "cifar100"]))}
    for key, values in {"train_images": [None, 9], "validation_images": [None, 9]}.items():
        dataset[key] = draw(few(values))
    return RunSpec(
        network="resnet20",
        dataset=DatasetChoice.model_validate(dataset),
        training=Training.model_validate({"epochs": 8, "batch_size": 64, **training}),
        setting=SETTINGS[draw(few(sorted(SETTINGS)))],
        learning_rate=draw(few([0.1, 1.0])),
        trial=draw(few([1, 2])),
        seed=draw(few([0, 1])),
        pruner=draw(few([None, "imp", "omp"])),
        sparsity=draw(few([0.0, 0.2])),
        round=draw(few([None, 1])),
        layers=draw(few([None, ("a",), ("a", "b")])),
        mask_epoch=draw(few(["last", "best"])),
        optimizer_sha256=draw(few([None, "1", "2"])),
    )


def everything(run: RunSpec) -> str:
    """All that a run is, with nothing left out but the rewind epoch where it is not used."""
    training = run.training.model_dump(mode="json") | {"rewind_epoch": None}
    if run.setting.uses_rewind_epoch:
        training["rewind_epoch"] = run.training.rewind
    names = ("network", "learning_rate", "trial", "seed", "pruner", "sparsity", "round", "layers")
    facts = {name: getattr(run, name) for name in (*names, "mask_epoch", "optimizer_sha256")}
    facts |= {"training": training, "dataset": run.dataset.model_dump(mode="json")}
    return json.dumps(facts | {"setting": run.setting.name}, sort_keys=True)


@settings(max_examples=300)
@given(st.lists(runs(), min_size=2, max_size=6))
def test_two_runs_share_a_key_exactly_if_they_are_the_same(found: list[RunSpec]):
    for run in found[1:]:
        assert (run.key == found[0].key) == (everything(run) == everything(found[0]))


@pytest.mark.parametrize("first", sorted(OPTIMIZERS))
@pytest.mark.parametrize("second", sorted(OPTIMIZERS))
def test_optimizers_with_all_their_defaults_have_keys_of_their_own(first: str, second: str):
    keys = []
    for name in (first, second):
        training = Training.model_validate(
            {"epochs": 8, "batch_size": 64, "optimizer": {"name": name}}
        )
        choice = DatasetChoice(name="digits")
        keys.append(RunSpec("vgg16", choice, training, SETTINGS["pretrain"], 0.1, 1, 0).key)
    assert (keys[0] == keys[1]) == (first == second)


@pytest.mark.parametrize("kind", OPTIMIZERS.values())
def test_a_name_has_no_default(kind: type):
    assert kind.model_fields["name"].is_required()
    with pytest.raises(ValidationError, match="name"):
        kind()


def test_a_schedule_without_a_name_is_refused():
    recipe = {"epochs": 8, "batch_size": 64, "schedule": {"milestones": [4]}}
    with pytest.raises(ValidationError, match="name"):
        Training.model_validate(recipe)


def test_an_optimizer_without_a_name_is_sgd_as_in_configs_of_before():
    recipe = {"epochs": 8, "batch_size": 64, "optimizer": {"momentum": 0.8}}
    assert Training.model_validate(recipe).optimizer == SGD(name="sgd", momentum=0.8)
