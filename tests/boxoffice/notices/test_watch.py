"""One look for all who wait, none while nobody does; and whoever waits hears of whatever is told to its shop, however late
that was committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from boxoffice.clock import Clock
from boxoffice.notices.watch import Watch
from boxoffice.notices.writing import write
from boxoffice.office import BoxOffice
from tests.conftest import CLIENT
from tests.support.shop.orders import OTHER
from tests.support.waiting import LONGEST_S, true_soon

TYPE, ANOTHER = "webhook_endpoint.disabled", "event.changed"


class Ticks:
    """Each look is let go on by the test, unless it says that all are."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []
        self.free = True

    async def sleep(self, _seconds: float) -> None:
        if self.free:
            await asyncio.sleep(0)
            return
        tick: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(tick)
        await tick

    def go_on(self) -> None:
        waiting, self.waiting = self.waiting, []
        for tick in waiting:
            tick.set_result(None)


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
async def watch(office: BoxOffice, ticks: Ticks) -> AsyncIterator[Watch]:
    watch = Watch(office.database, office.notices.number, Clock(sleep=ticks.sleep))
    yield watch
    watch.end()
    ticks.free = True
    ticks.go_on()
    await true_soon(lambda: not watch.waiting)


async def tell(office: BoxOffice, client: str = CLIENT, kind: str = TYPE) -> None:
    async with office.database.begin() as connection:
        await write(connection, client, kind, {"reason": "failing"})


def waits(watch: Watch, *types: str, client: str = CLIENT, position: int = 0, most_s: float = LONGEST_S) -> Any:
    return asyncio.ensure_future(watch.news(client, position, types, most_s))


async def test_nobody_looks_while_nobody_waits(office: BoxOffice, watch: Watch) -> None:
    await tell(office)
    assert watch.looks == 0
    assert await waits(watch)
    await true_soon(lambda: not watch.waiting)
    looks = watch.looks
    await tell(office)
    assert watch.looks == looks


async def test_one_look_is_for_all(office: BoxOffice, watch: Watch, ticks: Ticks) -> None:
    """Though hundreds wait, of two shops; who is not told anything waits on."""
    ticks.free = False
    mine = [waits(watch) for _ in range(200)]
    theirs = [waits(watch, client=OTHER) for _ in range(100)]
    await true_soon(lambda: ticks.waiting)
    assert (watch.looks, watch.waiting) == (1, 300)
    await tell(office)
    ticks.go_on()
    assert all(await asyncio.gather(*mine))
    await true_soon(lambda: ticks.waiting)
    assert watch.looks == 3, "one that saw that there is something without a place, and one that saw its place"
    assert watch.waiting == 100 and not any(each.done() for each in theirs)


async def test_what_got_its_place_while_nobody_looked_is_seen(office: BoxOffice, watch: Watch, ticks: Ticks) -> None:
    """Who comes to wait while others do has read less far than the last look saw: it is looked once more from there."""
    ticks.free = False
    early = waits(watch)
    await true_soon(lambda: ticks.waiting)
    await tell(office, OTHER)
    await tell(office, OTHER)
    await office.notices.number()
    ticks.go_on()
    await true_soon(lambda: ticks.waiting)  # the look went by both
    late = waits(watch, client=OTHER, position=1)
    ticks.go_on()
    assert await late
    assert not early.done()


async def test_a_commit_that_took_long_is_seen_behind_those_that_overtook_it(office: BoxOffice, watch: Watch) -> None:
    """Its notice was written before theirs, and gets its place after them."""
    async with office.database.reader() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await write(slow, CLIENT, TYPE, {"reason": "slow"})
        await tell(office, OTHER)
        await office.notices.number()
        head = await office.notices.head()
        waiting = waits(watch, position=head.position)
        await true_soon(lambda: watch.looks > 3)
        assert not waiting.done()
        await transaction.commit()
        assert await waiting


async def test_only_what_is_wanted_wakes(office: BoxOffice, watch: Watch) -> None:
    """By its type; without types anything does."""
    some, both, everything = waits(watch, ANOTHER), waits(watch, ANOTHER, TYPE), waits(watch)
    await tell(office)
    assert await both and await everything
    assert not some.done()
    await tell(office, kind=ANOTHER)
    assert await some


async def test_who_waits_for_long_enough_waits_no_longer(watch: Watch) -> None:
    assert await waits(watch, most_s=0.01) is False
    assert await waits(watch, most_s=-1) is False
    assert watch.waiting == 0


async def test_who_has_gone_is_forgotten(watch: Watch) -> None:
    gone, there = waits(watch), waits(watch)
    await true_soon(lambda: watch.waiting == 2)
    gone.cancel()
    await true_soon(lambda: watch.waiting == 1)
    assert not there.done()


async def test_a_process_that_stops_lets_everybody_go(watch: Watch) -> None:
    """At once, and lets nobody begin to wait."""
    waiting = [waits(watch), waits(watch, client=OTHER)]
    await true_soon(lambda: watch.waiting == 2)
    watch.end()
    assert await asyncio.gather(*waiting) == [False, False]
    assert await waits(watch) is False


async def test_a_look_that_fails_is_made_again(
    office: BoxOffice, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From where it would have begun: nobody misses anything."""
    fetch, failed = office.database.fetch, []

    async def away(query: str, *values: Any) -> Any:
        if len(failed) < 3:
            failed.append(query)
            raise asyncpg.ConnectionDoesNotExistError("gone")
        return await fetch(query, *values)

    await tell(office)
    await office.notices.number()
    monkeypatch.setattr(office.database, "fetch", away)
    assert await waits(watch)
    assert len(failed) == 3
