"""Whoever changes a sale may be killed between PostgreSQL and Redis: the change is there or it is not, and in both alike."""

from __future__ import annotations

import json
from typing import Any

import pytest

from boxoffice.errors import AccessCodeInvalid, SoldOut
from boxoffice.office import BoxOffice
from tests.conftest import KEY, SaleMaker, counters, eventually, load_all
from tests.invariants.conftest import Fork, at_rest, ends, working
from tests.support.checks import check_at_rest
from tests.support.shop.office import book
from tests.support.shop.orders import OTHER, tier_of

HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}


async def dies(fork: Fork, point: str, method: str, path: str, body: Any) -> None:
    """The API dies of this request."""
    text = "" if body is None else json.dumps(body)
    assert await ends(fork("ask", method, path, HEADERS, text, crash_at=point)) == "killed by SIGKILL"


@pytest.mark.parametrize("point", ["change_committed", "change_mirrored"])
async def test_a_pause_that_nobody_mirrored_is_mirrored_by_a_worker(
    office: BoxOffice, open_sale: SaleMaker, fork: Fork, point: str
) -> None:
    """S1, S2. Committed, and not mirrored or not marked."""
    await load_all(office)
    event = await open_sale(GA=10)
    await dies(fork, point, "POST", f"/v1/events/{event.id}/pause", None)
    pool = await office.pool()
    assert await pool.fetchval("SELECT status FROM events") == "paused"
    assert await pool.fetchval("SELECT mirrored < version FROM events")

    async def mirrored() -> bool:
        return bool(await pool.fetchval("SELECT mirrored = version FROM events"))

    async with working(office):
        await eventually(mirrored)
    assert (await office.loader.publish(event.id)).status == "paused"
    with pytest.raises(Exception, match="paused"):
        await book(office, event, GA=1)
    assert [row["action"] for row in await office.control.history(event.id)] == ["pause", "create"]


@pytest.mark.parametrize("point", ["change_committed", "change_mirrored"])
async def test_codes_that_nobody_mirrored_are_mirrored_by_a_worker(
    office: BoxOffice, open_sale: SaleMaker, fork: Fork, point: str
) -> None:
    """S1, S2. Made, and then revoked: whoever does it dies before Redis has heard of it, or before that is noted."""
    await load_all(office)
    event = await open_sale(GA=10)
    pool, code = await office.pool(), "FANS-OF-ADA-2030"

    async def mirrored() -> bool:
        return bool(await pool.fetchval("SELECT mirrored = version FROM events"))

    path = f"/v1/events/{event.id}/access-codes"
    await dies(fork, point, "POST", path, {"codes": [code], "tickets": 9})
    async with working(office):
        await eventually(mirrored)
    booked = [(await book(office, event, GA=2, access_code=code)).booking_id]
    (made,) = await office.codes.page(event.id)
    await dies(fork, point, "POST", f"{path}/{made['id']}/revoke", None)
    async with working(office):
        await eventually(mirrored)
        await at_rest(office)
    with pytest.raises(AccessCodeInvalid, match="revoked"):
        await book(office, event, GA=1, access_code=code)
    await check_at_rest(office, booked)


@pytest.mark.parametrize("point", ["change_committed", "change_mirrored", "allocation_mirrored"])
async def test_what_was_set_aside_or_released_is_so_in_both_stores_after_a_crash(
    office: BoxOffice, open_sale: SaleMaker, fork: Fork, point: str
) -> None:
    """S1, S2. Nobody else gets what is reserved, and everybody what was released."""
    await load_all(office)
    event = await open_sale(GA=10)
    pool, path = await office.pool(), f"/v1/events/{event.id}/allocations"

    async def mirrored() -> bool:
        return bool(await pool.fetchval("SELECT mirrored = version FROM events"))

    await dies(fork, point, "POST", path, {"tier_id": tier_of(event, "GA"), "shop": OTHER, "tickets": 6})
    async with working(office):
        await eventually(mirrored)
    with pytest.raises(SoldOut):
        await book(office, event, GA=5)
    booked = [(await book(office, event, GA=4)).booking_id, (await book(office, event, GA=2, client=OTHER)).booking_id]
    (made,) = await office.allocations.page(event.id)
    assert (made["tickets"], made["used"], made["reserved"]) == (6, 2, 4)
    body = {"tickets": 3} if point == "allocation_mirrored" else {"tickets": None}
    await dies(fork, point, "POST", f"{path}/{made['id']}/release", body)
    async with working(office):
        await eventually(mirrored)
        await at_rest(office)
    left = 3 if point == "allocation_mirrored" else 4
    with pytest.raises(SoldOut):
        await book(office, event, GA=left + 1)
    booked.append((await book(office, event, GA=left)).booking_id)
    async with working(office):
        await at_rest(office)
    await check_at_rest(office, booked)


@pytest.mark.parametrize(
    ("point", "capacity"),
    [("change_committed", 20), ("change_committed", 5), ("capacity_taken", 5), ("moved", 20), ("moved", 5)],
)
async def test_a_capacity_is_the_same_in_both_stores_after_a_crash(
    office: BoxOffice, open_sale: SaleMaker, fork: Fork, point: str, capacity: int
) -> None:
    """S1, S3. What was taken in Redis and not committed is given back; what was committed is moved once."""
    await load_all(office)
    event = await open_sale(GA=10)
    booked = [(await book(office, event, GA=2)).booking_id]
    path = f"/v1/events/{event.id}/tiers/{tier_of(event, 'GA')}"
    await dies(fork, point, "PATCH", path, {"capacity": capacity})
    expected = 10 if point == "capacity_taken" else capacity
    pool = await office.pool()
    assert await pool.fetchval("SELECT total FROM inventory") == expected

    async def same() -> bool:
        return (await counters(office, event, "GA")).total == expected

    async with working(office):
        await eventually(same, timeout_s=20)
        await at_rest(office)
    assert (await office.reconcilers[event.shard].event(event.id, fix=False, deep=True)).word == "same"
    assert (await counters(office, event, "GA")).available == expected - 2
    await check_at_rest(office, booked)
