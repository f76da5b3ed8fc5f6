"""A lean HTTP/1.1 client: thousands of requests a second from one process, on connections that are kept.

It speaks to servers that say how long their answers are, as ours does, and keeps two failures apart: `NotSent`, where
surely nothing happened, and `NoAnswer`, where nobody can say.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple, cast

__all__ = ["Answer", "HttpClient", "NoAnswer", "NotSent"]

HEAD_MAX: Final = 65_536
"""Bytes of an answer's head. Longer ones are not HTTP."""


class NotSent(Exception):
    """The request did not reach anybody."""


class NoAnswer(Exception):
    """The request went out, and no answer came back: it may have been carried out."""


class Answer(NamedTuple):
    """What a server said."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str:
        """A header's value; empty when there is none."""
        wanted = name.lower().encode() + b":"
        for line in self.head.split(b"\r\n"):
            if line[: len(wanted)].lower() == wanted:
                return line[len(wanted) :].strip().decode("latin-1")
        return ""


class HttpClient:
    """All connections to one server. More requests than connections wait for their turn."""

    def __init__(
        self, port: int, *, host: str = "127.0.0.1", connections_max: int = 128, timeout_s: float = 5.0
    ) -> None:
        self.port = port
        self._host = host
        self._timeout_s = timeout_s
        self._free = asyncio.Semaphore(connections_max)
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()

    async def request(self, method: str, path: str, headers: bytes = b"", body: bytes = b"") -> Answer:
        """Send a request and wait for its answer. `headers` are whole lines, each with its CRLF.

        Raises `NotSent` or `NoAnswer`.
        """
        length = b"Content-Length: %d\r\n" % len(body) if body or method == "POST" else b""
        text = b"%b %b HTTP/1.1\r\nHost: %b:%d\r\n%b%b\r\n%b" % (
            method.encode(), path.encode(), self._host.encode(), self.port, headers, length, body,
        )  # fmt: skip
        return await self.send(text)

    async def send(self, request: bytes) -> Answer:
        """Send a request as it stands, which is quicker when the same one is sent often.

        Raises `NotSent` or `NoAnswer`.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._free.acquire()
        except TimeoutError:
            raise NotSent("no free connection") from None
        try:
            connection = await self._connection()
            return await connection.exchange(request, self._timeout_s)
        finally:
            self._free.release()

    async def close(self) -> None:
        """Hang up."""
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                _, made = await loop.create_connection(
                    lambda: _Connection(self._idle, self._open), self._host, self.port
                )
        except (OSError, TimeoutError) as error:
            raise NotSent(type(error).__name__) from None
        return made


class _Connection(asyncio.Protocol):
    """One connection, with at most one request on its way."""

    def __init__(self, idle: list[_Connection], everybody: set[_Connection]) -> None:
        self._idle = idle
        self._everybody = everybody
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._received = b""
        self._head = b""
        self._missing = -1
        """Bytes of head and body together; -1 while the head is not complete."""

    @property
    def usable(self) -> bool:
        """Whether another request may go out on it."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        # uvloop's transports are no asyncio.Transport by name.
        self._transport = cast(asyncio.Transport, transport)
        self._everybody.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end hung up, or we did."""
        self._transport = None
        self._everybody.discard(self)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NoAnswer("connection lost"))

    def abort(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()

    async def exchange(self, request: bytes, timeout_s: float) -> Answer:
        """One request, one answer. Afterwards the connection is idle, or gone."""
        if self._transport is None:
            raise NotSent("connection lost")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._answer = answer
        self._transport.write(request)
        deadline = loop.call_later(timeout_s, self._give_up, answer)
        try:
            return await answer
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            deadline.cancel()

    def _give_up(self, answer: asyncio.Future[Answer]) -> None:
        if not answer.done():
            answer.set_exception(NoAnswer("timeout"))
            self.abort()

    def data_received(self, data: bytes) -> None:
        """Piece the answer together."""
        self._received = self._received + data if self._received else data
        if self._missing < 0 and not self._read_head():
            return
        if len(self._received) >= self._missing:
            body = self._received[len(self._head) + 4 : self._missing]
            self._received = self._received[self._missing :]
            self._finish(body)

    def _read_head(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            if len(self._received) > HEAD_MAX:
                self.abort()
            return False
        self._head = self._received[:end]
        at = self._head.lower().find(b"\r\ncontent-length:")
        if at >= 0:
            length = int(self._head[at + 17 :].split(b"\r\n", 1)[0])
        elif self._head[9:12] in (b"204", b"304"):
            length = 0
        else:
            self.abort()
            return False
        self._missing = end + 4 + length
        return True

    def _finish(self, body: bytes) -> None:
        # From here on the connection may be another request's: nothing of this one stays behind.
        answer, self._answer = self._answer, None
        head, self._missing = self._head, -1
        if b"\r\nconnection: close" in head.lower():
            self.abort()
        else:
            self._idle.append(self)
        if answer is not None and not answer.done():
            answer.set_result(Answer(int(head[9:12]), head, body))
