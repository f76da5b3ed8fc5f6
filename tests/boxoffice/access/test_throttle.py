"""Requests that are no bookings: what changes something is counted for all processes, what reads by each alone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import ConnectionError

from boxoffice.access.rates import FREE, Allowance
from boxoffice.access.throttle import KEYS_MAX, Throttle
from boxoffice.clock import Clock
from boxoffice.errors import BoxOfficeError, RateLimited
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from boxoffice.stores import keys

WINDOW_S = 3_600


def may(key: str = "one", **most: int) -> Allowance:
    return Allowance(key, window_s=WINDOW_S, **most)


@pytest.fixture
def at() -> Any:
    """Seconds of the process's clock, and whose Redis is away."""
    return SimpleNamespace(now=10.0 * WINDOW_S + 1.5)


@pytest.fixture
def throttle(at: Any) -> Throttle:
    async def away(*_: Any, **__: Any) -> Any:
        raise ConnectionError

    shards: Any = [SimpleNamespace(run=away)]
    return Throttle(shards, Clock(lambda: at.now))


def read(throttle: Throttle, allowance: Allowance) -> RateLimited | None:
    try:
        throttle.read(allowance)
    except RateLimited as error:
        return error
    return None


def test_a_key_may_read_so_often(throttle: Throttle, at: Any) -> None:
    """In a window of the process's clock; each key by itself."""
    assert [read(throttle, may(reads_max=2)) for _ in range(2)] == [None, None]
    refused = read(throttle, may(reads_max=2))
    assert refused is not None
    assert refused.details == {"whose": "key", "limit": 2, "window_s": WINDOW_S, "retry_after_s": WINDOW_S - 1}
    assert refused.policy == "reads"
    assert read(throttle, may("two", reads_max=2)) is None
    at.now += WINDOW_S - 2
    assert read(throttle, may(reads_max=2)) is not None
    at.now += 1
    assert read(throttle, may(reads_max=2)) is None


def test_who_has_no_limit_is_not_counted(throttle: Throttle) -> None:
    assert [read(throttle, FREE) for _ in range(5)] == [None] * 5


def test_so_many_keys_are_remembered(throttle: Throttle) -> None:
    for n in range(KEYS_MAX):
        throttle.read(may(str(n), reads_max=1))
    assert read(throttle, may("0", reads_max=1)) is not None
    assert read(throttle, may("another", reads_max=1)) is None
    assert read(throttle, may("0", reads_max=1)) is None


async def test_without_redis_nothing_is_counted(throttle: Throttle) -> None:
    for _ in range(3):
        await throttle.change(may(changes_max=1))


async def test_what_changes_something_is_counted_for_all_processes(office: BoxOffice, settings: Settings) -> None:
    """By Redis's clock, each key by itself, beside what its bookings count."""
    async with open_box_office(settings) as second:

        async def change(n: int, key: str) -> BoxOfficeError | None:
            try:
                await (office, second)[n % 2].throttle.change(may(key, changes_max=3, key_max=1))
            except RateLimited as error:
                return error
            return None

        answers = await asyncio.gather(*(change(n, key) for key in ("one", "two") for n in range(5)))
    refused = [answer for answer in answers if answer is not None]
    assert len(refused) == 4
    assert refused[0].details["whose"] == "key" and refused[0].details["limit"] == 3
    assert 0 < refused[0].details["retry_after_s"] <= WINDOW_S and refused[0].policy == "changes"  # type: ignore[attr-defined]
    assert await office.redis.hmget(keys.rates(0), "w:one", "w:two") == [b"3", b"3"]
    await office.throttle.change(FREE)
