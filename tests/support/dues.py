"""Two bookings of which the gateway is owed a call, their rows, and a gateway that answers as it is told to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from boxoffice.gateway.base import (
    Unknown,
)
from boxoffice.gateway.webhooks import GatewayEvent
from tests.support.shop.office import Till

CALLS = {"capture": "capture_batch", "void": "void", "refund": "refund", "look": "reversals"}
TABLES = {"capture": "payments", "void": "payments", "refund": "refunds", "look": "looks"}


async def two_due(till: Till, kind: str) -> tuple[str, str]:
    """Payment keys of two bookings of which this is due, since an hour."""
    bookings = [await till.book(GA=1), await till.book(GA=1)]
    pool = await till.office.pool()
    if kind in ("capture", "void"):
        await till.drain()
        till.office.pump.given.clear()
        await pool.execute("DELETE FROM captures")
        await pool.execute("UPDATE payments SET due = $1, due_at = now()", kind)
        if kind == "void":
            await pool.execute("UPDATE bookings SET status = 'failed'")
            await pool.execute("UPDATE inventory SET sold = 0")
    else:
        await till.rest()
    rows = await till.fetch("SELECT payment_key FROM payments ORDER BY booking_id = $1 DESC", bookings[0])
    first, second = [row[0] for row in rows]
    if kind == "refund":
        for booking in bookings:
            await till.cancel(booking)
    if kind == "look":
        for number, key in enumerate((first, second)):
            await till.office.webhooks.receive("simulator", GatewayEvent(f"evt_{number}", "refunded", key, None))
    since = "" if kind == "look" else ", due_since = now() - interval '1 hour'"
    where = "" if kind == "look" else " WHERE due_at IS NOT NULL"
    await pool.execute(
        f"UPDATE {TABLES[kind]} SET due_at = now() - interval '1 hour'{since}, leased_until = NULL{where}"
    )
    return first, second


async def row_of(till: Till, kind: str, payment_key: str) -> dict[str, Any]:
    """Its row, and how many seconds it is until it is due, and until its lease ends."""
    (row,) = await till.fetch(
        "SELECT *, extract(epoch FROM due_at - now())::float AS due_s,"
        f" extract(epoch FROM leased_until - now())::float AS lease_s FROM {TABLES[kind]} WHERE payment_key = $1",
        payment_key,
    ) or [{}]  # fmt: skip
    return dict(row)


async def stored(till: Till, kind: str, payment_key: str) -> dict[str, Any]:
    """Its row as it stands."""
    found = await till.fetch(f"SELECT * FROM {TABLES[kind]} WHERE payment_key = $1", payment_key)
    return dict(found[0]) if found else {}


async def paused(till: Till, kind: str, payment_key: str, least_s: float, most_s: float) -> bool:
    """Work off what is due; whether this row is due so many seconds later than it was asked for, however long that took."""
    pool = await till.office.pool()
    before = await pool.fetchval("SELECT clock_timestamp()")
    await till.office.pump.work_outbox()
    after = await pool.fetchval("SELECT clock_timestamp()")
    due_at = (await stored(till, kind, payment_key))["due_at"]
    return bool(before + timedelta(seconds=least_s) <= due_at <= after + timedelta(seconds=most_s))


class Gateway:
    """Takes the place of one of the gateway's calls: notes what is asked, and answers as it is told to."""

    def __init__(self, till: Till, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        self.asked: list[str] = []
        self.answer: Callable[[str], Awaitable[Any]] = self._silent
        self._real = getattr(till.gateway, CALLS[kind])
        self._many = kind == "capture"
        self._second = kind == "refund"
        monkeypatch.setattr(till.gateway, CALLS[kind], self)

    async def __call__(self, *args: Any) -> Any:
        if self._many:
            return [await self._one(request.payment_key, ([request],)) for request in args[0]]
        return await self._one(args[1] if self._second else args[0], args)

    async def _one(self, payment_key: str, args: tuple[Any, ...]) -> Any:
        self.asked.append(payment_key)
        answer = await self.answer(payment_key)
        if answer is not None:
            return answer
        real = await self._real(*args)
        return real[0] if self._many else real

    async def _silent(self, payment_key: str) -> Any:
        return Unknown("timeout")
