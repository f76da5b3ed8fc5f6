"""Redis's clock went back: what was dated while it was ahead is dated anew.

Leases, deadlines and times of admission are Redis's. A clock that was ten minutes ahead for a while and is put right leaves
holds that last ten minutes too long, bookings that nobody settles for ten minutes, and leases that nobody has. expire.lua
notices: it remembers the latest time that it, or the admission of a hold, has seen.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import structlog
from redis.asyncio import Redis

from boxoffice.stores import keys
from boxoffice.stores.shard import Shard

__all__ = ["Rewound", "rewind"]

log = structlog.get_logger()

CHUNK: Final = 200
"""Bookings looked at by one script call."""

Rewound = list[tuple[str, int]]
"""Holds that PostgreSQL knows, and their deadlines (ms) from now on."""


async def rewind(here: Shard, lease_ms: int, back_ms: int) -> Rewound:
    """Look at every booking that waits for something. May be repeated, and by several at once.

    Raises Redis's errors and `GateClosed`; then it is noticed again.
    """
    shard = here.number
    rewound, moved_holds = 0, Rewound()
    async for some in _waiting(here.redis, shard):
        records = [keys.booking(shard, id_) for id_ in some]
        count, *moved = await here.run("rewind", records=records, lease_ms=lease_ms, done=0)
        rewound += int(count)
        moved_holds += [
            (id_.decode(), int(deadline_ms)) for id_, deadline_ms in zip(moved[::2], moved[1::2], strict=True)
        ]
    await here.run("rewind", records=(), lease_ms=lease_ms, done=1)
    log.warning("clock.went_back", shard=shard, back_ms=back_ms, bookings=rewound)
    return moved_holds


async def _waiting(redis: Redis, shard: int) -> AsyncIterator[list[str]]:
    """Ids in any of the sets; each at least once, however their scores change meanwhile, and though a hold that is paid, or
    whose payment is declined, goes from one set to another: the way back is looked along, too."""
    holds, pending, dead = keys.deadlines(shard), keys.pending(shard), keys.dead(shard)
    for name in (holds, pending, dead, pending, holds):
        cursor = 0
        while True:
            cursor, found = await redis.zscan(name, cursor, count=CHUNK)
            some = [member.decode() for member, _ in found]
            for start in range(0, len(some), CHUNK):
                yield some[start : start + CHUNK]
            if not cursor:
                break
