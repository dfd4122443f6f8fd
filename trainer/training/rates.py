"""Learning rates of the steps to come, on the host or, for recorded steps, on the device."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

# Steps whose learning rates go to the device at once.
RATES_AHEAD = 1024


class _State(Protocol):
    steps: int

    @property
    def device(self) -> torch.device: ...


class Member(Protocol):
    """What is known of one network: its state, and its learning rate at each step."""

    @property
    def state(self) -> _State: ...  # noqa: D102
    @property
    def learning_rate(self) -> Callable[[int], float]: ...  # noqa: D102


class RatesOnHost:
    """Each member's learning rate of the step that it is at."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members

    def look_ahead(self) -> None:
        """Nothing to prepare: numbers are at hand."""

    def of_this_step(self) -> list[float]:
        """One rate for each member."""
        return [member.learning_rate(member.state.steps) for member in self._members]


class RatesOnDevice:
    """The same as tensors: the rates of many steps lie on the device, and each step takes its own.

    Taking them is part of what is recorded.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self._members, self._left = members, 0
        device = members[0].state.device
        self._ahead = torch.zeros(RATES_AHEAD, len(members), device=device)
        self._position = torch.zeros(1, dtype=torch.int64, device=device)
        self._now = torch.zeros(len(members), device=device)
        self._each = self._now.unbind()

    def look_ahead(self) -> None:
        """Before each step: brings the next steps' rates to the device if none are left there."""
        if self._left == 0:
            rates = [
                [member.learning_rate(member.state.steps + ahead) for member in self._members]
                for ahead in range(RATES_AHEAD)
            ]
            # From pinned memory, and not waited for: the host goes on.
            pinned = self._ahead.device.type == "cuda"
            self._ahead.copy_(torch.tensor(rates, pin_memory=pinned), non_blocking=True)
            self._position.zero_()
            self._left = RATES_AHEAD
        self._left -= 1

    def of_this_step(self) -> Sequence[Tensor]:
        """One rate for each member, shape (); a step may ask once."""
        torch.index_select(self._ahead, 0, self._position, out=self._now[None])
        self._position += 1
        return self._each
