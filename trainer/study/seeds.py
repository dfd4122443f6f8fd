"""Separate streams of randomness, each derived from (study seed, trial) alone."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a seed is for. The numbers are part of every result: never change one."""

    INITIAL_WEIGHTS = 1
    REINITIALISED_WEIGHTS = 2
    SMALL_DENSE_WEIGHTS = 3
    DATA_ORDER = 4
    MASK_RULE = 5
    MIXUP = 6
    PRUNER = 7
    WEIGHTS_RULE = 8
    SECOND_ORDER = 9


def derive(seed: int, trial: int, purpose: Purpose, *more: int) -> int:
    """A seed in [0, 2**63) for one purpose of one trial.

    `more` splits further, as by epoch: the data order of epoch e depends on e alone, so a run
    resumed at any epoch sees what an undisturbed one sees. Learning rate, setting and sparsity are
    left out on purpose: runs of one trial differ in what is studied and in nothing else.
    """
    state = np.random.SeedSequence([seed, trial, int(purpose), *more]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))
