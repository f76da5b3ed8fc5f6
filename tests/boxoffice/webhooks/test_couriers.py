"""Many endpoints: each by itself, so that no other delays it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from boxoffice.settings import Settings
from boxoffice.webhooks.couriers import Couriers
from tests.boxoffice.webhooks.conftest import Desk
from tests.support.endpoint import Endpoint, Heard, at_endpoint
from tests.support.waiting import eventually, true_soon


async def silent(_writer: asyncio.StreamWriter, _heard: Heard) -> None:
    await asyncio.Event().wait()


async def at_many(stack: AsyncExitStack, desk: Desk, count: int) -> list[Endpoint]:
    endpoints = [await stack.enter_async_context(at_endpoint()) for _ in range(count)]
    for endpoint in endpoints:
        await desk.subscribe(endpoint.url)
    return endpoints


def couriers_of(desk: Desk, settings: Settings, **changes: object) -> Couriers:
    return Couriers(desk.office.database, desk.office.notices, settings.webhooks.model_copy(update=changes))


async def test_a_dead_endpoint_delays_nobody(desk: Desk, settings: Settings) -> None:
    """The others have everything while it has not even answered once."""
    couriers = couriers_of(desk, settings, timeout_s=30.0)
    async with AsyncExitStack() as stack:
        dead, *others = await at_many(stack, desk, 4)
        dead.behave = silent
        for count in (5, 10):
            await desk.happens(5)
            await couriers.look()

            async def all_heard(wanted: int = count) -> bool:
                await couriers.look()
                return all(len(set(each.ids)) == wanted for each in others)

            await eventually(all_heard)
        assert len(dead.heard) <= settings.webhooks.in_flight_max
        await couriers.stop()
    await couriers.close()


async def test_those_that_failed_leave_half_of_the_places_to_the_others(desk: Desk, settings: Settings) -> None:
    couriers = couriers_of(desk, settings, timeout_s=0.3, at_once=4)
    hanging = couriers_of(desk, settings, timeout_s=30.0, at_once=4)
    async with AsyncExitStack() as stack:
        dead = await at_many(stack, desk, 6)
        for each in dead:
            each.behave = silent
        await desk.happens(1)
        while not all(each.heard for each in dead):
            await desk.go(couriers)
        await desk.office.database.execute("UPDATE webhook_endpoints SET paused_until = NULL")
        await desk.office.database.execute("UPDATE webhook_deliveries SET next_at = now()")
        (good,) = await at_many(stack, desk, 1)
        await desk.happens(1)
        assert await hanging.look() == 3, "two of the four places for the dead ones, and one that is needed"
        await true_soon(lambda: len(good.heard) == 1)
        await true_soon(lambda: sum(len(each.heard) > 1 for each in dead) == 2)
        await desk.happens(1)

        async def heard_too() -> bool:
            await hanging.look()
            return len(good.heard) == 2

        await eventually(heard_too)
        await hanging.stop()
    await couriers.close()
    await hanging.close()


async def test_two_workers_share_endpoints_and_no_endpoint(desk: Desk, settings: Settings) -> None:
    first, second = couriers_of(desk, settings), couriers_of(desk, settings)
    async with AsyncExitStack() as stack:
        endpoints = await at_many(stack, desk, 5)
        wanted = await desk.happens(20)
        await asyncio.gather(first.look(), second.look())
        await asyncio.gather(first.at_rest(), second.at_rest())
        assert all(sorted(each.ids) == sorted(wanted) for each in endpoints)
    for each in (first, second):
        await each.close()


async def test_one_endpoint_has_only_so_many_on_their_way(desk: Desk, settings: Settings) -> None:
    await desk.subscribe()
    most = 0

    async def counted(writer: asyncio.StreamWriter, heard: Heard) -> None:
        nonlocal most
        most = max(most, desk.endpoint.open_now)
        writer.write(b"HTTP/1.1 204 X\r\nConnection: close\r\n\r\n")

    desk.endpoint.behave = counted
    await desk.happens(30)
    await desk.go()
    assert len(desk.endpoint.heard) == 30
    assert most <= settings.webhooks.in_flight_max + 1, "one may be closing"


async def test_where_nobody_is_to_be_told_nothing_is_done(desk: Desk) -> None:
    await desk.happens(1)
    await desk.office.database.execute("UPDATE notices SET position = NULL, nonce = NULL")
    assert await desk.go() == 0
    assert await desk.office.database.fetchval("SELECT count(*) FROM notices WHERE position IS NOT NULL") == 0


async def test_once_it_is_stopped_nobody_goes(desk: Desk, settings: Settings) -> None:
    couriers = couriers_of(desk, settings)
    await desk.subscribe()
    await desk.happens(1)
    await couriers.stop()
    assert await desk.go(couriers) == 0
