"""Workers die while an event is called off: the next one goes on, and everybody is refunded once."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any, Final

import pytest

from boxoffice.office import BoxOffice
from ops.rush.audit import audit
from ops.rush.report import lines_of_findings
from ops.rush.rest import wait_for_rest
from ops.stack.stack import Program
from tests.conftest import SaleMaker, counters, eventually, load_all
from tests.invariants.conftest import Fork, at_rest, ends, working
from tests.support.checks import check_at_rest
from tests.support.shop.office import book, book_many
from tests.support.waiting import pace

AT_ONCE: Final = 500
"""Bookings that come at the same time."""


@pytest.mark.parametrize("point", ["call_off_written", "call_off_committed"])
async def test_everybody_is_refunded_once_whoever_dies(
    office: BoxOffice, open_sale: SaleMaker, fork: Fork, point: str
) -> None:
    """450 bookings are three chunks; two workers die, each at its first."""
    await load_all(office)
    event = await open_sale(GA=1_000)
    booked = await book_many(office, event, 450, GA=1)
    async with working(office):
        await at_rest(office)
    await office.calling_off.call_off(event.id, "Rain")

    for _ in range(2):
        assert await ends(fork("work", crash_at=point)) == "killed by SIGKILL"
    pool = await office.pool()
    assert await pool.fetchval("SELECT count(*) FROM refunds") == (400 if point == "call_off_committed" else 0)

    async def finished() -> Any:
        return (await office.calling_off.report(event.id))["finished_at"]

    async with working(office):
        await eventually(finished, timeout_s=30)
        await at_rest(office)

    rows = await pool.fetchrow("SELECT count(*), count(DISTINCT booking_id), sum(amount_cents)::bigint FROM refunds")
    assert tuple(rows) == (450, 450, 450_000)
    counted = await counters(office, event, "GA")
    assert (counted.available, counted.sold) == (1_000, 0)
    await check_at_rest(office, booked)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
async def test_a_hundred_thousand_are_refunded_once_though_the_worker_is_killed_twice(
    office: BoxOffice, open_sale: SaleMaker, spawn: Callable[..., Program]
) -> None:
    """Killed wherever it happens to be, at a third and at two thirds. SOAK_BOOKINGS says otherwise how many."""
    count = int(os.environ.get("SOAK_BOOKINGS", "100000"))
    limit_s = 120 + count / 50
    await load_all(office)
    event = await open_sale(GA=count)
    pool = await office.pool()
    worker = spawn()
    for first in range(0, count, AT_ONCE):
        numbers = range(first, min(count, first + AT_ONCE))
        await asyncio.gather(*(book(office, event, customer=f"c{number}", GA=1) for number in numbers))
    await at_rest(office, timeout_s=limit_s)
    began = time.monotonic()
    await office.calling_off.call_off(event.id, "Rain")

    for refunded in (count // 3, 2 * count // 3):

        async def reached(least: int = refunded) -> bool:
            await pace(0.5)  # counting them takes a tenth of that, on the machine of the worker
            return int(await pool.fetchval("SELECT count(*) FROM refunds")) >= least

        await eventually(reached, timeout_s=limit_s)
        worker.kill()
        assert not (await office.calling_off.report(event.id))["finished_at"]
        worker = spawn()

    async def finished() -> Any:
        await pace(0.5)  # a report counts all bookings: asked for all the time it would keep a core busy
        return await pool.fetchval("SELECT finished_at FROM call_offs")

    await eventually(finished, timeout_s=limit_s)
    cancelled_s = time.monotonic() - began
    assert await wait_for_rest(office, limit_s, holds_too=True) == []
    print(
        f"{count} bookings: cancelled after {cancelled_s:.1f} s, all refunds paid after {time.monotonic() - began:.1f} s"
    )

    rows = await pool.fetchrow(
        "SELECT count(*), count(DISTINCT booking_id), count(*) FILTER (WHERE status = 'succeeded'), sum(amount_cents)::bigint"
        " FROM refunds"
    )
    assert tuple(rows) == (count, count, count, 1_000 * count)
    assert [kept.payment.refunded_cents async for kept in office.gateway.records()] == [1_000] * count
    findings = await audit(office)
    print("\n".join(lines_of_findings(findings)))
    assert findings.held
