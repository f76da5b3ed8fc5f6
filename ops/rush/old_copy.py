"""A Redis that goes back in time, in a rush: a copy of its file is put back under a server that starts again.

What only the newer file had is lost, and the promise says what that may be (docs/promises.md, "the honest limit"): what was
accepted and is not in PostgreSQL yet, and holds that nobody has tried to pay. Nobody is allowed the first here: nothing is
sold for a moment, until all that was accepted is in PostgreSQL. Of the second, those that are lost are read from the newer
server before it goes; the audit excuses these and no other.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, Protocol

import asyncpg
from redis.asyncio import Redis

from boxoffice.database_url import read_database_url
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores.record import unpack
from ops.rush.away import STORE_AWAY
from ops.rush.undecided import undecided
from ops.stack.valkey import RedisServer

__all__ = ["PATIENCE_S", "GoesBack", "OldCopy", "Setback"]

LOOK_S: Final = 0.15

PATIENCE_S: Final = 60.0
"""So long nothing is sold at most, until the copy is given up: workers may have to start first, on a busy machine."""

TIMEOUT_S: Final = 2.0

CHUNK: Final = 1_000

UNPAID: Final = (b"H", b"E", b"X")
"""How records of holds begin, and of what became of them unpaid."""

_KNOWN: Final = "SELECT id::text AS id FROM bookings WHERE id = ANY($1::uuid[])"


class GoesBack(Protocol):
    """What `OldCopy` does."""

    def take(self) -> None:
        """Copy the file as it is. Raises `OSError`."""

    def quiet(self) -> bool:
        """Whether nothing would be lost but unpaid holds. Whoever accepts bookings must be stopped."""

    def put_back(self, resume: Callable[[], None]) -> int:
        """Be the server that the copy is of. `resume` is called while there is none. Returns how many holds were lost.
        Raises `CannotRun`."""


@dataclass(slots=True)
class Setback:
    """One that has begun: a copy is taken, and grows old while the sale goes on."""

    copy: GoesBack
    seconds: float
    ripe_s: float
    """When it is old enough, by `time.monotonic()`."""
    selling: bool = True
    look_s: float = 0.0
    give_up_s: float = 0.0

    @classmethod
    def begin(cls, copy: GoesBack, seconds: float) -> Setback:
        """Take the copy."""
        copy.take()
        return cls(copy, seconds, time.monotonic() + seconds)

    def old_enough(self, now: float) -> bool:
        """Whether the sale is to be stopped from now on."""
        if self.selling and now >= self.ripe_s:
            self.selling, self.give_up_s = False, now + PATIENCE_S
        return not self.selling

    def quiet(self, now: float) -> bool:
        """Whether it may be put back. Asks now and then; twice, so that what was on its way has arrived."""
        if now < self.look_s:
            return False
        self.look_s = now + LOOK_S
        return self.copy.quiet()


@dataclass(slots=True)
class OldCopy:
    """Of the private server's file, beside it."""

    server: RedisServer
    settings: Settings
    forget: Callable[[set[str]], None]
    """Told of the holds that will be lost, before they are."""
    _since_ms: int = 0
    _lost: set[str] = field(default_factory=set)
    _was_quiet: bool = False

    def take(self) -> None:
        """Copy the file as it is now: every command that was answered before is in it, the last one perhaps by half."""
        self._since_ms, self._was_quiet = time.time_ns() // 1_000_000, False
        copy = self.server.files.with_name("copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.server.files, copy)

    def quiet(self) -> bool:
        """Whether nothing would be lost but unpaid holds, at two looks in a row."""
        try:
            found = asyncio.run(self._look())
        except STORE_AWAY:
            found = None
        before, self._was_quiet = self._was_quiet, found is not None
        self._lost = found or set()
        return before and found is not None

    def put_back(self, resume: Callable[[], None]) -> int:
        """Tell of what is lost, and start a server with the copy in place of the newer file."""
        self.forget(self._lost)
        files = self.server.files
        self.server.kill()
        shutil.rmtree(files)
        files.with_name("copy").rename(files)
        resume()
        self.server.start()
        return len(self._lost)

    async def _look(self) -> set[str] | None:
        """The holds that would be lost; None while something else would be."""
        dsn = read_database_url(self.settings.database_url).dsn
        connection = await asyncpg.connect(dsn, timeout=TIMEOUT_S, command_timeout=TIMEOUT_S)
        redis = Redis.from_url(self.settings.redis_url, socket_timeout=TIMEOUT_S)
        try:
            async with aclosing(redis):
                pending: set[str] = set()
                for shard in range(self.settings.shards):
                    pending |= {member.decode() for member in await redis.zrange(keys.pending(shard), 0, -1)}
                if pending - await undecided(connection, self.settings.gateway.deadline_s):
                    return None
                if not self._was_quiet:
                    return set()
                holds = {
                    booking for shard in range(self.settings.shards) for booking in await self._unpaid(redis, shard)
                }
                return holds - {row["id"] for row in await connection.fetch(_KNOWN, list(holds))}
        finally:
            connection.terminate()

    async def _unpaid(self, redis: Redis, shard: int) -> list[str]:
        """Holds made since the copy was begun that nobody has tried to pay, whatever became of them."""
        prefix = keys.booking(shard, "")
        names = [name async for name in redis.scan_iter(match=f"{prefix}*", count=CHUNK)]
        found: list[str] = []
        for at in range(0, len(names), CHUNK):
            some = names[at : at + CHUNK]
            for name, raw in zip(some, await redis.mget(some), strict=True):
                if raw is None or raw[:1] not in UNPAID:
                    continue
                record = unpack(name.decode()[len(prefix) :], raw)
                if not record.attempts and record.admitted_ms >= self._since_ms:
                    found.append(record.id)
        return found
