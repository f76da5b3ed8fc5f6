"""The fast path: the hot routes answered before any framework sees them. Everything else goes on to FastAPI."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from api import answers
from api.answers import Read
from api.bodies import ClientGone, Receive
from api.counting import BOOK, READ_BOOKING, READ_EVENT, STREAM_BOOKING, STREAM_EVENT, Route, note_route
from api.headers import Headers
from api.methods import as_get
from api.streams.opening import STREAM, Opening, Streams, begin
from api.streams.stream import Stream
from api.transport.reply import Reply
from api.waits import Waits
from boxoffice.bookings.waiting import Waiting
from boxoffice.office import BoxOffice
from boxoffice.telemetry.metrics import REGISTRY
from boxoffice.telemetry.request_id import current

__all__ = ["Front", "send_reply"]

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]

BOOKINGS: Final = "/v1/bookings"
BOOKING: Final = "/v1/bookings/"
EVENT: Final = "/v1/events/"


class Front:
    """Answers `POST /v1/bookings`, `GET /v1/bookings/{id}` and `GET /v1/events/{id}`, and begins the streams of both; hands on
    the rest, and whatever has a query: of that these have none."""

    office: BoxOffice
    waiting: Waiting
    streams: Streams
    """All are set by the application behind when it starts, before any request comes."""

    def __init__(self, behind: App, now_s: Callable[[], float] = time.monotonic) -> None:
        self.behind = behind
        self._now_s = now_s

    def stop(self) -> None:
        """The process is told to stop: whoever waits has waited long enough."""
        if hasattr(self, "waiting"):
            self.waiting.stop()
            self.streams.stop()
            self.office.end_waits()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """One request, or one of the server's other events."""
        reply, route = None, BOOK
        began_s = self._now_s()
        if scope["type"] == "http" and not scope.get("query_string"):
            if scope["method"] == "HEAD":
                scope, send = as_get(scope, send)
            path, method = scope["path"], scope["method"]
            try:
                if method == "POST":
                    if path == BOOKINGS:
                        waits = Waits(self.waiting, receive)
                        reply = await answers.book(self.office, Headers.of(scope["headers"]), waits)
                elif method == "GET":
                    if path.endswith(STREAM) and (opened := await self._open(path, scope)) is not None:
                        found, route = opened
                        if isinstance(found, Stream):
                            await begin(send, found)
                            note_route(route.labels[1])
                            route.count(200)
                            return
                        reply = found
                    elif path.startswith(BOOKING):
                        route = READ_BOOKING
                        read = partial(answers.read_booking, waits=Waits(self.waiting, receive))
                        reply = await self._read(read, path[len(BOOKING) :], scope)
                    elif path.startswith(EVENT):
                        route = READ_EVENT
                        reply = await self._read(answers.read_event, path[len(EVENT) :], scope)
            except ClientGone:
                return
        if reply is None:
            await self.behind(scope, receive, send)
        else:
            note_route(route.labels[1])
            if REGISTRY.counts:
                route.count(reply.status)
                route.took(self._now_s() - began_s)
            await send_reply(send, reply)

    async def _open(self, path: str, scope: Any) -> tuple[Stream | Reply, Route] | None:
        for prefix, route, open_one in (
            (BOOKING, STREAM_BOOKING, self.streams.of_booking),
            (EVENT, STREAM_EVENT, self.streams.of_event),
        ):
            name = path[len(prefix) : -len(STREAM)]
            if path.startswith(prefix) and name and "/" not in name:
                return await open_one(Opening.of(scope), name), route
        return None

    async def _read(self, read: Read, name: str, scope: Any) -> Reply | None:
        if not name or "/" in name:
            return None
        return await read(self.office, Headers.of(scope["headers"]), name)


async def send_reply(send: Send, reply: Reply) -> None:
    """Send an answer to this task's request whole."""
    body = reply.body_to(current.get())
    headers = [*reply.headers, *reply.length(body)]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
