"""Whoever waits for a booking is called once, when it is pending no more or time is up; nobody is forgotten, and nobody is
left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from boxoffice import ids
from boxoffice.bookings import waiting as module
from boxoffice.bookings.waiting import Waiting
from boxoffice.errors import StoreAway
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from boxoffice.stores import keys
from tests.conftest import SHARD, SaleMaker
from tests.support.proxy import proxied
from tests.support.shop.office import Till
from tests.support.waiting import true_soon

LONG_S = 600.0


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> Till:
    return Till(office, await open_sale(GA=300))


@pytest.fixture
def waiting(office: BoxOffice) -> Waiting:
    return Waiting(office.shards.news, office.bookings, 100)


class Called:
    """Counts its calls."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


@pytest.fixture
async def standing(till: Till, waiting: Waiting) -> AsyncIterator[None]:
    """The subscription stands, because somebody waits for another booking."""
    over = Called()
    wait = waiting.begin(await till.hold(GA=1), LONG_S, over)
    assert wait is not None
    await true_soon(lambda: over.times)  # a hold is pending no more: it was looked at
    sentinel = waiting.begin(await till.book(GA=1), LONG_S, Called())
    assert sentinel is not None
    yield
    sentinel.set()


@pytest.mark.parametrize("shard", [0, SHARD])
@pytest.mark.parametrize("token", ["tok_ok", "tok_card_declined"])
async def test_it_ends_with_the_settlement(
    office: BoxOffice, open_sale: SaleMaker, waiting: Waiting, shard: int, token: str
) -> None:
    till = Till(office, await open_sale(shard=shard, GA=10))
    booking, over = await till.book(token, GA=1), Called()
    assert ids.shard_of(booking) == shard
    assert waiting.begin(booking, LONG_S, over) is not None
    assert (len(waiting), over.times) == (1, 0)
    await till.rest_bookings()
    await true_soon(lambda: over.times)
    assert (len(waiting), over.times) == (0, 1)


async def test_what_ended_before_anybody_listened_is_seen(till: Till, waiting: Waiting, standing: None) -> None:
    """The news was published when nobody here waited for it: whoever comes later looks once."""
    booking, over = await till.book(GA=1), Called()
    await till.drain()
    assert waiting.begin(booking, LONG_S, over) is not None
    await true_soon(lambda: over.times)


async def test_what_ends_while_the_subscription_comes_is_seen(till: Till, waiting: Waiting) -> None:
    booking, over = await till.book(GA=1), Called()
    await till.drain()
    assert waiting.begin(booking, LONG_S, over) is not None
    await true_soon(lambda: over.times)


async def test_a_lost_subscription_loses_nobody(till: Till, waiting: Waiting, settings: Settings) -> None:
    """While the connection is away the booking is settled: its news is gone, and everybody looks once there is another."""
    booking, over = await till.book(GA=1), Called()
    async with (
        proxied(settings.redis_url) as (proxy, url),
        open_box_office(settings.model_copy(update={"redis_url": url})) as far,
    ):
        behind = Waiting(far.shards.news, far.bookings, 10)
        assert behind.begin(booking, LONG_S, over) is not None
        behind.begin(await till.hold(GA=1), LONG_S, seen := Called())
        await true_soon(lambda: seen.times)
        proxy.refuse = True
        proxy.reset_all()
        await till.rest_bookings()
        assert over.times == 0
        proxy.refuse = False
        await true_soon(lambda: over.times)


@pytest.mark.parametrize("why", [StoreAway(), RuntimeError("a bug"), "shut"], ids=["away", "bug", "shut"])
async def test_who_could_not_look_looks_again(
    till: Till, waiting: Waiting, standing: None, monkeypatch: pytest.MonkeyPatch, why: Exception | str
) -> None:
    """The subscription stands all the while, and a gate that opens is no news: nobody calls again."""
    monkeypatch.setattr(module, "AGAIN_S", 0.02)
    booking, over = await till.book(GA=1), Called()
    await till.rest_bookings()
    looks, read = [], till.office.bookings.read_records

    async def fails(names: list[str]) -> Any:
        looks.append(names)
        if isinstance(why, Exception):
            raise why
        return {name: seen._replace(shut=True) for name, seen in (await read(names)).items()}

    with monkeypatch.context() as patch:
        patch.setattr(till.office.bookings, "read_records", fails)
        assert waiting.begin(booking, LONG_S, over) is not None
        await true_soon(lambda: len(looks) > 2)
        assert over.times == 0
    await true_soon(lambda: over.times)
    assert over.times == 1


async def test_time_is_up(till: Till, waiting: Waiting) -> None:
    booking, over = await till.book(GA=1), Called()
    assert waiting.begin(booking, 0.05, over) is not None
    await true_soon(lambda: over.times)
    assert len(waiting) == 0
    await till.rest_bookings()
    assert over.times == 1


async def test_who_has_gone_is_forgotten(till: Till, waiting: Waiting) -> None:
    booking, over = await till.book(GA=1), Called()
    wait = waiting.begin(booking, LONG_S, over)
    assert wait is not None
    wait.set()
    wait.set()
    await till.rest_bookings()
    assert (len(waiting), over.times) == (0, 0)


async def test_only_so_many_wait(till: Till, office: BoxOffice) -> None:
    booking = await till.book(GA=1)
    waiting = Waiting(office.shards.news, office.bookings, 2)
    waits = [waiting.begin(booking, LONG_S, Called()) for _ in range(3)]
    assert [wait is None for wait in waits] == [False, False, True]
    first = waits[0]
    assert first is not None
    first.set()
    assert waiting.begin(booking, LONG_S, Called()) is not None
    assert not await Waiting(office.shards.news, office.bookings, 0).until_final(booking, LONG_S)


async def test_a_process_that_stops_keeps_nobody(till: Till, waiting: Waiting) -> None:
    booking, over = await till.book(GA=1), Called()
    assert waiting.begin(booking, LONG_S, over) is not None
    waiting.stop()
    assert over.times == 1
    assert waiting.begin(booking, LONG_S, over) is None


async def test_the_bank_ends_it_for_who_needs_to_know(till: Till, waiting: Waiting, standing: None) -> None:
    """Whoever has to send the customer there is told at once; whoever waits for the end goes on waiting, and so does who comes
    later."""
    booking = await till.book("tok_3ds", GA=1)
    soon, late = Called(), Called()
    waiting.begin(booking, LONG_S, soon, until_bank=True)
    waiting.begin(booking, LONG_S, late)
    await till.drain()
    await true_soon(lambda: soon.times)
    waiting.begin(booking, LONG_S, again := Called(), until_bank=True)
    await true_soon(lambda: again.times)
    assert late.times == 0
    await till.customer_acts(booking)
    await till.look_again(booking)
    await till.rest_bookings()
    await true_soon(lambda: late.times)


async def test_a_record_that_is_gone_was_final(till: Till, waiting: Waiting, standing: None) -> None:
    booking, over = await till.book(GA=1), Called()
    await till.rest_bookings()
    await till.office.redis.delete(keys.booking(SHARD, booking))
    waiting.begin(booking, LONG_S, over)
    await true_soon(lambda: over.times)


async def test_looks_of_one_turn_are_one_call(
    till: Till, waiting: Waiting, standing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bookings = [await till.book(GA=1) for _ in range(5)]
    asked: list[list[str]] = []
    read = till.office.bookings.read_records

    async def reading(names: list[str]) -> Any:
        asked.append(names)
        return await read(names)

    monkeypatch.setattr(till.office.bookings, "read_records", reading)
    for booking in bookings:
        waiting.begin(booking, LONG_S, Called())
    await true_soon(lambda: asked)
    assert [sorted(names) for names in asked] == [sorted(bookings)]


async def test_a_task_waits_too(till: Till, waiting: Waiting) -> None:
    booking = await till.book(GA=1)
    waits = [asyncio.create_task(waiting.until_final(booking, LONG_S)) for _ in range(2)]
    await true_soon(lambda: len(waiting) == 2)
    waits[0].cancel()
    await true_soon(lambda: len(waiting) == 1)
    await till.rest_bookings()
    assert await waits[1]
    assert len(waiting) == 0
