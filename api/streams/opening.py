"""Who may open which stream: the same questions as of a read, and then whether there is room."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from api import problems
from api.headers import Headers
from api.pipeline import caller_of
from api.rights import scope_of
from api.streams.bookings import ENDED, Bookings, BookingStream, message_of
from api.streams.events import Events, EventStream
from api.streams.readers import Readers
from api.streams.stream import Stream
from api.transport.reply import NO_STORE, Header, Reply
from boxoffice.access.scopes import Caller
from boxoffice.errors import BoxOfficeError, NotFound
from boxoffice.office import BoxOffice
from boxoffice.wire.requests import ID_MAX

__all__ = ["STREAM", "Opening", "Streams", "begin"]

STREAM: Final = "/stream"
"""Behind the path of what is read."""

HEADERS: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/event-stream"),
    NO_STORE,
    (b"x-accel-buffering", b"no"),
)
"""The last keeps nginx, and whoever understands it, from collecting messages."""

LAST_ID_MAX: Final = 64

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class Opening(NamedTuple):
    """What a request for a stream says."""

    headers: Headers
    last_id: bytes
    """With what a reader comes back (`Last-Event-ID`); empty when it is new."""
    address: str
    """Of who connects."""

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> Opening:
        """As ASGI has it."""
        sent: list[Header] = scope["headers"]
        last_id = next((value for name, value in sent if name == b"last-event-id"), b"")
        return cls(Headers.of(sent), last_id[:LAST_ID_MAX], (scope.get("client") or ("",))[0])


class Streams:
    """All streams of one process."""

    def __init__(self, office: BoxOffice) -> None:
        settings = office.settings.streams
        self._office = office
        self._readers = Readers(office, settings)
        self._bookings = Bookings(office)
        self._events = Events(office.catalogue, self._readers, settings.each_ms / 1_000)

    async def of_booking(self, opening: Opening, booking_id: str) -> Stream | Reply:
        """`GET /v1/bookings/{id}/stream`. 204 when it has ended, and whoever comes back knows it: browsers come no more."""
        client = ""
        try:
            caller = await self._permitted(opening.headers, "stream_booking")
            client = caller.client
            view = (await self._office.bookings.get(client, booking_id)).view
            if view.status in ENDED and message_of(view)[0] == opening.last_id:
                return Reply(204, b"", [NO_STORE])
            holder = self._readers.admit(caller, opening.headers, scope_of("stream_booking"), opening.address)
            return BookingStream(
                self._bookings, view, self._readers, holder, opening.address, opening.last_id, booking_id
            )  # fmt: skip
        except BoxOfficeError as error:
            return problems.of_error(error, route="stream_booking", client=client)
        except Exception as error:
            return problems.unexpected(error)

    async def of_event(self, opening: Opening, event_id: str) -> Stream | Reply:
        """`GET /v1/events/{id}/stream`."""
        client = ""
        try:
            caller = await self._permitted(opening.headers, "stream_event")
            client = caller.client
            event = await self._office.catalogue.event(event_id[:ID_MAX])
            if not event.sold_by(client):
                raise NotFound
            topic = await self._events.topic(event, client)
            holder = self._readers.admit(caller, opening.headers, scope_of("stream_event"), opening.address)
            return EventStream(topic, self._readers, holder, opening.address, opening.last_id)
        except BoxOfficeError as error:
            return problems.of_error(error, route="stream_event", client=client)
        except Exception as error:
            return problems.unexpected(error)

    async def _permitted(self, headers: Headers, route: str) -> Caller:
        caller = await caller_of(self._office, headers.authorization)
        caller.check(scope_of(route), headers.origin)
        self._office.throttle.read(caller.allowance)
        return caller

    def stop(self) -> None:
        """The process is told to stop: readers are sent elsewhere."""
        self._readers.stop()

    async def aclose(self) -> None:
        """End all of them."""
        await self._readers.aclose()
        await self._bookings.aclose()
        await self._events.aclose()


async def begin(send: Send, stream: Stream) -> None:
    """Answer with a stream. A server of ours takes it over with the head: then the application has done its part. With any
    other it ends after what a reader gets at once."""
    try:
        await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS), "stream": stream})
        if not stream.begun:
            await send({"type": "http.response.body", "body": stream.first()})
    finally:
        stream.abandon()
