"""Numbers that change from step to step, such as learning rates: on the host, or on the device.

On the device they are for recorded steps, which read nothing from the host.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

# Steps whose numbers go to the device at once.
STEPS_AHEAD = 1024
Number = Callable[[int], float]
"""Gives the number of a step, counted from epoch 0 of the schedule."""


class _State(Protocol):
    steps: int

    @property
    def device(self) -> torch.device: ...


class OnHost:
    """Each network's number of the step that it is at.

    Args:
        states: say which step each network is at.
        numbers: one for each network.
    """

    def __init__(self, states: Sequence[_State], numbers: Sequence[Number]) -> None:
        self._states, self._numbers = states, numbers

    def look_ahead(self) -> None:
        """Nothing to prepare: numbers are at hand."""

    def of_this_step(self) -> list[float]:
        """One for each network."""
        return [n(state.steps) for n, state in zip(self._numbers, self._states, strict=True)]


class OnDevice:
    """The same as tensors: those of many steps lie on the device, and each step takes its own.

    Taking them is part of what is recorded. They are float32.
    """

    def __init__(self, states: Sequence[_State], numbers: Sequence[Number]) -> None:
        self._states, self._numbers, self._left = states, numbers, 0
        device = states[0].device
        self._ahead = torch.zeros(STEPS_AHEAD, len(states), device=device)
        self._position = torch.zeros(1, dtype=torch.int64, device=device)
        self._now = torch.zeros(len(states), device=device)
        self._each = self._now.unbind()

    def look_ahead(self) -> None:
        """Before each step: brings the next steps' numbers to the device if none are left there."""
        if self._left == 0:
            numbers = [
                [n(state.steps + i) for n, state in zip(self._numbers, self._states, strict=True)]
                for i in range(STEPS_AHEAD)
            ]
            # From pinned memory, and not waited for: the host goes on.
            pinned = self._ahead.device.type == "cuda"
            self._ahead.copy_(torch.tensor(numbers, pin_memory=pinned), non_blocking=True)
            self._position.zero_()
            self._left = STEPS_AHEAD
        self._left -= 1

    def of_this_step(self) -> Sequence[Tensor]:
        """One for each network, shape (); a step may ask once."""
        torch.index_select(self._ahead, 0, self._position, out=self._now[None])
        self._position += 1
        return self._each
