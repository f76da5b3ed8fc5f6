"""A short cut for the hot routes inside uvicorn's protocol class: no scope, no receive and send, and for a booking no task.

A request is collected here and its answer written whole. A booking is handed to the admission with its request as the
one to answer; reading a booking or an event is one task around the function that the ordinary way calls. All else goes
uvicorn's ordinary way, and so do pages of another origin. It relies on the inside of uvicorn's class, whose version is
pinned; `api.lane` switches it off, and the same tests run either way.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from api import answers, problems
from api.answers import Asked, Read
from api.connection import Connection
from api.front import BOOKINGS, Front
from api.reply import Reply
from api.shape import Shape
from boxoffice.errors import BoxOfficeError, Malformed, PriceChanged
from boxoffice.forms import Admitted
from boxoffice.requests import parse_booking, parse_idempotency_key

__all__ = ["lane"]

PATH: Final = BOOKINGS.encode()

FIRST_LINE: Final = b"POST %b HTTP/1.1" % PATH

LESSONS: Final = 4
"""So often a connection's head is taken for a shape. A client that writes each in another way is left to the parser."""

_READ: Final = re.compile(rb"/v1/(bookings|events)/([0-9A-Za-z-]+)")
"""Paths of the hot reads, as nearly everybody writes them."""

_READS: Final[dict[bytes, Read]] = {b"bookings": answers.read_booking, b"events": answers.read_event}


def lane(front: Front) -> type[Connection]:
    """uvicorn's protocol class with the short cut to this front's office, which is there once the application has
    started."""

    class Lane(_Lane):
        """Bound to one front."""

    Lane.front = front
    return Lane


class _Nobody:
    """Stands where uvicorn wakes a request that waits for its body."""

    def set(self) -> None:
        """Nothing: nobody waits."""


_NOBODY: Final = _Nobody()


class _Request:
    """A request on its way through the lane. uvicorn's class sees it as the connection's request-response cycle."""

    __slots__ = ("asked", "body", "client", "disconnected", "keep_alive", "message_event", "more_body", "protocol",
                 "response_complete", "wanted")  # fmt: skip

    def __init__(self, protocol: _Lane, asked: Asked, wanted: tuple[Read, str] | None, keep_alive: bool) -> None:
        self.protocol = protocol
        self.asked = asked
        self.wanted = wanted
        """What is to be read, and its name; None for a booking."""
        self.keep_alive = keep_alive
        self.body = b""
        self.more_body = True
        self.disconnected = False
        self.response_complete = False
        self.message_event = _NOBODY
        self.client = ""

    def answer(self, reply: Reply) -> None:
        """Write status line, headers and body in one go, and let the connection's next request come."""
        if self.response_complete:
            return
        self.response_complete = True
        protocol = self.protocol
        transport = protocol.transport
        if self.disconnected or transport.is_closing():
            return
        if self.keep_alive:
            transport.write(reply.whole)
        else:
            transport.write(reply.last)
            transport.close()
        protocol.on_response_complete()

    def told(self, result: Admitted | BoxOfficeError) -> None:
        """The admission has answered, from the loop."""
        try:
            if isinstance(result, Admitted):
                if result.shown is not None:
                    self.answer(answers.accepted(result))
                else:
                    self.protocol.book_slowly(self)
            elif isinstance(result, PriceChanged):
                self.protocol.book_slowly(self)
            else:
                self.answer(problems.of_error(result, route="book", client=self.client))
        except Exception as error:
            self.answer(problems.unexpected(error))


class _Lane(Connection):
    front: Front

    shape: Shape | None = None
    """How bookings are written on this connection."""

    whole: bytes = b""
    """What is just arriving, when the parser was between two messages."""

    lessons = LESSONS + 1
    """The first booking teaches nothing: a connection may have no other."""

    def data_received(self, data: bytes) -> None:
        """Take a booking that is written as the one before it was; let the parser read anything else."""
        shape = self.shape
        if shape is not None:
            found = shape.match(data)
            if found is not None and self._book_at_once(shape, found["key"], data[found.end() :], found["length"]):
                return
        self.whole = data if self.between else b""
        super().data_received(data)

    def _book_at_once(self, shape: Shape, key: bytes, body: bytes, length: bytes) -> bool:
        """Whether this is a whole booking that comes when nothing else is under way, and needs no waiting."""
        cycle: Any = self.cycle
        if (
            len(body) != int(length)
            or len(body) > self.front.office.settings.limits.body_max_bytes
            or type(cycle) is not _Request
            or not cycle.response_complete
            or not self.between
            or self.draining
            or self.pipeline
            or self.transport.is_closing()
        ):
            return False
        request = _Request(self, Asked(shape.authorization, shape.content_type, [key], None), None, True)
        request.body = body
        request.more_body = False
        self.cycle = request  # type: ignore[assignment]
        self._book(request)
        return True

    def on_headers_complete(self) -> None:
        """Take a request into the lane, or let it go the ordinary way."""
        wanted = None
        method = self.parser.get_method()
        if method == b"POST":
            fits = self.url == PATH
        else:
            found = _READ.fullmatch(self.url) if method == b"GET" else None
            fits = found is not None
            wanted = (_READS[found[1]], found[2].decode()) if found else None
        asked = Asked.of(self.headers) if fits and self._is_free() else None
        if asked is None or asked.origin is not None:
            super().on_headers_complete()
            return
        stays = not self.draining and self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        self.cycle = _Request(self, asked, wanted, stays)  # type: ignore[assignment]
        self.headed = self.headers

    def _is_free(self) -> bool:
        """Nothing before it on the connection, nothing special about it."""
        if self.expect_100_continue or self.parser.should_upgrade():
            return False
        return self.cycle is None or self.cycle.response_complete

    def on_body(self, body: bytes) -> None:
        """Collect the body, and no more of it than may be."""
        request: Any = self.cycle
        if not isinstance(request, _Request):
            super().on_body(body)
        elif not request.response_complete and request.wanted is None:
            request.body = request.body + body if request.body else body
            most = self.front.office.settings.limits.body_max_bytes
            if len(request.body) > most:
                # The rest of it is let by unread: a connection closed now might take the answer with it.
                error = Malformed(f"The body has more than {most} bytes.", code="body_too_large")
                request.answer(problems.of_error(error, route="book"))

    def on_message_complete(self) -> None:
        """Admit the booking, or read what is asked for."""
        super().on_message_complete()
        request: Any = self.cycle
        if not isinstance(request, _Request) or request.response_complete:
            return
        if request.wanted is None:
            whole, self.whole = self.whole, b""
            if self._book(request):
                self._learn(whole)
        else:
            read, name = request.wanted
            self._answer_later(request, read(self.front.office, request.asked.authorization, name))

    def _learn(self, whole: bytes) -> None:
        """Take a booking of somebody we know for the shape of the next."""
        if self.lessons:
            self.lessons -= 1
            if self.lessons < LESSONS:
                self.shape = Shape.of(whole, FIRST_LINE)

    def _book(self, request: _Request) -> bool:
        """Admit it, or refuse it. Returns whether it came from somebody we know, to stay."""
        office, asked = self.front.office, request.asked
        key = answers.api_key_of(asked.authorization)
        client = office.catalogue.known_client(key) if key is not None else None
        if client is None:
            self.book_slowly(request)
            return False
        try:
            asked.check_body()
            key_digest = parse_idempotency_key(asked.idempotency_keys)
            order = parse_booking(request.body, office.settings, office.gateway)
            if not office.admission.ready_for(order):
                self.book_slowly(request)
                return False
            request.client = client
            office.admission.submit(client, order, key_digest, request.told)
        except BoxOfficeError as error:
            request.answer(problems.of_error(error, route="book", client=client))
        except Exception as error:
            request.answer(problems.unexpected(error))
        return request.keep_alive

    def book_slowly(self, request: _Request) -> None:
        """A booking that has to wait before it is admitted: an API key not yet known, a tier not in the map."""

        async def receive() -> Mapping[str, Any]:
            return {"type": "http.request", "body": request.body, "more_body": False}

        self._answer_later(request, answers.book(self.front.office, request.asked, receive))

    def _answer_later(self, request: _Request, reply: Coroutine[Any, Any, Reply]) -> None:
        """By the function that the ordinary way calls, in a task."""

        async def answer() -> None:
            request.answer(await reply)

        task: asyncio.Task[None] = self.loop.create_task(answer())
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)
