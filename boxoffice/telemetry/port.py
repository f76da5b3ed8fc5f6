"""A small port for whoever watches a process: metrics, probes. Not for customers, and not on a network that they reach.

HTTP/1.1, GET and HEAD, one request a connection. It shares the loop with the work it tells of, so what it takes is bounded: a
short head, that comes soon, of few clients at once. It may be lost, and stops nobody: a port that is taken is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, NamedTuple

from boxoffice.telemetry.seldom import seldom

__all__ = ["Answer", "Handler", "Headers", "open_port"]

HEAD_MAX: Final = 8_192
"""Bytes of a request's first line and headers."""

HEAD_S: Final = 5.0
"""Seconds in which they have to come, and in which the answer has to be taken."""

CLIENTS_MAX: Final = 32
"""Connections at once; one more is closed."""

AGAIN_S: Final = 1.0
"""How soon a port that is taken is tried again: a process that ends may still have it."""

Headers = Mapping[str, str]
"""By name in lower case."""


class Answer(NamedTuple):
    """What a route says."""

    status: int
    body: bytes
    content_type: str = "application/json"


Handler = Callable[[Headers], Awaitable[Answer]]
"""Answers a GET. What it raises is a 500, and a line in the log."""


@asynccontextmanager
async def open_port(routes: Mapping[str, Handler], host: str, port: int) -> AsyncIterator[None]:
    """Serve these paths for as long as the block runs; nothing when `port` is 0."""
    if not port:
        yield
        return
    task = asyncio.create_task(_Port(routes).serve(host, port))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class _Port:
    def __init__(self, routes: Mapping[str, Handler]) -> None:
        self._routes = routes
        self._clients: set[asyncio.Task[None]] = set()

    async def serve(self, host: str, port: int) -> None:
        """Until cancelled."""
        server = await self._listen(host, port)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for task in self._clients:
                task.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)

    async def _listen(self, host: str, port: int) -> asyncio.Server:
        while True:
            try:
                return await asyncio.start_server(self._connected, host, port, limit=HEAD_MAX)
            except OSError as error:
                code = errno.errorcode.get(error.errno or 0, type(error).__name__)
                seldom.error("telemetry.port_taken", host=host, port=port, error=code)
                await asyncio.sleep(AGAIN_S)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= CLIENTS_MAX:
            writer.close()
            return
        task = asyncio.create_task(self._answer(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request. Whoever is slow, says too much or hangs up is hung up on."""
        try:
            with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(HEAD_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._reply(head))
                async with asyncio.timeout(HEAD_S):
                    await writer.drain()
        finally:
            writer.close()

    async def _reply(self, head: bytes) -> bytes:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, _, rest = first.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        handler = self._routes.get(path)
        if handler is None:
            answer = _bare(404)
        elif method not in ("GET", "HEAD"):
            answer = _bare(405)
        else:
            answer = await _answer_of(handler, _headers(lines))
        phrase = HTTPStatus(answer.status).phrase
        allow = "Allow: GET, HEAD\r\n" if answer.status == 405 else ""
        answer_head = (
            f"HTTP/1.1 {answer.status} {phrase}\r\nContent-Type: {answer.content_type}\r\n{allow}"
            f"Content-Length: {len(answer.body)}\r\nCache-Control: no-store\r\nDate: {formatdate(usegmt=True)}\r\n"
            "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
        )
        return answer_head.encode("latin-1") + (b"" if method == "HEAD" else answer.body)


async def _answer_of(handler: Handler, headers: Headers) -> Answer:
    try:
        return await handler(headers)
    except Exception as error:
        seldom.exception("telemetry.failed", error)
        return _bare(500)


def _headers(lines: list[str]) -> Headers:
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _bare(status: int) -> Answer:
    return Answer(status, HTTPStatus(status).phrase.encode() + b"\n", "text/plain; charset=utf-8")
