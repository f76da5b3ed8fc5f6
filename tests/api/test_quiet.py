"""Lines of the log that anybody can cause: the first of a kind at once, then one for many, and in the end nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from api import quiet


class Loop:
    """A loop whose time only the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.later: list[tuple[float, Any, tuple[Any, ...]]] = []

    def call_later(self, seconds: float, work: Any, *arguments: Any, context: Any = None) -> None:
        self.later.append((self.now + seconds, work, arguments))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        due = [call for call in self.later if call[0] <= self.now]
        self.later = [call for call in self.later if call[0] > self.now]
        for _, work, arguments in due:
            work(*arguments)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    loop = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    return loop


@pytest.fixture
def said() -> Iterator[list[Any]]:
    with capture_logs() as said:
        yield said


def line(level: str = "info", **fields: Any) -> dict[str, Any]:
    return {"event": "refused", "log_level": level, **fields}


def test_the_first_lines_of_a_kind_come_at_once_and_the_others_together(loop: Loop, said: list[Any]) -> None:
    """With the fields and the level of the last, and how many they were."""
    for n in range(5):
        quiet.say("refused", ("kind",), lines=2, level="warning" if n == 4 else "info", n=n)
    assert said == [line(n=0), line(n=1)]
    loop.pass_time(9.9)
    assert len(said) == 2
    loop.pass_time(0.1)
    assert said[2:] == [line("warning", n=4, requests=3)]


def test_kinds_and_events_are_counted_apart(loop: Loop, said: list[Any]) -> None:
    quiet.say("refused", ("kind",), n=1)
    quiet.say("refused", ("other",), n=2)
    quiet.say("elsewhere", ("kind",), n=3)
    quiet.say("refused", ("kind",), n=4)
    assert [entry["n"] for entry in said] == [1, 2, 3]


def test_several_requests_may_share_a_line(loop: Loop, said: list[Any]) -> None:
    quiet.say("refused", ("kind",), requests=7)
    quiet.say("refused", ("kind",), requests=5)
    quiet.say("refused", ("kind",), requests=2)
    loop.pass_time(10)
    assert said == [line(requests=7), line(requests=7)]


def test_who_goes_on_has_one_line_a_turn_less_the_count(loop: Loop, said: list[Any]) -> None:
    """A turn that had a count has one line fewer at once; a turn in which all had their line begins with all of them; after
    a turn without any the kind is forgotten, and costs nothing."""
    for _ in range(3):
        quiet.say("refused", ("kind",), lines=2)
    loop.pass_time(10)
    assert len(said) == 3
    for _ in range(3):
        quiet.say("refused", ("kind",), lines=2)
    assert len(said) == 4
    loop.pass_time(10)
    assert said[4:] == [line(requests=2)]
    loop.pass_time(10)
    assert len(loop.later) == 1, "the count was a line of this turn"
    loop.pass_time(10)
    assert (len(loop.later), quiet.kinds) == (0, {})
    quiet.say("refused", ("kind",), lines=2)
    loop.pass_time(10)
    assert len(loop.later) == 1, "it had a line"
    quiet.say("refused", ("kind",), lines=2)
    quiet.say("refused", ("kind",), lines=2)
    assert len(said) == 8


def test_a_kind_that_was_counted_and_then_rests_is_forgotten(loop: Loop, said: list[Any]) -> None:
    """`left` is what it may still have: a kind that used none of it has nothing to wait for."""
    quiet.say("refused", ("kind",))
    loop.pass_time(10)
    assert (len(said), len(loop.later)) == (1, 1)
    loop.pass_time(10)
    assert (len(loop.later), quiet.kinds) == (0, {})


def test_kinds_are_bounded(loop: Loop, said: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """All others of an event share one then; a kind that is known keeps its own."""
    monkeypatch.setattr(quiet, "KINDS_MAX", 2)
    for kind in ("a", "b", "c", "d", "a", "c"):
        quiet.say("refused", (kind,), name=kind)
    assert [entry["name"] for entry in said] == ["a", "b", "c"]
    assert set(quiet.kinds) == {("refused", "a"), ("refused", "b"), ("refused",)}
    loop.pass_time(10)
    assert sorted((entry["name"], entry["requests"]) for entry in said[3:]) == [("a", 1), ("c", 2)]


def test_outside_of_a_loop_every_line_is_said(said: list[Any]) -> None:
    """Nobody would say what was counted."""
    for _ in range(3):
        quiet.say("refused", ("kind",), level="error", requests=2)
    assert said == [line("error", requests=2)] * 3
    assert quiet.kinds == {}


def test_what_is_forgotten_is_new(loop: Loop, said: list[Any]) -> None:
    quiet.say("refused", ("kind",))
    quiet.forget()
    quiet.say("refused", ("kind",))
    assert len(said) == 2
    quiet.forget()
    loop.pass_time(10)
    assert len(said) == 2


def test_what_was_forgotten_ends_nobody_elses_time(loop: Loop, said: list[Any]) -> None:
    """A kind of the same name that came afterwards has its own ten seconds."""
    quiet.say("refused", ("kind",), n=1)
    loop.pass_time(6)
    quiet.forget()
    quiet.say("refused", ("kind",), n=2)
    quiet.say("refused", ("kind",), n=3)
    loop.pass_time(4)
    assert said == [line(n=1), line(n=2)]
    loop.pass_time(6)
    assert said[2:] == [line(n=3, requests=1)]
