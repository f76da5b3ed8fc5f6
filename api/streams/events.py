"""Streams of what is left of events: each is looked at some times a second, for all its readers, and written when it has
changed.

What is written is made once for all readers of one shop. Writing to thousands takes its time: so it goes in slices, with
pauses between them, and whoever has the oldest message comes first. A reader gets the latest when its turn has come, and none
in between.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Final

import msgspec

from api.streams.frames import frame, id_of, retry
from api.streams.readers import Holder, Readers
from api.streams.stream import Stream
from boxoffice.errors import NotFound, Unavailable
from boxoffice.sales.catalogue import Catalogue, EventView
from boxoffice.telemetry.seldom import seldom
from boxoffice.wire.availability import AvailabilityView, availability_of

__all__ = ["EventStream", "Events"]

SLICE: Final = 32
"""Readers that are written to before the clock is looked at."""

SLICE_S: Final = 0.002
"""Seconds of writing, and then a pause."""

SHARE: Final = 1 / 12
"""Of the time may go into writing, as long as it is about less or more; half of it when the sale begins, stops or is sold
out."""

URGENT: Final = 1 / 2

_json: Final = msgspec.json.Encoder().encode


class EventStream(Stream):
    """A reader of what is left of one event."""

    __slots__ = ("topic",)

    def __init__(self, topic: Topic, readers: Readers, holder: Holder, address: str, seen: bytes) -> None:
        super().__init__(readers, holder, address, seen)
        self.topic = topic

    def first(self) -> bytes:
        """What is left now, unless it comes back with just that."""
        topic, begin = self.topic, retry(self.readers.retry_ms())
        if self.seen == topic.name:
            return begin
        self.seen = topic.name
        return begin + topic.message

    def follow(self) -> None:
        """As `Stream`."""
        self.topic = self.topic.events.join(self)

    def leave(self) -> None:
        """As `Stream`."""
        self.topic.readers.pop(self, None)


class Topic:
    """One event as one shop sees it, with everybody who reads that."""

    def __init__(self, events: Events, event: EventView, client: str) -> None:
        self.events = events
        self.event = event
        self.client = client
        self.readers: dict[EventStream, None] = {}
        self.behind: deque[EventStream] = deque()
        """Those who have not got the latest, and will in this order."""
        self.name = b""
        self.message = b""
        self.view: AvailabilityView | None = None
        self.urgent = False

    def show(self, view: AvailabilityView) -> bool:
        """Whether this is news."""
        data = _json(view)
        name = id_of(data)
        if name == self.name:
            return False
        before, self.view = self.view, view
        self.urgent = self.urgent or (before is not None and _changed(before) != _changed(view))
        self.name, self.message = name, frame(b"availability", name, data)
        waiting = dict.fromkeys(self.behind)
        self.behind.extend(reader for reader in self.readers if reader not in waiting)
        return True


def _changed(view: AvailabilityView) -> tuple[object, ...]:
    """What is not to be told a moment later."""
    return view.status, view.on_sale, view.sold_out, [tier.on_sale for tier in view.tiers]


class Events:
    """All such streams of one process."""

    def __init__(
        self, catalogue: Catalogue, readers: Readers, each_s: float, epoch_s: Callable[[], float] = time.time
    ) -> None:  # fmt: skip
        self._catalogue = catalogue
        self._readers = readers
        self._each_s = each_s
        self._epoch_s = epoch_s
        self._topics: dict[tuple[str, str], Topic] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._to_write: deque[Topic] = deque()
        self._something = asyncio.Event()

    async def topic(self, event: EventView, client: str) -> Topic:
        """Of this event, with what is left of it. Raises `Unavailable` when nobody can say."""
        topic = self._topics.get((event.id, client))
        if topic is None or not topic.readers:
            fresh = Topic(self, event, client)
            fresh.show(availability_of(event, await self._catalogue.availability(event, client), self._epoch_s()))
            topic = self._topics.get((event.id, client))
            if topic is None or not topic.readers:
                topic = self._topics[event.id, client] = fresh
        return topic

    def join(self, reader: EventStream) -> Topic:
        """Keep the reader's topic up to date from now on. While the reader was on its way, another may have come in its
        place."""
        topic = self._topics.setdefault((reader.topic.event.id, reader.topic.client), reader.topic)
        topic.readers[reader] = None
        if reader.seen != topic.name:
            topic.behind.append(reader)
            self._write_soon(topic)
        self._begin()
        return topic

    def _write_soon(self, topic: Topic) -> None:
        if topic not in self._to_write:
            self._to_write.append(topic)
        self._something.set()

    def _begin(self) -> None:
        if not self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks = [
                loop.create_task(self._go_on(each), context=Context()) for each in (self._look_on, self._write_on)
            ]

    async def _go_on(self, each: Callable[[], Awaitable[bool]]) -> None:
        """Round after round, until one says that there is no other. An error ends a round, and keeps nobody else waiting."""
        going = True
        while going:
            try:
                going = await each()
            except Exception as error:
                seldom.exception("streams.round_failed", error)
                await asyncio.sleep(self._each_s)

    async def _look_on(self) -> bool:
        await asyncio.sleep(self._each_s)
        for name, topic in tuple(self._topics.items()):
            if not topic.readers:
                del self._topics[name]
        if not self._topics:
            self._tasks.pop().cancel()
            self._tasks.clear()
            return False
        # A look that was cancelled, as one at which another waits may be, is not the end of this.
        looks = (self._look(topic) for topic in tuple(self._topics.values()))
        await asyncio.gather(*looks, return_exceptions=True)
        return True

    async def _look(self, topic: Topic) -> None:
        try:
            event = await self._catalogue.event(topic.event.id)
            if not event.sold_by(topic.client):
                raise NotFound
            topic.event = event
            left = await self._catalogue.availability(event, topic.client)
            if topic.show(availability_of(event, left, self._epoch_s())):
                self._write_soon(topic)
        except Unavailable:
            pass  # nobody can say now
        except NotFound:
            for reader in tuple(topic.readers):
                reader.end("over")
        except Exception as error:
            seldom.exception("streams.look_failed", error)

    async def _write_on(self) -> bool:
        if not self._to_write:
            self._something.clear()
            await self._something.wait()
        topic = self._to_write.popleft()
        began = time.perf_counter()
        while topic.behind:
            try:
                for _ in range(min(SLICE, len(topic.behind))):
                    topic.behind.popleft().send(topic.name, topic.message)
            except Exception as error:  # of one reader
                seldom.exception("streams.write_failed", error)
            if time.perf_counter() - began >= SLICE_S:
                break
        share = URGENT if topic.urgent else SHARE
        if topic.behind:
            self._to_write.append(topic)
        else:
            topic.urgent = False
        await asyncio.sleep((time.perf_counter() - began) * (1 / share - 1))
        return True

    async def aclose(self) -> None:
        """Look and write no more."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
