"""The client that a rush is made of: it never mistakes one answer for another, nor silence for a refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ops.rush.http_client import HttpClient, NoAnswer, NotSent
from tests.support.ports import free_port


class Server:
    """Answers each request with its own path, piece by piece; some paths misbehave."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                path = head.split(" ")[1]
                if path == "/silent":
                    await asyncio.Event().wait()
                if path == "/dies":
                    return
                close = "Connection: close\r\n" if path == "/closes" else ""
                answer = f"HTTP/1.1 200 OK\r\nX-Path: {path}\r\n{close}Content-Length: {len(path)}\r\n\r\n{path}"
                for piece in (answer[:20], answer[20:-1], answer[-1:]):
                    writer.write(piece.encode())
                    await asyncio.sleep(0)
                if close:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()


async def test_every_request_gets_its_own_answer_on_few_connections(server: Server) -> None:
    client = HttpClient(server.port, connections_max=4)

    answers = await asyncio.gather(*(client.request("GET", f"/{number}") for number in range(500)))

    assert [answer.body.decode() for answer in answers] == [f"/{number}" for number in range(500)]
    assert answers[7].header("x-path") == "/7"
    assert server.connections == 4
    await client.close()


async def test_silence_is_no_answer_and_spoils_nothing(server: Server) -> None:
    client = HttpClient(server.port, connections_max=2, timeout_s=1.0)

    with pytest.raises(NoAnswer):
        await client.request("GET", "/silent")
    with pytest.raises(NoAnswer):
        await client.request("GET", "/dies")

    assert (await client.request("GET", "/closes")).body == b"/closes"
    assert (await client.request("GET", "/fine")).body == b"/fine"
    await client.close()


async def test_a_request_to_nobody_was_surely_not_sent(unused_port: int) -> None:
    with pytest.raises(NotSent):
        await HttpClient(unused_port).request("POST", "/", b"", b"{}")


@pytest.fixture
def unused_port() -> int:
    return free_port()
