"""When an event that was called off is finished, and what a report says of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from boxoffice.books import call_offs
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.states import CALLED_OFF
from tests.conftest import SHARD, SaleMaker, settle_all
from tests.support.shop.office import book
from tests.support.shop.orders import CLIENT, OTHER


async def called_off(office: BoxOffice, event: EventView, booked: int = 1, client: str = CLIENT) -> list[str]:
    """The event is called off with so many bookings as they are, all cancelled."""
    made = [
        (await book(office, event, client=client, customer=f"c{n}", GA=2)).booking_id for n in range(booked)
    ]  # fmt: skip
    await settle_all(office)
    pool = await office.pool()
    await pool.execute("UPDATE bookings SET status = 'cancelled' WHERE event_id = $1", event.id)
    async with pool.acquire() as session, session.transaction():
        await call_offs.begin(session, event.id, [tier.id for tier in event.tiers], f"why {event.id}", "eve")
    return made


@pytest.mark.parametrize(
    ("status", "done"),
    [
        ("confirmed", False), ("pending", False), ("held", False), ("failed", True), ("expired", True), ("cancelled", True),
    ],
)  # fmt: skip
async def test_it_is_finished_when_nothing_of_it_is_confirmed_or_undecided(
    office: BoxOffice, open_sale: SaleMaker, status: str, done: bool
) -> None:
    """Whatever is confirmed of another event; and once."""
    mine, other = await open_sale(GA=10), await open_sale(GA=10)
    ours, theirs = await called_off(office, mine, 2), await called_off(office, other)
    pool = await office.pool()
    await pool.execute("UPDATE bookings SET status = $2 WHERE id = $1", ours[1], status)
    await pool.execute("UPDATE bookings SET status = 'confirmed' WHERE id = $1", theirs[0])
    assert await call_offs.finish(office.database, mine.id) is done
    finished = await pool.fetch("SELECT event_id FROM call_offs WHERE finished_at IS NOT NULL")
    assert [row["event_id"] for row in finished] == ([mine.id] if done else [])
    assert await call_offs.unfinished(pool, SHARD) == [event.id for event in (mine, other)][done:]
    assert not await call_offs.finish(office.database, mine.id), "it was finished before, or is not now"


async def test_each_shard_has_its_own_to_do_the_first_first(office: BoxOffice, open_sale: SaleMaker) -> None:
    events = [await open_sale(shard=shard, GA=10) for shard in (SHARD, 0, SHARD)]
    for event in reversed(events):
        await called_off(office, event, 0)
    pool = await office.pool()
    assert await call_offs.unfinished(pool, SHARD) == [events[2].id, events[0].id]
    assert await call_offs.unfinished(pool, 0) == [events[1].id]


async def test_an_event_that_is_called_off_sells_nothing_more(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Of each of its tiers, and of no other event's."""
    mine, other = await open_sale(GA=10, VIP=4), await open_sale(GA=10)
    await called_off(office, mine, 0)
    rows = await (await office.pool()).fetch("SELECT tier_id, called_off FROM inventory")
    assert {row["tier_id"]: row["called_off"] for row in rows} == {
        **{tier.id: True for tier in mine.tiers}, **{tier.id: False for tier in other.tiers},
    }  # fmt: skip


async def test_a_report_is_of_its_own_event(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Repeats are no bookings, refunds of another reason none of it; who may not know others' refusals is not told."""
    mine, other = await open_sale(GA=20), await open_sale(GA=20)
    ours, theirs = await called_off(office, mine, 4), await called_off(office, other, 2, OTHER)
    pool = await office.pool()
    assert await call_offs.read(pool, "nothing00000", None) is None
    await pool.execute("UPDATE bookings SET duplicate_of = $2 WHERE id = $1", ours[3], ours[0])
    await pool.execute("UPDATE bookings SET status = 'failed' WHERE id = $1", ours[2])
    await pool.execute("UPDATE bookings SET client_id = $2 WHERE id = $1", ours[1], OTHER)
    refunds: list[tuple[str, str, str, int, str]] = [
        ("b", ours[0], "owed", 20, CALLED_OFF), ("a", ours[1], "owed", 30, CALLED_OFF), ("c", ours[0], "due", 5, CALLED_OFF),
        ("d", ours[0], "due", 7, CALLED_OFF), ("e", ours[0], "due", 11, "another reason"),
        ("f", theirs[0], "due", 13, CALLED_OFF), ("g", theirs[1], "owed", 17, CALLED_OFF),
    ]  # fmt: skip
    for number, (key, booking, status, cents, reason) in enumerate(refunds):
        await pool.execute(
            "INSERT INTO refunds (refund_key, booking_id, amount_cents, currency, reason, status, failure_code, owed_since)"
            " VALUES ($1, $2, $3, 'USD', $4, $5, 'code ' || $1, now() + $6 * interval '1 minute')",
            key, booking, cents, reason, status, number,
        )  # fmt: skip
    report = await call_offs.read(pool, mine.id, None)
    assert report is not None
    assert (report.reason, report.called_off_by, report.finished_at) == (f"why {mine.id}", "eve", None)
    assert json.loads(report.bookings) == {"cancelled": 2, "failed": 1}
    assert json.loads(report.refunds) == {"owed": {"refunds": 2, "cents": 50}, "due": {"refunds": 2, "cents": 12}}
    told: list[dict[str, Any]] = [
        {"booking_id": booking, "amount_cents": cents, "currency": "USD", "code": f"code {key}"}
        for key, booking, _, cents, _ in refunds[:2]
    ]
    assert report.refused == told, "those that are owed longest first"
    for client, refused in ((CLIENT, told[:1]), (OTHER, told[1:]), ("nobody", [])):
        theirs_alone = await call_offs.read(pool, mine.id, client)
        assert theirs_alone is not None and theirs_alone.refused == refused
