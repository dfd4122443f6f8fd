"""Prunes a Keras model of one's own while it trains, in some seconds on a CPU.

python -m examples.gradual
"""

import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
from sklearn.datasets import load_digits

from trainer.pruning.callbacks import GradualPruning


def main(sparsity: float = 0.9, epochs: int = 20) -> tuple[float, int]:
    """Trains a small network on scikit-learn's digits; test accuracy, and weights that are left."""
    keras.utils.set_random_seed(0)
    images, labels = load_digits(return_X_y=True)
    images = images.astype("float32") / 16
    tested = np.arange(len(labels)) % 5 == 4
    hidden = [keras.layers.Dense(n, "relu", name=f"hidden{n}") for n in (300, 100)]
    model = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10, name="head")])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    steps = epochs * -(-int((~tested).sum()) // 64)
    # Reached after three quarters of training; the rest is for what is left to recover.
    gradual = GradualPruning(sparsity, end=3 * steps // 4, every=10, kept=["head"])
    model.fit(images[~tested], labels[~tested], 64, epochs, callbacks=[gradual], verbose=2)
    _, accuracy = model.evaluate(images[tested], labels[tested], verbose=0)
    left = sum(int(np.count_nonzero(layer.kernel)) for layer in hidden)
    print(f"sparsity {gradual.reached:.3f}, {left:,} weights left, test accuracy {accuracy:.3f}")
    return accuracy, left


if __name__ == "__main__":
    main()
