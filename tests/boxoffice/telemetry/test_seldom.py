"""The same line at most once in ten seconds, with how often it came."""

from __future__ import annotations

from structlog.testing import capture_logs

from boxoffice.telemetry.seldom import LINES_MAX, Seldom


def test_the_same_line_is_said_once_in_a_while() -> None:
    now = [100.0]
    seldom = Seldom(every_s=10, now_s=lambda: now[0])
    with capture_logs() as lines:
        for _ in range(25):
            seldom.warning("sweeping.failed", error="OutOfMemoryError")
            now[0] += 1
    assert [line.get("times") for line in lines] == [None, 10, 10]


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
    assert len(seldom._lines) <= LINES_MAX
