"""A dataset of your own: a function that returns arrays.

dataset: "examples.signals:load"
"""

import numpy as np


def load() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Noisy waves of 64 points, one of four lengths: 800 to train on, 200 to test."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 1000)
    time = np.linspace(0, 2 * np.pi, 64)
    phases = rng.uniform(0, 2 * np.pi, (1000, 1))
    waves = np.sin((1 + labels[:, None]) * time + phases) + rng.normal(0, 0.5, (1000, 64))
    return (waves[:800], labels[:800]), (waves[800:], labels[800:])
