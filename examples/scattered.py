"""A setting: the ticket's own weights under its mask, shuffled over all layers at once.

settings: [pretrain, lt, rr, "examples.scattered:scattered", sdt]
"""

import numpy as np

from jackpot.artifacts import Mask
from jackpot.settings import Setting, Weights


def scatter(mask: Mask, rng: np.random.Generator) -> Mask:
    """As many weights survive in all, at random positions: the layers' densities are lost too."""
    flat = rng.permuted(np.concatenate([entry.ravel() for entry in mask.values()]))
    ends = np.cumsum([entry.size for entry in mask.values()])[:-1]
    parts = zip(mask.items(), np.split(flat, ends), strict=True)
    return {path: part.reshape(entry.shape) for (path, entry), part in parts}


scattered = Setting("sc", label="SC", colour="#0f93a8", weights=Weights.KEPT, mask=scatter)
