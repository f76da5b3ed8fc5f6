"""The answers that a rush asks for by the thousand: to book, to read a booking, to read an event.

They know headers and bodies as bytes and nothing of a framework, so that the fast path, the ordinary routes and the
lane inside the server all give the very same.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from msgspec.structs import replace

from api import problems
from api.bodies import ClientGone, Receive, collect
from api.headers import Headers
from api.pipeline import Refusal, Step, caller_of, passed, prepare
from api.rates import rate_lines
from api.rights import scope_of
from api.transport.reply import JSON, NO_STORE, Header, Reply
from boxoffice.admission.forms import Admitted
from boxoffice.errors import BoxOfficeError, NotFound
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.wire import render
from boxoffice.wire.requests import ID_MAX

__all__ = ["Read", "accepted", "admit", "book", "etag", "read_booking", "read_event", "refused"]

RETRY_AFTER: Final = (b"retry-after", b"1")
REPLAYED: Final = (b"idempotency-replayed", b"true")

CATALOGUE: Final = (b"cache-control", b"private, max-age=1")
"""What is left is a hint that may be a moment old; a shop's own cache may keep it for a second."""


def etag(event: EventView) -> Header:
    """The event's version, for `If-Match`."""
    return b"etag", b'"%d"' % event.version


Read = Callable[[BoxOffice, Headers, str], Coroutine[Any, Any, Reply]]
"""Answers a GET: office, headers, name in the path."""


async def book(office: BoxOffice, headers: Headers, receive: Receive) -> Reply:
    """`POST /v1/bookings`. Raises `ClientGone`."""
    try:
        body = await collect(receive, office.settings.limits.body_max_bytes)
        step = prepare(office, headers, body)
    except ClientGone:
        raise
    except Exception as error:
        return problems.unexpected(error)
    return await admit(office, step)


async def admit(office: BoxOffice, step: Step) -> Reply:
    """The answer to a booking that went so far: wait for what it needs, admit it, read it if its record is gone."""
    try:
        step = await passed(step)
        if isinstance(step, Refusal):
            return refused(step.error, step.client)
        client = step.client
        try:
            admitted = await office.admission.book(client, step.order, step.key_digest, step.allowance)
            if admitted.shown is None:
                view = (await office.bookings.get(client, admitted.booking_id)).view
                over = view.status == "held" and view.expires_in_s == 0
                status = "expired" if over else view.status
                admitted = replace(admitted, shown=render.booking(view), booking_id=view.id, status=status)
            return accepted(admitted)
        except BoxOfficeError as error:
            return refused(error, client)
    except Exception as error:
        return problems.unexpected(error)


def refused(error: BoxOfficeError, client: str, request_id: bytes = b"") -> Reply:
    """Why a booking is not let in. `request_id`, or else this task's."""
    return problems.of_error(error, request_id, route="book", client=client)


_STATUSES: Final = {"pending": 202, "held": 201}
"""By the booking's status; of one that has ended nothing was accepted or made, it is only told."""

_NO_HEADERS: Final[list[Header]] = []

_RETRY_AFTER_LINE: Final = b"%b: %b\r\n" % RETRY_AFTER
_REPLAYED_LINE: Final = b"%b: %b\r\n" % REPLAYED
_ACCEPTED: Final = (
    b"content-type: application/json\r\ncache-control: no-store\r\n"
    b"location: /v1/bookings/%b\r\n%bcontent-length: %d\r\n"
)


def accepted(admitted: Admitted) -> Reply:
    """202 while a booking is pending, 201 while it is held; 200 for a repeat of one that has ended since."""
    assert admitted.shown is not None, "somebody has read the booking"
    body = render.with_left(admitted.shown, admitted.event, admitted.availability)
    status = _STATUSES.get(admitted.status, 200)
    more = _RETRY_AFTER_LINE if status == 202 else b""
    if admitted.replayed:
        more += _REPLAYED_LINE
    if admitted.spent is not None:
        more += rate_lines(admitted.spent)
    return Reply(status, body, _NO_HEADERS, _ACCEPTED % (admitted.booking_id.encode(), more, len(body)))


_READ_BOOKING: Final = scope_of("read_booking")
_READ_EVENT: Final = scope_of("read_event")


async def read_booking(office: BoxOffice, headers: Headers, booking_id: str) -> Reply:
    """`GET /v1/bookings/{id}`."""
    client = ""
    try:
        caller = await caller_of(office, headers.authorization)
        client = caller.client
        caller.check(_READ_BOOKING, headers.origin)
        office.throttle.read(caller.allowance)
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


async def read_event(office: BoxOffice, headers: Headers, event_id: str) -> Reply:
    """`GET /v1/events/{id}`."""
    client = ""
    try:
        caller = await caller_of(office, headers.authorization)
        client = caller.client
        caller.check(_READ_EVENT, headers.origin)
        office.throttle.read(caller.allowance)
        event = office.catalogue.find_event(event_id) or await office.catalogue.event(event_id[:ID_MAX])
        if not event.sold_by(client):
            raise NotFound
        return Reply(
            200, render.event(event, await office.catalogue.availability(event, client)), [JSON, CATALOGUE, etag(event)]
        )
    except BoxOfficeError as error:
        return problems.of_error(error, route="read_event", client=client)
    except Exception as error:
        return problems.unexpected(error)
