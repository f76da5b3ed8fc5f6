"""Whose turn it is: on a loop and a clock that only the test moves."""

from __future__ import annotations

from contextvars import Context, copy_context
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from api.transport import turns
from api.transport.turns import Turns
from boxoffice.admission import flood
from boxoffice.admission.flood import FLOOD
from boxoffice.settings import ApiSettings
from boxoffice.telemetry import request_id
from boxoffice.telemetry.traces import Place, Trace, current


class Loop:
    """Calls what was asked for when the test says so."""

    def __init__(self) -> None:
        self.soon: list[Any] = []
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def call_soon(self, work: Any, *, context: Context) -> None:
        self.soon.append(partial(context.run, work))

    def turn(self) -> None:
        work, self.soon = self.soon, []
        for each in work:
            each()


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        for module in (turns, flood):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(flood, "core_time_s", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_turn_is_two_milliseconds_of_one_loop(clock: Clock) -> None:
    """The first who asks begins it; what was begun meanwhile shortens it; another loop's turn is another."""
    one, other, ours = Loop(), Loop(), Turns()
    assert not ours.is_over(one)  # type: ignore[arg-type]
    clock.now += 0.0019
    assert not ours.is_over(one)  # type: ignore[arg-type]
    ours.spend(0.0005)
    assert ours.is_over(one)  # type: ignore[arg-type]
    assert not ours.is_over(other)  # type: ignore[arg-type]
    clock.now += 0.002
    assert ours.is_over(other)  # type: ignore[arg-type]
    assert (len(one.soon), len(other.soon)) == (1, 1)


def test_small_pieces_have_a_rate_for_all() -> None:
    """A thousand a second; of very many connections each is read every two seconds. Who was not here has saved nothing up."""
    ours = Turns()
    assert [round(ours.piece(50.0), 6) for _ in range(3)] == [50.001, 50.002, 50.003]
    assert round(ours.piece(50.002), 6) == 50.004
    assert round(ours.piece(60.0), 6) == 60.001
    last = [ours.piece(60.0) for _ in range(3_000)]
    assert last[-1] == last[-1_000] == 62.0 and last[1_000] < 61.1


def test_a_turn_in_which_nobody_waits_is_the_last(clock: Clock) -> None:
    loop, ours = Loop(), Turns()
    ours.is_over(loop)  # type: ignore[arg-type]
    loop.turn()
    assert loop.soon == []
    clock.now += 1
    assert not ours.is_over(loop), "the next who asks begins one"  # type: ignore[arg-type]


def test_who_came_too_late_is_called_in_one_of_the_next_turns(clock: Clock) -> None:
    """In the order in which they came, as many as there is time for, and at least one."""
    loop, ours, called = Loop(), Turns(), []

    def waiting(name: str, takes_s: float) -> Any:
        def has_turn() -> None:
            called.append(name)
            clock.now += takes_s

        return SimpleNamespace(has_turn=has_turn, queued_at=0.0, patience=patient(0, 0))

    ours.is_over(loop)  # type: ignore[arg-type]
    for name, takes_s in (("a", 0.001), ("b", 0.001), ("c", 0.005), ("d", 0.0), ("e", 0.0)):
        ours.wait(waiting(name, takes_s))
    turned = []
    for _ in range(4):
        loop.turn()
        turned.append("".join(called))
        called.clear()
    assert turned == ["ab", "c", "de", ""]
    assert loop.soon == []
    clock.now += 1
    assert not ours.is_over(loop)  # type: ignore[arg-type]


def test_who_has_a_turn_has_it_in_nobodys_name(clock: Clock) -> None:
    """Though the turn began, and the next one, while a request was worked for that is traced and has a name."""
    loop, ours, seen = Loop(), Turns(), []

    def has_turn() -> None:
        seen.append((current.get(), request_id.current.get()))
        clock.now += turns.TURN_S

    traced = copy_context()
    traced.run(current.set, Trace(Place("1" * 32, "2" * 16), None, 0))
    traced.run(request_id.current.set, b"another's")
    traced.run(ours.is_over, loop)  # type: ignore[arg-type]
    for _ in range(3):
        ours.wait(SimpleNamespace(has_turn=has_turn, queued_at=0.0, patience=patient(0, 0)))
    for _ in range(3):
        traced.run(loop.turn)
    assert seen == [(None, b"")] * 3


def patient(wait_ms: float, burst_s: float) -> ApiSettings:
    return ApiSettings(wait_ms=wait_ms, burst_s=burst_s)


def test_a_turn_lets_in_what_it_has_time_for_in_a_flood(clock: Clock) -> None:
    """Bookings of the lane are counted in, which are begun at any time otherwise; and one of sixteen is let in, whatever time
    that takes. One that goes the ordinary way counts as five."""
    loop, ours = Loop(), Turns()
    FLOOD.begin(0.5)
    assert ours.lets_in(loop)  # type: ignore[arg-type]
    clock.now += 0.0019
    assert ours.lets_in(loop)  # type: ignore[arg-type]
    clock.now += 0.0001
    assert ours.is_over(loop)  # type: ignore[arg-type]
    let_in = [ours.lets_in(loop) for _ in range(60)]  # type: ignore[arg-type]
    assert [n for n, each in enumerate(let_in) if each] == [31, 47]
    ours.spend(turns.ORDINARY_S)
    assert not any([ours.lets_in(loop) for _ in range(80)])  # type: ignore[arg-type]
    loop.turn()
    assert ours.lets_in(loop), "the next turn has time"  # type: ignore[arg-type]
    assert FLOOD.is_on


def test_whoever_is_sent_away_is_told_so_when_the_turn_ends(clock: Clock) -> None:
    """And whoever asks again then is told in the next."""
    loop, ours, told = Loop(), Turns(), []
    ours.is_over(loop)  # type: ignore[arg-type]

    def answer() -> None:
        told.append(1)
        if len(told) == 2:
            ours.send_away(SimpleNamespace(answer=answer))  # type: ignore[arg-type]

    for _ in range(2):
        ours.send_away(SimpleNamespace(answer=answer))  # type: ignore[arg-type]
    assert not told
    loop.turn()
    assert len(told) == 2
    loop.turn()
    assert len(told) == 3
    loop.turn()
    assert loop.soon == []


def test_in_a_turn_so_many_are_told_that_they_were_sent_away(clock: Clock) -> None:
    """And the next in the turns that follow, before those who came later: what others are answered comes in between."""
    loop, ours, told = Loop(), Turns(), []
    ours.is_over(loop)  # type: ignore[arg-type]

    def come(first: int, count: int) -> None:
        for number in range(first, first + count):
            ours.send_away(SimpleNamespace(answer=partial(told.append, number)))  # type: ignore[arg-type]

    come(0, turns.SENT_AWAY_EACH + 2)
    turned = []
    for _ in range(3):
        loop.turn()
        turned.append(len(told))
        if len(turned) == 1:
            come(len(told) + 2, turns.SENT_AWAY_EACH)
    assert turned == [256, 512, 514] and told == sorted(told)
    assert loop.soon == []


def test_a_flood_is_over_when_turns_have_time_for_all(clock: Clock) -> None:
    """For as long as a burst takes."""
    loop, ours = Loop(), Turns()
    FLOOD.begin(0.5)
    for _ in range(6):
        ours.lets_in(loop)  # type: ignore[arg-type]
        clock.now += 0.1
        loop.turn()
    assert not FLOOD.is_on


def test_one_that_fails_stops_nobodys_turn(clock: Clock) -> None:
    """Neither one that is to be told that it was sent away, nor one that is to read: it is in the log, and a turn follows."""
    loop, ours, called = Loop(), Turns(), []
    ours.is_over(loop)  # type: ignore[arg-type]

    def fails() -> None:
        called.append("fails")
        raise RuntimeError

    settings = patient(50, 0.5)
    for answer in (fails, lambda: called.append("told")):
        ours.send_away(SimpleNamespace(answer=answer))  # type: ignore[arg-type]
    for turn in (fails, lambda: called.append("read")):
        ours.wait(SimpleNamespace(has_turn=turn, queued_at=0.0, patience=settings))
    with capture_logs() as said:
        loop.turn()
    assert called == ["fails", "told", "fails", "read"] and {line["event"] for line in said} == {"request.failed"}
    loop.turn()
    clock.now += 1
    assert not ours.is_over(loop), "another turn has begun"  # type: ignore[arg-type]


def test_those_who_wait_say_that_it_is_a_flood(clock: Clock) -> None:
    """When whoever is first has waited for too long, turn after turn, for as long as a burst takes; and then whoever has waited
    so long is overdue, and nobody before."""
    loop, ours, settings = Loop(), Turns(), patient(50, 0.9999)
    ours.is_over(loop)  # type: ignore[arg-type]
    floods = []
    for n in range(8):
        waited = SimpleNamespace(
            has_turn=lambda: None, queued_at=loop.now - (0.04 if n == 1 else 0.06), patience=settings
        )
        ours.wait(waited)  # type: ignore[arg-type]
        loop.turn()
        floods.append((FLOOD.is_on, ours.are_overdue(0.06, settings)))
        assert not ours.are_overdue(0.05, settings), "it is in time"
        loop.now += 0.1
        clock.now += 0.1
    assert floods == [(False, False)] * 7 + [(True, True)]


def test_so_many_probes_are_before_others() -> None:
    ours = Turns()
    assert [ours.may_be_probed(now) for now in (5.0, 5.0, 5.0199, 5.0201, 5.03, 9.0)] == [
        True, False, False, True, False, True
    ]  # fmt: skip


def test_who_waited_on_another_loop_is_forgotten(clock: Clock) -> None:
    ours, called = Turns(), []
    one, other = Loop(), Loop()
    ours.is_over(one)  # type: ignore[arg-type]
    ours.wait(SimpleNamespace(has_turn=lambda: called.append(1)))  # type: ignore[arg-type]
    ours.is_over(other)  # type: ignore[arg-type]
    other.turn()
    assert (called, other.soon) == ([], [])


def test_requests_that_come_together_have_a_rate() -> None:
    """Sixteen at once after a rest, then two hundred a second; whoever has gone gives back its place."""
    ours = Turns()
    due = [ours.pace(1_000.0) for _ in range(18)]
    assert [round(1_000 * (each - 1_000), 3) for each in due] == [*range(-75, 5, 5), 5, 10]
    ours.unpace()
    assert round(1_000 * (ours.pace(1_000.0) - 1_000), 3) == 10
    assert round(ours.pace(1_050.0) - 1_050, 6) == -0.075, "a rest of any length is worth sixteen"
    assert round(ours.pace(1_050.02) - 1_050, 6) == -0.055, "no more than those"


def test_bytes_that_are_thrown_away_have_a_rate() -> None:
    """64 MiB a second and half a millisecond each time, one after another; a rest is worth nothing."""
    ours = Turns()
    assert ours.throw_away(10.0, 67_108_864) == pytest.approx(11.0005)
    assert ours.throw_away(10.0, 33_554_432) == pytest.approx(11.501)
    assert ours.throw_away(20.0, 0) == pytest.approx(20.0005)
