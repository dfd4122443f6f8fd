"""A pruner that fails, as a user's own may."""

import numpy as np

from trainer.pruning import Moment, Pruner
from trainer.pruning.look import Look


def score(look: Look) -> dict[str, np.ndarray]:
    raise RuntimeError("the pruner fails")


pruner = Pruner(score, Moment.END, in_rounds=False)
