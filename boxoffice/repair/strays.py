"""Undecided bookings that stand in no set: nobody would claim them, expire them or count them, ever.

No script of ours leaves one behind. A server restored from pieces may, or somebody with a terminal; and what was
accepted and is still there stays accepted.
"""

from __future__ import annotations

from typing import Final

import structlog

from boxoffice.stores import keys
from boxoffice.stores.shard import Shard

__all__ = ["Strays"]

log = structlog.get_logger()

PAGE: Final = 1_000
"""Records looked at by one script call: a millisecond or two in which Redis runs nothing else."""


class Strays:
    """Looks through one shard's records."""

    def __init__(self, here: Shard) -> None:
        self.shard = here.number
        self._redis = here.redis
        self._here = here
        self.cursor = 0

    async def gather(self) -> int:
        """Look at every record and put the strays back. Returns how many there were."""
        cursor, found = await self._page(0)
        while cursor:
            cursor, count = await self._page(cursor)
            found += count
        return self._log(found)

    async def gather_some(self, pages: int, seen: list[str]) -> int:
        """As `gather`, a part of the records: the next time goes on where this one ends. Adds whose they are to `seen`."""
        found = 0
        for _ in range(pages):
            self.cursor, count = await self._page(self.cursor, seen)
            found += count
            if not self.cursor:
                break
        return self._log(found)

    async def _page(self, cursor: int, seen: list[str] | None = None) -> tuple[int, int]:
        shard = self.shard
        cursor, records = await self._redis.scan(cursor, match=keys.booking(shard, "*"), count=PAGE, _type="STRING")
        if not records:
            return cursor, 0
        if seen is not None:
            seen += [record[-36:].decode() for record in records]
        return cursor, int(await self._here.run("gather", records=records))

    def _log(self, found: int) -> int:
        if found:
            log.warning("strays.gathered", shard=self.shard, bookings=found)
        return found
