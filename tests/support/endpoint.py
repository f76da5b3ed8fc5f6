"""A shop's server that is told what happens, written below HTTP: it can answer as no server should."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

__all__ = ["ALLOWED", "Endpoint", "Heard", "answer", "at_endpoint"]

ALLOWED = {"allow_http": True, "allowed_networks": ("127.0.0.0/8", "::1/128")}
"""Settings with which a server on this machine may be an endpoint."""


@dataclass
class Heard:
    """One request."""

    line: str
    headers: dict[str, str]
    body: str
    reader: asyncio.StreamReader

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def notice(self) -> dict[str, Any]:
        return msgspec.json.decode(self.body)


Behaviour = Callable[[asyncio.StreamWriter, Heard], Awaitable[None]]


def answer(status: int = 204, *headers: str, body: bytes = b"") -> Behaviour:
    """Behaves as a server should."""

    async def behave(writer: asyncio.StreamWriter, _heard: Heard) -> None:
        head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
        writer.write("\r\n".join([*head, "", ""]).encode() + body)

    return behave


@dataclass
class Endpoint:
    """It notes what it hears, and behaves as it is told."""

    port: int = 0
    scheme: str = "http"
    host: str = "127.0.0.1"
    heard: list[Heard] = field(default_factory=list)
    behave: Behaviour = field(default_factory=answer)
    connections: int = 0
    open_now: int = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}/hooks?shop=1"

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.heard]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_now += 1
        try:
            while heard := await _request(reader):
                self.heard.append(heard)
                await self.behave(writer, heard)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open_now -= 1
            writer.close()


async def _request(reader: asyncio.StreamReader) -> Heard | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, *lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Heard(line, headers, body.decode(), reader)


@asynccontextmanager
async def at_endpoint(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[Endpoint]:
    """One that listens on this machine; `host` is how its URL calls it."""
    endpoint = Endpoint(scheme="https" if tls else "http", host=host)
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0, ssl=tls)
    endpoint.port = server.sockets[0].getsockname()[1]
    try:
        yield endpoint
    finally:
        server.close()
        with contextlib.suppress(AttributeError):
            server.close_clients()
