"""Whether a claim is true at more than half of several sparsities: decided, or left open. Pure.

The sparsities of a study share its runs, so that they are no independent votes. A claim about u of
k is tested as partial conjunction (Benjamini and Heller 2008): the u-th strongest of them decides,
at a level that allows for the others.
"""

from collections.abc import Sequence
from math import isnan, nan

from jackpot.conditions import ALPHA
from jackpot.contrasts import Contrast


def level(number: int, alpha: float = ALPHA) -> float:
    """The level of each of `number` claims, for one about more than half of them.

    Of k, u = ⌊k/2⌋ + 1 must be true. The claim that they are needs α / (k − u + 1) each, the claim
    that they are not α / u, which is the smaller one.

    >>> level(1), level(3), level(8)
    (0.05, 0.025, 0.01)
    """
    return alpha / (number // 2 + 1)


def of(contrasts: Sequence[Contrast]) -> Contrast:
    """The amount that more than half of several reach, with the bounds that decide about it.

    Args:
        contrasts: at least one, each at `level(len(contrasts))`. If a bound or a value of one is
            not known, none of the result's is.

    >>> of([Contrast(0.01, 0.002, 0.02), Contrast(0.03, 0.01, 0.05), Contrast(-0.01, -0.04, 0.0)])
    Contrast(value=0.01, low=0.002, high=0.02)
    """
    if any(isnan(found.value) for found in contrasts):
        return Contrast(nan)
    place = len(contrasts) // 2
    values = sorted((found.value for found in contrasts), reverse=True)
    lows = sorted((found.low for found in contrasts if found.low is not None), reverse=True)
    highs = sorted((found.high for found in contrasts if found.high is not None), reverse=True)
    if len(lows) < len(contrasts) or len(highs) < len(contrasts):
        return Contrast(values[place])
    return Contrast(values[place], lows[place], highs[place])
