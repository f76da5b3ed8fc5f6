"""Streams of one booking: it is read again whenever there is news of it, and told when it reads otherwise than before."""

from __future__ import annotations

import asyncio
from contextvars import Context
from itertools import islice
from typing import Final

from msgspec.structs import replace

from api.streams.frames import frame, id_of, retry
from api.streams.readers import Holder, Readers
from api.streams.stream import Stream
from boxoffice.errors import NotFound, Unavailable
from boxoffice.office import BoxOffice
from boxoffice.telemetry.seldom import seldom
from boxoffice.wire import render
from boxoffice.wire.render import BookingView

__all__ = ["BookingStream", "Bookings"]

ENDED: Final = ("failed", "expired", "cancelled")
"""Nothing follows: the stream ends with it."""

READ_AT_ONCE: Final = 50

PAUSE_S: Final = 0.005
"""After so many: when a subscription was lost, thousands are read again."""

AGAIN_S: Final = 1.0
"""Seconds after which those that could not be read are read again, and by chance up to as many more. Nobody else may call: the
subscription has a connection of its own, and may stand while nothing can be read."""


class BookingStream(Stream):
    """A reader of one booking."""

    __slots__ = ("booking", "bookings", "path_id", "view")

    def __init__(
        self, bookings: Bookings, view: BookingView, readers: Readers, holder: Holder, address: str, seen: bytes,
        path_id: str,
    ) -> None:  # fmt: skip
        super().__init__(readers, holder, address, seen)
        self.bookings = bookings
        self.booking = view.id
        self.path_id = path_id
        """The id in the path: that of a repeat whose key had been forgotten is answered by the first."""
        self.view: BookingView | None = view
        """Until the first message."""

    def first(self) -> bytes:
        """How the booking is now, unless it comes back with just that."""
        view, self.view = self.view, None
        assert view is not None, "it begins once"
        name, message = message_of(view)
        begin = retry(self.readers.retry_ms())
        if self.seen == name:
            return begin
        self.seen = name
        return begin + message

    def follow(self) -> None:
        """As `Stream`: what happened since it was read is read once the subscription stands."""
        if self.bookings.office.shards.news.listen(self.booking, self):
            self.bookings.read(self)

    def leave(self) -> None:
        """As `Stream`."""
        self.bookings.office.shards.news.forget(self.booking, self)

    def heard(self, _state: str) -> None:
        """As a `Listener`."""
        self.bookings.read(self)

    def show(self, view: BookingView) -> None:
        """How it is now."""
        self.send(*message_of(view))
        if view.status in ENDED:
            self.end("over")


def message_of(view: BookingView) -> tuple[bytes, bytes]:
    """Its id, which says all but the seconds that are left, and the message."""
    name = id_of(render.booking(replace(view, expires_in_s=None)))
    return name, frame(b"booking", name, render.booking(view))


class Bookings:
    """All such streams of one process."""

    def __init__(self, office: BoxOffice) -> None:
        self.office = office
        self._to_read: dict[BookingStream, None] = {}
        self._unread: dict[BookingStream, None] = {}
        """Could not be read."""
        self._reading: asyncio.Task[None] | None = None

    def read(self, stream: BookingStream) -> None:
        """Soon, together with others."""
        self._to_read[stream] = None
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read_all(), context=Context())

    async def _read_all(self) -> None:
        try:
            while self._to_read:
                some = list(islice(self._to_read, READ_AT_ONCE))
                for stream in some:
                    del self._to_read[stream]
                some = [stream for stream in some if stream.transport is not None]
                ends = await asyncio.gather(*(self._read(stream) for stream in some), return_exceptions=True)
                for stream, end in zip(some, ends, strict=True):
                    if end is not None:  # called off, with another's read that it shared
                        self._read_later(stream)
                if self._to_read:
                    await asyncio.sleep(PAUSE_S)
        finally:
            self._reading = None

    async def _read(self, stream: BookingStream) -> None:
        try:
            view = (await self.office.bookings.get(stream.holder.client, stream.path_id)).view
            stream.show(view)
        except Unavailable:
            self._read_later(stream)
        except NotFound:
            stream.end("over")
        except Exception as error:
            seldom.exception("streams.read_failed", error)
            self._read_later(stream)

    def _read_later(self, stream: BookingStream) -> None:
        if not self._unread:
            pause_s = AGAIN_S * (1 + self.office.clock.chance())
            asyncio.get_running_loop().call_later(pause_s, self._read_anew, context=Context())
        self._unread[stream] = None

    def _read_anew(self) -> None:
        unread, self._unread = self._unread, {}
        for stream in unread:
            if stream.transport is not None:
                self.read(stream)

    async def aclose(self) -> None:
        """Read no more."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
