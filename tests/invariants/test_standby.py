"""A standby that lagged is promoted in the middle of a sale: what its shops were told stays true, or they are told otherwise.

Real servers, real workers. Afterwards Redis is restarted and reconciled, as somebody would who has just read the runbook.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from boxoffice import ids
from boxoffice.errors import BoxOfficeError, CannotRun
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.store import NewTier
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores.postgres import TRANSIENT, migrate
from ops.stack.servers import Servers, temporary_servers
from ops.stack.stack import Stack
from ops.stack.standby import Standby
from tests.conftest import CLIENT, KEY, SHARD, eventually
from tests.invariants.conftest import LEASE_MS, at_rest
from tests.support.checks import check_at_rest
from tests.support.shop.office import book
from tests.support.waiting import pace

CAPACITY = 240
RATE = 60
"""Bookings a second."""

AWAY = (BoxOfficeError, RedisError, OSError, *TRANSIENT)


@pytest.fixture
def own_servers() -> Iterator[Servers]:
    """Of this test alone: one of them changes its data."""
    with temporary_servers() as servers:
        migrate(Settings(redis_url=servers.redis_url, database_url=servers.database_url))
        yield servers


@pytest.fixture
async def shop(own_servers: Servers, tmp_path: Path) -> AsyncIterator[Shop]:
    settings = Settings(
        redis_url=own_servers.redis_url, database_url=own_servers.database_url, data_dir=tmp_path, log_level="error"
    )
    async with open_box_office(settings, redis_retries=3) as office:
        await office.access.create_client("Shop", client_id=CLIENT)
        await office.access.add_api_key(CLIENT, KEY)
        await office.guards[SHARD].tick()
        starts_at = datetime.now(UTC) + timedelta(days=30)
        event = await office.store.create_event(CLIENT, "Concert", starts_at, "USD", [NewTier("GA", 1_000, CAPACITY)])
        yield Shop(office, event)


@dataclass
class Shop:
    """Books, reads, cancels and refunds, and remembers what it was told."""

    office: BoxOffice
    event: EventView
    accepted: dict[str, int] = field(default_factory=dict)
    """Booking to its tickets."""
    told: dict[str, str] = field(default_factory=dict)
    """The last that it read."""
    once_confirmed: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    """It was told that they are cancelled or refunded in part."""
    over: bool = False

    async def customer(self, number: int) -> None:
        tickets = 1 + number % 2
        key = f"key-{number}"
        while not self.over:
            try:
                card = "card_declined" if number % 11 == 5 else "ok"
                wanted = {"GA": tickets}
                admitted = await book(
                    self.office, self.event, key=key, customer=f"c{number}", token=f"tok_{card}", **wanted
                )
                break
            except BoxOfficeError as error:
                if type(error).__name__ == "SoldOut":
                    return
                await pace(0.05)
            except AWAY:
                await pace(0.05)
        else:
            return
        booking = admitted.booking_id
        self.accepted[booking] = tickets
        await self.read_until_final(booking)
        if number % 7 == 3 and self.told.get(booking) == "confirmed":
            await self.give_back(booking, whole=number % 2 == 0 or tickets == 1)

    async def read_until_final(self, booking: str) -> None:
        while not self.over:
            with contextlib.suppress(*AWAY):
                if (await self.read(booking)) not in ("pending", "held"):
                    return
            await pace(0.03)

    async def has_read(self, confirmed: int) -> bool:
        return len(self.once_confirmed) >= confirmed

    async def read(self, booking: str) -> str:
        status = (await self.office.bookings.get(CLIENT, booking)).view.status
        self.told[booking] = status
        if status == "confirmed":
            self.once_confirmed.add(booking)
        return status

    async def give_back(self, booking: str, *, whole: bool) -> None:
        while not self.over:
            with contextlib.suppress(*AWAY):
                if whole:
                    await self.office.cancellations.cancel(CLIENT, booking)
                else:
                    tier = self.event.tiers[0].id
                    await self.office.refunds.refund(CLIENT, booking, ids.digest("part"), {tier: 1}, "test")
                self.cancelled.add(booking)
                return
            await pace(0.05)

    async def crowd(self, seconds: float) -> list[asyncio.Task[None]]:
        """At the rate, for so long."""
        tasks = []
        for _ in range(int(seconds * RATE)):
            tasks.append(asyncio.create_task(self.customer(len(self.accepted) + len(tasks) + 10_000 * self.crowds)))
            await pace(1 / RATE)
        self.crowds += 1
        return tasks

    crowds: int = 0


@pytest.mark.timeout(240)
@pytest.mark.parametrize("lag_s", [0.15, 0.9])
async def test_a_standby_that_lagged_is_promoted(
    own_servers: Servers, shop: Shop, tmp_path: Path, lag_s: float
) -> None:
    office = shop.office
    standby = Standby(own_servers.postgres, own_servers.home)
    worker = {"BOXOFFICE_WORKER__LEASE_MS": str(LEASE_MS), "BOXOFFICE_WORKER__SWEEP_MS": "200"}
    with Stack(tmp_path, redis_url=own_servers.redis_url, database_url=own_servers.database_url) as stack:
        standby.start()
        for _ in range(2):
            stack.spawn_worker(env=worker)
        customers = await shop.crowd(1.5)
        await eventually(lambda: shop.has_read(20), timeout_s=60)

        standby.fall_behind()
        customers += await shop.crowd(lag_s)
        standby.take_over()
        customers += await shop.crowd(0.5)
        own_servers.restart_redis()
        await reconciled(office)
        customers += await shop.crowd(3)
        async with asyncio.timeout(60):
            await asyncio.gather(*customers)
        await at_rest(office, timeout_s=60)
        await eventually(lambda: fine(office), timeout_s=30)
        for booking in shop.accepted:
            await shop.read_until_final(booking)
        await check(shop)


async def reconciled(office: BoxOffice) -> None:
    """`boxoffice reconcile --fix`, as soon as it can be done."""
    repair = office.repair

    async def done() -> bool:
        with contextlib.suppress(CannotRun, *AWAY):
            await repair.reconcile(fix=True)
            return True
        return False

    await eventually(done, timeout_s=30)


async def fine(office: BoxOffice) -> bool:
    return await office.guards[SHARD].tick() == "fine" and bool(await office.redis.exists(keys.gate(SHARD)))


async def check(shop: Shop) -> None:
    """Never more told confirmed than there are; who was told confirmed is, or was told otherwise and has his money."""
    pool = await shop.office.pool()
    rows = {
        row["id"]: row
        for row in await pool.fetch("SELECT b.id::text AS id, b.status, b.failure_code, sum(i.quantity - i.refunded)::int AS "
                                    "tickets FROM bookings b JOIN booking_items i ON i.booking_id = b.id GROUP BY b.id")
    }  # fmt: skip
    assert sum(row["tickets"] for row in rows.values() if row["status"] == "confirmed") <= CAPACITY
    told_so = [booking for booking in shop.once_confirmed if shop.told[booking] == "confirmed"]
    wrong = [dict(rows[booking]) for booking in told_so if rows[booking]["status"] != "confirmed"]
    assert not wrong
    for booking in shop.once_confirmed - set(told_so):
        assert rows[booking]["status"] == "cancelled" or rows[booking]["failure_code"] == "withdrawn"
    for booking in shop.cancelled:
        row = rows[booking]
        assert row["status"] == "cancelled" or row["tickets"] < shop.accepted[booking]
    assert Counter(shop.told.values())["confirmed"] > CAPACITY / 3
    await check_at_rest(shop.office, shop.accepted)
