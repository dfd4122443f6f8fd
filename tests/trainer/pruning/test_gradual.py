"""Gradual pruning of any Keras model."""

import logging

import keras
import numpy as np
import pytest

from trainer.pruning.callbacks import GradualPruning


def model(**compiled: object) -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Dense(40, "relu", name="wide"),
        keras.layers.Dense(20, "relu", name="narrow"),
        keras.layers.Dense(3, name="head"),
    ]
    found = keras.Sequential([keras.Input((10,)), *layers])
    sgd = keras.optimizers.SGD(0.05, momentum=0.9)
    found.compile(**{"optimizer": sgd, "loss": "mse"} | compiled)
    return found


def kernels(found: keras.Model) -> np.ndarray:
    """All weights that are pruned."""
    layers = (found.get_layer(name) for name in ("wide", "narrow"))
    return np.concatenate([np.asarray(layer.kernel).ravel() for layer in layers])


class Watch(keras.callbacks.Callback):
    """Zeros among the pruned kernels, after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.zeros: list[int] = []
        self.where: list[np.ndarray] = []

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.where.append(kernels(self.model) == 0)
        self.zeros.append(int(self.where[-1].sum()))


INPUTS = np.random.default_rng(0).normal(size=(80, 10))
TARGETS = np.random.default_rng(1).normal(size=(80, 3))


def test_sparsity_follows_the_polynomial_and_nothing_comes_back():
    """By hand: 1,200 weights; at step t, 0.1 + 0.8 (1 − (1 − (t − 2) / 12)³) of them."""
    gradual = GradualPruning(0.9, end=14, begin=2, every=4, initial=0.1, kept=["head"])
    watch = Watch()
    model_ = model()
    model_.fit(INPUTS, TARGETS, 10, 2, callbacks=[gradual, watch], verbose=0)
    expected, count = [], 0
    for step in range(1, 17):
        if step in (2, 6, 10, 14):
            share = 0.9 - 0.8 * (1 - (step - 2) / 12) ** 3
            count = int(np.floor(share * 1200 + 0.5))
        expected.append(count)
    assert watch.zeros == expected
    for before, after in zip(watch.where, watch.where[1:], strict=False):
        assert (after | ~before).all(), "a pruned weight stays pruned, with momentum too"
    assert np.count_nonzero(model_.get_layer("head").kernel) == 60
    assert gradual.reached == pytest.approx(0.9)


def test_steps_go_on_in_a_second_fit_and_the_end_is_reached_off_beat():
    gradual, watch = GradualPruning(0.5, end=11, every=4, kept=["head"]), Watch()
    model_ = model()
    model_.fit(INPUTS, TARGETS, 10, 1, callbacks=[gradual, watch], verbose=0)
    assert gradual.step == 8
    model_.fit(INPUTS, TARGETS, 10, 1, callbacks=[gradual, watch], verbose=0)
    assert watch.zeros[10:] == [600] * 6, "step 11 is no multiple of 4"


def test_the_smallest_weights_over_all_layers_go():
    gradual = GradualPruning(0.4, end=1, every=1, kept=["head"])
    model_ = model(optimizer=keras.optimizers.SGD(0.0))
    before = kernels(model_)
    model_.fit(INPUTS, TARGETS, 80, 1, callbacks=[gradual], verbose=0)
    after = kernels(model_)
    kept = np.abs(before) > np.sort(np.abs(before))[479]
    np.testing.assert_array_equal(after, before * kept)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sparsity": 1.0, "end": 5}, "sparsity < 1"),
        ({"sparsity": 0.0, "end": 5}, "sparsity above 0"),
        ({"sparsity": 0.5, "end": 5, "initial": 0.6}, "0 <= initial <= sparsity"),
        ({"sparsity": 0.5, "end": 5, "begin": 5}, "0 <= begin < end"),
        ({"sparsity": 0.5, "end": 5, "every": 0}, "every >= 1"),
    ],
)
def test_numbers_that_make_no_schedule_are_refused(arguments: dict, words: str):
    with pytest.raises(ValueError, match=words):
        GradualPruning(**arguments)


def test_a_training_that_ends_early_says_what_it_reached(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        model().fit(
            INPUTS, TARGETS, 10, 1, callbacks=[GradualPruning(0.9, end=100, every=2)], verbose=0
        )
    assert "training ended at step 8 of 100" in caplog.text


def test_a_model_without_such_layers_says_so():
    with pytest.raises(ValueError, match="matches no layer with a kernel"):
        model().fit(
            INPUTS, TARGETS, callbacks=[GradualPruning(0.9, end=10, pruned=["conv*"])], verbose=0
        )
