"""The fast path: the hot routes answered before any framework sees them. Everything else goes on to FastAPI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from api import answers
from api.answers import Read
from api.bodies import ClientGone, Receive
from api.cors import EXPOSED
from api.headers import Headers
from api.methods import as_get
from api.transport.reply import Header, Reply
from boxoffice.office import BoxOffice

__all__ = ["Front", "send_reply"]

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]

BOOKINGS: Final = "/v1/bookings"
BOOKING: Final = "/v1/bookings/"
EVENT: Final = "/v1/events/"


class Front:
    """Answers `POST /v1/bookings`, `GET /v1/bookings/{id}` and `GET /v1/events/{id}`; hands on the rest."""

    office: BoxOffice
    """Set by the application behind when it starts, before any request comes."""

    def __init__(self, behind: App, cors_origins: tuple[str, ...]) -> None:
        self.behind = behind
        self._origins = frozenset(origin.encode() for origin in cors_origins)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """One request, or one of the server's other events."""
        reply = None
        if scope["type"] == "http":
            if scope["method"] == "HEAD":
                scope, send = as_get(scope, send)
            path, method = scope["path"], scope["method"]
            try:
                if method == "POST":
                    if path == BOOKINGS:
                        reply = await answers.book(self.office, Headers.of(scope["headers"]), receive)
                elif method == "GET":
                    if path.startswith(BOOKING):
                        reply = await self._read(answers.read_booking, path[len(BOOKING) :], scope)
                    elif path.startswith(EVENT):
                        reply = await self._read(answers.read_event, path[len(EVENT) :], scope)
            except ClientGone:
                return
        if reply is None:
            await self.behind(scope, receive, send)
        else:
            await send_reply(send, reply, self._cors(scope["headers"]) if self._origins else [])

    async def _read(self, read: Read, name: str, scope: Any) -> Reply | None:
        if not name or "/" in name:
            return None
        authorization = None
        for header, value in scope["headers"]:
            if header == b"authorization":
                authorization = value
        return await read(self.office, authorization, name)

    def _cors(self, headers: list[Header]) -> list[Header]:
        """What FastAPI's CORS middleware says, for the answers that never meet it."""
        origin = next((value for name, value in headers if name == b"origin"), None)
        if origin is None:
            return []
        said: list[Header] = [(b"vary", b"Origin"), (b"access-control-expose-headers", ", ".join(EXPOSED).encode())]
        if b"*" in self._origins:
            said.append((b"access-control-allow-origin", b"*"))
        elif origin in self._origins:
            said.append((b"access-control-allow-origin", origin))
        return said


async def send_reply(send: Send, reply: Reply, more: list[Header]) -> None:
    """Send an answer whole."""
    length = (b"content-length", b"%d" % len(reply.body))
    await send({"type": "http.response.start", "status": reply.status, "headers": [*reply.headers, length, *more]})
    await send({"type": "http.response.body", "body": reply.body})
