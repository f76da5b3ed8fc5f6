"""grant.lua, one test for each line of its Returns. A key never goes back to what it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from boxoffice.stores import keys
from tests.support.shop.script import Desk


def view(revision: int | None, **more: Any) -> str:
    return json.dumps(more if revision is None else {**more, "revision": revision})


async def grant(desk: Desk, *, whole: bool = False, **views: str) -> Any:
    grants = [part for prefix, shown in views.items() for part in (prefix, shown)]
    return await desk.scripts.grant(desk.redis, [keys.api_keys(desk.shard)], [int(whole), *grants])


async def there(desk: Desk) -> dict[str, str]:
    found = await desk.redis.hgetall(keys.api_keys(desk.shard))  # type: ignore[misc]
    return {prefix.decode(): shown.decode() for prefix, shown in found.items()}


async def test_some_are_missing_the_others(desk: Desk) -> None:
    """Nothing is written: a version beside these alone would make the others unknown."""
    assert await grant(desk, one=view(1)) == [b"missing"]
    assert await there(desk) == {}


async def test_all_of_them_get_a_version_that_nobody_has_seen(desk: Desk) -> None:
    """Also when there are none: whoever reads it knows that it was loaded."""
    seconds, _ = await desk.redis.time()
    assert await grant(desk, whole=True) == [b"granted", 0]
    version = int((await there(desk))["version"])
    assert seconds * 1_000_000 <= version < (seconds + 60) * 1_000_000
    assert await grant(desk, whole=True, one=view(1), two=view(1)) == [b"granted", 2]
    assert await there(desk) == {"version": str(version + 1), "one": view(1), "two": view(1)}


async def test_what_was_lost_may_come_back_in_part_and_gets_its_version_then(desk: Desk) -> None:
    await desk.redis.hset(keys.api_keys(desk.shard), "one", view(1))  # type: ignore[misc]
    assert await grant(desk, whole=True, one=view(1), two=view(1)) == [b"granted", 1]
    assert int((await there(desk))["version"]) > 1_000_000_000_000_000


async def test_the_version_changes_with_any_key_and_with_nothing_else(desk: Desk) -> None:
    await desk.redis.hset(keys.api_keys(desk.shard), "version", 41)  # type: ignore[misc]
    for granted, version in (([b"granted", 1], "42"), ([b"granted", 0], "42")):
        assert await grant(desk, one=view(1)) == granted
        assert (await there(desk))["version"] == version
    assert await grant(desk, whole=True, one=view(1)) == [b"granted", 0]
    assert (await there(desk))["version"] == "42"


@pytest.mark.parametrize(
    ("before", "after", "taken"),
    [
        (view(2), view(3), True),
        (view(2), view(1), False),
        (view(2, a=1), view(2, a=2), True),
        (view(2), view(2), False),
        (view(None, sha256="old"), view(0), True),
        ("nonsense", view(1), True),
        ("7", view(1), True),
        ('{"revision": "x"}', view(1), True),
        (view(1_764_000_000_000_001), view(1_764_000_000_000_000), False),
        (view(1_764_000_000_000_000), view(1_764_000_000_000_001), True),
    ],
)
async def test_a_later_look_replaces_an_earlier_one(desk: Desk, before: str, after: str, taken: bool) -> None:
    """Each key for itself. One of the same revision that is otherwise was changed by hand; one without any by a version
    before this."""
    await desk.redis.hset(  # type: ignore[misc]
        keys.api_keys(desk.shard), mapping={"version": 1, "one": before, "two": view(9)}
    )
    assert await grant(desk, whole=True, two=view(8), one=after) == [b"granted", int(taken)]
    assert await there(desk) == {"version": str(1 + taken), "one": after if taken else before, "two": view(9)}
