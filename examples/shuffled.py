"""A setting: the ticket's own weights under its mask, shuffled within each layer.

settings: [pretrain, lt, rr, "examples.shuffled:shuffled", sdt]
"""

import numpy as np

from jackpot.artifacts import Mask
from jackpot.settings import Setting, Weights


def shuffle(mask: Mask, rng: np.random.Generator) -> Mask:
    """Shuffles the mask within each layer: as many weights survive, at random positions."""
    return {path: rng.permuted(entry.ravel()).reshape(entry.shape) for path, entry in mask.items()}


shuffled = Setting("sh", label="SH", colour="#0f93a8", weights=Weights.KEPT, mask=shuffle)
