"""The embedded dataset: scikit-learn's copy of the UCI digits, 1,797 images of 8 × 8."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from trainer.datasets.dataset import Source


def fingerprint(name: str, prepare: bool = True) -> str:
    """Version of the decoding below; the data itself ships inside scikit-learn."""
    return "1"


def decode(name: str, source: "Source") -> dict[str, np.ndarray]:
    """Every fifth image is for testing. The set is ordered by writer, so both splits know all."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images[..., None] * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    test = np.arange(len(labels)) % 5 == 4
    return {
        "train_images": images[~test],
        "train_labels": labels[~test],
        "test_images": images[test],
        "test_labels": labels[test],
    }
