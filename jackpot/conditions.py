"""The conditions of the definition (section 2.2) as a table.

A row says which setting the ticket is compared with, by how much it must exceed it, and which
verdicts need the condition. The judge (in both readings), marks, pages and charts iterate over
rows. A custom condition is a `Condition` in your own module: pass it to `jackpot.judge`, or name it
in the explorer's JACKPOT_CONDITIONS.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal

from jackpot import plugins
from jackpot.settings import AS_LONG, LRR, LT, PRETRAIN, RR, SDT, SETTINGS, SH, Setting, TableError

NON_TRIVIAL_SPARSITY = 0.59
CLEAR_GAP = 0.005
DECENT = 0.05
"""How far below the best dense accuracy a decent learning rate may stay: our number."""
ALPHA = 0.05
"""The share of studies in which a decision may be wrong."""
# "Similar accuracy" and the epochs of the standard recipe, per dataset (section 2.2, table E.1).
SIMILAR = {
    "cifar10": 0.005,
    "cifar100": 0.01,
    "tiny_imagenet": 0.01,
    "imagenet2012": 0.015,
}
TEST_IMAGES = {
    "digits": 359,
    **dict.fromkeys(("mnist", "cifar10", "cifar100", "tiny_imagenet"), 10_000),
    "imagenet2012": 50_000,
}
"""Of runs that were logged before the trainer said how many it evaluates on."""
STANDARD_EPOCHS = {"cifar10": 160, "cifar100": 160, "tiny_imagenet": 160, "imagenet2012": 90}


class Verdict(StrEnum):
    """What a ticket is worth (section 2.2), the highest first.

    `ticket` is a secondary prize at least: whether it is a jackpot, the trials leave open.
    """

    JACKPOT = "jackpot"
    SECONDARY = "secondary"
    TICKET = "ticket"
    NONE = "none"
    UNDECIDED = "undecided"
    NOT_ENOUGH_RUNS = "not enough runs"


def plain(dataset: str) -> str:
    """The dataset's own name: without `tfds:`, and without a revision that the explorer adds."""
    return dataset.removeprefix("tfds:").partition(" ")[0]


PRIZES = (Verdict.JACKPOT, Verdict.SECONDARY)
"""The verdicts that conditions earn, the highest first."""


@dataclass(frozen=True)
class Criteria:
    """The numbers behind the words of the definition; None takes the dataset's own.

    Attributes:
        tolerance: accuracy drop that still counts as similar (conditions 4 and 5).
        gap: difference that counts as clear (conditions 2 and 3).
        sparsity: least non-trivial sparsity (condition 1).
        epochs: least number of epochs that is sufficient (condition 1).
        reading: `literal`: each condition may choose its own learning rate, as the paper's text
            has it; `joint`: one learning rate must meet 3 and 4 (and 5).
        ticket: the setting that is judged: `lt`, `wr` for weight rewinding (appendix B), or `lrr`
            for learning-rate rewinding.
        any_rate: whether subnetworks count that were trained at another rate than their masks were
            found at (section 4). "The same learning rate" of condition 4 is then the mask's.
        floor: how far below the best dense network the one at a rate may be for that rate to be
            a decent one in condition 4. Where no network learns, each would be as good as dense.
        alpha: how often a verdict that is not `undecided` may be wrong.
        share: of alpha, what this judgement may spend. Less than 1 where trials are added until
            verdicts are decided, so that there are several: see `jackpot.looks`.
        stands: names of the criteria that a study's own do not replace (see `with_said`).
        rate_by: accuracy by which each setting's best learning rate is chosen: on the `test`
            split, as the paper does, or on `heldout` images where all trials have that. Test
            accuracies are compared either way.

    Example:
        >>> Criteria().tolerance_for("cifar100"), Criteria(gap=0.01).gap
        (0.01, 0.01)
    """

    tolerance: float | None = None
    gap: float = CLEAR_GAP
    sparsity: float = NON_TRIVIAL_SPARSITY
    epochs: int | None = None
    reading: Literal["literal", "joint"] = "literal"
    ticket: str = LT.name
    rate_by: Literal["test", "heldout"] = "test"
    any_rate: bool = False
    floor: float = DECENT
    alpha: float = ALPHA
    share: float = 1.0
    stands: frozenset[str] = frozenset()

    @property
    def level(self) -> float:
        """How often this judgement may be wrong: alpha times its share."""
        return self.alpha * self.share

    def tolerance_for(self, dataset: str) -> float:
        """The tolerance on a dataset; CIFAR-10's where the paper names none (see `assumed`)."""
        if self.tolerance is not None:
            return self.tolerance
        return SIMILAR.get(plain(dataset), SIMILAR["cifar10"])

    def epochs_for(self, dataset: str) -> int:
        """Sufficient epochs on a dataset; 1 where the paper names none: see `assumed`."""
        return self.epochs if self.epochs is not None else STANDARD_EPOCHS.get(plain(dataset), 1)

    def assumed(self, dataset: str) -> tuple[str, ...]:
        """What is assumed because neither the paper nor the reader names it for a dataset.

        Example:
            >>> Criteria().assumed("tfds:cifar100"), Criteria(tolerance=0.01).assumed("svhn")
            ((), ('1 epoch is sufficient',))
        """
        known = plain(dataset)
        said = []
        if self.tolerance is None and known not in SIMILAR:
            said.append(f"{100 * self.tolerance_for(dataset):g} points are similar")
        if self.epochs is None and known not in STANDARD_EPOCHS:
            said.append("1 epoch is sufficient")
        return tuple(said)


SAID = ("tolerance", "gap", "sparsity", "epochs", "floor", "ticket")
"""The criteria that a study can say in its config (`criteria:`)."""


def with_said(criteria: Criteria, said: Mapping[str, object]) -> Criteria:
    """Criteria with a study's own, where the reader has named none.

    Args:
        criteria: of the reader.
        said: by the study, by name; what is not of `SAID`, or of another kind, is left out.
    """
    default = Criteria()

    def counts(name: str, value: object) -> bool:
        if name == "ticket":
            return value in SETTINGS and SETTINGS[str(value)].is_ticket
        return isinstance(value, int | float)

    own: dict[str, Any] = {
        name: said[name]
        for name in SAID
        if counts(name, said.get(name))
        and name not in criteria.stands
        and getattr(criteria, name) == getattr(default, name)
    }
    return replace(criteria, **own)


@dataclass(frozen=True)
class Facts:
    """What a condition on the study itself looks at.

    Attributes:
        sparsity: of the ticket.
        epochs: least number that the dense network was trained for.
        dataset: name.
    """

    sparsity: float
    epochs: int
    dataset: str


@dataclass(frozen=True)
class Condition:
    """A row of the table: a comparison of the ticket with a rival, or a test of the study itself.

    Attributes:
        name: short and unique: the paper's number.
        symbol: one character for column heads and charts.
        words: what it asks, to be read after "the ticket is" (or "has").
        plain: the same in about five words, for those who have not read the paper; `words` if
            there are none.
        verdicts: the verdicts that need it; none: it is shown beside them.
        rival: setting that the ticket is compared with. Both have the same sparsity and pruner,
            where the rival has them.
        rival_words: how charts name the rival.
        at: `best`: each at its own best learning rate; `same rate`: both at one rate, the one that
            favours the ticket most.
        allowance: (criteria, dataset) → by how much the ticket must exceed its rival, a fraction;
            negative: by how much it may fall short.
        is_strict: whether the difference must be larger than the allowance, or may equal it.
        is_joint: whether the joint reading wants it at the same learning rate as the others.
        names_rate_of: verdict whose learning rate is the one at which the ticket meets this
            condition.
        test: (facts, criteria) → whether it holds; for a condition without a rival.
        asks_of: the tickets that it asks something of; none: of every one.
        void_under: pruners whose masks are drawn without a look at any weight: under them the two
            draws θ₀ and θ₀′ are exchangeable, and the condition fails by construction.

    Raises:
        TableError: a row that is incomplete or contradicts itself.
    """

    name: str
    symbol: str
    words: str
    verdicts: frozenset[Verdict]
    rival: Setting | None = None
    rival_words: str = ""
    at: Literal["best", "same rate"] | None = None
    allowance: Callable[[Criteria, str], float] | None = None
    is_strict: bool = False
    is_joint: bool = False
    names_rate_of: Verdict | None = None
    test: Callable[[Facts, Criteria], bool] | None = None
    plain: str = ""
    asks_of: frozenset[str] = frozenset()
    void_under: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        def refuse(problem: str) -> None:
            raise TableError(f"condition {self.name!r}: {problem}")

        if not re.fullmatch(r"[A-Za-z0-9_]+", self.name):
            refuse("a name has letters, digits and '_'")
        if len(self.symbol) != 1 or not self.words.strip():
            refuse("it needs a symbol of one character, and words")
        if not self.verdicts <= set(PRIZES):
            refuse(f"only {' and '.join(PRIZES)} can need it")
        if (self.rival is None) == (self.test is None):
            refuse("it needs a rival to compare with, or a test of the study, and not both")
        if self.rival is None:
            if self.at or self.allowance or self.is_joint or self.names_rate_of:
                refuse("at, allowance, is_joint and names_rate_of belong to a comparison")
            return
        if self.at not in ("best", "same rate"):
            refuse(f"at must be 'best' or 'same rate', found {self.at!r}")
        if self.allowance is None or not self.rival_words.strip():
            refuse("a comparison needs an allowance, and words for the rival")
        if self.names_rate_of and self.names_rate_of not in self.verdicts:
            refuse(f"it cannot name the learning rate of {self.names_rate_of}, which it is not for")


def table_of(rows: Iterable[Condition]) -> tuple[Condition, ...]:
    """Rows in order. Raises: TableError: two rows of one name or symbol."""
    found = tuple(rows)
    for attribute in ("name", "symbol"):
        values = [getattr(row, attribute) for row in found]
        twice = [value for i, value in enumerate(values) if value in values[:i]]
        if twice:
            raise TableError(f"two conditions have the {attribute} {twice[0]!r}")
    return found


def table(rows: Iterable[Condition]) -> tuple[Condition, ...]:
    """Rows in order.

    Raises:
        TableError: two rows of one name or symbol, or a verdict that no row names a rate of.
    """
    found = table_of(rows)
    for verdict in PRIZES:
        naming = [row.name for row in found if row.names_rate_of is verdict]
        if len(naming) != 1:
            raise TableError(
                f"one condition must name the learning rate of {verdict}; found {naming}"
            )
    return found


def _gap(criteria: Criteria, dataset: str) -> float:
    return criteria.gap


def _tolerance(criteria: Criteria, dataset: str) -> float:
    return -criteria.tolerance_for(dataset)


def _is_serious(facts: Facts, criteria: Criteria) -> bool:
    deep = facts.sparsity >= criteria.sparsity - 1e-9
    return deep and facts.epochs >= criteria.epochs_for(facts.dataset)


_EVERY = frozenset(PRIZES)
RANDOM_MASKS = frozenset({"random", "erk", "balanced"})
"""Pruners whose masks are drawn: `trainer.pruning` has their rows."""
CONDITIONS = table(
    [
        Condition(
            name="1",
            symbol="①",
            words="non-trivial sparsity and sufficient epochs",
            plain="sparse enough, trained long enough",
            verdicts=_EVERY,
            test=_is_serious,
        ),
        Condition(
            name="2",
            symbol="②",
            words="clearly better than small-dense training",
            plain="beats a small dense network",
            verdicts=_EVERY,
            rival=SDT,
            rival_words="small-dense",
            at="best",
            allowance=_gap,
            is_strict=True,
        ),
        Condition(
            name="3",
            symbol="③",
            words="clearly better than random reinitialisation",
            plain="beats fresh weights, same mask",
            verdicts=_EVERY,
            rival=RR,
            rival_words="reinitialised",
            at="best",
            allowance=_gap,
            is_strict=True,
            is_joint=True,
            void_under=RANDOM_MASKS,
        ),
        Condition(
            name="4",
            symbol="④",
            words="similar to pretraining at the same learning rate",
            plain="matches dense at same rate",
            verdicts=_EVERY,
            rival=PRETRAIN,
            rival_words="dense, same rate",
            at="same rate",
            allowance=_tolerance,
            is_joint=True,
            names_rate_of=Verdict.SECONDARY,
        ),
        Condition(
            name="5",
            symbol="⑤",
            words="similar to the best pretraining",
            plain="matches dense at best rate",
            verdicts=frozenset({Verdict.JACKPOT}),
            rival=PRETRAIN,
            rival_words="dense, best",
            at="best",
            allowance=_tolerance,
            is_joint=True,
            names_rate_of=Verdict.JACKPOT,
        ),
    ]
)


BESIDE = table_of(
    [
        Condition(
            name="M",
            symbol="M",
            words="clearly better than its own mask, shuffled within layers",
            plain="beats its own mask, shuffled",
            verdicts=frozenset(),
            rival=SH,
            rival_words="shuffled mask",
            at="best",
            allowance=_gap,
            is_strict=True,
            asks_of=frozenset({LT.name}),
            void_under=RANDOM_MASKS,
        ),
        Condition(
            name="L",
            symbol="L",
            words="similar to the dense network, trained as long",
            plain="matches dense trained as long",
            verdicts=frozenset(),
            rival=AS_LONG,
            rival_words="dense, as long",
            at="best",
            allowance=_tolerance,
            asks_of=frozenset({LRR.name}),
        ),
    ]
)
"""Shown beside the five, where their rival was trained; no verdict needs them."""


def with_beside(
    conditions: Iterable[Condition], trained: Iterable[str], ticket: str
) -> tuple[Condition, ...]:
    """Conditions, followed by those of `BESIDE` that ask something of a ticket.

    Args:
        conditions: as a reader asks for them.
        trained: names of the settings that the study has.
        ticket: name of the setting that is judged.
    """
    found, names = tuple(conditions), set(trained)
    known = {attribute for row in found for attribute in (row.name, row.symbol)}
    return found + tuple(
        row
        for row in BESIDE
        if row.rival is not None
        and row.rival.name in names
        and ticket in row.asks_of
        and not known & {row.name, row.symbol}
    )


def with_own(names: Iterable[str]) -> tuple[Condition, ...]:
    """The conditions of the table, followed by custom ones.

    Args:
        names: of the custom conditions, each `package.module:name`.

    Raises:
        PluginError: one that cannot be imported.
        TableError: one that has the name or symbol of another.
    """
    own = [plugins.load("condition", name, Condition) for name in names]
    return table([*CONDITIONS, *own])
