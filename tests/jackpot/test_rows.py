"""A row that is half there fails where it is written, with a sentence."""

from dataclasses import replace

import pytest

from jackpot import conditions, settings
from jackpot.conditions import CONDITIONS, PRIZES, Verdict
from jackpot.plugins import PluginError
from jackpot.settings import LT, PRETRAIN, SDT, WR, FirstEpoch, TableError, Weights

FOUR = CONDITIONS[3]


@pytest.mark.parametrize(
    ("row", "change", "words"),
    [
        (LT, {"name": "LT"}, "lower-case"),
        (LT, {"name": ""}, "lower-case"),
        (LT, {"label": " "}, "needs a label"),
        (LT, {"label": "LT-2"}, "without '-'"),
        (LT, {"colour": "blue"}, "expected a colour such as '#548cf1', found 'blue'"),
        (LT, {"weights": "θ₀"}, "weights must be one of"),
        (LT, {"first_epoch": 0}, "first_epoch must be one of"),
        (LT, {"mask": "imp"}, r"a function \(mask, rng\) -> mask"),
        (LT, {"mask": None}, "a ticket is weights under a mask"),
        (LT, {"weights": Weights.NARROW}, "does not fit a narrower network"),
        (LT, {"weights": Weights.DRAWN}, "θ₀ under a mask is Weights.KEPT"),
        (LT, {"start": "shuffled"}, r"a function \(weights, mask, rng\) -> weights"),
        (LT, {"signs_of": Weights.REWOUND}, "signs_of must be Weights.KEPT, Weights.TRAINED or"),
        (PRETRAIN, {"inverted": True}, "are of a network under a mask"),
        (PRETRAIN, {"weights": Weights.TRAINED}, "and it has no mask"),
        (LT, {"weights": Weights.CONTINUED}, "no mask but `whole`"),
    ],
)
def test_a_setting_that_is_half_there_says_why(row, change, words):
    with pytest.raises(TableError, match=words) as caught:
        replace(row, **change)
    assert repr(change.get("name", row.name)) in str(caught.value)


@pytest.mark.parametrize("change", [{"name": "lt"}, {"label": "LT"}])
def test_two_settings_share_neither_name_nor_label(change):
    with pytest.raises(TableError, match=r"'lt' and '(wr|lt)' share name or label"):
        settings.table([LT, replace(WR, **change)])


@pytest.mark.parametrize(
    ("row", "change", "words"),
    [
        (FOUR, {"name": "4 b"}, "letters, digits"),
        (FOUR, {"symbol": "(4)"}, "a symbol of one character"),
        (FOUR, {"words": ""}, "and words"),
        (FOUR, {"verdicts": frozenset({Verdict.NONE})}, "only jackpot and secondary"),
        (FOUR, {"rival": None}, "needs a rival"),
        (FOUR, {"test": lambda facts, criteria: True}, "and not both"),
        (FOUR, {"at": None}, "at must be"),
        (FOUR, {"allowance": None}, "needs an allowance"),
        (FOUR, {"rival_words": ""}, "words for the rival"),
        (FOUR, {"verdicts": frozenset()}, "cannot name the learning rate of secondary"),
        (CONDITIONS[0], {"at": "best"}, "belong to a comparison"),
    ],
)
def test_a_condition_that_is_half_there_says_why(row, change, words):
    with pytest.raises(TableError, match=words):
        replace(row, **change)


def test_conditions_beside_the_five_are_shown_where_their_rival_was_trained():
    five = [row.name for row in CONDITIONS]

    def names(trained: list[str], ticket: str) -> list[str]:
        return [row.name for row in conditions.with_beside(CONDITIONS, trained, ticket)]

    assert names(["lt", "rr", "sdt"], "lt") == five
    assert names(["lt", "rr", "sh", "as_long"], "lt") == [*five, "M"]
    assert names(["lrr", "rr", "sh", "as_long"], "lrr") == [*five, "L"]
    own = (*CONDITIONS, replace(conditions.BESIDE[0], words="my own"))
    assert conditions.with_beside(own, ["sh"], "lt") == own, "a reader's own M stands"


def test_what_a_study_says_is_read_where_it_can_be():
    said = {"ticket": "lrr", "gap": 0.01, "epochs": "many"}
    found = conditions.with_said(conditions.Criteria(), said)
    assert (found.ticket, found.gap, found.epochs) == ("lrr", 0.01, None)
    reader = conditions.Criteria(ticket="lt", stands=frozenset({"ticket"}))
    assert conditions.with_said(reader, said).ticket == "lt"
    for unknown in ("sdt", "nonsense", 3, None):
        assert conditions.with_said(conditions.Criteria(), {"ticket": unknown}).ticket == "lt"


def test_conditions_are_told_apart_and_each_prize_has_a_rate():
    with pytest.raises(TableError, match="two conditions have the name '4'"):
        conditions.table([*CONDITIONS, FOUR])
    with pytest.raises(TableError, match="two conditions have the symbol '④'"):
        conditions.table([*CONDITIONS, replace(FOUR, name="6", names_rate_of=None)])
    with pytest.raises(TableError, match="must name the learning rate of jackpot"):
        conditions.table(CONDITIONS[:4])


def test_what_a_store_names_has_a_colour_and_a_place():
    names = ["zeta", "sdt", "lt", "alpha", "lt"]
    assert settings.ordered(names) == ["lt", "sdt", "alpha", "zeta"]
    found = settings.colours(names)
    assert list(found) == ["lt", "sdt", "alpha", "zeta"]
    assert len(set(found.values())) == 4


def test_the_table_is_that_of_section_2_1():
    controls = [row.name for row in settings.CONTROLS]
    assert list(settings.SETTINGS) == ["pretrain", "lt", "rr", "wr", "lrr", "sdt", *controls]
    tickets = [row.name for row in settings.SETTINGS.values() if row.is_ticket]
    assert tickets == ["lt", "wr", "lrr"]
    assert PRETRAIN.is_dense
    assert SDT.is_narrow
    assert WR.first_epoch is FirstEpoch.REWIND
    assert WR.uses_rewind_epoch
    assert [c.rival.name for c in CONDITIONS if c.rival] == ["sdt", "rr", "pretrain", "pretrain"]
    assert all(c.verdicts == set(PRIZES) for c in CONDITIONS[:4])
    assert CONDITIONS[4].verdicts == {Verdict.JACKPOT}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ltt", "unknown setting 'ltt'; known are pretrain, lt"),
        ("nowhere.module:row", "'nowhere.module:row' cannot be imported"),
        ("json:dumps", "expected a Setting, found a function"),
        ("jackpot.settings:LT", "has the name or label of 'lt'"),
    ],
)
def test_a_setting_that_cannot_be_found_says_why(name, words):
    with pytest.raises(ValueError, match=words):
        settings.find(name)
    if ":" in name:
        with pytest.raises(PluginError):
            settings.find(name)
