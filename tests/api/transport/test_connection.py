"""Deadlines, ends and refusals of one connection, on a transport and a clock that only the test moves."""

from __future__ import annotations

from contextvars import Context
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from api.transport import connection as module
from api.transport.connection import Connection
from api.transport.turns import Turns
from boxoffice.settings import ApiSettings
from tests.support.telling import Changes, change

PATIENCE = ApiSettings(head_s=10, body_s=30, flush_s=20, keep_alive_s=75, drain_s=3, connections_max=2)
HALF_A_HEAD = b"POST /v1/bookings HTTP/1.1\r\nHost: x\r\n"
HALF_A_BODY = b"POST /v1/bookings HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"


class Loop:
    """Its time, and what it was asked to call."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.later: list[Any] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, *work: Any, context: Context) -> None: ...

    def call_at(self, at: float, work: Any, *, context: Context) -> Any:
        self.later.append((at, partial(context.run, work)))
        return SimpleNamespace(cancel=lambda: None)


class Transport:
    """What the server writes, and how it ends."""

    def __init__(self) -> None:
        self.written = b""
        self.unread = 0
        self.ends: list[str] = []
        self.can_half = True

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.ends.append("close")

    def abort(self) -> None:
        self.ends.append("abort")

    def write_eof(self) -> None:
        self.ends.append("eof")

    def can_write_eof(self) -> bool:
        return self.can_half

    def is_closing(self) -> bool:
        return "close" in self.ends or "abort" in self.ends

    def get_write_buffer_size(self) -> int:
        return self.unread

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Served(Connection):
    """A connection whose requests nobody answers."""

    turns = Turns()
    patience = PATIENCE

    def take(self, request: Any) -> None:
        self.cycle = SimpleNamespace(
            response_complete=False,
            keep_alive=True,
            disconnected=False,
            message_event=SimpleNamespace(set=lambda: None),
        )


@pytest.fixture
def state() -> Any:
    return SimpleNamespace(tasks=set(), connections=set(), total_requests=0)


@pytest.fixture
def one(state: Any) -> Any:
    return connect(state)


def connect(state: Any) -> Any:
    """Somebody new."""
    served: Any = Served(SimpleNamespace(loaded_app=None), state, {}, Loop())  # type: ignore[arg-type]
    served.connection_made(Transport())
    return served


def status(one: Any) -> int:
    written: bytes = one.transport.written
    return int(written.split()[1]) if written else 0


@pytest.mark.parametrize(
    ("sent", "most_s", "ends", "answer", "counted"),
    [
        (b"", 10, ["close"], 0, {}),
        (HALF_A_HEAD, 10, ["eof"], 408, {"http_refused head_late": 1}),
        (HALF_A_BODY, 30, ["eof"], 408, {"http_refused body_late": 1}),
    ],
    ids=["nothing", "a head", "a body"],
)
def test_each_part_of_a_request_has_its_time(
    one: Any, sent: bytes, most_s: int, ends: list[str], answer: int, counted: Changes
) -> None:
    """To the second, and each begins when the part before it is over."""
    if sent:
        one.loop.now += 9
        one.data_received(sent)
    one.look(one.loop.now + most_s)
    assert one.transport.ends == []
    with change() as changes:
        one.look(one.loop.now + most_s + 0.001)
    assert (one.transport.ends, status(one), changes) == (ends, answer, counted)


def test_more_of_the_same_part_buys_no_time(one: Any) -> None:
    one.data_received(HALF_A_HEAD[:5])
    for byte in HALF_A_HEAD[5:]:
        one.loop.now += 1
        one.data_received(bytes([byte]))
    one.look(one.loop.now)
    assert status(one) == 408


def test_who_has_asked_before_may_rest_for_longer(one: Any) -> None:
    one.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert one.busy
    one.look(one.loop.now + 1_000)
    assert one.transport.ends == [], "it waits for us"
    one.loop.now += 50
    one.cycle.response_complete = True
    one.on_response_complete()
    assert one.server_state.total_requests == 1
    one.look(one.loop.now + 75)
    assert one.transport.ends == []
    one.look(one.loop.now + 75.001)
    assert one.transport.ends == ["close"]


def test_who_was_refused_is_listened_to_for_a_moment(one: Any) -> None:
    one.data_received(b"\0\r\n\r\n")
    assert (status(one), one.transport.ends, one.lingering) == (400, ["eof"], True)
    one.look(one.loop.now + module.LINGER_S)
    assert one.transport.ends == ["eof"]
    one.look(one.loop.now + module.LINGER_S + 0.001)
    assert one.transport.ends == ["eof", "abort"]


@pytest.mark.parametrize("why", ["cannot", "ended"])
def test_who_cannot_be_listened_to_is_closed(one: Any, why: str) -> None:
    if why == "cannot":
        one.transport.can_half = False
        one.data_received(b"\0\r\n\r\n")
    else:
        one.data_received(HALF_A_HEAD)
        assert one.eof_received() is False
    assert (status(one), one.transport.ends) == (400, ["close"])


def test_who_says_nothing_more_is_closed_after_its_last_answer(one: Any) -> None:
    assert one.eof_received() is False
    assert one.transport.ends == ["close"]


def test_who_is_being_answered_may_stop_sending(one: Any) -> None:
    one.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert one.eof_received() is True
    assert one.transport.ends == []
    one.cycle.response_complete = True
    one.on_response_complete()
    assert one.transport.ends == ["close"]


def test_an_answer_that_is_not_read_has_its_time(one: Any) -> None:
    """As long as some of it is read, more."""
    now = one.loop.now
    for at, unread in ((0, 100), (19, 100), (20, 90), (39, 95), (40, 95)):
        one.transport.unread = unread
        one.look(now + at)
        assert one.transport.ends == []
    with change() as changes:
        one.look(now + 40.001)
    assert (one.transport.ends, changes) == (["abort"], {"http_refused unread": 1})


def test_an_answer_that_is_read_in_the_end_is_forgotten(one: Any) -> None:
    one.used = True
    for at, unread in ((0, 100), (19, 0), (20, 100), (39.9, 100)):
        one.transport.unread = unread
        one.look(one.loop.now + at)
    assert one.transport.ends == []


@pytest.mark.parametrize(
    ("sent", "unread", "ends"),
    [(b"", 0, ["close"]), (HALF_A_HEAD, 0, []), (b"", 5, [])],
    ids=["idle", "asking", "answered"],
)
def test_a_process_that_ends_closes_who_is_idle_and_gives_others_a_moment(
    one: Any, sent: bytes, unread: int, ends: list[str]
) -> None:
    """Three seconds, whatever else they might have had."""
    if sent:
        one.data_received(sent)
    one.transport.unread = unread
    one.loop.now += 5
    one.shutdown()
    assert (one.transport.ends, one.draining) == (ends, True)
    if ends:
        return
    start = one.loop.now
    one.look(start)
    one.look(start + 3)
    assert one.transport.ends == []
    one.look(start + 3.001)
    assert one.transport.ends == (["eof"] if sent else ["abort"])


def test_a_request_under_way_is_the_last_of_its_connection(one: Any) -> None:
    one.drain()
    assert one.draining
    one.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    one.drain()
    assert one.cycle.keep_alive is False
    one.shutdown()
    assert one.transport.ends == []


def test_one_more_than_there_may_be_is_told_and_closed(state: Any) -> None:
    """And counts until it is gone."""
    first, second, third = connect(state), connect(state), connect(state)
    assert [status(each) for each in (first, second, third)] == [0, 0, 503]
    assert (third.transport.ends, third.lingering, len(state.connections)) == (["close"], True, 3)
    first.connection_lost(None)
    third.connection_lost(None)
    assert state.connections == {second}
    assert status(connect(state)) == 0


def test_nothing_is_kept_of_who_has_gone(one: Any) -> None:
    """Whoever works on its request hears of it; one that was answered does not."""
    told: list[str] = []
    one.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + HALF_A_HEAD)
    cycle = one.cycle
    cycle.message_event.set = lambda: told.append("set")
    one.connection_lost(None)
    assert (cycle.disconnected, told, one.cycle, one.reader.begun, one.lingering) == (True, ["set"], None, False, True)
    other = connect(one.server_state)
    other.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    done = other.cycle
    done.response_complete = True
    other.connection_lost(None)
    assert done.disconnected is False


@pytest.mark.parametrize("stays", [True, False])
def test_a_body_that_is_too_long_is_refused_at_once_and_let_by(one: Any, stays: bool) -> None:
    """Who waits to be told to send is told first, and once."""
    most = one.limits.body_max_bytes
    more = "" if stays else "Connection: close\r\n"
    head = f"POST /v1/bookings HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n{more}Content-Length: {most + 1}\r\n\r\n"
    one.data_received(head.encode())
    written: bytes = one.transport.written
    assert written.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 ")
    assert written.count(b"100 Continue") == 1
    assert (b"connection: close" in written, one.transport.ends) == (not stays, [] if stays else ["eof"])
    assert one.reader.passing is stays
    one.look(one.loop.now + (30.001 if stays else module.LINGER_S + 0.001))
    assert one.transport.ends == (["eof"] if stays else ["eof", "abort"])


def test_who_waits_to_be_told_to_send_is_told_once(one: Any) -> None:
    one.data_received(b"POST /v1/bookings HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert one.transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    one.data_received(b"a")
    one.data_received(b"bc")
    assert one.transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert one.busy


def test_who_ends_while_its_body_is_let_by_has_had_its_answer(one: Any) -> None:
    """Any other end in the middle of a request is told: nothing was done."""
    most = one.limits.body_max_bytes
    one.data_received(f"POST /v1/bookings HTTP/1.1\r\nHost: x\r\nContent-Length: {most + 1}\r\n\r\nabc".encode())
    assert one.eof_received() is False
    assert (one.transport.written.count(b"HTTP/1.1 "), one.transport.ends) == (1, ["close"])
    for half in (HALF_A_HEAD, HALF_A_BODY):
        other = connect(one.server_state)
        one.server_state.connections.clear()
        other.data_received(half)
        other.eof_received()
        assert b'"code":"incomplete"' in other.transport.written
        assert other.transport.ends == ["close"]


def test_a_part_of_a_request_begins_once(one: Any) -> None:
    """Its time runs from the first byte of the part, and a body's from the end of its head."""
    since = []
    for data in (HALF_A_BODY[:1], HALF_A_BODY[1:20], HALF_A_BODY[20:], b"c", b"d"):
        one.loop.now += 1
        one.data_received(data)
        since.append((one.stage, one.since))
    assert since == [(1, 1_001.0), (1, 1_001.0), (2, 1_003.0), (2, 1_003.0), (2, 1_003.0)]
    assert one.used
