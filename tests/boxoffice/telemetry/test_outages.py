"""What is missed is said when it begins, and what is there again when it is over; the rest is counted."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from boxoffice.telemetry import outages as module
from boxoffice.telemetry.outages import OUTAGES, Outages
from boxoffice.telemetry.seldom import Seldom, seldom


class Now:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def noted(now: Now) -> Outages:
    return Outages(Seldom(now_s=now), now)


@pytest.mark.parametrize("what", OUTAGES)
def test_an_outage_has_a_line_at_both_ends(noted: Outages, now: Now, what: str) -> None:
    """With its reason, how long it took, and how often it was met."""
    away, recovered = OUTAGES[what]
    with capture_logs() as lines:
        for _ in range(3):
            noted.missed(what, "ConnectionError")
            now.s += 0.56
        noted.met(what)
        noted.met(what)
    assert lines == [
        {"event": away, "log_level": "warning", "error": "ConnectionError"},
        {"event": recovered, "log_level": "info", "seconds": 1.7, "failures": 3},
    ]
    assert not noted.lasting


def test_one_that_lasts_is_said_again_every_ten_seconds(noted: Outages, now: Now) -> None:
    with capture_logs() as lines:
        for _ in range(21):
            noted.missed("redis", "TimeoutError")
            now.s += 1
    assert [line.get("suppressed") for line in lines] == [None, 9, 9]


def test_one_that_comes_and_goes_fills_no_log(noted: Outages, now: Now) -> None:
    with capture_logs() as lines:
        for _ in range(100):
            noted.missed("redis", "ConnectionError")
            now.s += 0.05
            noted.met("redis")
            now.s += 0.05
    assert [line["event"] for line in lines] == ["redis.away", "redis.recovered"]


def test_what_was_said_to_be_away_is_said_to_be_back(noted: Outages, now: Now) -> None:
    """However short a while ago another was; one whose beginning was left out has no end either."""
    with capture_logs() as lines:
        for away_s, back_s in ((100.0, 101.0), (105.0, 106.0), (110.5, 110.9)):
            now.s = away_s
            noted.missed("redis", "ConnectionError")
            now.s = back_s
            noted.met("redis")
    assert [(line["event"], line.get("seconds"), line.get("suppressed")) for line in lines] == [
        ("redis.away", None, None), ("redis.recovered", 1.0, None),
        ("redis.away", None, 1), ("redis.recovered", 0.4, None),
    ]  # fmt: skip


def test_one_that_is_said_late_is_said_to_be_back(noted: Outages, now: Now) -> None:
    """Its first failure was left out, its last, too; one between was said."""
    with capture_logs() as lines:
        for failed_s in (100.0, 101.0, 110.0, 111.0):
            now.s = failed_s
            noted.missed("redis", "ConnectionError")
            if failed_s == 100.0:
                noted.met("redis")
        noted.met("redis")
    assert [line["event"] for line in lines] == ["redis.away", "redis.recovered"] * 2
    assert lines[-1]["failures"] == 3


def test_each_is_missed_by_itself(noted: Outages) -> None:
    """Of several of a kind, too: that one is met says nothing of another."""
    with capture_logs() as lines:
        noted.missed("gate", "GateClosed", "{s00}:gate")
        noted.missed("gate", "GateClosed", "{s01}:gate")
        noted.met("gate", "{s01}:gate")
        noted.met("redis")
        noted.met("gate")
    assert [(line["event"], line["which"]) for line in lines] == [
        ("gate.shut", "{s00}:gate"), ("gate.shut", "{s01}:gate"), ("gate.recovered", "{s01}:gate"),
    ]  # fmt: skip
    assert list(noted.lasting) == [("gate", "{s00}:gate")]
    noted.forget()
    assert not noted.lasting


def test_a_command_says_by_itself_what_is_away(noted: Outages) -> None:
    noted.silent = True
    with capture_logs() as lines:
        noted.missed("redis", "ConnectionError")
        noted.met("redis")
        assert lines == []
        noted.forget()
        noted.missed("redis", "ConnectionError")
    assert len(lines) == 1


def test_one_is_for_the_whole_process() -> None:
    """And shares what was said with everybody else."""
    with capture_logs() as lines:
        module.outages.missed("redis", "ConnectionError")
        seldom.warning("redis.away", error="ConnectionError")
    assert len(lines) == 1
