"""What may be asked of the feed, and what is said of anything else."""

from __future__ import annotations

import pytest

from boxoffice.errors import Malformed
from boxoffice.notices.cursors import Cursor
from boxoffice.settings import LimitSettings
from boxoffice.wire.feed_requests import FeedRequest, parse_feed

LIMITS = LimitSettings()


def test_what_is_left_out_has_its_usual_value() -> None:
    assert parse_feed([], LIMITS) == FeedRequest(None, False, (), 100, 0)
    assert parse_feed([("after", "now")], LIMITS).from_now


def test_all_of_it_is_read() -> None:
    cursor = Cursor(7, 0xAB)
    pairs = [("types", "event.paused, booking.failed"), ("limit", "1000"), ("wait", "30"), ("after", str(cursor))]
    assert parse_feed(pairs, LIMITS) == FeedRequest(cursor, False, ("booking.failed", "event.paused"), 1_000, 30)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("after", "", "length"),
        ("after", "x", "cursor"),
        ("after", "7", "cursor"),
        ("after", "9" * 3_000, "length"),
        ("after", "7.a\x00", "control_character"),
        ("types", "", "length"),
        ("types", "booking", "unknown"),
        ("types", "booking.failed,", "unknown"),
        ("types", "booking.failed,nothing.new", "unknown"),
        ("limit", "0", "out_of_range"),
        ("limit", "1001", "out_of_range"),
        ("limit", "9" * 30, "out_of_range"),
        ("limit", "ten", "int_parsing"),
        ("limit", "-1", "int_parsing"),
        ("limit", "\u0663", "int_parsing"),
        ("wait", "31", "out_of_range"),
        ("wait", "1.5", "int_parsing"),
        ("Wait", "1", "unknown_parameter"),
        ("cursor", "7.a", "unknown_parameter"),
    ],
)  # fmt: skip
def test_the_parameter_that_is_wrong_is_named(name: str, value: str, code: str) -> None:
    """And nothing that was sent."""
    with pytest.raises(Malformed) as found:
        parse_feed([(name, value)], LIMITS)
    assert found.value.details["errors"] == [{"parameter": name, "code": code}]
    assert len(value) < 3 or value not in str(found.value)


def test_one_that_is_there_twice_is_refused() -> None:
    with pytest.raises(Malformed) as found:
        parse_feed([("wait", "1"), ("wait", "1")], LIMITS)
    assert found.value.details["errors"] == [{"parameter": "wait", "code": "duplicate"}]


def test_a_name_that_is_no_plain_word_is_not_repeated() -> None:
    with pytest.raises(Malformed) as found:
        parse_feed([("4242424242424242", "1")], LIMITS)
    assert found.value.details["errors"] == [{"code": "unknown_parameter"}]
