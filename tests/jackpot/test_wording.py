"""How numbers are written, at the edges between one form and the next."""

import pytest

from jackpot import wording

DAY = 86_400


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5369, "89 min"),
        (5400, "1 h 30 min"),
        (7500, "2 h 05 min"),
        (172_799, "2 days 0 h"),
        (280_800, "3 days 6 h"),
        (7 * DAY - 10, "7 days"),
        # Rounded to minutes these are two weeks.
        (14 * DAY - 10, "2 weeks"),
        (14 * DAY, "2 weeks"),
        (60 * DAY, "9 weeks"),
        (61 * DAY, "2 months"),
        (730 * DAY, "24 months"),
        (731 * DAY, "2.0 years"),
    ],
)
def test_a_duration_is_said_as_people_say_it(seconds: float, words: str):
    assert wording.duration(seconds) == words
