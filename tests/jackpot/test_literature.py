"""Published accuracies beside one's own."""

import polars as pl
import pytest
from scipy.stats import ttest_ind

from jackpot import literature


def own(accuracies: list[float], **facts: object) -> pl.DataFrame:
    row = {
        "network": "resnet20",
        "dataset": "cifar10",
        "setting": "lrr",
        "pruner": "omp",
        "sparsity": 1 - 0.8**4,
        "learning_rate": 0.1,
        "epochs": 182,
        "batch_size": 128,
    }
    return pl.DataFrame(
        [row | facts | {"trial": i, "accuracy": a} for i, a in enumerate(accuracies)],
        infer_schema_length=None,
    )


def test_numbers_are_those_of_the_sources():
    """Some of each table, as the authors' data has them."""
    found = literature.points("resnet20", "cifar10")
    at = found.filter(source=literature.RENDA, setting="wr", sparsity=0.832)
    assert at["accuracy"].to_list() == [0.914]
    printed = found.filter(source=literature.MA, setting="pretrain", learning_rate=0.1)
    assert printed["accuracy"].to_list() == [0.924]
    deep = literature.points("vgg16", "cifar100").filter(pruner="synflow", sparsity=0.99)
    assert deep["accuracy"].to_list() == [0.6351]
    assert literature.points("lenet-300-100", "mnist").is_empty()
    for name in ("resnet20", "vgg16", "resnet18"):
        table = literature.points(name, "cifar10")
        assert table["accuracy"].is_between(0, 1).all()
        assert (
            table.select("source", "setting", "pruner", "sparsity", "learning_rate")
            .is_unique()
            .all()
        )


def test_orderings_of_the_sources_are_in_them():
    """Synaptic flow is best, random worst, where the tables are deep (VGG-16 on CIFAR-100)."""
    deep = literature.points("vgg16", "cifar100").filter(sparsity=0.99).sort("accuracy")
    assert deep["pruner"].to_list()[0] == "random"
    assert deep["pruner"].to_list()[-1] == "synflow"
    renda = literature.points("resnet20", "cifar10").filter(source=literature.RENDA)
    for sparsity in (0.59, 0.832):
        at = dict(
            renda.filter(sparsity=sparsity).select("setting", "accuracy").sort("accuracy").rows()
        )
        assert max(at, key=at.__getitem__) == "lrr"


@pytest.mark.parametrize(
    ("accuracies", "says"),
    [([0.914, 0.916, 0.917], "agrees"), ([0.90, 0.902, 0.901], "disagrees")],
)
def test_the_same_recipe_is_compared_by_welchs_test(accuracies: list[float], says: str):
    found = literature.beside(own(accuracies))
    row = found.filter(setting="lrr", pruner="omp", sparsity=0.59).row(0, named=True)
    assert row["says"] == says
    assert row["own"] == pytest.approx(sum(accuracies) / 3)
    # An independent way: three numbers with the published mean and deviation.
    mean, deviation = 0.9152, 0.0027
    theirs = [mean - deviation, mean, mean + deviation]
    p = ttest_ind(accuracies, theirs, equal_var=False).pvalue
    assert (p < 0.05) == (says == "disagrees")
    assert f"p = {p:.2g}" in row["why"]


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"epochs": 160}, "160 epochs, not 182"),
        ({"batch_size": 64}, "batches of 64, not 128"),
        ({"train_images": 5000}, "trained on 5000 images"),
        ({"validation_images": 5000}, "5000 images held out"),
        ({"learning_rate": 0.03}, "no run at learning rate 0.1"),
    ],
)
def test_another_recipe_is_not_compared(facts: dict, why: str):
    row = (
        literature.beside(own([0.9, 0.91, 0.92], **facts)).filter(sparsity=0.59).row(0, named=True)
    )
    assert row["says"] == "not comparable"
    assert why in row["why"]


def test_one_trial_tells_no_spread():
    row = literature.beside(own([0.9])).filter(sparsity=0.59).row(0, named=True)
    assert row["says"] == "not comparable"
    assert "a spread is not known of both" in row["why"]


def test_what_is_not_trained_is_not_shown():
    assert set(literature.beside(own([0.9]))["setting"]) == {"lrr"}
    assert literature.beside(own([0.9], network="vgg16", dataset="mnist")).is_empty()
    assert literature.beside(own([0.9]).clear()).is_empty()
