"""MNIST-1D (Greydanus & Kobak 2024, arXiv 2011.14439): 5,000 signals of 40 points, ten classes.

Nothing is downloaded. Signals are made as the authors' code makes them (Apache-2.0), from their
parameters and in their order of draws from their generator, so that these are their arrays.
"""

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from trainer.datasets.dataset import Source

_SEED, _OF_A_CLASS, _TRAINED = 42, 500, 4000
_PADDING, _MOST_TRANSLATION, _POINTS = (36, 60), 48, 40
_SCALE, _SHEAR, _CORRELATED_NOISE, _NOISE = 0.4, 0.75, 0.25, 2e-2
# Where a signal is not 0, although it may pass through 0.
_LIFTED = 1e-8
# One stroke a digit, twelve points each.
_TEMPLATES = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)


def fingerprint(name: str, prepare: bool = True) -> str:
    """Version of the code below."""
    return "1"


def decode(name: str, source: "Source") -> dict[str, np.ndarray]:
    """4,000 signals to train on and 1,000 to test, float32, of mean 0 and variance 1 in all."""
    rng = np.random.RandomState(_SEED)  # noqa: NPY002: the authors' generator.
    templates = _templates()
    signals = np.stack([_signal(t, rng) for t in templates for _ in range(_OF_A_CLASS)])
    labels = np.repeat(np.arange(len(templates)), _OF_A_CLASS)
    order = rng.permutation(len(labels))
    signals, labels = signals[order], labels[order]
    signals = ((signals - signals.mean()) / signals.std()).astype(np.float32)
    return {
        "train_images": signals[:_TRAINED],
        "train_labels": labels[:_TRAINED],
        "test_images": signals[_TRAINED:],
        "test_labels": labels[_TRAINED:],
    }


def _templates() -> np.ndarray:
    """Of variance 1 / 36, each starting at 0; shape (10, 12)."""
    x = np.array(_TEMPLATES)
    x = x - x.mean(1, keepdims=True)
    x = x / x.std(1, keepdims=True)
    whitened: np.ndarray = (x - x[:, :1]) / 6
    return whitened


def _signal(template: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Pads, dilates, scales, moves and shears a template, with noise where it is not."""
    low, high = _PADDING
    padding = low + int(rng.rand() * (high - low + 1))
    x = np.concatenate([template + _LIFTED, np.zeros(padding)])
    x = _resampled(x, len(template) + high)
    x = x * (1 + _SCALE * (rng.rand() - 0.5))
    x = np.roll(x, rng.choice(_MOST_TRANSLATION))
    is_signal = x != 0
    correlated = gaussian_filter(_CORRELATED_NOISE * rng.randn(len(x)), 2)
    x = np.where(is_signal, x, correlated) + _NOISE * rng.randn(len(x))
    slope = _SHEAR * (rng.rand() - 0.5)
    return _resampled(x - slope * np.linspace(-0.5, 0.5, len(x)), _POINTS)


def _resampled(x: np.ndarray, points: int) -> np.ndarray:
    """At equally many points over the same length, by linear interpolation."""
    return np.interp(np.linspace(0, 1, points), np.linspace(0, 1, len(x)), x)
