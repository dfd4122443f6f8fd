import keras
import numpy as np
import pytest

from trainer.pruning import masks
from trainer.pruning.callbacks import ApplyMask
from trainer.pruning.scores import magnitude


def users_model() -> keras.Model:
    """A user's own model, with what the trainer's networks do not have."""
    keras.utils.set_random_seed(0)
    inputs = x = keras.Input((8, 8, 1))
    for layer in (
        keras.layers.Conv2D(4, 3, activation="relu", name="stem"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.Conv2D(8, 3, activation="gelu", name="middle"),
        keras.layers.Flatten(),
        keras.layers.Dense(16, activation="tanh", name="hidden"),
        keras.layers.Dropout(0.1),
        keras.layers.Dense(3, activation="softmax", name="classifier"),
    ):
        x = layer(x)
    return keras.Model(inputs, x)


class ZeroWhereverWeightsAreRead(keras.callbacks.Callback):
    """In evaluation, and between epochs, where averages may stand in the weights' place."""

    def __init__(self, mask: masks.Mask):
        super().__init__()
        self.mask, self.seen = mask, 0

    def check(self, *_):
        now = masks.kernels(self.model, list(self.mask))
        for path, entry in self.mask.items():
            assert (now[path][~entry] == 0.0).all()
        self.seen += 1

    on_test_begin = on_test_end = on_epoch_end = on_train_end = check


@pytest.mark.parametrize("order", ["mask first", "swap first"])
@pytest.mark.parametrize("every", [None, 3])
def test_averages_of_weights_are_masked_too(order, every):
    model = users_model()
    optimizer = keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=every)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(64, 8, 8, 1)).astype("float32"), rng.integers(0, 3, 64)
    paths = masks.pruned_paths(model, kept=["stem", "classifier"])
    mask = masks.prune(magnitude(masks.kernels(model, paths)), 0.8)
    check, swap = (
        ZeroWhereverWeightsAreRead(mask),
        keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
    )
    callbacks = [ApplyMask(mask), swap] if order == "mask first" else [swap, ApplyMask(mask)]
    model.fit(
        images, labels, epochs=3, batch_size=16, verbose=0,
        validation_data=(images, labels), callbacks=[*callbacks, check],
    )  # fmt: skip
    check.check()
    assert check.seen >= 3 * 3 + 2
    survivors = masks.kernels(model, paths)
    assert all((survivors[path][entry] != 0).mean() > 0.9 for path, entry in mask.items())


class ZeroAfterEveryStep(keras.callbacks.Callback):
    def __init__(self, mask: masks.Mask):
        super().__init__()
        self.mask, self.steps = mask, 0

    def on_train_batch_end(self, batch, logs=None):
        now = masks.kernels(self.model, list(self.mask))
        for path, entry in self.mask.items():
            assert (now[path][~entry] == 0.0).all()
        self.steps += 1


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1),
        lambda: keras.optimizers.AdamW(0.01),
    ],
)
def test_pruned_weights_stay_zero_in_a_users_own_model(optimizer):
    model = users_model()
    model.compile(optimizer(), "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(64, 8, 8, 1)).astype("float32"), rng.integers(0, 3, 64)
    # Momentum is not empty when the mask comes: the trap of masking gradients alone.
    model.fit(images, labels, epochs=2, batch_size=16, verbose=0)
    paths = masks.pruned_paths(model, kept=["stem", "classifier"])
    assert paths == ["middle/kernel", "hidden/kernel"]
    mask = masks.prune(magnitude(masks.kernels(model, paths)), 0.8)
    before = [np.asarray(w) for w in model.get_weights()]
    check = ZeroAfterEveryStep(mask)
    model.fit(
        images, labels, epochs=3, batch_size=16, verbose=0, callbacks=[ApplyMask(mask), check]
    )
    assert check.steps == 12
    changed = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert all(changed), "everything that is not pruned trains on"


def test_biases_and_batch_norm_are_never_pruned():
    assert not [p for p in masks.pruned_paths(users_model()) if not p.endswith("kernel")]


def test_a_mask_of_another_network_is_refused_before_training():
    model = users_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    batch = np.zeros((4, 8, 8, 1), "float32"), np.zeros(4)
    for mask, words in (
        ({"nowhere/kernel": np.ones(3, bool)}, "which the network lacks"),
        ({"hidden/kernel": np.ones((2, 2), bool)}, "has shape"),
    ):
        with pytest.raises(masks.MaskError, match=words):
            model.fit(*batch, verbose=0, callbacks=[ApplyMask(mask)])


def test_patterns_choose_layers():
    model = users_model()
    assert masks.pruned_paths(model, ["*d*"], ["stem"]) == ["middle/kernel", "hidden/kernel"]
    with pytest.raises(masks.MaskError, match=r"'conv\*' matches no layer.*stem, middle"):
        masks.pruned_paths(model, ["conv*"])
    with pytest.raises(masks.MaskError, match="no layer is left"):
        masks.pruned_paths(model, ["stem"], ["stem"])
