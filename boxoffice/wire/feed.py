"""The feed: a shop's notices page by page, at once or as soon as there are some.

Who waits costs a place in a list and a timer: `notices/watch.py` looks for all of them together. Those that are woken by
one look and have read equally far share one read, and one rendering.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextvars import Context
from typing import NamedTuple

from boxoffice.errors import Overloaded, TooManyWaits
from boxoffice.notices.cursors import Cursor
from boxoffice.notices.reading import Notices
from boxoffice.notices.watch import Watch
from boxoffice.settings import Settings
from boxoffice.stores.database import Database
from boxoffice.telemetry.series import FEED_WAITS
from boxoffice.wire.feed_requests import FeedRequest
from boxoffice.wire.notices import notice_page

__all__ = ["Feed", "FeedPage"]

RETRY_S = 1
"""Who finds no place to wait asks again so much later."""


class FeedPage(NamedTuple):
    """As it is sent."""

    body: bytes
    cursor: Cursor
    empty: bool
    """It has no notice."""
    more: bool


_Key = tuple[str, Cursor, tuple[str, ...], int]


class Feed:
    """Of one process."""

    def __init__(
        self, notices: Notices, watch: Watch, database: Database, settings: Settings,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._notices = notices
        self._watch = watch
        self._database = database
        self._settings = settings
        self._now_s = now_s
        self._waiting: Counter[str] = Counter()
        self._in_all = 0
        self._reads: dict[_Key, asyncio.Task[FeedPage]] = {}

    @property
    def waiting(self) -> int:
        """Requests that wait now."""
        return self._in_all

    @property
    def looks(self) -> int:
        """How often it was looked whether something happened, for all who wait."""
        return self._watch.looks

    async def page(self, client: str, wanted: FeedRequest) -> FeedPage:
        """The shop's notices behind its cursor. When there are none, waits for the first as long as is wanted; then the
        page is empty, and its cursor is where to go on.

        Raises `CursorGone`, `StoreAway`; `TooManyWaits` and `Overloaded` when it would have to wait and too many do.
        """
        until_s = self._now_s() + wanted.wait_s
        page = await self._first(client, wanted)
        if not (page.empty and wanted.wait_s):
            return page
        self._take_place(client)
        try:
            while page.empty and not page.more:
                left_s = until_s - self._now_s()
                if not await self._watch.news(client, page.cursor.position, wanted.types, left_s):
                    break
                page = await self._shared(client, page.cursor, wanted)
        finally:
            self._leave(client)
        return page

    def end(self) -> None:
        """The process stops: every wait is over, with an empty page."""
        self._watch.end()

    async def _first(self, client: str, wanted: FeedRequest) -> FeedPage:
        """What there is now, with all that was committed before it was asked for; of that, while somebody hangs with places,
        what has one."""
        cursor = wanted.after
        async with self._database.answering():
            await self._notices.number_shared()
            if cursor is None:
                cursor = await (self._notices.head() if wanted.from_now else self._notices.start())
        return await self._read(client, cursor, wanted)

    async def _read(self, client: str, cursor: Cursor, wanted: FeedRequest) -> FeedPage:
        async with self._database.answering():
            found = await self._notices.after(client, cursor, types=wanted.types, most=wanted.limit)
        body = notice_page(found.notices, str(found.cursor), more=found.more)
        return FeedPage(body, found.cursor, not found.notices, found.more)

    async def _shared(self, client: str, cursor: Cursor, wanted: FeedRequest) -> FeedPage:
        """The same, with all who were woken with us."""
        key = client, cursor, wanted.types, wanted.limit
        read = self._reads.get(key)
        if read is None:
            read = asyncio.get_running_loop().create_task(self._read(client, cursor, wanted), context=Context())
            self._reads[key] = read
            read.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(read)

    def _forget(self, key: _Key, read: asyncio.Task[FeedPage]) -> None:
        del self._reads[key]
        if not read.cancelled():
            read.exception()  # perhaps nobody waits any more

    def _take_place(self, client: str) -> None:
        """One of those in which requests wait."""
        api = self._settings.api
        if self._in_all >= api.waits_max:
            raise Overloaded("As many requests wait as may.", retry_after_s=RETRY_S)
        if self._waiting[client] >= api.waits_client_max:
            raise TooManyWaits(limit=api.waits_client_max, retry_after_s=RETRY_S)
        self._waiting[client] += 1
        self._in_all += 1
        FEED_WAITS.set(self._in_all)

    def _leave(self, client: str) -> None:
        self._waiting[client] -= 1
        if not self._waiting[client]:
            del self._waiting[client]
        self._in_all -= 1
        FEED_WAITS.set(self._in_all)
