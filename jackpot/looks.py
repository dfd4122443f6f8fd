"""When an adaptive study judges its runs, and how much error each of these looks may spend. Pure.

Trials that are added until a verdict is decided are judged several times. Were each look to judge
at level α, more studies than a share α would be wrong at one of them. Here the looks share α, by
Lan and DeMets' (1983) spending function α t, with t the share of the trials that have been run.
Levels add up to α at the last look, however the looks depend on each other (Bonferroni).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from jackpot.conditions import Verdict
from jackpot.contrasts import Decision


@dataclass(frozen=True)
class Looks:
    """The looks of a study that has between `first` and `last` trials.

    Attributes:
        first: trials at the first look, at least 2: one trial tells no noise.
        last: the most trials.

    Raises:
        ValueError: fewer than two trials, or a last look before the first.

    Example:
        >>> looks = Looks(2, 8)
        >>> looks.trials
        (2, 3, 5, 8)
        >>> [looks.share(look) for look in (1, 2, 3, 4)]
        [0.25, 0.125, 0.25, 0.375]
    """

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 2 <= self.first <= self.last:
            raise ValueError(
                f"expected 2 <= first <= last trials; received {self.first} and {self.last}"
            )

    @cached_property
    def trials(self) -> tuple[int, ...]:
        """Trials at each look: half as many again each time, as fewer would hardly say more."""
        found = [self.first]
        while found[-1] < self.last:
            found.append(min(math.ceil(1.5 * found[-1]), self.last))
        return tuple(found)

    def share(self, look: int) -> float:
        """The share of α that a look (1-based) spends."""
        before = self.trials[look - 2] if look > 1 else 0
        return (self.trials[look - 1] - before) / self.last


class Standing(StrEnum):
    """What a look says of a ticket."""

    DECIDED = "decided"
    OPEN = "more trials"
    FUTILE = "at the boundary"
    MOST = "most trials"
    MISSING = "runs are missing"


@dataclass(frozen=True)
class TicketThen:
    """What a look knew of a ticket.

    Attributes:
        pruner, sparsity: of its mask.
        verdict: of the trials until then.
        standing: what became of it.
        look: that judged it: an earlier one where that decided it.
        decisions: by condition; None where runs were missing.
        margins: by condition, by the means, a fraction; None where nothing is compared.
        needs: the learning rates that got more trials for it, by setting; empty if none did.
    """

    pruner: str
    sparsity: float
    verdict: str
    standing: Standing
    look: int
    decisions: Mapping[str, Decision | None]
    margins: Mapping[str, float | None]
    needs: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class LookThen:
    """A look as its launch recorded it.

    Attributes:
        number: 1-based.
        trials: of the cells that still mattered.
        share: of α, what it could spend.
        runs: that were asked for up to it, parents included.
        rates: learning rates that were tried up to it.
        grown: those of them that this look added beyond an end of the range.
        tickets: what it said of each; empty while runs of it were missing.
        why: why the study stopped there; empty if it did not.
    """

    number: int
    trials: int
    share: float
    runs: int
    rates: tuple[float, ...]
    grown: tuple[float, ...]
    tickets: tuple[TicketThen, ...]
    why: str

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> "LookThen":
        """From JSON values as `dataclasses.asdict` gives them.

        Raises:
            KeyError, TypeError, ValueError: they are something else.
        """
        tickets = tuple(
            TicketThen(
                str(ticket["pruner"]),
                float(ticket["sparsity"]),
                str(Verdict(ticket["verdict"])),
                Standing(ticket["standing"]),
                int(ticket["look"]),
                {
                    str(name): None if said is None else Decision(said)
                    for name, said in dict(ticket["decisions"]).items()
                },
                dict(ticket["margins"]),
                {str(name): tuple(map(float, at)) for name, at in dict(ticket["needs"]).items()},
            )
            for ticket in recorded["tickets"]
        )
        share = float(recorded["share"])
        if not 0 < share <= 1:
            raise ValueError(f"a look cannot spend {share:g} of its level")
        return cls(
            int(recorded["number"]),
            int(recorded["trials"]),
            share,
            int(recorded["runs"]),
            tuple(map(float, recorded["rates"])),
            tuple(map(float, recorded["grown"])),
            tickets,
            str(recorded["why"]),
        )
