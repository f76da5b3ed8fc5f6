"""One shard: its Redis, and its scripts called by the names of their slots. Whoever has a `Shard` lists neither the keys that
its scripts share nor its doorbell: it puts these in.

Which Redis a shard lives in is known here alone: nobody else may think that two shards share one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from redis.asyncio import Redis

from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores.jobs import BELL_TTL_MS, job_prefix, pack_ring
from boxoffice.stores.news import News
from boxoffice.stores.pinned import Pinned
from boxoffice.stores.redis import open_redis
from boxoffice.stores.scripts import Call, Commands, Scripts, Slot, send_all

__all__ = ["Shard", "Shards", "open_shards"]

Item = TypeVar("Item")


class Shard:
    """A part of all events, with everything that belongs to it in Redis."""

    def __init__(self, redis: Redis, scripts: Scripts, number: int) -> None:
        self.redis = redis
        self.number = number
        self.scripts = scripts
        self._own: dict[str, Slot | Sequence[Slot]] = {
            "gate": keys.gate(number), "pending": keys.pending(number), "dead": keys.dead(number),
            "deadlines": keys.deadlines(number), "told": keys.told(number), "clock": keys.clock(number),
            "sequence": keys.sequence(number), "bell": keys.bell(number), "rings": keys.rings(number),
            "queue": keys.arq_queue(number),
            "bell_ttl_ms": BELL_TTL_MS, "job": pack_ring(number), "job_prefix": job_prefix(number),
            "record_prefix": keys.booking(number, ""), "prefix": keys.shard_tag(number),
        }  # fmt: skip

    def call(self, script: str, /, **slots: Slot | Sequence[Slot]) -> Call:
        """The script's call, not yet made: what the header names and the shard does not know is given by name.

        The last slot, `name...` in the header, takes a sequence. Raises `TypeError` for a slot that is missing, or that the
        header does not name.
        """
        found = getattr(self.scripts, script)
        return found.call({**self._own, **slots}, given=slots)  # type: ignore[no-any-return]

    async def run(self, script: str, /, **slots: Slot | Sequence[Slot]) -> Any:
        """Make that call. Raises as `call`, Redis's errors, and `GateClosed` and `RunUnchecked` of a script that decides."""
        return await self.call(script, **slots).send(self.redis)

    async def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Make these calls of its own in one round trip. As `send_all`."""
        return await send_all(self.redis, calls)


class Shards:
    """The shards that this installation serves, by number: `homes` has the Redis of each. Closed with `aclose`.

    A number beyond is nobody's here, as of a booking that was made elsewhere: its shard has nothing, and its gate is closed.
    """

    def __init__(self, homes: Sequence[Redis], scripts: Scripts) -> None:
        self.scripts = scripts
        self.clients = tuple(dict.fromkeys(homes))
        """Every Redis, once."""
        self._homes = tuple(homes)
        self._pinned = {client: Pinned(client) for client in self.clients}
        self._made: dict[int, Shard] = {}
        self.news = News(homes)

    def __len__(self) -> int:
        return len(self._homes)

    def __iter__(self) -> Iterator[Shard]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Shard:
        made = self._made.get(number)
        if made is None:
            home = self._homes[number] if number < len(self) else self._homes[0]
            made = self._made[number] = Shard(home, self.scripts, number)
        return made

    def pinned(self, number: int) -> Commands:
        """The kept connections of a shard's Redis, for who calls it all the time. Shards of one Redis share them."""
        return self._pinned[self[number].redis]

    def by_redis(self, items: Iterable[Item], shard_of: Callable[[Item], int]) -> list[tuple[Redis, list[Item]]]:
        """The items by the Redis in which their shards live, for one call to each."""
        found: dict[Redis, list[Item]] = {}
        for item in items:
            found.setdefault(self[shard_of(item)].redis, []).append(item)
        return list(found.items())

    async def anywhere(self, name: str) -> bool:
        """Whether any Redis has this key. Raises Redis's errors."""
        return any([await client.exists(name) for client in self.clients])

    async def aclose(self) -> None:
        """Close every client."""
        await self.news.aclose()
        for client in self.clients:
            await client.aclose()


def open_shards(settings: Settings, scripts: Scripts, *, retries: int = 0, timeout_s: float | None = None) -> Shards:
    """The shards of these settings, which today live in one Redis. As `open_redis`."""
    return Shards([open_redis(settings, retries=retries, timeout_s=timeout_s)] * settings.shards, scripts)
