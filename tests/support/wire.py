"""Connections without a network: what a client sends arrives in exactly the pieces that the test chose."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import Any, NamedTuple

import uvicorn
from uvicorn.server import ServerState

from api.app import create_app, entrance_of
from api.front import Front
from api.transport.connection import Connection
from api.transport.lane import lane
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from tests.support.waiting import true_soon

WAYS = ("lane", "fast", "plain")
"""The three ways into the application."""


class Answer(NamedTuple):
    """One answer as it was read from the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire(asyncio.Transport):
    """The server's side of a connection; `sent` are its client's pieces that have not arrived yet."""

    def __init__(self, kind: type[Connection], config: uvicorn.Config, state: ServerState) -> None:
        super().__init__({"sockname": ("127.0.0.1", 80), "peername": ("127.0.0.1", 1)})
        self.received = bytearray()
        self._read: list[Answer] = []
        """Of a client that sends a thousand requests and looks after each, only the last answer is new."""
        self._read_to = 0
        self.sent: deque[bytes] = deque()
        self.closing = self.ended = self.paused = self.half_closed = self.told = False
        self.protocol: Any = kind(config=config, server_state=state, app_state={})
        self.protocol.connection_made(self)

    def send(self, *pieces: bytes, end: bool = False) -> Wire:
        """These arrive one by one, as far as the server reads; with `end` the client then sends no more."""
        self.sent.extend(pieces)
        self.ended = self.ended or end
        self._deliver()
        return self

    def _deliver(self) -> None:
        while self.sent and not self.paused and not self.closing:
            self.protocol.data_received(self.sent.popleft())
        if not self.sent and self.ended and not self.told and not self.paused and not self.closing:
            self.told = True
            if not self.protocol.eof_received():
                self.close()

    async def quiet(self) -> Wire:
        """Everything that was sent has been dealt with."""
        await true_soon(
            lambda: (
                self.closing
                or not (self._is_coming or self.protocol.busy or self.protocol.paced or self.protocol.queued)
            ),
            timeout_s=30,
        )
        await asyncio.sleep(0)
        return self

    @property
    def _is_coming(self) -> bool:
        """Whether something that the client sent, or its end, has not arrived."""
        return bool(self.sent) or (self.ended and not self.told)

    def hang_up(self) -> None:
        """The network is gone."""
        self.close()
        protocol, self.protocol = self.protocol, None  # as a transport does
        protocol.connection_lost(None)

    @property
    def over(self) -> bool:
        """Whether the server has said its last word."""
        return self.closing or self.half_closed

    def answers(self, heads: bool = False) -> list[Answer]:
        """What the client has read, without 100s. With `heads`, some may be answers to HEAD, which have no body."""
        found, at = ([], 0) if heads else (self._read, self._read_to)
        while at < len(self.received):
            end = self.received.index(b"\r\n\r\n", at)
            status, *lines = self.received[at:end].decode().split("\r\n")
            at = end + 4
            if status.split()[1] == "100":
                continue
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            length = 0 if " 304 " in status else int(headers["content-length"])
            if heads and (at == len(self.received) or self.received.startswith(b"HTTP/1.1 ", at)):
                length = 0
            assert len(self.received) >= at + length, "an answer is whole"
            found.append(Answer(int(status.split()[1]), headers, bytes(self.received[at : at + length])))
            at += length
            if not heads:
                self._read_to = at
        return list(found)

    def forget(self) -> None:
        """Whatever the client has read so far is told no more."""
        self.received.clear()
        self._read.clear()
        self._read_to = 0

    # What a connection does with its transport

    def write(self, data: Any) -> None:
        assert not self.half_closed, "nothing follows the last word"
        if not self.closing:
            self.received += data

    def write_eof(self) -> None:
        self.half_closed = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        asyncio.get_running_loop().call_soon(self._deliver)

    def get_write_buffer_size(self) -> int:
        return 0


class Door:
    """The API's connections, in one of its ways, on an office that is there."""

    def __init__(self, way: str, settings: Settings, office: BoxOffice) -> None:
        changes = {"lane": way == "lane", "fast_path": way != "plain"}
        settings = settings.model_copy(update={"api": settings.api.model_copy(update=changes)})
        self.app = app = create_app(settings, office=office)
        front = entrance_of(app)
        kind = lane(front) if way == "lane" and isinstance(front, Front) else Connection
        self.kind: Any = type("Served", (kind,), {"limits": settings.limits, "patience": settings.api})
        self.way = way
        self.state = ServerState()
        self.config = uvicorn.Config(app, http=self.kind, ws="none", lifespan="off", log_config=None)
        self.config.load()

    async def aclose(self) -> None:
        """End its streams, and whatever it does for them in the background, as a process does that stops."""
        entrance = entrance_of(self.app)
        behind: Any = entrance.behind if isinstance(entrance, Front) else entrance
        await behind.state.streams.aclose()

    def connect(self) -> Wire:
        """A new client."""
        return Wire(self.kind, self.config, self.state)

    async def answers(self, *pieces: bytes, end: bool = False) -> list[Answer]:
        """A new client's, to these pieces."""
        return (await self.connect().send(*pieces, end=end).quiet()).answers()


_MASKS = (
    (re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"), b"ID"),
    (re.compile(rb'"available":\d+'), b'"available":N'),
    (re.compile(rb'"(created|expires|starts)_at":"[^"]*"'), b'"AT":""'),
    (re.compile(rb'"status":"(pending|held|confirmed)"'), b'"status":"S"'),
    (re.compile(rb'"request_id":"[^"]*"'), b'"request_id":""'),
)


def alike(answer: Answer) -> tuple[Any, ...]:
    """An answer without what differs from one booking to the next."""
    body = answer.body
    for mask, instead in _MASKS:
        body = mask.sub(instead, body)
    headers = {
        name: "" if name in ("location", "content-length", "date", "x-request-id", "retry-after", "etag") else value
        for name, value in answer.headers.items()
        if name not in ("idempotency-replayed", "ratelimit", "ratelimit-policy")  # a repeat is not counted
    }
    return answer.status, sorted(headers.items()), body
