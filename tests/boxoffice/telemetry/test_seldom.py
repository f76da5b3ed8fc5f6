"""The same line at most once in ten seconds, with how often it came."""

from __future__ import annotations

import time

import pytest
from structlog.testing import capture_logs

from boxoffice.telemetry import seldom as module
from boxoffice.telemetry.seldom import LINES_MAX, Seldom, seldom


def test_the_same_line_is_said_once_in_a_while() -> None:
    now = [100.0]
    seldom = Seldom(every_s=10, now_s=lambda: now[0])
    with capture_logs() as lines:
        for _ in range(25):
            seldom.warning("sweeping.failed", error="OutOfMemoryError")
            now[0] += 1
    assert [line.get("suppressed") for line in lines] == [None, 9, 9]


def test_another_line_is_said_at_once() -> None:
    seldom = Seldom(now_s=lambda: 100.0)
    with capture_logs() as lines:
        for error in ("One", "Two", "One"):
            seldom.warning("sweeping.failed", error=error)
        seldom.error("sweeping.failed", error="One")
        seldom.warning("mending.failed", error="One")
    assert len(lines) == 4


def test_what_is_remembered_has_a_limit() -> None:
    seldom = Seldom(now_s=lambda: 100.0)
    with capture_logs():
        for n in range(3 * LINES_MAX):
            seldom.warning("sweeping.failed", error=str(n))
    assert len(seldom.lines) <= LINES_MAX


def test_the_last_line_that_fits_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one more all are forgotten, and said anew."""
    monkeypatch.setattr(module, "LINES_MAX", 2)
    seldom = Seldom(now_s=lambda: 100.0)
    with capture_logs() as lines:
        for error in ("One", "Two", "One", "Two", "Three", "One", "Three"):
            seldom.warning("sweeping.failed", error=error)
    assert [line["error"] for line in lines] == ["One", "Two", "Three", "One"]


def test_a_line_is_said_again_when_its_time_is_over_and_not_before() -> None:
    now = [100.0]
    seldom = Seldom(every_s=10, now_s=lambda: now[0])
    with capture_logs() as lines:
        for at in (100.0, 109.9, 110.0, 119.9, 130.0, 140.0):
            now[0] = at
            seldom.warning("sweeping.failed")
    assert [line.get("suppressed") for line in lines] == [None, 1, 1, None]


@pytest.mark.parametrize("field", ["booking_id", "bookings", "holds", "now_ms", "request_id"])
def test_what_differs_each_time_makes_no_other_line(field: str) -> None:
    """It is said all the same."""
    seldom = Seldom(now_s=lambda: 100.0)
    with capture_logs() as lines:
        for n in range(3):
            seldom.warning("batch.failed", shard=1, **{field: n})
        seldom.warning("batch.failed", shard=2, **{field: 0})
    assert [(line["shard"], line[field]) for line in lines] == [(1, 0), (2, 0)]


def _raise(deeper: bool = False) -> None:
    if deeper:
        _raise()
    raise ValueError("planted")


def test_an_exception_is_known_by_its_kind_and_place() -> None:
    """Not by its words, nor by who called; one that was never raised has no place."""
    seldom = Seldom(now_s=lambda: 100.0)
    with capture_logs() as lines:
        for deeper in (False, False, True):
            try:
                _raise(deeper)
            except ValueError as error:
                seldom.exception("batch.failed", error, shard=1)
        for error in (ValueError("a"), ValueError("b"), KeyError("a")):
            seldom.exception("batch.failed", error, shard=1)
    assert [type(line["exc_info"]) for line in lines] == [ValueError, ValueError, KeyError]
    assert {(line["log_level"], line["event"], line["shard"]) for line in lines} == {("error", "batch.failed", 1)}
    assert lines[0]["exc_info"].__traceback__ is not None


def test_an_error_that_is_no_bug_is_the_same_wherever_it_was_raised() -> None:
    """Its line has no traceback that could tell one from another."""
    seldom = Seldom(now_s=lambda: 100.0)
    seldom.expected = (ValueError,)
    with capture_logs() as lines:
        for error in (ValueError("never raised"), KeyError("a bug")):
            seldom.exception("batch.failed", error, shard=1)
        try:
            _raise()
        except ValueError as error:
            seldom.exception("batch.failed", error, shard=1)
    expected, bug = lines
    assert expected == {"event": "batch.failed", "log_level": "warning", "shard": 1, "error": "ValueError"}
    assert (bug["log_level"], type(bug["exc_info"])) == ("error", KeyError)
    seldom.forget()
    assert seldom.expected == ()


def test_what_is_forgotten_is_said_again_and_one_is_for_all() -> None:
    assert (seldom.every_s, seldom.now_s) == (module.EVERY_S, time.monotonic)
    mine = Seldom(now_s=lambda: 100.0)
    with capture_logs() as lines:
        mine.error("x")
        mine.forget()
        mine.error("x")
    assert len(lines) == 2
