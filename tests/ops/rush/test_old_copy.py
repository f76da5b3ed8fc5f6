"""An older copy of Redis's file, as a rush puts it back: what is lost is known beforehand, and is what the promise says."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path

import pytest

from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from boxoffice.stores.record import Record
from ops.rush.old_copy import OldCopy
from ops.stack.servers import Servers
from tests.conftest import SaleMaker, check_run, counters, eventually, load_all
from tests.support.shop.office import Till, record_of


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> Till:
    event = await open_sale(GA=100)
    await load_all(office)
    await office.catalogue.refresh()
    return Till(office, event)


class Copy:
    """One that is taken, and what it was told to forget."""

    def __init__(self, servers: Servers, settings: Settings) -> None:
        self.forgotten: set[str] = set()
        self.resumed = False
        self._copy = OldCopy(servers.redis, settings, self.forgotten.update)
        self._servers = servers

    async def take(self) -> None:
        await asyncio.to_thread(self._copy.take)

    async def quiet(self) -> list[bool]:
        """At three looks in a row."""
        return [await asyncio.to_thread(self._copy.quiet) for _ in range(3)]

    async def put_back(self) -> int:
        def resume() -> None:
            assert not self._servers.redis.alive, "they knock while there is nobody"
            self.resumed = True

        return await asyncio.to_thread(self._copy.put_back, resume)


@pytest.fixture
def copy(servers: Servers, settings: Settings) -> Copy:
    return Copy(servers, settings)


async def past(record: Record | None) -> bool:
    """Whether its millisecond is over: what was made in that of the copy may be in the copy or not."""
    assert record is not None
    return time.time_ns() // 1_000_000 > record.admitted_ms


async def test_unpaid_holds_made_since_are_all_that_is_lost(till: Till, copy: Copy, servers: Servers) -> None:
    """Held still, cancelled, or ended. Whatever somebody has tried to pay is in PostgreSQL by then, and comes back; a hold
    that is older is what it was."""
    office = till.office
    before = [await till.hold(GA=1), await till.hold(GA=1), await till.hold(GA=1)]
    await eventually(partial(past, await record_of(office, before[-1])))
    await copy.take()
    held, cancelled = await till.hold(GA=1), await till.hold(GA=1)
    await till.cancel(cancelled)
    tried, paid, booked = await till.hold(GA=1), await till.hold(GA=1), await till.book(GA=1)
    await till.pay(tried, "tok_card_declined")
    await till.pay(paid)
    await till.pay(before[0])
    await till.cancel(before[2])
    assert await copy.quiet() == [False] * 3, "nobody has settled them yet"
    await till.drain()
    assert await copy.quiet() == [False, True, True], "twice in a row: what was on its way has arrived"

    assert await copy.put_back() == 2

    assert copy.resumed
    assert copy.forgotten == {held, cancelled}
    assert [await record_of(office, booking) for booking in (held, cancelled, paid, booked)] == [None] * 4
    await check_run(office)
    records = [await record_of(office, booking) for booking in (tried, paid, booked, *before)]
    assert [record and record.state for record in records] == ["H", "C", "C", "C", "H", "H"]
    assert await record_of(office, held) is None
    counted = await counters(office, till.event, "GA")
    assert (counted.sold, counted.held) == (3, 3)
    await till.at_rest(paid, booked, before[0])


async def test_who_waits_for_the_bank_is_known_to_postgresql_and_need_not_be_waited_for(till: Till, copy: Copy) -> None:
    await copy.take()
    hold = await till.hold(GA=2)
    await till.pay(hold, "tok_3ds")
    assert await copy.quiet() == [False] * 3
    await till.drain()

    assert await copy.quiet() == [False, True, True]
    assert await copy.put_back() == 0

    await check_run(till.office)
    record = await record_of(till.office, hold)
    assert record is not None
    assert (record.state, record.attempts) == ("P", 1)


async def test_what_comes_between_two_looks_is_seen(till: Till, copy: Copy) -> None:
    await copy.take()
    assert (await copy.quiet())[-1]

    await till.book(GA=1)
    assert await copy.quiet() == [False] * 3


async def test_while_redis_is_away_nothing_is_quiet(till: Till, copy: Copy, servers: Servers, tmp_path: Path) -> None:
    await copy.take()
    await asyncio.to_thread(servers.kill_redis)
    try:
        assert await copy.quiet() == [False] * 3
    finally:
        await asyncio.to_thread(servers.restart_redis)
    assert await copy.quiet() == [False, True, True]
