"""What a server looks after ten times a second, without a network: deadlines, descriptors, memory."""

from __future__ import annotations

import errno
import resource
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from structlog.testing import capture_logs

from api.transport import reply, watch
from api.transport.connection import Connection
from api.transport.reply import JSON, NO_STORE, Reply
from api.transport.watch import Server, room_for
from tests.support.telling import gauge


async def _app(*_: Any) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(uvicorn.Config(_app, lifespan="off", log_config=None), drain_s=3.0)


class Looked(Connection):
    """A connection that only notes when it was looked at."""

    def __init__(self) -> None:
        self.looks: list[float] = []

    def look(self, now: float) -> None:
        self.looks.append(now)


async def test_every_fifth_tick_each_connection_is_looked_at(server: Server) -> None:
    """Those that are of our kind."""
    ours, other = [Looked(), Looked()], object()
    server.server_state.connections = {*ours, other}  # type: ignore[assignment]
    for tick in range(1, 11):
        await server.on_tick(tick)
    assert [len(each.looks) for each in ours] == [2, 2]
    assert gauge("http_connections") == 3


@pytest.mark.parametrize("counts", [[10, 0], [31, 1], [32, 17]])
async def test_memory_that_a_few_needed_is_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch, counts: list[int]
) -> None:
    assert trims(server, monkeypatch, [*counts, *counts[-1:] * 10]) == []


@pytest.mark.parametrize(
    ("counts", "at"),
    [
        ([32, 16, *[16] * 8], [1, 7]),
        ([40, 40, 20, *[20] * 8], [2, 8]),
        ([100, 50, *[50] * 6, 25, *[25] * 8], [1, 7, 8, 14]),
        ([100, 50, 25, *[25] * 8], [1, 2, 8]),
    ],
)
async def test_memory_that_many_needed_is_given_back_when_half_have_left(
    server: Server, monkeypatch: pytest.MonkeyPatch, counts: list[int], at: list[int]
) -> None:
    """And once more, six looks later, for those who left a little later; those who came since count anew."""
    assert trims(server, monkeypatch, counts) == at


def trims(server: Server, monkeypatch: pytest.MonkeyPatch, counts: list[int]) -> list[int]:
    found: list[int] = []
    for at, count in enumerate(counts):
        monkeypatch.setattr(watch.memory, "trim", lambda at=at: found.append(at))
        server.server_state.connections = set(range(count))  # type: ignore[arg-type]
        server.look_for_memory()
    return found


async def test_that_descriptors_are_short_is_said_once_each_time(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With how many are connected; and the one that was tried is let go."""
    open_fds: list[int] = []
    short = False

    def dup(fd: int) -> int:
        assert fd == 2
        if short:
            raise OSError(errno.EMFILE, "hunter2")
        open_fds.append(77)
        return 77

    monkeypatch.setattr(watch, "os", SimpleNamespace(dup=dup, close=open_fds.remove))
    server.server_state.connections = {1, 2, 3}  # type: ignore[arg-type]
    with capture_logs() as said:
        for short in (False, True, True, False, True):  # noqa: B007
            server.look_for_descriptors()
    assert said == [
        {"event": "api.no_descriptors", "log_level": "error", "error": "OSError", "connections": 3} for _ in range(2)
    ]
    assert open_fds == []


NO_END = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "room", "raised_to"),
    [
        (10_000, 10_000, 100, 100, None), (228, 228, 100, 100, None), (227, 300, 100, 100, 228), (227, NO_END, 100, 100, 228),
        (200, 227, 100, 99, 227), (100, 129, 100, 1, 129), (100, 100, 100, 1, 100), (NO_END, NO_END, 100, 100, None),
    ],
)  # fmt: skip
def test_how_many_connections_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, wanted: int, room: int, raised_to: int | None
) -> None:
    """128 descriptors are not clients'. As many more as the system gives are asked for; it is said when they are few."""
    asked: list[Any] = []
    monkeypatch.setattr(watch.resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(watch.resource, "setrlimit", lambda _, limits: asked.append(limits))
    with capture_logs() as said:
        assert room_for(wanted) == room
    assert asked == ([(raised_to, hard)] if raised_to else [])
    few = {"event": "api.few_descriptors", "log_level": "warning", "connections_max": hard - 128, "wanted": wanted}
    assert said == ([few] if room < wanted else [])


SECURE = (
    b"content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n"
    b"referrer-policy: no-referrer\r\nx-content-type-options: nosniff\r\n"
)


def test_an_answer_as_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Status, date, headers in their order, length, body; the last one says that the connection ends."""
    now = [1_700_000_000.9]
    monkeypatch.setattr(reply, "time", SimpleNamespace(time=lambda: now[0]))
    answer = Reply(202, b"{}", [JSON, NO_STORE])
    date = b"date: Tue, 14 Nov 2023 22:13:20 GMT\r\n"
    date += SECURE
    lines = b"content-type: application/json\r\ncache-control: no-store\r\ncontent-length: 2\r\n"
    lines += b"x-request-id: r-1\r\n"
    assert answer.whole(b"r-1") == b"HTTP/1.1 202 Accepted\r\n" + date + lines + b"\r\n{}"
    assert answer.last(b"r-1") == b"HTTP/1.1 202 Accepted\r\n" + date + lines + b"connection: close\r\n\r\n{}"
    assert reply.stamp() == b"Tue, 14 Nov 2023 22:13:20 GMT"
    now[0] += 1
    assert reply.stamp() == b"Tue, 14 Nov 2023 22:13:21 GMT"
    assert Reply(404, b"", []).whole(b"r-1") == (
        b"HTTP/1.1 404 Not Found\r\ndate: Tue, 14 Nov 2023 22:13:21 GMT\r\n"
        + SECURE
        + b"content-length: 0\r\nx-request-id: r-1\r\n\r\n"
    )


def test_a_problem_says_to_each_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made once for many requests, and its length is that of what each of them gets."""
    monkeypatch.setattr(reply, "time", SimpleNamespace(time=lambda: 1_700_000_000.0))
    problem = Reply(409, b'{"status":409}', [NO_STORE], names_request=True)
    for name, length in ((b"r-1", 33), (b"longer-1", 38)):
        begin = b"HTTP/1.1 409 Conflict\r\ndate: Tue, 14 Nov 2023 22:13:20 GMT\r\n" + SECURE
        begin += b"cache-control: no-store\r\n"
        headers = b"x-request-id: %b\r\ncontent-length: %d\r\n" % (name, length)
        body = b'{"status":409,"request_id":"%b"}' % name
        assert (len(body), problem.body_to(name)) == (length, body)
        assert problem.whole(name) == begin + headers + b"\r\n" + body
        assert problem.last(name) == begin + headers + b"connection: close\r\n\r\n" + body
    assert problem.headers == [NO_STORE]


def test_headers_that_were_written_out_are_read_again() -> None:
    """Without the length: whoever sends them in another way says it himself."""
    answer = Reply.of_lines(201, b"{}", b"content-type: a\r\nlocation: /b: c\r\ncontent-length: 2\r\n")
    assert answer.headers == [(b"content-type", b"a"), (b"location", b"/b: c")]
    assert answer.header_lines == b"content-type: a\r\nlocation: /b: c\r\ncontent-length: 2\r\n"
    assert (answer.status, answer.body) == (201, b"{}")
