"""The answers that a rush asks for by the thousand: to book, to read a booking, an event, the feed.

They know headers and bodies as bytes and nothing of a framework, so that the fast path, the ordinary routes and the
lane inside the server all give the very same.

One file because it is what the lane and the front call: a function for each route that they answer.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from msgspec.structs import replace

from api import problems
from api.bodies import ClientGone, collect
from api.headers import Headers, api_key_of
from api.pipeline import Refusal, Step, caller_of, passed, prepare
from api.prefer import applied, applied_line, wait_of
from api.rates import rate_lines
from api.rights import scope_of
from api.transport.reply import JSON, NO_STORE, Header, Reply
from api.waits import Waits
from boxoffice.admission.backlog import MOST_S
from boxoffice.admission.forms import Admitted
from boxoffice.bookings.reading import Found
from boxoffice.errors import BoxOfficeError, NotFound
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.telemetry.seldom import seldom
from boxoffice.wire import render
from boxoffice.wire.event_copies import Shown
from boxoffice.wire.feed_requests import parse_feed
from boxoffice.wire.requests import ID_MAX

__all__ = [
    "Pending",
    "Read",
    "accepted",
    "accepted_at_last",
    "book",
    "etag",
    "event_at_once",
    "let_in",
    "look_again",
    "look_up",
    "read_booking",
    "read_event",
    "read_feed",
    "refused",
    "retry_after",
    "unless_known",
]

REPLAYED: Final = (b"idempotency-replayed", b"true")

CATALOGUE: Final = (b"cache-control", b"private, max-age=1")
"""What is left is a hint that may be a moment old; a shop's own cache may keep it for a second."""


def etag(event: EventView) -> Header:
    """The event's version, for `If-Match`, of the answer to a change."""
    return b"etag", b'"%d"' % event.version


def retry_after(seconds: int) -> Header:
    """When it makes sense to look again."""
    return b"retry-after", b"%d" % seconds


Read = Callable[[BoxOffice, Headers, str], Coroutine[Any, Any, Reply]]
"""Answers a GET: office, headers, name in the path."""


async def book(office: BoxOffice, headers: Headers, waits: Waits) -> Reply:
    """`POST /v1/bookings`. Raises `ClientGone`."""
    try:
        body = await collect(waits.receive, office.settings.limits.body_max_bytes)
        step = prepare(office, headers, body)
    except ClientGone:
        raise
    except Exception as error:
        return problems.unexpected(error)
    found = await let_in(office, step)
    if isinstance(found, Reply):
        return found
    client, admitted = found
    wait_s = wait_of(headers.prefer)
    if admitted.status == "pending" and await waits.until_final(admitted.booking_id, wait_s, until_bank=True):
        return await accepted_at_last(office, client, admitted, wait_s)
    return accepted(admitted)


async def let_in(office: BoxOffice, step: Step) -> tuple[str, Admitted] | Reply:
    """A booking that went so far: wait for what it needs, admit it, read it if its record is gone. Whose it is and how it is,
    or why it is not let in."""
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
            return client, admitted
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

_RETRY_AFTER_LINES: Final = [b"retry-after: %d\r\n" % seconds for seconds in range(MOST_S + 1)]
_REPLAYED_LINE: Final = b"%b: %b\r\n" % REPLAYED
_ACCEPTED: Final = (
    b"content-type: application/json\r\ncache-control: no-store\r\n"
    b"location: /v1/bookings/%b\r\n%bcontent-length: %d\r\n"
)


def accepted(admitted: Admitted, waited_s: int = 0) -> Reply:
    """202 while a booking is pending, 201 while it is held; 200 for one that has ended since, be it that it was waited for so
    long or that this is a repeat."""
    assert admitted.shown is not None, "somebody has read the booking"
    body = render.with_left(admitted.shown, admitted.event, admitted.availability)
    status = _STATUSES.get(admitted.status, 200)
    more = _RETRY_AFTER_LINES[admitted.retry_after_s] if status == 202 else b""
    if admitted.replayed:
        more += _REPLAYED_LINE
    if admitted.spent is not None:
        more += rate_lines(admitted.spent)
    if waited_s:
        more += applied_line(waited_s)
    return Reply(status, body, _NO_HEADERS, _ACCEPTED % (admitted.booking_id.encode(), more, len(body)))


async def accepted_at_last(office: BoxOffice, client: str, admitted: Admitted, waited_s: int) -> Reply:
    """The same of a booking that was waited for, as it is now. It is accepted for good, so whatever keeps us from reading it is
    no reason to say anything else."""
    try:
        view = (await office.bookings.get(client, admitted.booking_id)).view
        admitted = replace(admitted, shown=render.booking(view), status=view.status)
    except BoxOfficeError:
        pass
    except Exception as error:
        seldom.exception("api.unread", error)
    return accepted(admitted, waited_s)


_READ_BOOKING: Final = scope_of("read_booking")
_READ_FEED: Final = scope_of("read_feed")
_READ_EVENT: Final = scope_of("read_event")


async def read_booking(office: BoxOffice, headers: Headers, booking_id: str, waits: Waits | None = None) -> Reply:
    """`GET /v1/bookings/{id}`."""
    reply, pending = await look_up(office, headers, booking_id)
    wait_s = wait_of(headers.prefer) if pending is not None and waits is not None else 0
    if pending is None or waits is None or not await waits.until_final(pending.booking_id, wait_s):
        return reply
    return await look_again(office, pending, wait_s)


class Pending(NamedTuple):
    """A booking that was looked up and is pending."""

    client: str
    path_id: str
    """The id in the path."""
    booking_id: str
    """Its own."""


async def look_up(office: BoxOffice, headers: Headers, booking_id: str) -> tuple[Reply, Pending | None]:
    """The answer to that; and what is pending, when it is."""
    client = ""
    try:
        caller = await caller_of(office, headers.authorization)
        client = caller.client
        caller.check(_READ_BOOKING, headers.origin)
        office.throttle.read(caller.allowance)
        found = await office.bookings.get(client, booking_id)
        return _shown(office, found), Pending(
            client, booking_id, found.view.id
        ) if found.view.status == "pending" else None
    except BoxOfficeError as error:
        return problems.of_error(error, route="read_booking", client=client), None
    except Exception as error:
        return problems.unexpected(error), None


async def look_again(office: BoxOffice, pending: Pending, waited_s: int) -> Reply:
    """The answer to who was let look already, and has waited so long at most."""
    try:
        return applied(_shown(office, await office.bookings.get(pending.client, pending.path_id)), waited_s)
    except BoxOfficeError as error:
        return problems.of_error(error, route="read_booking", client=pending.client)
    except Exception as error:
        return problems.unexpected(error)


def _shown(office: BoxOffice, found: Found) -> Reply:
    view, original = found
    answer = [JSON, NO_STORE]
    if not original:
        answer.append((b"content-location", b"/v1/bookings/" + view.id.encode()))
    if view.status == "pending":
        answer.append(retry_after(office.admission.pause_s(view.id)))
    return Reply(200, render.booking(view), answer)


def unless_known(headers: Headers, tag: bytes, answer: Reply) -> Reply:
    """The answer that this `ETag` names, or 304 when the client has it."""
    return unchanged(tag) if headers.has(tag) else answer


def unchanged(tag: bytes) -> Reply:
    """Nothing has changed of what the client has (RFC 9110, 15.4.5)."""
    return Reply(304, b"", [CATALOGUE, (b"etag", tag)])


def _event_reply(headers: Headers, shown: Shown) -> Reply:
    """An event as it is shown. Whoever is shown the same gets the same answer."""
    if headers.if_none_match is not None and headers.has(shown.tag):
        if shown.unchanged is None:
            shown.unchanged = unchanged(shown.tag)
        reply: Reply = shown.unchanged
        return reply
    if shown.answer is None:
        shown.answer = Reply(200, shown.body, [JSON, CATALOGUE, (b"etag", shown.tag)])
    answer: Reply = shown.answer
    return answer


def event_at_once(office: BoxOffice, headers: Headers, event_id: str, request_id: bytes) -> Reply | None:
    """`GET /v1/events/{id}`, when nothing has to be waited for: the key is known and may read, the event is in the map and sold
    by its shop, and there is a copy. None: ask `read_event`."""
    key = api_key_of(headers.authorization)
    caller = None if key is None else office.catalogue.api_keys.known_caller(key)
    if caller is None or _READ_EVENT not in caller.scopes or headers.origin is not None:
        return None
    event = office.catalogue.find_event(event_id)
    if event is None or not event.sold_by(caller.client):
        return None
    shown = office.event_copies.at_once(event, caller.client)
    if shown is None:
        return None
    try:
        office.throttle.read(caller.allowance)
    except BoxOfficeError as error:
        return problems.of_error(error, request_id, route="read_event", client=caller.client)
    return _event_reply(headers, shown)


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
        return _event_reply(headers, await office.event_copies.show(event, client))
    except BoxOfficeError as error:
        return problems.of_error(error, route="read_event", client=client)
    except Exception as error:
        return problems.unexpected(error)


async def read_feed(office: BoxOffice, headers: Headers, query: str, *, waits: bool = True) -> Reply:
    """`GET /v1/feed`. It may wait: whoever calls cancels it once the client sends no more, and asks for what there is without
    `waits`: the client may read."""
    client = ""
    try:
        caller = await caller_of(office, headers.authorization)
        client = caller.client
        caller.check(_READ_FEED, headers.origin)
        office.throttle.read(caller.allowance)
        wanted = parse_feed(parse_qsl(query, True), office.settings.limits)
        if not waits:
            wanted = replace(wanted, wait_s=0)
        return Reply(200, (await office.feed.page(client, wanted)).body, [JSON, NO_STORE])
    except BoxOfficeError as error:
        return problems.of_error(error, route="read_feed", client=client)
    except Exception as error:
        return problems.unexpected(error)
