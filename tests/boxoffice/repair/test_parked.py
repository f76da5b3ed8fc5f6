"""Parked bookings: they keep their tickets until an operator retries or fails them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from boxoffice import ids
from boxoffice.books.dead_letters import DeadLetter
from boxoffice.errors import CannotRun, NotFound
from boxoffice.gateway.base import Unknown
from boxoffice.repair import parked as parked_module
from boxoffice.stores import keys
from tests.conftest import CLIENT, SHARD, SaleMaker, eventually
from tests.support.shop.office import Till


async def poison(till: Till, *, customer: str = "ada", reference: str | None = None, hold: bool = False) -> str:
    """A parked booking of two GA tickets: there is something in it that PostgreSQL does not take."""
    key, token = f"poison {customer} {reference}", None if hold else "tok_ok"
    booking = await till.book(token, key=key, customer=customer, reference=reference, GA=2)
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
        patch.setattr(till.office.parked.failing, "give_back", dies)
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


# ------------------------------------------------------------------ what a failed one leaves behind


@pytest.mark.parametrize("hold", [False, True])
async def test_everything_that_makes_sense_is_written_of_a_failed_one(till: Till, hold: bool) -> None:
    """Its row, its items and its payment, each value where it belongs; the other parked booking stays as it is."""
    other = await poison(till, customer="bob", reference="bad\0text")
    tiers = [tier.id for tier in till.event.tiers]
    key = ids.digest("the key")
    token, hold_s = (None, 900) if hold else ("tok_ok", None)
    booking = await till.book(token, key="the key", reference="bad\0text", hold_s=hold_s, GA=2, VIP=1)
    if hold:
        await till.pay(booking)
    await parked(till, booking)
    record = await till.record(booking)
    assert record is not None
    at_gateway = await till.payment(booking)

    await till.office.parked.fail(booking)

    rows = await till.fetch(
        "SELECT id::text, client_id, event_id, customer_id, reference, status, amount_cents, currency, idempotency_key,"
        " fingerprint, failure_code, sequence, round(1000 * extract(epoch FROM expires_at))::bigint AS expires,"
        " round(1000 * extract(epoch FROM created_at))::bigint AS created FROM bookings"
    )
    assert [tuple(row) for row in rows] == [
        (booking, CLIENT, till.event.id, "ada", None, "failed", 4_000, "USD", key, record.fingerprint, "poison",
         record.sequence, record.deadline_ms if hold else None, record.admitted_ms),
    ]  # fmt: skip
    items = await till.fetch(
        "SELECT tier_id, quantity, unit_price_cents, line_total_cents FROM booking_items WHERE booking_id = $1 ORDER BY 4",
        booking,
    )
    assert sorted(map(tuple, items)) == sorted([(tiers[0], 2, 1_000, 2_000), (tiers[1], 1, 2_000, 2_000)])
    payments = await till.fetch(
        "SELECT payment_key, booking_id::text, gateway, method, last4, amount_cents, currency, status, reference,"
        " failure_code, due, due_at FROM payments"
    )
    assert [tuple(row) for row in payments] == [
        (record.payment_key, booking, till.gateway.books, "card", "4242", 4_000, "USD", "voided", at_gateway.reference,
         "poison", None, None),
    ]  # fmt: skip
    letters = await till.fetch("SELECT booking_id::text, parked_at IS NULL FROM dead_letters")
    assert {tuple(row) for row in letters} == {(booking, True), (other, False)}
    assert await till.state(other) == "P -"


@pytest.mark.parametrize("change", ["", "client_id = 'other0000000'", "event_id = $3", "duplicate_of = $4::uuid"])
async def test_a_key_that_another_booking_has_is_replaced(till: Till, open_sale: SaleMaker, change: str) -> None:
    """Of the same client at the same event, and not itself a duplicate: two rows may not have it. Else it is kept."""
    booking, other, first = await poison(till, reference="bad\0text"), await till.book(GA=1), await till.book(GA=1)
    await till.rest()
    event = await open_sale(GA=1)
    key = ids.digest("poison ada bad\0text")
    await (await till.office.pool()).execute(
        "UPDATE bookings SET idempotency_key = $2" + (f", {change}" if change else ", client_id = client_id")
        + " WHERE id = $1::uuid AND $3::text > '' AND $4::uuid IS NOT NULL", other, key, event.id, first,
    )  # fmt: skip

    await till.office.parked.fail(booking)

    (row,) = await till.fetch("SELECT idempotency_key FROM bookings WHERE id = $1", booking)
    assert row[0] == (key if change else ids.digest(booking, key))


@pytest.mark.parametrize(
    ("status", "code", "ended"),
    [("pending", None, True), ("held", None, True), ("failed", "poison", True), ("failed", "card_declined", False),
     ("expired", None, False), ("cancelled", None, False), ("confirmed", None, False)],
)  # fmt: skip
async def test_what_postgresql_has_decided_otherwise_is_not_failed(
    till: Till, status: str, code: str | None, ended: bool
) -> None:
    """Its row is left as it is, and so is its payment; an undecided one becomes failed (poison)."""
    booking = await poison(till, reference="bad\0text")
    await (await till.office.pool()).execute(
        "INSERT INTO bookings (id, client_id, event_id, customer_id, status, amount_cents, currency, idempotency_key,"
        " fingerprint, failure_code, sequence, created_at)"
        " VALUES ($1::uuid, $2, $3, 'ada', $4, 2000, 'USD', 'key', 'print', $5, 1, now())",
        booking, CLIENT, till.event.id, status, code,
    )  # fmt: skip
    if ended:
        await till.office.parked.fail(booking)
    else:
        with pytest.raises(CannotRun, match=status):
            await till.office.parked.fail(booking)
    (row,) = await till.fetch("SELECT status, failure_code FROM bookings WHERE id = $1", booking)
    assert tuple(row) == (("failed", "poison") if ended else (status, code))
    assert (await till.payment(booking)).status == ("voided" if ended else "authorized")
    assert await till.left("GA") == ((10, 0, 0) if ended else (8, 2, 0))


@pytest.mark.parametrize("raw", ["garbage", "items"])
@pytest.mark.parametrize("shard", [0, 1])
async def test_a_recount_gives_the_customer_his_share_back(
    till: Till, open_sale: SaleMaker, raw: str, shard: int
) -> None:
    """Whoever held what nobody can read may book as much again: in its shard, and of its event."""
    there = Till(till.office, await open_sale(shard=shard, GA=10), till.numbers)
    await there.book(GA=1)
    await there.rest()
    booking = await there.book(GA=2)
    record = await there.record(booking)
    assert record is not None
    lines = record.pack().split(b"\n")
    lines[0] = b"|".join(lines[0].split(b"|")[:9]) + b"||1"
    await till.office.redis.set(keys.booking(shard, booking), b"garbage" if raw == "garbage" else b"\n".join(lines))
    await till.office.redis.zadd(keys.dead(shard), {booking: 1})
    await till.office.redis.zrem(keys.pending(shard), booking)

    ended = await till.office.parked.fail(booking)

    assert (ended.stock, ended.written) == ("recount", raw == "items")
    assert await there.left("GA") == (9, 0, 1)
    owners = await till.office.redis.hgetall(keys.owners(shard, there.event.id))
    assert owners == {record.owner.encode(): b"1"}
    assert not await till.office.redis.exists(keys.booking(shard, booking), keys.dead(shard), keys.pending(shard))
    assert await till.office.redis.exists(keys.idempotency(shard, record.scope)) == (raw == "garbage")


async def test_a_free_one_is_ended_without_the_gateway(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has heard of no payment, and PostgreSQL keeps none."""
    booking = await poison(till, reference="bad\0text")
    record = await till.record(booking)
    assert record is not None
    raw = record.pack().replace(b"[1000]", b"[0]")
    await till.office.redis.set(keys.booking(SHARD, booking), raw)

    async def asked(*_: object) -> None:
        raise AssertionError("nobody has to ask the gateway")

    monkeypatch.setattr(till.gateway, "void", asked)
    monkeypatch.setattr(till.gateway, "lookup", asked)
    ended = await till.office.parked.fail(booking)
    assert ended == (booking, "none was tried", True, "record")
    assert await till.payments(booking) == []
    assert [tuple(row) for row in await till.fetch("SELECT status, amount_cents FROM bookings")] == [("failed", 0)]


def letter(shard: int, number: int) -> DeadLetter:
    return DeadLetter(ids.booking_id(shard, number), "", 5, "", None, b"")


async def test_what_became_of_many_is_counted_shard_by_shard(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few are looked at in one go. Parked is what PostgreSQL has parked, among those that were asked about."""
    monkeypatch.setattr(parked_module, "CHUNK", 2)
    letters = [letter(number % 2, number) for number in range(7)]
    pool, redis = await till.office.pool(), till.office.redis
    for each in [letters[0], letters[3], letters[6], letter(1, 100)]:
        await pool.execute(
            "INSERT INTO dead_letters (booking_id, record, error, attempts, parked_at) VALUES ($1, '', '', 5, $2)",
            each.booking, None if each is letters[6] else datetime.now(UTC),
        )  # fmt: skip
    for each in (letters[3], letters[4], letters[5], letter(0, 101)):
        await redis.zadd(keys.pending(ids.shard_of(each.booking)), {each.booking: 1})
    # Waiting in the shard of another: not this booking.
    await redis.zadd(keys.pending(0), {letters[1].booking: 1})

    assert await till.office.parked.retried(letters) == (3, 2, 2)
    assert await till.office.parked.retried([]) == (0, 0, 0)


async def test_many_are_given_back_each_to_its_shard(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all their attempts, as claimed and lapsed once: whoever failed on one may have asked for its money."""
    monkeypatch.setattr(parked_module, "CHUNK", 2)
    letters, left = [letter(number % 2, number) for number in range(5)], letter(1, 100)
    pool, redis = await till.office.pool(), till.office.redis
    for each in [*letters, left]:
        await pool.execute(
            "INSERT INTO dead_letters (booking_id, record, error, attempts, parked_at) VALUES ($1, '', '', 5, now())",
            each.booking,
        )  # fmt: skip
        await redis.zadd(keys.dead(ids.shard_of(each.booking)), {each.booking: 7})
    told: list[int] = []

    await till.office.parked.retry_all(letters, told.append)

    assert told == [2, 4, 5]
    for shard in (0, 1):
        mine = sorted(each.booking.encode() for each in letters if ids.shard_of(each.booking) == shard)
        assert sorted(await redis.zrange(keys.pending(shard), 0, -1, withscores=True)) == [(b, 1.0625) for b in mine]
    assert await redis.zcard(keys.dead(0)) == 0
    assert await redis.zrange(keys.dead(1), 0, -1) == [left.booking.encode()]
    rows = await pool.fetch("SELECT booking_id::text, attempts, parked_at IS NULL FROM dead_letters")
    assert {tuple(row) for row in rows} == {
        *((each.booking, 0, True) for each in letters), (left.booking, 5, False),
    }  # fmt: skip


async def test_one_that_postgresql_went_back_behind_is_not_failed(till: Till) -> None:
    """It may lack the very commit that decided this booking."""
    booking = await poison(till, reference="bad\0text")
    await till.office.redis.sadd(keys.told(SHARD), "50:1")
    with pytest.raises(CannotRun, match="went back in time"):
        await till.office.parked.fail(booking)
    assert await till.state(booking) == "P -"
    assert await till.left("GA") == (8, 2, 0)


@pytest.mark.parametrize(
    ("booking_status", "payment_status", "writes", "pays"),
    [
        ("pending", "unknown", True, True),
        ("held", "requires_action", True, True),
        ("confirmed", "captured", False, False),
        ("expired", "authorized", False, False),
        ("cancelled", "voided", False, False),
        ("failed", "failed", False, False),
    ],
)
async def test_what_was_decided_meanwhile_is_not_overwritten(
    till: Till, booking_status: str, payment_status: str, writes: bool, pays: bool
) -> None:
    """Neither the booking's row nor its payment's; what is undecided becomes what the gateway said."""
    booking = await till.book(GA=1)
    await till.rest()
    pool, parked = await till.office.pool(), till.office.parked.failing
    record = await till.record(booking)
    assert record is not None
    await pool.execute("UPDATE bookings SET status = $1", booking_status)
    await pool.execute(
        "UPDATE payments SET status = $1, due = 'capture', due_at = now(), due_since = now()", payment_status
    )
    dead = DeadLetter(booking, "", 5, "", record, b"")
    async with pool.acquire() as connection:
        facts = await parked.facts(connection, dead)
        assert facts is not None
        await parked.write(connection, dead, facts, record.payment_key, "voided", "ref")
    (row,) = await till.fetch("SELECT status, failure_code FROM bookings")
    assert tuple(row) == (("failed", "poison") if writes else (booking_status, None))
    (row,) = await till.fetch("SELECT status, failure_code, due, due_at IS NULL, due_since IS NULL FROM payments")
    kept = (payment_status, None, "capture", False, False)
    assert tuple(row) == (("voided", "poison", None, True, True) if pays else kept)


@pytest.mark.parametrize("where", ["let_go", "facts", "give_back"])
async def test_a_store_that_does_not_answer_is_said_to_the_operator(
    till: Till, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Instead of a stack trace; and failing it again finishes it."""
    booking = await poison(till, reference="bad\0text")

    async def away(*_: object) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patch:
        patch.setattr(till.office.parked.failing, where, away)
        with pytest.raises(CannotRun, match="ConnectionResetError"):
            await till.office.parked.fail(booking)
    assert (await till.office.parked.fail(booking)).stock == "record"
    assert await till.left("GA") == (10, 0, 0)
