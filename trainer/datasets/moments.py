"""Mean and standard deviation of images, by channel."""

import numpy as np

_BLOCK = 1000


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel of pixels scaled to [0, 1], a block at a time.

    Args:
        images: uint8, shape (n, height, width, channels).
    """
    total, squares = np.zeros((2, images.shape[-1]))
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK].reshape(-1, images.shape[-1]) / 255
        total, squares = total + block.sum(0), squares + (block**2).sum(0)
    count = images[..., 0].size
    mean = total / count
    # A channel of one value would otherwise be divided by zero.
    return mean, np.maximum(np.sqrt(np.maximum(squares / count - mean**2, 0)), 1e-3)
