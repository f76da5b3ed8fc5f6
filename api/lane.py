"""A short cut for `POST /v1/bookings` inside uvicorn's protocol class: no task, no scope, no receive and send.

The body is collected here, the booking handed to the admission with this request as the one to answer, and the answer
written whole. All else goes uvicorn's ordinary way, and so does every booking that would have to wait before it is
admitted: an API key not yet known, a tier not in the map, a page of another origin. It relies on the inside of
uvicorn's class, whose version is pinned; `api.lane` switches it off, and the same tests run either way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from api import answers, problems
from api.answers import Asked
from api.connection import Connection
from api.reply import Reply
from boxoffice import render
from boxoffice.admission import Admitted
from boxoffice.errors import BoxOfficeError, Malformed, PriceChanged
from boxoffice.office import BoxOffice
from boxoffice.requests import check_content_type, parse_booking, parse_idempotency_key

__all__ = ["lane"]

PATH: Final = b"/v1/bookings"


def lane(office: Callable[[], BoxOffice]) -> type[Connection]:
    """uvicorn's protocol class with the short cut to this office, which is there once the application has started."""

    class Lane(_Lane):
        """Bound to one office."""

    Lane.office = staticmethod(office)
    return Lane


class _Nobody:
    """Stands where uvicorn wakes a request that waits for its body."""

    def set(self) -> None:
        """Nothing: nobody waits."""


class _Request:
    """A booking on its way through the lane. uvicorn's class sees it as the connection's request-response cycle."""

    __slots__ = ("asked", "body", "disconnected", "headers", "keep_alive", "message_event", "more_body", "protocol",
                 "response_complete")  # fmt: skip

    def __init__(self, protocol: _Lane, headers: list[tuple[bytes, bytes]], keep_alive: bool) -> None:
        self.protocol = protocol
        self.headers = headers
        self.asked = Asked.of(headers)
        self.keep_alive = keep_alive
        self.body = bytearray()
        self.more_body = True
        self.disconnected = False
        self.response_complete = False
        self.message_event = _NOBODY

    def answer(self, reply: Reply) -> None:
        """Write status line, headers and body in one go, and let the connection's next request come."""
        if self.response_complete:
            return
        self.response_complete = True
        protocol = self.protocol
        if self.disconnected or protocol.transport.is_closing():
            return
        parts = [STATUS_LINE[reply.status]]
        for name, value in reply.headers:
            parts += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"content-length: %d\r\n\r\n" % len(reply.body))
        parts.append(reply.body)
        protocol.transport.write(b"".join(parts))
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()


_NOBODY: Final = _Nobody()


class _Lane(Connection):
    office: Callable[[], BoxOffice]

    def on_headers_complete(self) -> None:
        """Take a booking into the lane, or let it go the ordinary way."""
        if self.url == PATH and self.parser.get_method() == b"POST" and self._fits():
            stays = not self.draining and self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
            self.cycle = _Request(self, self.headers, stays)  # type: ignore[assignment]
            self.headed = self.headers
        else:
            super().on_headers_complete()

    def _fits(self) -> bool:
        """Nothing before it on the connection, nothing special about it."""
        if self.expect_100_continue or self.parser.should_upgrade():
            return False
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        return not any(name == b"origin" for name, _ in self.headers)

    def on_body(self, body: bytes) -> None:
        """Collect the body, and no more of it than may be."""
        request: Any = self.cycle
        if not isinstance(request, _Request):
            super().on_body(body)
        elif not request.response_complete:
            request.body += body
            most = self.office().settings.limits.body_max_bytes
            if len(request.body) > most:
                # The rest of it is let by unread: a connection closed now might take the answer with it.
                error = Malformed(f"The body has more than {most} bytes.", code="body_too_large")
                request.answer(problems.of_error(error, route="book"))

    def on_message_complete(self) -> None:
        """Admit the booking."""
        request: Any = self.cycle
        if not isinstance(request, _Request):
            super().on_message_complete()
        elif not request.response_complete:
            request.more_body = False
            self._book(request)

    def _book(self, request: _Request) -> None:
        office, asked = self.office(), request.asked
        key = answers.api_key_of(asked.authorization)
        client = office.catalogue.known_client(key) if key is not None else None
        if client is None:
            self._book_slowly(request)
            return
        try:
            check_content_type(asked.content_type)
            key_digest = parse_idempotency_key(asked.idempotency_keys)
            order = parse_booking(bytes(request.body), office.settings, office.gateway)
            if not office.admission.ready_for(order):
                self._book_slowly(request)
                return
            held = order.charge is None

            def told(result: Admitted | BoxOfficeError) -> None:
                self._told(request, result, client, held=held)

            office.admission.submit(client, order, key_digest, told)
        except BoxOfficeError as error:
            request.answer(problems.of_error(error, route="book", client=client))
        except Exception as error:
            request.answer(problems.unexpected(error))

    def _told(self, request: _Request, result: Admitted | BoxOfficeError, client: str, *, held: bool) -> None:
        """The admission has answered, from the loop."""
        try:
            if isinstance(result, Admitted):
                if result.record is not None:
                    view = render.of_record(result.record, result.event)
                    request.answer(answers.accepted(view, result, held=held))
                else:
                    self._book_slowly(request)
            elif isinstance(result, PriceChanged):
                self._book_slowly(request)
            else:
                request.answer(problems.of_error(result, route="book", client=client))
        except Exception as error:
            request.answer(problems.unexpected(error))

    def _book_slowly(self, request: _Request) -> None:
        """The same function that the ordinary way calls, in a task."""

        async def receive() -> Mapping[str, Any]:
            return {"type": "http.request", "body": bytes(request.body), "more_body": False}

        async def book() -> None:
            request.answer(await answers.book(self.office(), request.headers, receive))

        task: asyncio.Task[None] = self.loop.create_task(book())
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)
