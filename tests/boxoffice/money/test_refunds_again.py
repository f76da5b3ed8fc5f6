"""Refunds and cancellations that PostgreSQL forgot are made once more, from what Redis remembers of them."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice import ids
from boxoffice.books.moves import Note
from boxoffice.stores import keys
from tests.conftest import CLIENT, SHARD
from tests.support.shop.office import Till


async def sold(till: Till, **tiers: int) -> str:
    booking = await till.book(**tiers)
    await till.rest()
    return booking


def note(
    till: Till, booking: str, code: str = "", *, tier: str = "GA", quantity: int = 1, key: str = "one",
    cents: int = 1_000, fingerprint: str = "asked", whole: str = "",
) -> Note:  # fmt: skip
    (tier_id,) = (each.id for each in till.event.tiers if each.code == tier)
    return Note(booking, tier_id, quantity, key, cents, "why", code, fingerprint, whole)


async def refunds(till: Till) -> list[tuple[Any, ...]]:
    rows = await till.fetch(
        "SELECT refund_key, amount_cents::int, reason, fingerprint, status, currency FROM refunds ORDER BY refund_key"
    )
    return [tuple(row) for row in rows]


async def moves(till: Till) -> list[tuple[Any, ...]]:
    rows = await till.fetch(
        "SELECT t.code, m.sold_delta, m.owner, m.refund_key, m.event_id, m.booking_id::text FROM stock_moves m"
        " JOIN tiers t ON t.id = m.tier_id ORDER BY m.id"
    )
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("fingerprint", ["asked", ""])
async def test_a_refund_is_made_again_under_its_key(till: Till, fingerprint: str) -> None:
    """With its amount, its reason and what asked for it, if anything did; its tickets come back, and the pair is told."""
    booking, other = await sold(till, GA=3, VIP=1), await sold(till, GA=1)
    await till.office.redis.delete(keys.told(SHARD))
    lost = [note(till, booking, quantity=2, cents=2_000, fingerprint=fingerprint)]

    assert await till.office.refunds.again(booking, lost) == 1

    assert await refunds(till) == [("one", 2_000, "why", fingerprint or None, "due", "USD")]
    owner = ids.owners_of(ids.owner_digest(CLIENT, "ada"), None, CLIENT)
    assert await moves(till) == [("GA", -2, owner, "one", till.event.id, booking)]
    (last,) = await till.fetch("SELECT number, nonce FROM batches ORDER BY number DESC LIMIT 1")
    assert await till.office.redis.smembers(keys.told(SHARD)) == {b"%d:%d" % tuple(last)}  # type: ignore[misc]
    assert (await till.state(booking)).split()[1] == (await till.state(other)).split()[1] == "confirmed"
    assert await till.office.refunds.again(booking, lost) == 0, "it is there"
    assert len(await refunds(till)) == 1


async def test_no_more_tickets_come_back_than_there_are(till: Till) -> None:
    """Each refund takes from what those before it left; whoever gave back without money leaves no refund."""
    booking = await sold(till, GA=3)
    lost = [
        note(till, booking, quantity=2, key="one"),
        note(till, booking, quantity=2, key="two"),
        note(till, booking, quantity=1, key="", cents=0),
    ]
    assert await till.office.refunds.again(booking, lost) == 3
    assert [each[:1] + each[1:2] for each in await refunds(till)] == [("one", 1_000), ("two", 1_000)]
    assert [each[:2] + each[3:4] for each in await moves(till)] == [("GA", -2, "one"), ("GA", -1, "two")]
    (row,) = await till.fetch("SELECT quantity, refunded FROM booking_items")
    assert tuple(row) == (3, 3)


async def test_what_is_known_to_have_come_back_does_not_come_back_again(till: Till) -> None:
    """A refund that PostgreSQL still has took its tickets: another takes of the rest."""
    booking = await sold(till, GA=3)
    assert await till.office.refunds.again(booking, [note(till, booking, quantity=2, key="known")]) == 1
    assert await till.office.refunds.again(booking, [note(till, booking, quantity=3, key="lost")]) == 1
    assert [each[:2] + each[3:4] for each in await moves(till)] == [("GA", -2, "known"), ("GA", -1, "lost")]
    (row,) = await till.fetch("SELECT quantity, refunded FROM booking_items")
    assert tuple(row) == (3, 3)


@pytest.mark.parametrize(
    ("quantity", "code", "status"), [(3, "refunded", "cancelled"), (3, "", "confirmed"), (2, "refunded", "confirmed")]
)
async def test_what_ended_a_booking_ends_it_again(till: Till, quantity: int, code: str, status: str) -> None:
    """When nothing of it is left, with why it was cancelled."""
    booking = await sold(till, GA=3)
    await till.office.refunds.again(booking, [note(till, booking, code, quantity=quantity, cents=3_000)])
    (row,) = await till.fetch("SELECT status, failure_code FROM bookings")
    assert tuple(row) == (status, code if status == "cancelled" else None)


@pytest.mark.parametrize("status", ["cancelled", "failed"])
async def test_what_is_confirmed_no_more_gives_nothing_back(till: Till, status: str) -> None:
    booking = await sold(till, GA=1)
    await (await till.office.pool()).execute("UPDATE bookings SET status = $1", status)
    assert await till.office.refunds.again(booking, [note(till, booking)]) == 0
    assert await till.office.refunds.cancel_again(booking) is False
    assert (await refunds(till), await moves(till)) == ([], [])


@pytest.mark.parametrize(("percent", "cents"), [(100, 4_000), (35, 1_400), (0, 0)])
async def test_a_cancellation_that_nobody_remembers_follows_the_terms(till: Till, percent: int, cents: int) -> None:
    """Of what is left of the booking; also when the time to cancel has passed, for it was cancelled in time."""
    booking = await sold(till, GA=3, VIP=1)
    await till.office.refunds.again(booking, [note(till, booking, cents=1_000)])
    await (await till.office.pool()).execute(
        "UPDATE events SET refund_percent = $1, cancel_until = now() - interval '1 day'", percent
    )
    await till.office.redis.delete(keys.told(SHARD))
    assert await till.office.refunds.cancel_again(booking) is True
    key = ids.digest(booking, "cancel")
    expected = (key, cents, "cancelled", None, "due" if cents else "succeeded", "USD")
    assert [each for each in await refunds(till) if each[0] == key] == [expected]
    (row,) = await till.fetch("SELECT status, failure_code FROM bookings")
    assert tuple(row) == ("cancelled", "cancelled")
    assert await till.office.redis.scard(keys.told(SHARD)) == 1  # type: ignore[misc]
    assert sorted(each[:2] for each in await moves(till)) == [("GA", -2), ("GA", -1), ("VIP", -1)]
