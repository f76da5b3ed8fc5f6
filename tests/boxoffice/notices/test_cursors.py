"""Texts of places in the feed: what was given out is read again, and nothing else."""

from __future__ import annotations

import pytest

from boxoffice.errors import Malformed
from boxoffice.notices.cursors import ALL_READ, Cursor


@pytest.mark.parametrize(
    ("cursor", "text"),
    [
        (Cursor(0, 0), "0.0"),
        (Cursor(17, 255), "17.ff"),
        (Cursor(17, 2**31 - 1, 0), "17.7fffffff.0"),
        (Cursor(10**17, 1, 499), "100000000000000000.1.499"),
    ],
)
def test_it_is_read_as_it_was_given_out(cursor: Cursor, text: str) -> None:
    assert str(cursor) == text
    assert Cursor.read(text) == cursor


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.",
        ".1",
        "1.g",
        "1.FF",
        "-1.1",
        "1.1.",
        "1.1.x",
        "1.1.1.1",
        " 1.1",
        "1.1\n",
        "1" * 19 + ".1",
        "1.123456789",
    ],
)
def test_nothing_else_is_read(text: str) -> None:
    with pytest.raises(Malformed) as caught:
        Cursor.read(text)
    assert caught.value.pointer == "/after"


def test_places_are_in_their_order() -> None:
    """Within a row what was read of it counts; behind it is behind all of it."""
    places = [Cursor(1, 9, 0), Cursor(1, 9, 3), Cursor(1, 9), Cursor(2, 0, 0)]
    assert sorted(reversed(places)) == places
    assert ALL_READ > 10**9
