"""A worker lives as long as it says so; times are Redis's."""

from __future__ import annotations

import msgspec
import pytest

from boxoffice.office import BoxOffice
from boxoffice.stores import keys
from boxoffice.stores.heartbeats import SILENT_S, Beat, beat, living
from tests.conftest import SHARD


def fields(*said: Beat) -> dict[bytes, bytes]:
    return {each.name.encode(): msgspec.json.encode(each) for each in said}


@pytest.mark.parametrize(("ago_s", "lives"), [(SILENT_S - 0.001, True), (SILENT_S, True), (SILENT_S + 0.001, False)])
def test_who_is_silent_is_not_counted(ago_s: float, lives: bool) -> None:
    said = Beat("host", 1, 5, at_ms=round(1_000 * (100 - ago_s)))
    assert living(fields(said), 100_000) == ([said] if lives else [])


def test_workers_are_told_apart_and_listed_by_name() -> None:
    """Two hosts may have the same process number, and one number may come again."""
    said = [Beat("a", 1, 5, at_ms=9), Beat("a", 1, 6, at_ms=9), Beat("a", 2, 5, at_ms=9), Beat("b", 1, 5, at_ms=9)]
    assert living(fields(*reversed(said)), 9) == said


def test_what_cannot_be_read_is_no_worker() -> None:
    assert living({b"a": b"{", b"b": b'{"host": 1}', b"c": b""}, 9) == []


async def test_it_is_said_by_redis_clock_and_who_comes_takes_the_silent_away(office: BoxOffice) -> None:
    shard, name = office.shards[SHARD], keys.workers(SHARD)
    seconds, _ = await shard.redis.time()
    dead, alive = (Beat("h", pid, 0, at_ms=1_000 * (seconds - ago)) for pid, ago in ((1, 20), (2, 2)))
    for each in (dead, alive):
        await shard.redis.hset(name, each.name, msgspec.json.encode(each).decode())
    said = Beat("h", 3, 0, counted_ms=7, drifted=2)

    await beat(shard, said)

    found = await shard.redis.hgetall(name)
    assert {field.decode() for field in found} == {alive.name, said.name}
    first = msgspec.json.decode(found[said.name.encode()], type=Beat)
    assert msgspec.structs.replace(first, at_ms=0) == said
    assert 0 <= first.at_ms - 1_000 * seconds < 60_000
    await shard.redis.hset(name, dead.name, msgspec.json.encode(dead).decode())
    await beat(shard, said)
    assert await shard.redis.hlen(name) == 3, "who has spoken before takes nobody away"
    assert not await shard.redis.exists(keys.workers(1 - SHARD))
