"""The shop at the box office itself, without HTTP: books, holds, pays, and reads both stores and the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from boxoffice import ids
from boxoffice.admission.forms import Admitted
from boxoffice.errors import BoxOfficeError
from boxoffice.gateway.base import Found
from boxoffice.gateway.simulator.simulator import Simulator
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.store import NewTier
from boxoffice.stores import keys
from boxoffice.stores.record import Record, unpack
from boxoffice.wire.hold_requests import ChangeRequest
from boxoffice.wire.render import BookingView
from tests.conftest import counters, eventually, settle_all
from tests.support.checks import check_at_rest
from tests.support.shop.orders import CLIENT, card, lines_of, order, tier_of

__all__ = ["Died", "Till", "book", "book_many", "first_sale", "record_of", "status_of"]


async def first_sale(office: BoxOffice) -> EventView:
    """A shop and ten tickets, in an office that a test opened itself."""
    await office.access.create_client("Shop", client_id=CLIENT)
    return await office.store.create_event(
        CLIENT, "Concert", datetime.now(UTC) + timedelta(days=30), "USD", [NewTier("GA", 1_000, 10)]
    )


async def book(
    office: BoxOffice, event: EventView, token: str | None = "tok_ok", *, key: str | None = None, client: str = CLIENT,
    customer: str = "ada", **how: Any,
) -> Admitted:  # fmt: skip
    """Admit one booking: `await book(office, event, GA=2)`, under a new key unless one is given; held without a token."""
    wanted = order(event, token, customer=customer, **how)
    return await office.admission.book(client, wanted, ids.digest(key or ids.short_id()))


async def book_many(office: BoxOffice, event: EventView, count: int, **how: Any) -> list[str]:
    """Ids of so many bookings by as many customers, all of which are admitted."""
    answers = await asyncio.gather(
        *(book(office, event, customer=f"c{n}", **how) for n in range(count)), return_exceptions=True
    )
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, BoxOfficeError):
            raise answer
    return [answer.booking_id for answer in answers if isinstance(answer, Admitted)]


async def record_of(office: BoxOffice, booking: str) -> Record | None:
    """The booking in Redis."""
    raw = await office.redis.get(keys.booking(ids.shard_of(booking), booking))
    return unpack(booking, raw) if raw is not None else None


async def status_of(office: BoxOffice, booking: str) -> str | None:
    """The booking in PostgreSQL: its status, with the failure if there is one."""
    row = await (await office.pool()).fetchrow("SELECT status, failure_code FROM bookings WHERE id = $1::uuid", booking)
    return None if row is None else row["status"] + (f" {row['failure_code']}" if row["failure_code"] else "")


class Died(BaseException):
    """The end of a worker, played in this process: nothing of ours catches it. (SystemExit in a task ends the loop.)"""


@dataclass
class Till:
    """One shop at one event."""

    office: BoxOffice
    event: EventView
    numbers: Any = field(default_factory=lambda: count(1))

    @property
    def gateway(self) -> Simulator:
        """The simulator."""
        assert isinstance(self.office.gateway, Simulator)
        return self.office.gateway

    async def book(self, token: str | None = "tok_ok", *, key: str | None = None, **how: Any) -> str:
        """A booking's id: `await till.book(GA=2)`. Without a token it is a hold."""
        admitted = await book(self.office, self.event, token, key=key or f"key-{next(self.numbers)}", **how)
        return admitted.booking_id

    async def hold(self, *, hold_s: int | None = None, access_code: str = "", **tiers: int) -> str:
        """Tickets set aside."""
        return await self.book(None, hold_s=hold_s, access_code=access_code, **tiers)

    async def pay(self, booking: str, token: str = "tok_ok", *, key: str | None = None) -> tuple[Record, bool]:
        """A payment of a hold, under a new key unless one is given."""
        key = key or f"pay-{next(self.numbers)}"
        paid = await self.office.holds.pay(CLIENT, booking, card(token), ids.digest(key))
        return paid.record, paid.replayed

    async def change(
        self, booking: str, *, key: str | None = None, expected: int | None = None, client: str = CLIENT, **tiers: int
    ) -> tuple[BookingView, bool]:
        """Other items for a hold, under a new key unless one is given: `await till.change(hold, GA=1)`."""
        wanted = ChangeRequest(lines_of(self.event, **tiers), expected)
        key = key or f"change-{next(self.numbers)}"
        return await self.office.hold_changes.change(client, booking, wanted, ids.digest(key))

    async def cancel(self, booking: str) -> str:
        """Its status afterwards."""
        return (await self.office.cancellations.cancel(CLIENT, booking)).status

    async def refund(self, booking: str, key: str = "refund", **tiers: int) -> Any:
        """Some tickets, or all."""
        items = {tier_of(self.event, code): quantity for code, quantity in tiers.items()} or None
        return await self.office.refunds.refund(CLIENT, booking, ids.digest(key), items, "test")

    # ------------------------------------------------------------------ the worker

    async def drain(self) -> None:
        """One pass of settlement over what is due, with what the gateway took a moment to say."""
        for settlement in self.office.settlements:
            await settlement.drain()
            if settlement.slow.tasks:
                await asyncio.wait(settlement.slow.tasks, timeout=10)

    async def rest_bookings(self) -> None:
        """Settle until nothing is pending; what is due at the gateway stays due."""
        await settle_all(self.office)

    async def rest(self) -> None:
        """Settle until nothing is pending and nothing is due."""
        await settle_all(self.office)
        await self.pump()

    async def at_rest(self, *bookings: str) -> None:
        """Everything is settled and paid, and the invariants hold: of these bookings, and of all stock and money."""
        await settle_all(self.office)
        await self.age_payments()
        await self.pump()
        await check_at_rest(self.office, bookings)

    async def pump(self) -> None:
        """Work off what is due at the gateway until there is nothing left."""

        async def done() -> bool:
            await self.office.pump.work_given()
            await self.office.pump.work_outbox()
            await self.drain()
            return not await self.fetch(
                "SELECT 1 FROM payments WHERE due IS NOT NULL UNION ALL SELECT 1 FROM refunds WHERE status = 'due'"
                " UNION ALL SELECT 1 FROM looks"
            )

        await self.sooner()
        await eventually(self.hurrying(done))

    async def pump_once(self) -> None:
        """Work off what is due now, with whatever is due later brought forward."""
        await self.office.pump.work_given()
        await self.sooner()
        await self.office.pump.work_outbox()

    def hurrying(self, check: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
        """The check, with everything due at the gateway due now."""

        async def hurried() -> Any:
            await self.sooner()
            return await check()

        return hurried

    async def sooner(self) -> None:
        """Whatever is due later is due now: no test waits for a backoff or a lease."""
        pool = await self.office.pool()
        await pool.execute("UPDATE captures SET leased_until = now()")
        await pool.execute("UPDATE payments SET due_at = now(), leased_until = NULL WHERE due_at IS NOT NULL")
        await pool.execute("UPDATE refunds SET due_at = now(), leased_until = NULL WHERE status = 'due'")
        await pool.execute("UPDATE looks SET due_at = now(), leased_until = NULL")

    async def age_payments(self) -> None:
        """A day has passed since every payment: what the gateway does not know by now it will never know."""
        await (await self.office.pool()).execute("UPDATE payments SET created_at = created_at - interval '25 hours'")

    async def claimable(self, booking: str) -> None:
        """A pending booking may be claimed now, whatever its retry or lease."""
        shard = ids.shard_of(booking)
        await self.office.redis.zadd(keys.pending(shard), {booking: 1}, xx=True)

    async def look_again(self, booking: str) -> None:
        """Settle a pending booking once more, now."""
        await self.claimable(booking)
        await self.drain()

    async def time_is_up(self, booking: str) -> None:
        """The hold's deadline has passed, in its record and in the deadlines."""
        record = await self.record(booking)
        assert record is not None
        shard = ids.shard_of(booking)
        record.deadline_ms = 1
        await self.office.redis.set(keys.booking(shard, booking), record.pack(), keepttl=True)
        await self.office.redis.zadd(keys.deadlines(shard), {booking: 1}, xx=True)
        await (await self.office.pool()).execute(
            "UPDATE bookings SET expires_at = to_timestamp(0.001) WHERE id = $1", booking
        )

    # ------------------------------------------------------------------ looking

    async def record(self, booking: str) -> Record | None:
        """As Redis has it."""
        return await record_of(self.office, booking)

    async def state(self, booking: str) -> str:
        """The letter in Redis, and the word in PostgreSQL (`-` when it has no row)."""
        record = await self.record(booking)
        rows = await self.fetch("SELECT status FROM bookings WHERE id = $1", booking)
        return f"{record.state if record else '-'} {rows[0][0] if rows else '-'}"

    async def left(self, code: str) -> tuple[int, int, int]:
        """Available, held, sold; they add up."""
        found = await counters(self.office, self.event, code)
        return found.available, found.held, found.sold

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Rows of PostgreSQL."""
        return await (await self.office.pool()).fetch(query, *args)

    async def payments(self, booking: str) -> list[str]:
        """`status/due` of each attempt, oldest first."""
        rows = await self.fetch(
            "SELECT status, due FROM payments WHERE booking_id = $1 ORDER BY created_at, payment_key", booking
        )
        return [f"{row['status']}/{row['due'] or '-'}" for row in rows]

    async def payment(self, booking: str) -> Found:
        """The gateway's own record of the booking's one payment."""
        (found,) = await self.at_gateway(booking)
        return found

    async def at_gateway(self, booking: str) -> list[Found]:
        """The gateway's own records of a booking's payments."""
        return [record.payment async for record in self.gateway.records() if record.booking_id == booking]

    async def customer_acts(self, booking: str) -> None:
        """The customer goes through 3-D Secure."""
        record = await self.record(booking)
        assert record is not None
        await self.gateway.complete_action(record.payment_key)
