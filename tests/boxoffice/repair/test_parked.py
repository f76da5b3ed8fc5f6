"""Parked bookings: they keep their tickets until an operator retries or fails them."""

from __future__ import annotations

import pytest

from boxoffice import ids
from boxoffice.errors import CannotRun, NotFound
from boxoffice.gateway.base import Unknown
from boxoffice.stores import keys
from boxoffice.wire.requests import BookingRequest
from tests.conftest import CLIENT, SHARD, eventually
from tests.support.till import Till, card


async def poison(till: Till, *, customer: str = "ada", reference: str | None = None, hold: bool = False) -> str:
    """A parked booking of two GA tickets: there is something in it that PostgreSQL does not take."""
    tier = till.event.tiers[0].id
    request = BookingRequest(customer, ((tier, 2),), reference, None if hold else card(), None)
    booking = (
        await till.office.admission.book(CLIENT, request, ids.digest(f"poison {customer} {reference}"))
    ).booking_id
    if hold:
        await till.pay(booking)
    await parked(till, booking)
    return booking


async def parked(till: Till, booking: str) -> None:
    async def there() -> bool:
        await till.claimable(booking)
        await till.drain()
        return await till.office.redis.zscore(keys.dead(SHARD), booking) is not None

    await eventually(there)


async def damaged(till: Till, raw: bytes) -> str:
    """A parked booking of two GA tickets whose record nobody can read."""
    booking = await till.book(GA=2)
    await till.office.redis.set(keys.booking(SHARD, booking), raw)
    await parked(till, booking)
    return booking


async def test_a_parked_booking_is_listed_with_its_reason(till: Till) -> None:
    booking = await poison(till, reference="bad\0text")

    (letter,) = await till.office.parked.all()

    assert (letter.booking, letter.attempts) == (booking, 5)
    assert "CharacterNotInRepertoire" in letter.error
    assert letter.record is not None and letter.record.items == f"{till.event.tiers[0].id}:2"
    assert await till.left("GA") == (8, 2, 0), "it keeps its tickets"
    with pytest.raises(NotFound):
        await till.office.parked.one(ids.booking_id(SHARD, 1))
    with pytest.raises(NotFound):
        await till.office.parked.one("nonsense")


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize(("customer", "reference"), [("ada", "bad\0text"), ("a\0da", None), ("\ud800", None)])
async def test_failing_it_gives_back_money_and_tickets(
    till: Till, hold: bool, customer: str, reference: str | None
) -> None:
    """Its row says failed (poison) and has nothing of the bad text."""
    if "\ud800" in customer:
        pytest.skip("a lone surrogate cannot be packed into a record")
    booking = await poison(till, customer=customer, reference=reference, hold=hold)
    assert (await till.payment(booking)).status == "authorized"

    ended = await till.office.parked.fail(booking)

    assert (ended.written, ended.stock, ended.payment) == (True, "record", "authorized, let go")
    assert await till.state(booking) == "F failed"
    (row,) = await till.fetch("SELECT failure_code, reference, customer_id, amount_cents FROM bookings")
    assert row["failure_code"] == "poison"
    assert (row["reference"], row["amount_cents"]) == (None, 2_000)
    assert await till.left("GA") == (10, 0, 0)
    assert await till.office.parked.all() == []
    view = await till.office.bookings.decided(CLIENT, booking)
    assert view.failure and view.failure.code == "poison"
    await till.at_rest(booking)
    with pytest.raises(NotFound):
        await till.office.parked.fail(booking)


@pytest.mark.parametrize("what", ["garbage", "body", "items", "empty"])
async def test_failing_what_nobody_can_read(till: Till, what: str) -> None:
    """Its tickets come back by a recount; as much as still makes sense is written."""
    healthy = await till.book(GA=2)
    record = await till.record(healthy)
    assert record is not None
    head, body, _ = record.pack().split(b"\n", 2)
    raw = {
        "garbage": b"\x00\xff nothing of this",
        "body": head + b"\n{not json\n{}",
        "items": b"|".join(head.split(b"|")[:9]) + b"||1\n" + body + b"\n{",
        "empty": b"",
    }[what]
    await till.rest()
    booking = await damaged(till, raw)
    (letter,) = await till.office.parked.all()
    assert letter.record is None

    ended = await till.office.parked.fail(booking)

    assert ended.stock == ("record" if what == "body" else "recount"), "the scripts read the head only"
    assert ended.written == (what in ("body", "items"))
    assert await till.left("GA") == (8, 0, 2)
    assert await till.office.redis.zcard(keys.dead(SHARD)) == 0
    if ended.written:
        (row,) = await till.fetch("SELECT status, failure_code FROM bookings WHERE id = $1", booking)
        assert tuple(row) == ("failed", "poison")


async def test_failing_twice_after_a_crash_gives_back_once(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL had it, Redis had not: the second call finishes it."""
    booking = await poison(till, reference="bad\0text")

    async def dies(*_: object) -> None:
        raise RuntimeError("died")

    with monkeypatch.context() as patch:
        patch.setattr(till.office.parked, "_give_back", dies)
        with pytest.raises(RuntimeError):
            await till.office.parked.fail(booking)
    assert await till.state(booking) == "P failed"
    await till.office.parked.fail(booking)
    assert await till.left("GA") == (10, 0, 0)
    await till.at_rest(booking)


async def test_failing_while_the_gateway_is_silent_leaves_a_void_due(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    booking = await poison(till, reference="bad\0text")

    async def silent(*_: object) -> Unknown:
        return Unknown("timeout")

    with monkeypatch.context() as patch:
        for call in ("lookup", "void"):
            patch.setattr(till.gateway, call, silent)
        ended = await till.office.parked.fail(booking)
    assert "goes on" in ended.payment
    assert await till.payments(booking) == ["unknown/void"]
    await till.at_rest(booking)
    assert (await till.payment(booking)).status == "voided"


async def test_what_is_confirmed_cannot_be_failed(till: Till) -> None:
    """Parked for another reason, after its commit: a retry tells Redis."""
    booking = await till.book(GA=2)
    await till.rest()
    pool = await till.office.pool()
    await pool.execute(
        "INSERT INTO dead_letters (booking_id, record, error, attempts, parked_at) VALUES ($1, '', 'test', 5, now())",
        booking,
    )
    with pytest.raises(CannotRun):
        await till.office.parked.fail(booking)


async def test_a_retry_starts_anew(till: Till) -> None:
    """Whatever was wrong is mended by then: it is settled like any other."""
    booking = await poison(till, reference="bad\0text")
    record = await till.record(booking)
    assert record is not None
    mended = record.pack().replace(b"bad\\u0000text", b"good text")
    assert mended != record.pack()
    await till.office.redis.set(keys.booking(SHARD, booking), mended)

    await till.office.parked.retry(booking)

    assert await till.office.parked.all() == []
    assert await till.office.redis.zcard(keys.dead(SHARD)) == 0
    await till.at_rest(booking)
    assert await till.state(booking) == "C confirmed"


async def test_a_retry_in_vain_parks_it_again(till: Till) -> None:
    booking = await poison(till, reference="bad\0text")
    await till.office.parked.retry(booking)
    await parked(till, booking)
    (letter,) = await till.office.parked.all()
    assert (letter.booking, letter.attempts) == (booking, 5)
    assert await till.left("GA") == (8, 2, 0)


async def test_one_whose_payment_is_at_another_gateway_is_not_ended_here(till: Till) -> None:
    """Its money could not be let go, and nobody would be told."""
    booking = await poison(till, reference="bad\0text")
    letter = await till.office.parked.one(booking)
    assert letter.record is not None
    await (await till.office.pool()).execute(
        "INSERT INTO payments (payment_key, booking_id, gateway, method, amount_cents, currency, status)"
        " VALUES ($1, $2::uuid, 'stripe/live/acct_1', 'card', 2000, 'USD', 'unknown')", letter.record.payment_key, booking,
    )  # fmt: skip
    with pytest.raises(CannotRun, match="stripe/live/acct_1"):
        await till.office.parked.fail(booking)
    assert [each.booking for each in await till.office.parked.all()] == [booking]


async def test_all_are_tried_again_or_those_of_an_event_or_a_reason(till: Till) -> None:
    """What is chosen goes back to the workers, the others stay where they are."""
    bad = await poison(till, reference="bad\0text")
    unreadable = await damaged(till, b"garbage")
    parked = till.office.parked

    assert [letter.booking for letter in await parked.all(event=till.event.id)] == [bad]
    assert [letter.booking for letter in await parked.all(reason="CHARACTER")] == [bad]
    assert await parked.all(event="elsewhere000") == []
    chosen = await parked.all(reason="unreadable")
    assert [letter.booking for letter in chosen] == [unreadable]
    told: list[int] = []
    await parked.retry_all(chosen, told.append)

    assert told == [1]
    assert await till.office.redis.zrange(keys.dead(SHARD), 0, -1) == [bad.encode()]
    assert await parked.retried(chosen) == (0, 1, 0)
    await till.drain()
    assert await parked.retried(chosen) == (0, 0, 1)
    await parked.retry_all(await parked.all())
    assert await till.office.redis.zcard(keys.dead(SHARD)) == 0
    assert await till.left("GA") == (6, 4, 0), "they keep their tickets"


async def test_what_only_redis_has_set_aside_is_listed(till: Till) -> None:
    """A retry was cut short before Redis heard of it, or PostgreSQL was restored: nobody is lost sight of."""
    booking = await poison(till, reference="bad\0text")
    pool = await till.office.pool()
    for statement in ("UPDATE dead_letters SET parked_at = NULL, attempts = 0", "DELETE FROM dead_letters"):
        await pool.execute(statement)
        (letter,) = await till.office.parked.all()
        assert letter.booking == booking and letter.record is not None
    await till.office.parked.retry(booking)
    assert await till.office.redis.zscore(keys.pending(SHARD), booking) is not None
    await parked(till, booking)
    await till.office.parked.fail(booking)
    assert await till.left("GA") == (10, 0, 0)
