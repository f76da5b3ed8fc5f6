"""Events as shops read them, copied for whoever asks within a moment: one question to Redis for all readers of an event.

A copy holds what is left; whether a shop sells the event at all is looked up in the map for each reader, before it is given
one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import Context
from hashlib import blake2b
from typing import Any, Final

from boxoffice.sales.catalogue import Catalogue, EventView
from boxoffice.sales.left import Left, counts_of
from boxoffice.settings import Settings
from boxoffice.wire import render

__all__ = ["EventCopies", "Shown", "tag_of"]

COPIES_MAX: Final = 10_000
"""Events of which there are copies. Beyond it all are forgotten at once."""


class Shown:
    """An event as a shop sees it, with the tag that names this very state of it."""

    __slots__ = ("answer", "body", "tag", "unchanged")

    def __init__(self, body: bytes, tag: bytes) -> None:
        self.body = body
        """As JSON."""
        self.tag = tag
        """An `ETag`: another one when anything of the body is another. Begins with the event's version."""
        self.answer: Any = None
        """Whatever a door has made of it, for the next who asks there; and for who has it already."""
        self.unchanged: Any = None


class _Copy:
    """What was left of an event, once that was read; and how shops see it."""

    __slots__ = ("event", "flight", "left", "shown", "since_s")

    def __init__(self, event: EventView, since_s: float) -> None:
        self.event = event
        self.since_s = since_s
        self.flight: asyncio.Task[None] | None = None
        self.left: Left | None = None
        self.shown: dict[str, Shown] = {}
        """By client; under no client what all see alike, as nothing is set aside."""

    def to(self, client: str) -> Shown:
        left = self.left
        assert left is not None, "it has been read"
        whose = client if left.reserved else ""
        shown = self.shown.get(whose)
        if shown is None:
            body = render.event(self.event, counts_of(self.event, left, client))
            shown = self.shown[whose] = Shown(body, b'"%d.%b"' % (self.event.version, _digest(body)))
        return shown


class EventCopies:
    """Of one process."""

    def __init__(self, catalogue: Catalogue, settings: Settings, now_s: Callable[[], float] = time.monotonic) -> None:
        self._catalogue = catalogue
        self._lasts_s = settings.api.copy_ms / 1_000
        self._now_s = now_s
        self._copies: dict[str, _Copy] = {}

    def at_once(self, event: EventView, client: str) -> Shown | None:
        """The event as this shop sees it, if there is a copy that is good: of this very view, and young. The shop sells it."""
        copy = self._copies.get(event.id)
        if copy is None or copy.left is None or not self._is_good(copy, event):
            return None
        return copy.to(client)

    def _is_good(self, copy: _Copy, event: EventView) -> bool:
        return copy.event is event and self._now_s() - copy.since_s < self._lasts_s

    async def show(self, event: EventView, client: str) -> Shown:
        """The same, when there has to be one: made by whoever asks first, and waited for by all others. Raises
        `GateClosed` and `StoreAway` as `Catalogue.left`."""
        shown = self.at_once(event, client)
        if shown is not None:
            return shown
        copy = self._copies.get(event.id)
        if copy is None or copy.flight is None or copy.flight.done() or not self._is_good(copy, event):
            copy = self._begin(event)
        assert copy.flight is not None, "it has begun"
        await asyncio.shield(copy.flight)
        return copy.to(client)

    def _begin(self, event: EventView) -> _Copy:
        if len(self._copies) >= COPIES_MAX:
            self._copies.clear()
        copy = self._copies[event.id] = _Copy(event, self._now_s())
        copy.flight = asyncio.get_running_loop().create_task(self._read(copy), context=Context())
        copy.flight.add_done_callback(_retrieve)
        return copy

    async def _read(self, copy: _Copy) -> None:
        copy.left = await self._catalogue.left(copy.event)


def tag_of(body: bytes) -> bytes:
    """The `ETag` of an answer with this body."""
    return b'"%b"' % _digest(body)


def _digest(body: bytes) -> bytes:
    return blake2b(body, digest_size=8).hexdigest().encode()


def _retrieve(flight: asyncio.Task[None]) -> None:
    """Perhaps nobody waits any more."""
    if not flight.cancelled():
        flight.exception()
