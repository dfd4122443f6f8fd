"""Rows of the table of pruners, and which kernels they are given."""

import keras
import numpy as np
import pytest

from jackpot.conditions import RANDOM_MASKS
from jackpot.settings import LRR, RR, SH
from trainer import pruning
from trainer.pruning import Moment, Pruner, masks
from trainer.pruning.at_start import drawn
from trainer.pruning.densities import erk
from trainer.pruning.scores import magnitude


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (lambda: Pruner("magnitude", Moment.END, False), "needs a function score"),
        (lambda: Pruner(magnitude, "end", False), "and a moment to look at"),
        (lambda: Pruner(magnitude, Moment.START, True), "never trained in between"),
        (lambda: Pruner(magnitude, Moment.END, False, trains=LRR), "and there are none"),
        (lambda: Pruner(magnitude, Moment.END, True, trains=RR), "received 'rr'"),
        (lambda: Pruner(magnitude, Moment.END, True, steps=2), "takes one step in each"),
        (lambda: Pruner(magnitude, Moment.END, True, trains=SH), "under the pruner's own mask"),
        (lambda: Pruner(magnitude, Moment.START, False, steps=0), "at least one step"),
        (
            lambda: Pruner(magnitude, Moment.START, False, steps=2, densities=erk),
            "with densities of its own it takes one",
        ),
    ],
)
def test_a_pruner_that_is_half_there_says_why(row, words):
    with pytest.raises(ValueError, match=words):
        row()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lamp", "unknown pruner 'lamp'; known are omp, imp, imp_lrr, random"),
        ("examples.lamp:pruner", "has no .pruner."),
        ("examples.lamp:score", "expected a Pruner, found a function"),
    ],
)
def test_a_pruner_that_cannot_be_found_says_why(name, words):
    with pytest.raises(ValueError, match=words):
        pruning.find(name)


def transformer() -> keras.Model:
    """A block of a vision transformer: kernels stand in layers inside layers."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.SeparableConv2D(6, 3, name="stem")(inputs)
    x = keras.layers.Reshape((36, 6))(x)
    x = keras.layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    mlp = keras.Sequential([keras.Input((36, 6)), keras.layers.Dense(5, name="wide")], name="mlp")
    x = keras.layers.Flatten()(mlp(x))
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(x))


# Counted by hand: a separable kernel has 3·3·1 weights for space and 1·6 for channels; attention of
# 2 heads of 4 on 6 features has three projections of 6·2·4 and one of 2·4·6; 6·5; 36·5·3.
INNER = {
    "stem/depthwise_kernel": 9,
    "stem/pointwise_kernel": 6,
    "attention/query/kernel": 48,
    "attention/key/kernel": 48,
    "attention/value/kernel": 48,
    "attention/attention_output/kernel": 48,
    "mlp/wide/kernel": 30,
}


def test_kernels_inside_composite_layers_are_known_to_be_left_out():
    model = transformer()
    paths = masks.pruned_paths(model)
    assert paths == ["head/kernel"]
    assert masks.left_out(model, paths) == INNER
    assert masks.left_out(model, [*paths, "mlp/wide/kernel"]) == {
        path: size for path, size in INNER.items() if path != "mlp/wide/kernel"
    }


def test_a_pattern_with_a_slash_reaches_them():
    model = transformer()
    attention = masks.pruned_paths(model, ["attention/*"])
    assert attention == [path for path in INNER if path.startswith("attention")]
    everything = masks.pruned_paths(model, ["*", "*/*"])
    assert everything == [*INNER, "head/kernel"]
    some = masks.pruned_paths(model, ["*", "*/*"], kept=["stem/*", "head"])
    assert some == [path for path in INNER if not path.startswith("stem")]
    with pytest.raises(masks.MaskError, match=r"'norm/\*' matches no layer.*attention/query"):
        masks.pruned_paths(model, ["norm/*"])
    weights = masks.kernels(model, everything)
    mask = masks.prune(magnitude(weights), 0.5)
    assert sum(int((~entry).sum()) for entry in mask.values()) == round((237 + 540) * 0.5 + 0.01)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ({}, "was to score a, b, in this order; it scored nothing"),
        ({"b": np.ones(3), "a": np.ones(2)}, "it scored b, a"),
        ({"a": np.ones(3), "b": np.ones(3)}, r"'a' scores of shape \(3,\); expected \(2,\)"),
    ],
)
def test_scores_that_do_not_fit_are_refused(scores, words):
    with pytest.raises(masks.MaskError, match=words):
        masks.check_scores(scores, {"a": np.ones(2), "b": np.ones(3)}, "own")


def test_the_judge_knows_which_masks_are_drawn():
    """`jackpot` imports nothing of the trainer, and so has their names once more."""
    assert {n for n, row in pruning.PRUNERS.items() if row.score is drawn} == RANDOM_MASKS
