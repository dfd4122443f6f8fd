import ast
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jackpot import settings, wording
from jackpot.contract import Param
from trainer.execution import group_size
from trainer.study import plan as plan_module
from trainer.study.config import Study
from trainer.study.groups import by_depth, in_turn
from trainer.study.plan import plan

BASE = {
    "study": "s",
    "network": "resnet20",
    "dataset": "cifar10",
    "learning_rates": [0.01, 0.1],
    "trials": 2,
    "settings": ["pretrain", "lt", "rr", "wr", "sdt"],
    "pruners": ["imp", "omp"],
    "pruning": {"sparsities": [0.36, 0.59]},
    "training": {"epochs": 160, "batch_size": 64, "rewind_epoch": 8},
}


def study(**replace: object) -> Study:
    return Study.model_validate(BASE | replace)


def test_counts_by_setting():
    runs = plan(study()).runs
    counts = {label: sum(r.label == label for r in runs) for label in {r.label for r in runs}}
    each = 2 * 2  # learning rates x trials
    assert counts == {
        "pretrain": each,
        "lt-imp": 4 * each,
        "rr-imp": 2 * each,
        "wr-imp": 2 * each,
        "lt-omp": 2 * each,
        "rr-omp": 2 * each,
        "wr-omp": 2 * each,
        "sdt": 2 * each,
    }


def test_parents_come_first_and_belong_to_the_same_trial_and_rate():
    seen: set[str] = set()
    for run in plan(study()).runs:
        for parent in run.parents:
            assert parent.key in seen
            assert (parent.trial, parent.learning_rate) == (run.trial, run.learning_rate)
        seen.add(run.key)


def test_masks_and_initial_weights_come_from_where_the_paper_says():
    runs = plan(study(trials=1, learning_rates=[0.1])).runs
    pretrain = runs[0]
    by = {(r.label, r.round or round(r.sparsity, 3)): r for r in runs}
    assert by["lt-imp", 1].mask_from.key == pretrain.key
    assert by["lt-imp", 2].mask_from.key == by["lt-imp", 1].key
    assert by["rr-imp", 4].mask_from.key == by["lt-imp", 3].key
    assert by["rr-imp", 4].init_from is None
    assert by["wr-imp", 4].init_from.key == pretrain.key
    assert by["lt-omp", 0.59].mask_from.key == pretrain.key
    assert by["sdt", 0.59].parents == ()
    # The same mask for LT, RR and WR of one round: pruned from the same weights.
    assert len({by[label, 4].mask_from.key for label in ("lt-imp", "rr-imp", "wr-imp")}) == 1
    assert (by["wr-imp", 4].first_epoch, by["wr-imp", 4].epochs) == (8, 152)
    assert by["lt-imp", 4].epochs == 160


def test_sparsities_are_those_of_the_paper():
    rounds = study(pruning={"rounds": 14}).pruning
    paper = {1: 0.2, 4: 0.590, 8: 0.832, 11: 0.914, 13: 0.945, 14: 0.956}
    assert {n: round(rounds.sparsity_of(n), 3) for n in paper} == paper
    # Deep ones that round alike are the nearest; 0.9976 and 0.9981 both round to 0.998.
    assert rounds.round_reaching(0.998) == 28
    assert [rounds.round_reaching(rounds.sparsity_of(n)) for n in range(1, 60)] == [*range(1, 60)]
    alone = study(pruners=["omp"], pruning={"sparsities": [0.59, 0.998, 0.9999]})
    assert {run.sparsity for run in plan(alone).runs} == {0.0, 0.59, 0.998, 0.9999}
    assert len({wording.sparsity(rounds.sparsity_of(n)) for n in range(1, 60)}) == 59


def test_needed_runs_are_planned_though_not_asked_for():
    labels = {r.label for r in plan(study(settings=["rr"], pruners=["imp"])).runs}
    assert labels == {"pretrain", "lt-imp", "rr-imp"}
    rounds = [r.round for r in plan(study(settings=["rr"], pruners=["imp"])).runs if r.round]
    assert max(rounds) == 4
    assert [r.label for r in plan(study(settings=["sdt"], trials=1)).runs].count("lt-imp") == 0
    assert {r.label for r in plan(study(settings=["pretrain"])).runs} == {"pretrain"}


def test_table_4_crosses_the_two_learning_rates():
    runs = plan(
        study(
            settings=["pretrain", "lt"],
            learning_rates=[0.1],
            trials=1,
            ablation=[{"pretrain_learning_rate": 0.01, "learning_rates": [0.005, 0.01]}],
        )
    ).runs
    crossed = [run for run in runs if "mask of lr 0.01" in run.label]
    assert {(r.pruner, round(r.sparsity, 2), r.learning_rate) for r in crossed} == {
        (pruner, sparsity, 0.005) for pruner in ("imp", "omp") for sparsity in (0.36, 0.59)
    }
    for run in crossed:
        assert run.init_from.setting == settings.PRETRAIN
        assert run.init_from.learning_rate == run.mask_from.learning_rate == 0.01
        assert run.params()[Param.PRETRAIN_LEARNING_RATE] == "0.01"
        assert run.params()[Param.LEARNING_RATE] == "0.005"
    # The rounds behind those masks are the study's own at 0.01, trained once.
    alone = plan(study(settings=["pretrain", "lt"], learning_rates=[0.01], trials=1)).runs
    assert {run.key for run in alone} <= {run.key for run in runs}
    assert len({run.key for run in runs}) == len(runs)
    assert len({run.name for run in runs}) == len(runs)
    for run in runs:
        assert all(parent.key in {r.key for r in runs} for parent in run.parents)


def test_keys_do_not_depend_on_study_name_trials_order_or_checkpoints():
    keys = {r.key for r in plan(study()).runs}
    assert len(keys) == len(plan(study()).runs)
    other = study(study="other", checkpoint_every=7, learning_rates=[0.1, 0.01], trials=3)
    assert keys < {r.key for r in plan(other).runs}
    reordered = Study.model_validate(dict(reversed(BASE.items())))
    assert keys == {r.key for r in plan(reordered).runs}


def test_keys_are_pinned():
    # These keys are in people's stores: were they to change, finished runs would be trained again.
    runs = plan(study(trials=1, learning_rates=[0.1])).runs
    pinned = {r.name: r.key for r in runs if r.label in ("pretrain", "wr-imp", "sdt")}
    assert pinned == {
        "pretrain lr=0.1 trial=1": "ecd73b5374c420a628e0",
        "sdt s=0.360 lr=0.1 trial=1": "007e570623fb8d4ab5a6",
        "sdt s=0.590 lr=0.1 trial=1": "f354d11f56d31d61ff69",
        "wr-imp s=0.360 lr=0.1 trial=1": "eaa435f1c297d245d2d4",
        "wr-imp s=0.590 lr=0.1 trial=1": "da6cac9c8c346558b1ac",
    }


def test_a_default_spelled_out_keeps_the_key():
    spelled = study(
        training={
            **BASE["training"],
            "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False},
            "schedule": {"name": "constant"},
            "warmup_epochs": 0,
        },
        pruning={"sparsities": [0.36, 0.59], "fraction": 0.2, "layers": "default"},
        dataset={"name": "cifar10", "train_images": None},
    )
    assert [r.key for r in plan(spelled).runs] == [r.key for r in plan(study()).runs]


@pytest.mark.parametrize(
    "change",
    [
        {"network": "vgg16"},
        {"dataset": "cifar100"},
        {"dataset": {"name": "cifar10", "train_images": 100}},
        {"seed": 1},
        {"training": {"epochs": 161, "batch_size": 64, "rewind_epoch": 8}},
        {"training": {"epochs": 160, "batch_size": 32, "rewind_epoch": 8}},
        {"training": BASE["training"] | {"optimizer": {"weight_decay": 1e-4}}},
        {"training": BASE["training"] | {"schedule": {"name": "cosine"}}},
        {"training": BASE["training"] | {"warmup_epochs": 5}},
    ],
)
def test_what_changes_a_result_changes_every_key(change: dict):
    assert not {r.key for r in plan(study()).runs} & {r.key for r in plan(study(**change)).runs}


def test_the_rewind_epoch_counts_for_weight_rewinding_alone():
    later = study(training=BASE["training"] | {"rewind_epoch": 9})
    same = {r.key for r in plan(study()).runs} & {r.key for r in plan(later).runs}
    changed = {r.label for r in plan(later).runs if r.key not in same}
    assert changed == {"wr-imp", "wr-omp"}


def test_the_layers_to_prune_do_not_change_pretraining():
    chosen = study(pruning={"sparsities": [0.36, 0.59], "layers": ["stage*"]})
    same = {r.key for r in plan(study()).runs} & {r.key for r in plan(chosen).runs}
    assert {r.label for r in plan(chosen).runs if r.key in same} == {"pretrain"}


def test_keys_are_the_same_in_another_process_with_another_hash_seed():
    code = (
        "from tests.trainer.study.test_plan import study, plan;"
        "print(*[r.key for r in plan(study()).runs])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "7", "PATH": ""},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.split() == [r.key for r in plan(study()).runs]


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("most", [1, 3, 100])
def test_groups_share_a_structure_and_come_after_all_that_they_need(most: int, places: int):
    every = plan(study(trials=2, settings=["pretrain", "lt", "rr", "wr", "sdt"])).runs
    for groups in (list(by_depth(every, most, places)), list(in_turn(every, most))):
        done: set[str] = set()
        for group in groups:
            assert 1 <= len(group) <= most
            assert len({run.training for run in group}) == 1
            assert len({run.sparsity for run in group if run.setting == settings.SDT}) <= 1
            assert len({run.setting == settings.SDT for run in group}) == 1
            for run in group:
                assert {parent.key for parent in run.parents} <= done
            done |= {run.key for run in group}
        assert sorted(done) == sorted(run.key for run in every)
        assert sum(map(len, groups)) == len(every)


def test_no_place_is_empty_while_others_are_crowded():
    rates = [0.1, 0.2, 0.3, 0.4, 0.5]
    runs = plan(study(settings=["pretrain"], learning_rates=rates, trials=1)).runs
    for places, expected in ((1, [5]), (2, [3, 2]), (3, [2, 2, 1]), (9, [1] * 5)):
        assert [len(group) for group in by_depth(runs, 8, places)] == expected


@pytest.mark.parametrize(
    ("dataset", "fuse", "asked"),
    [
        ("cifar10", "auto", None),
        ("cifar10", "off", 1),
        ("cifar10", 4, 4),
        # Streamed images are for one run at a time, whatever the executor.
        ("imagenet2012", "auto", 1),
        ("imagenet2012", 4, 1),
    ],
)
def test_how_many_runs_a_study_steps_side_by_side(dataset: str, fuse: str | int, asked: int | None):
    assert group_size.asked(study(dataset=dataset, fuse=fuse)) == asked


def test_params_follow_the_contract():
    for run in plan(study()).runs:
        params = run.params()
        assert set(params) <= set(Param)
        assert params[Param.SETTING] == run.setting.name
        assert (Param.PRUNER in params) == (run.mask_from is not None)
        assert (Param.REWIND_EPOCH in params) == (run.setting == settings.WR)


def test_the_plan_is_pure():
    tree = ast.parse(Path(plan_module.__file__).read_text())
    imported = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not {m for m in imported if m.split(".")[0] in ("torch", "keras", "mlflow", "time")}


@given(
    fraction=st.floats(0.05, 0.9),
    rounds=st.integers(1, 12),
)
def test_every_round_is_found_by_the_sparsity_as_the_paper_prints_it(fraction: float, rounds: int):
    pruning = study(pruning={"rounds": rounds, "fraction": fraction}).pruning
    sparsity = pruning.sparsity_of(rounds)
    found = pruning.round_reaching(sparsity)
    assert found is not None
    assert abs(pruning.sparsity_of(found) - sparsity) <= 0.0005


def test_lrr_has_rounds_and_a_dense_network_trained_as_long():
    runs = plan(
        study(
            settings=["pretrain", "rr", "lrr", "as_long", "sdt"],
            pruners=["imp_lrr", "omp"],
            learning_rates=[0.1],
            trials=1,
        )
    ).runs
    by = {(r.setting.name, r.pruner, r.round, round(r.sparsity, 3)): r for r in runs}
    pretrain = by["pretrain", None, None, 0.0]
    before, longer = pretrain, pretrain
    for round_, sparsity in ((1, 0.2), (2, 0.36), (3, 0.488), (4, 0.59)):
        run = by["lrr", "imp_lrr", round_, sparsity]
        assert run.init_from.key == run.mask_from.key == before.key
        dense = by["as_long", "imp_lrr", round_, sparsity]
        assert dense.init_from.key == longer.key
        assert dense.mask_from is None
        if sparsity in (0.36, 0.59):
            assert by["rr", "imp_lrr", round_, sparsity].mask_from.key == before.key
        before, longer = run, dense
    for sparsity in (0.36, 0.59):
        assert by["lrr", "omp", None, sparsity].init_from.key == pretrain.key
        assert by["as_long", "omp", None, sparsity].init_from.key == pretrain.key
    # Rounds of LRR up to 0.36 are the same runs, whatever else is asked for.
    shallow = plan(
        study(
            settings=["lrr", "pretrain"],
            pruners=["imp_lrr"],
            learning_rates=[0.1],
            trials=1,
            pruning={"sparsities": [0.36]},
        )
    )
    assert {r.key for r in shallow.runs} <= {r.key for r in runs}


def test_an_ablation_has_no_second_run_of_a_dense_network_trained_as_long():
    runs = plan(
        study(
            settings=["pretrain", "rr", "lrr", "as_long"],
            pruners=["imp_lrr", "omp"],
            learning_rates=[0.1, 0.2],
            ablation=[{"pretrain_learning_rate": 0.1, "learning_rates": [0.1, 0.2]}],
        )
    ).runs
    cells = [
        (r.pruner, r.sparsity, r.learning_rate, r.trial)
        for r in runs
        if r.setting.name == "as_long"
    ]
    assert len(set(cells)) == len(cells)
    assert all(
        r.init_from.learning_rate == r.learning_rate for r in runs if r.setting.name == "as_long"
    )


def test_pretraining_is_planned_where_something_reads_it():
    def planned(*settings: str, pruners: tuple[str, ...] = ("imp",)) -> set[str]:
        config = study(
            settings=list(settings), pruners=list(pruners), learning_rates=[0.1], trials=1
        )
        return {run.setting.name for run in plan(config).runs}

    assert planned("sdt") == {"sdt"}
    assert planned("sdt", "pretrain") == {"sdt", "pretrain"}
    # Masks of a pruner that looks at θ₀ need none; rewinding and magnitudes do.
    assert planned("rr", pruners=("snip",)) == {"rr"}
    assert planned("wr", pruners=("snip",)) == {"wr", "pretrain"}
    assert planned("rr", pruners=("omp",)) == {"rr", "pretrain"}


def test_an_aligned_mask_waits_for_both_dense_networks():
    runs = plan(
        study(settings=["lt", "rr_aligned"], pruners=["snip"], learning_rates=[0.1], trials=1)
    ).runs
    assert {r.setting.name for r in runs} == {"pretrain", "pretrain_2", "lt", "rr_aligned"}
    aligned = next(r for r in runs if r.setting.name == "rr_aligned")
    assert [p.setting.name for p in aligned.parents] == ["pretrain", "pretrain_2"]


@pytest.mark.parametrize(
    ("settings_", "pruners", "words"),
    [
        (["lt", "lrr"], ["snip"], "nothing is trained before the mask is found"),
        (["lt", "lrr"], ["imp"], "the rounds are trained as LT"),
        (["lt", "inverted"], ["imp"], "those that earlier rounds pruned"),
    ],
)
def test_a_setting_without_meaning_under_any_pruner_is_refused(settings_, pruners, words):
    with pytest.raises(ValueError, match=words):
        plan(study(settings=settings_, pruners=pruners))


def test_what_is_left_out_is_said_once_for_all_pruners():
    config = study(
        settings=["pretrain", "lt", "lrr", "inverted"], pruners=["imp", "imp_lrr", "snip", "grasp"]
    )
    assert plan_module.without_meaning(config) == [
        "not trained: lrr under imp, since the rounds are trained as LT "
        "(those of imp_lrr are not).",
        "not trained: inverted under imp, imp_lrr, since the least important weights are "
        "those that earlier rounds pruned.",
        "not trained: lrr under snip, grasp, since nothing is trained before the mask is found.",
    ]
