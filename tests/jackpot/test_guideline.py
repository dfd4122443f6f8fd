import polars as pl
import pytest

from jackpot.guideline import RULES, evidence, has_residuals
from tests.jackpot.test_definition import SECONDARY, runs


def rules(frame, network: str = "resnet20") -> dict[int, bool | None]:
    table = evidence(frame.with_columns(pl.lit(network).alias("network")))
    return dict(table.select("rule", "supports").rows())


def both(imp: dict, omp: dict, **more: dict):
    return pl.concat([runs({"lt": imp} | more), runs({"lt": omp}, pruner="omp")])


PRETRAIN = {"pretrain": {0.01: 90.0, 0.1: 92.4}}


@pytest.mark.parametrize(
    ("network", "imp", "omp", "supports"),
    [
        ("resnet20", 89.0, 86.0, True),
        ("resnet20", 86.0, 89.0, False),
        ("vgg16", 93.0, 93.1, True),
        ("vgg16", 93.9, 93.0, False),
    ],
)
def test_rule_1_imp_is_better_where_there_are_residuals(network, imp, omp, supports):
    found = rules(both({0.01: imp}, {0.01: omp}, **PRETRAIN), network)
    assert found[1] is supports


@pytest.mark.parametrize(
    ("network", "rate", "supports"),
    [
        ("resnet20", 0.01, True),
        ("resnet20", 0.1, False),
        ("vgg16", 0.1, True),
        ("vgg16", 0.01, False),
    ],
)
def test_rule_2_small_rates_are_preferred_where_there_are_residuals(network, rate, supports):
    lt = {0.01: 88.0, 0.1: 88.0} | {rate: 89.0}
    assert rules(runs(PRETRAIN | {"lt": lt}), network)[2] is supports


@pytest.mark.parametrize(("rr", "supports"), [(88.8, True), (85.0, False)])
def test_rule_4_initial_weights_do_not_matter_at_large_rates(rr, supports):
    curves = PRETRAIN | {"lt": {0.01: 86.0, 0.1: 89.0}, "rr": {0.01: 80.0, 0.1: rr}}
    assert rules(runs(curves))[4] is supports


def test_rule_3_names_the_highest_sparsity_with_a_ticket():
    table = evidence(runs(SECONDARY))
    (row,) = table.filter(table["rule"] == 3).to_dicts()
    assert row["measure"] == "tickets up to sparsity 0.914"
    assert set(RULES) == {1, 2, 3, 4}


def test_residual_networks_are_known_by_name():
    known = ("resnet20", "resnet50", "vgg16", "resnet32-no-residual", "mobilenet-v1")
    assert [has_residuals(name) for name in known] == [True, True, False, False, False]
