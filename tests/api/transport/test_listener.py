"""A server that stops listening leaves nobody standing in the door."""

from __future__ import annotations

import asyncio
import socket

import pytest

from api.transport import listener
from api.transport.connection import Connection
from api.transport.listener import stop_listening
from api.transport.watch import Server


async def _hello(scope: object, receive: object, send: object) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b"ok"})  # type: ignore[operator]


@pytest.fixture
async def server() -> Server:
    """A server of our kind, in this process."""
    import uvicorn

    config = uvicorn.Config(_hello, port=0, http=Connection, lifespan="off", log_config=None)
    config.load()
    server = Server(config, drain_s=5.0)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    return server


async def test_who_knocked_before_the_door_was_closed_is_served(server: Server) -> None:
    """The kernel has shaken hands and taken a request; this process has not looked yet. It is answered, not reset."""
    (address,) = (listener.getsockname() for listener in server.servers[0].sockets)
    with socket.create_connection(address, timeout=10) as early, socket.socket() as late:
        early.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        stopping = asyncio.create_task(server.shutdown())
        answer = await asyncio.to_thread(_all_of, early)

        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"connection: close" in answer
        assert answer.endswith(b"\r\n\r\nok")
        assert await asyncio.to_thread(late.connect_ex, address) != 0
        await stopping


def _all_of(connected: socket.socket) -> bytes:
    received = b""
    while more := connected.recv(65_536):
        received += more
    return received


async def test_whoever_knocked_at_any_of_several_doors_is_served() -> None:
    """A server may listen on several addresses. After that, nobody is let in at any."""

    class Greets(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.write(b"hi")
            transport.close()

    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, ["127.0.0.1", "127.0.0.2"], 0)
    addresses = [listener.getsockname() for listener in server.sockets]
    early = [socket.create_connection(address, timeout=10) for address in addresses for _ in range(2)]
    await stop_listening(server, Greets)
    for each in early:
        assert await asyncio.to_thread(_all_of, each) == b"hi"
        each.close()
    for address in addresses:
        with socket.socket() as late:
            assert await asyncio.to_thread(late.connect_ex, address) != 0


async def test_whoever_connects_meanwhile_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the socket is closed: the kernel shakes hands with it, and it is accepted with the others."""
    monkeypatch.setattr(listener, "HANDSHAKE_S", 0.5)
    served: list[asyncio.BaseTransport] = []

    class Serves(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            served.append(transport)

    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    (address,) = (listening.getsockname() for listening in server.sockets)
    stopping = asyncio.create_task(stop_listening(server, Serves))
    await asyncio.sleep(0)
    with socket.create_connection(address, timeout=10):
        await stopping
        assert len(served) == 1
        served[0].close()
