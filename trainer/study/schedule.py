"""Learning rates, and shares of mixup, step by step (table E.1, the authors' scripts)."""

import bisect
import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from trainer.study.config import CosineSchedule, StepSchedule, Training
from trainer.study.seeds import Purpose, derive


def learning_rates(
    training: Training, learning_rate: float, steps_per_epoch: int
) -> Callable[[int], float]:
    """The rate of each step, counted from 0 at the first step of epoch 0.

    Warm-up rises linearly and reaches `learning_rate` with its last step. Milestones are epochs
    of the whole training, warm-up included (VGG-16 warms up for 75 epochs and drops after 80 and
    120). A cosine runs from the end of warm-up to the last step, as in the ImageNet recipe. A WR
    run starts at step `rewind_epoch * steps_per_epoch`, so it follows the remaining part.

    Args:
        training: epochs, warm-up and schedule.
        learning_rate: the highest rate.
        steps_per_epoch: steps in one pass over the training images.
    """
    warmup = training.warmup_epochs * steps_per_epoch
    total = training.epochs * steps_per_epoch
    schedule = training.schedule

    def rate(step: int) -> float:
        if step < warmup:
            return learning_rate * (step + 1) / warmup
        match schedule:
            case StepSchedule():
                drops = bisect.bisect_right(schedule.milestones, step // steps_per_epoch)
                return learning_rate * schedule.factor**drops
            case CosineSchedule():
                progress = (step - warmup) / (total - warmup)
                return learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
            case _:
                return learning_rate

    return rate


def mixup_shares(
    training: Training, seed: int, trial: int, steps_per_epoch: int
) -> Callable[[int], float] | None:
    """The share of each image that is its own, by step: draws from Beta(α, α); None: no mixup.

    All runs of a trial have the same shares, as they have the same order of images.

    Args:
        training: the recipe.
        seed: of the study.
        trial: of the run.
        steps_per_epoch: steps in one pass over the training images.
    """
    if not training.mixup:
        return None

    @lru_cache(maxsize=4)
    def of_epoch(epoch: int) -> np.ndarray:
        rng = np.random.default_rng(derive(seed, trial, Purpose.MIXUP, epoch))
        return rng.beta(training.mixup, training.mixup, steps_per_epoch)

    def share(step: int) -> float:
        epoch, within = divmod(step, steps_per_epoch)
        return float(of_epoch(epoch)[within])

    return share
