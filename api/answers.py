"""The answers that a rush asks for by the thousand: to book, to read a booking, to read an event.

They know headers and bodies as bytes and nothing of a framework, so that the fast path, the ordinary routes and the
lane inside the server all give the very same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, Self

from msgspec import Struct

from api import problems
from api.transport.reply import JSON, NO_STORE, Header, Reply
from boxoffice.admission.forms import Admitted
from boxoffice.errors import BoxOfficeError, Malformed, Unauthorized
from boxoffice.office import BoxOffice
from boxoffice.wire import render
from boxoffice.wire.requests import (
    ID_MAX,
    check_content_encoding,
    check_content_type,
    parse_booking,
    parse_idempotency_key,
)

__all__ = ["Asked", "Read", "accepted", "api_key_of", "book", "client_of", "read_body", "read_booking", "read_event"]

RETRY_AFTER: Final = (b"retry-after", b"1")
REPLAYED: Final = (b"idempotency-replayed", b"true")

CATALOGUE: Final = (b"cache-control", b"private, max-age=1")
"""What is left is a hint that may be a moment old; a shop's own cache may keep it for a second."""

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

Read = Callable[[BoxOffice, bytes | None, str], Coroutine[Any, Any, Reply]]
"""Answers a GET: office, Authorization header, name in the path."""


class Asked(Struct, gc=False):
    """The headers that matter to the hot routes."""

    authorization: bytes | None
    content_type: bytes | None
    idempotency_keys: list[bytes]
    origin: bytes | None
    content_encoding: bytes | None = None

    @classmethod
    def of(cls, headers: Iterable[Header]) -> Self:
        """Picked out of all."""
        authorization = content_type = origin = content_encoding = None
        idempotency_keys: list[bytes] = []
        for name, value in headers:
            if name == b"authorization":
                authorization = value
            elif name == b"content-type":
                content_type = value
            elif name == b"idempotency-key":
                idempotency_keys.append(value)
            elif name == b"origin":
                origin = value
            elif name == b"content-encoding":
                content_encoding = value
        return cls(authorization, content_type, idempotency_keys, origin, content_encoding)

    @classmethod
    def of_distinct(cls, said: Mapping[bytes, bytes]) -> Self:
        """The same of headers by name, when no name is there twice."""
        get = said.get
        key = get(b"idempotency-key")
        keys = [] if key is None else [key]
        return cls(get(b"authorization"), get(b"content-type"), keys, get(b"origin"), get(b"content-encoding"))

    def check_body(self) -> None:
        """What the headers say of the body. Raises `Malformed`."""
        check_content_type(self.content_type)
        if self.content_encoding is not None:
            check_content_encoding(self.content_encoding)


async def book(office: BoxOffice, asked: Asked, receive: Receive) -> Reply:
    """`POST /v1/bookings`."""
    client = ""
    try:
        client = await client_of(office, asked.authorization)
        asked.check_body()
        key_digest = parse_idempotency_key(asked.idempotency_keys)
        raw = await read_body(receive, office.settings.limits.body_max_bytes)
        request = parse_booking(raw, office.settings, office.gateway)
        admitted = await office.admission.book(client, request, key_digest)
        if admitted.shown is None:
            view = (await office.bookings.get(client, admitted.booking_id)).view
            held = view.expires_at is not None
            admitted = admitted._replace(shown=render.booking(view), booking_id=view.id, held=held)
        return accepted(admitted)
    except BoxOfficeError as error:
        return problems.of_error(error, route="book", client=client)
    except ClientGone:
        raise
    except Exception as error:
        return problems.unexpected(error)


_ACCEPTED: Final = (
    b"content-type: application/json\r\ncache-control: no-store\r\n"
    b"location: /v1/bookings/%b\r\n%bcontent-length: %d\r\n"
)


def accepted(admitted: Admitted) -> Reply:
    """202, or 201 for a hold; for a repeat the same, with what has become of the booking since."""
    assert admitted.shown is not None, "somebody has read the booking"
    body = render.with_left(admitted.shown, admitted.event, admitted.availability)
    more = b"" if admitted.held else b"%b: %b\r\n" % RETRY_AFTER
    if admitted.replayed:
        more += b"%b: %b\r\n" % REPLAYED
    return Reply.of_lines(
        201 if admitted.held else 202, body, _ACCEPTED % (admitted.booking_id.encode(), more, len(body))
    )


async def read_booking(office: BoxOffice, authorization: bytes | None, booking_id: str) -> Reply:
    """`GET /v1/bookings/{id}`."""
    client = ""
    try:
        client = await client_of(office, authorization)
        view, original = await office.bookings.get(client, booking_id)
        answer = [JSON, NO_STORE]
        if not original:
            answer.append((b"content-location", b"/v1/bookings/" + view.id.encode()))
        if view.status == "pending":
            answer.append(RETRY_AFTER)
        return Reply(200, render.booking(view), answer)
    except BoxOfficeError as error:
        return problems.of_error(error, route="read_booking", client=client)
    except Exception as error:
        return problems.unexpected(error)


async def read_event(office: BoxOffice, authorization: bytes | None, event_id: str) -> Reply:
    """`GET /v1/events/{id}`."""
    client = ""
    try:
        client = await client_of(office, authorization)
        event = office.catalogue.find_event(event_id) or await office.catalogue.event(event_id[:ID_MAX])
        return Reply(200, render.event(event, await office.catalogue.availability(event)), [JSON, CATALOGUE])
    except BoxOfficeError as error:
        return problems.of_error(error, route="read_event", client=client)
    except Exception as error:
        return problems.unexpected(error)


async def client_of(office: BoxOffice, authorization: bytes | None) -> str:
    """The client that the request's API key belongs to. Raises `Unauthorized`."""
    key = api_key_of(authorization)
    if key is None:
        raise Unauthorized
    return await office.catalogue.client_of_key(key)


def api_key_of(authorization: bytes | None) -> str | None:
    """The API key in an Authorization header, if there is one."""
    if authorization is None or authorization[:7].lower() != b"bearer ":
        return None
    return authorization[7:].strip().decode("latin-1")


class ClientGone(Exception):
    """The client hung up before its request was whole. Nobody is there to be answered."""


async def read_body(receive: Receive, most: int) -> bytes:
    """The whole body, counted as it arrives: its announced length may be missing or wrong.

    Raises `Malformed` as soon as it is too long.
    """
    message = await receive()
    body = bytes(message.get("body", b""))
    while message.get("more_body") and len(body) <= most:
        message = await receive()
        body += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise ClientGone
    if len(body) > most:
        raise Malformed(f"The body has more than {most} bytes.", code="body_too_large")
    return body
