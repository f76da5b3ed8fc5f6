"""One shard: its Redis, and its scripts called by the names of their slots. Whoever has a `Shard` lists neither the keys that
its scripts share nor its doorbell: it puts these in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from redis.asyncio import Redis

from boxoffice.stores import keys
from boxoffice.stores.jobs import BELL_TTL_MS, job_prefix, pack_ring
from boxoffice.stores.scripts import Call, Scripts, Slot

__all__ = ["Shard", "Shards"]


class Shard:
    """A part of all events, with everything that belongs to it in Redis."""

    def __init__(self, redis: Redis, scripts: Scripts, number: int) -> None:
        self.redis = redis
        self.number = number
        self._scripts = scripts
        self._own: dict[str, Slot | Sequence[Slot]] = {
            "gate": keys.gate(number), "pending": keys.pending(number), "dead": keys.dead(number),
            "deadlines": keys.deadlines(number), "told": keys.told(number), "clock": keys.clock(number),
            "bell": keys.bell(number), "rings": keys.rings(number), "queue": keys.arq_queue(number),
            "bell_ttl_ms": BELL_TTL_MS, "job": pack_ring(number), "job_prefix": job_prefix(number),
            "record_prefix": keys.booking(number, ""), "prefix": keys.shard_tag(number),
        }  # fmt: skip

    def call(self, script: str, /, **slots: Slot | Sequence[Slot]) -> Call:
        """The script's call, not yet made: what the header names and the shard does not know is given by name.

        The last slot, `name...` in the header, takes a sequence. Raises `TypeError` for a slot that is missing, or that the
        header does not name.
        """
        found = getattr(self._scripts, script)
        return found.call({**self._own, **slots}, given=slots)  # type: ignore[no-any-return]

    async def run(self, script: str, /, **slots: Slot | Sequence[Slot]) -> Any:
        """Make that call. Raises as `call`, Redis's errors, and `GateClosed` and `RunUnchecked` of a script that decides."""
        return await self.call(script, **slots).send(self.redis)


class Shards:
    """The shards of one Redis, by number."""

    def __init__(self, redis: Redis, scripts: Scripts) -> None:
        self._make = partial(Shard, redis, scripts)
        self._made: dict[int, Shard] = {}

    def __getitem__(self, number: int) -> Shard:
        made = self._made.get(number)
        if made is None:
            made = self._made[number] = self._make(number)
        return made
