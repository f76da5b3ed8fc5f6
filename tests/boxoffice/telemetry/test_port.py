"""The small port for whoever watches: what it answers, and that nobody can make it cost much."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest
from structlog.testing import capture_logs

from boxoffice.telemetry import port as telemetry_port
from boxoffice.telemetry.port import Answer, Handler, open_port
from tests.support.ports import free_port
from tests.support.waiting import eventually


async def hello(headers: Mapping[str, str]) -> Answer:
    return Answer(200, f"hello {headers.get('accept', '')}".encode(), "text/plain")


async def broken(_headers: Mapping[str, str]) -> Answer:
    raise LookupError("secret")


ROUTES: Mapping[str, Handler] = {"/hello": hello, "/broken": broken}


@pytest.fixture
def number() -> int:
    return free_port()


@pytest.fixture
async def served(number: int) -> AsyncIterator[int]:
    async with open_port(ROUTES, "127.0.0.1", number):
        await eventually(lambda: listening(number))
        yield number


async def listening(number: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", number)
    except OSError:
        return False
    writer.close()
    return True


async def said(number: int, request: bytes) -> bytes:
    """All that comes until the other side hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    writer.write(request)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("line", "status", "body"),
    [
        ("GET /hello HTTP/1.1", "200 OK", "hello x"),
        ("GET /hello?a=b HTTP/1.1", "200 OK", "hello x"),
        ("HEAD /hello HTTP/1.1", "200 OK", ""),
        ("GET / HTTP/1.1", "404 Not Found", "Not Found\n"),
        ("POST /hello HTTP/1.1", "405 Method Not Allowed", "Method Not Allowed\n"),
        ("GET /broken HTTP/1.1", "500 Internal Server Error", "Internal Server Error\n"),
        ("nonsense", "404 Not Found", "Not Found\n"),
    ],
)
async def test_what_is_asked_is_answered_once(served: int, line: str, status: str, body: str) -> None:
    answer = (await said(served, f"{line}\r\nHost: x\r\nACCEPT:  x \r\n\r\n".encode())).decode()
    head, _, found = answer.partition("\r\n\r\n")
    assert head.splitlines()[0] == f"HTTP/1.1 {status}"
    assert found == body
    length = len(body) or len("hello x")
    assert f"Content-Length: {length}\r\n" in head + "\r\n"
    assert "Connection: close" in head and "no-store" in head and "X-Content-Type-Options: nosniff" in head
    (dated,) = [line.partition(": ")[2] for line in head.splitlines() if line.startswith("Date: ")]
    assert abs((datetime.now(UTC) - parsedate_to_datetime(dated)).total_seconds()) < 5
    assert "Server:" not in head
    assert ("Allow: GET, HEAD" in head) == (status[:3] == "405")


async def test_what_a_route_raises_is_in_the_log_and_not_in_the_answer(served: int) -> None:
    with capture_logs() as logs:
        assert b"secret" not in await said(served, b"GET /broken HTTP/1.1\r\n\r\n")
    assert [line["event"] for line in logs] == ["telemetry.failed"]


async def test_whoever_is_slow_is_hung_up_on(served: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry_port, "HEAD_S", 0.05)
    assert await said(served, b"GET /hello HTTP/1.1\r\n") == b""


async def test_a_long_head_is_not_read(served: int) -> None:
    assert await said(served, b"GET /hello HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n") == b""


async def test_few_are_served_at_once(served: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is closed, and there is room again when one has gone."""
    monkeypatch.setattr(telemetry_port, "CLIENTS_MAX", 2)
    request = b"GET /hello HTTP/1.1\r\n\r\n"
    await eventually(lambda: answered(served, request))
    waiting = [await asyncio.open_connection("127.0.0.1", served) for _ in range(2)]
    await eventually(lambda: refused(served, request))
    waiting.pop()[1].close()
    await eventually(lambda: answered(served, request))
    waiting.pop()[1].close()


async def answered(number: int, request: bytes) -> bool:
    return b"hello" in await said(number, request)


async def refused(number: int, request: bytes) -> bool:
    return await said(number, request) == b""


async def test_a_port_that_is_taken_stops_nobody_and_is_had_later(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry_port, "AGAIN_S", 0.02)
    with socket.socket() as other, capture_logs() as logs:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", number))
        other.listen()
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(open_port(ROUTES, "127.0.0.1", number))
            await eventually(lambda: said_so(logs))
            other.close()
            await eventually(lambda: listening(number))
            assert b"hello" in await said(number, b"GET /hello HTTP/1.1\r\n\r\n")
    assert not await listening(number), "it ends with its block"


async def said_so(logs: list[object]) -> bool:
    return any("telemetry.port_taken" in str(line) and "EADDRINUSE" in str(line) for line in logs)


async def test_without_a_number_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "start_server", None)
    async with open_port(ROUTES, "127.0.0.1", 0):
        await asyncio.sleep(0)
