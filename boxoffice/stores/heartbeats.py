"""Which workers live: each writes one field of a hash in every shard, every few seconds. Nothing is decided by it; operators
look at it. Times are Redis's: workers' clocks may differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from boxoffice.stores import keys
from boxoffice.stores.shard import Shard

__all__ = ["BEAT_S", "SILENT_S", "Beat", "beat", "living"]

BEAT_S: Final = 2.0
"""How often a worker says that it lives."""

SILENT_S: Final = 10.0
"""Who has said nothing for so long is not counted: it ended, hangs, or cannot reach Redis."""


class Beat(msgspec.Struct, frozen=True):
    """What a worker says of itself in a shard."""

    host: str
    pid: int
    started_ms: int
    """By the worker's own clock."""
    counted_ms: int = 0
    """When it last counted drift in the shard, by its own clock; 0: not yet."""
    drifted: int = 0
    """Events of the shard whose counters differed then."""
    at_ms: int = 0
    """When it said so."""

    @property
    def name(self) -> str:
        """Of the worker, among all."""
        return f"{self.host}:{self.pid}:{self.started_ms}"


async def beat(shard: Shard, word: Beat) -> None:
    """Say it now. Who says it for the first time takes away those that are silent. Raises Redis's errors."""
    redis, name = shard.redis, keys.workers(shard.number)
    seconds, micros = await redis.time()
    now_ms = 1_000 * seconds + micros // 1_000
    word = msgspec.structs.replace(word, at_ms=now_ms)
    if not await redis.hset(name, word.name, msgspec.json.encode(word).decode()):  # type: ignore[misc]
        return
    fields: dict[bytes, bytes] = await redis.hgetall(name)  # type: ignore[misc]
    alive = {each.name for each in living(fields, now_ms)}
    if silent := [field.decode() for field in fields if field.decode() not in alive]:
        await redis.hdel(name, *silent)  # type: ignore[misc]


def living(fields: Mapping[bytes, bytes], now_ms: int) -> list[Beat]:
    """Of a shard's hash, the workers that have spoken within `SILENT_S` of this time, by name. One of another version, whose
    word cannot be read, is none."""
    found = []
    for body in fields.values():
        try:
            word = msgspec.json.decode(body, type=Beat)
        except msgspec.MsgspecError:
            continue
        if word.at_ms >= now_ms - 1_000 * SILENT_S:
            found.append(word)
    return sorted(found, key=lambda word: word.name)
