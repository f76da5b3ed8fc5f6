"""What a settlement reads and writes in PostgreSQL: whose key it is, what becomes due from when on, and whom it may name."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from boxoffice.books import rows
from boxoffice.books.decisions import Claimed, Decision, Known, PaymentChange, Standing, Verdict
from boxoffice.office import BoxOffice
from boxoffice.stores.record import Payload
from tests.conftest import SaleMaker, settle_all
from tests.support.shop.office import Till


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> Till:
    return Till(office, await open_sale(GA=50))


async def record_of(till: Till, booking: str) -> Any:
    found = await till.record(booking)
    assert found is not None
    return found


async def known(till: Till, *bookings: str) -> dict[str, Known]:
    records = [await record_of(till, booking) for booking in bookings]
    return await rows.known_by_key(await till.office.pool(), records)  # type: ignore[arg-type]


async def move_of(till: Till, booking: str) -> None:
    await (await till.office.pool()).execute(
        "INSERT INTO stock_moves (event_id, tier_id, booking_id, sold_delta) VALUES ($1, $2, $3, -1)",
        till.event.id, till.event.tiers[0].id, booking,
    )  # fmt: skip


@pytest.mark.parametrize("status", ["pending", "held", "confirmed", "failed", "expired", "cancelled"])
@pytest.mark.parametrize("moved", ["its own", "another's", "none"])
async def test_whether_it_was_sold(till: Till, status: str, moved: str) -> None:
    """It was when it is cancelled and its own tickets came back as a move; another booking's move says nothing."""
    one, other = await till.book(GA=1), await till.book(GA=1)
    await settle_all(till.office)
    pool = await till.office.pool()
    await pool.execute("UPDATE bookings SET status = $1", status)
    if moved != "none":
        await move_of(till, one if moved == "its own" else other)
    assert (await known(till, one))[one].was_sold == (status == "cancelled" and moved == "its own")


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("status", ["held", "pending", "confirmed", "failed", "expired", "cancelled"])
async def test_with_which_items_a_hold_was_sold(
    office: BoxOffice, open_sale: SaleMaker, status: str, moved: bool
) -> None:
    """As its record would have them, by tier; a cancelled one was when its tickets came back as a move. What was posted with
    its payment has those that it had."""
    till = Till(office, await open_sale(GA=9, VIP=9))
    hold, posted = await till.hold(VIP=1, GA=2), await till.book(GA=1)
    await till.pay(hold)
    await settle_all(till.office)
    await (await till.office.pool()).execute("UPDATE bookings SET status = $1", status)
    if moved:
        await move_of(till, hold)
    found = await known(till, hold, posted)
    record = await record_of(till, hold)
    assert record is not None and record.items.count(",") == 1
    assert found[hold].items == (record.items if status == "confirmed" or (status == "cancelled" and moved) else "")
    assert found[posted].items == ""


async def test_each_is_known_with_its_own_payment(till: Till) -> None:
    """In whatever order they are asked for, and with how old the question is."""
    good, bad, new = (
        await till.book(GA=1),
        await till.book("tok_card_declined", GA=1),
        await till.book("tok_error", GA=1),
    )
    before = await known(till, good, bad, new)
    assert before == {}
    await settle_all_but(till)
    pool = await till.office.pool()
    await pool.execute("UPDATE payments SET created_at = now() - interval '90 seconds' WHERE booking_id = $1", bad)
    found = await known(till, new, bad, good)
    assert [(found[each].id, found[each].status, found[each].failure_code) for each in (good, bad, new)] == [
        (good, "confirmed", None), (bad, "failed", "payment_declined"), (new, "pending", None),
    ]  # fmt: skip
    payments = [found[each].payment for each in (good, bad, new)]
    assert [payment.status for payment in payments if payment] == ["authorized", "declined", "unknown"]
    assert [payment.failure_code for payment in payments if payment] == [None, "card_declined", None]
    ages = [payment.age_ms // 1_000 for payment in payments if payment]
    assert ages[1] >= 90 and max(ages[0], ages[2]) < 90
    record = await record_of(till, good)
    assert found[good].fingerprint == record.fingerprint


async def settle_all_but(till: Till) -> None:
    """One pass: what is unknown stays so."""
    await till.drain()


@pytest.mark.parametrize(
    ("status", "due", "since", "at", "leased"),
    [
        ("captured", "capture", True, False, False), ("voided", "void", True, True, True),
        ("declined", None, False, False, False), ("unknown", "void", True, True, True),
    ],
)  # fmt: skip
async def test_what_becomes_due_is_due_from_now_on(
    till: Till, status: str, due: str | None, since: bool, at: bool, leased: bool
) -> None:
    """A capture is listed with its batch, and claimed there; what is to be let go is claimed by itself, after a lease."""
    booking = await till.book("tok_error", GA=1)
    await till.drain()
    record = await record_of(till, booking)
    claim, change = Claimed(record, b"", 0), PaymentChange(status, "r7", "why", None, due)
    decision = Decision(claim, Verdict.FAIL, Payload(), 0, Standing.OPEN, "failed", None, change)
    pool = await till.office.pool()
    await pool.execute("UPDATE payments SET reference = 'r1', updated_at = now() - interval '1 hour'")
    async with pool.acquire() as connection:
        await rows.write(connection, [decision], "books", 9_000)
    row = await pool.fetchrow(
        "SELECT status, due, reference, failure_code, due_since = updated_at AS since, due_at = updated_at AS at,"
        " leased_until = updated_at + interval '9 seconds' AS leased, updated_at > now() - interval '1 minute' AS touched"
        " FROM payments"
    )
    assert row is not None
    assert tuple(row) == (status, due, "r7", "why", since or None, at or None, leased or None, True)
    untold = replace(decision, payment=replace(change, reference=None))
    await pool.execute("UPDATE payments SET status = 'requires_action'")
    await pool.execute("UPDATE bookings SET status = 'pending'")
    async with pool.acquire() as connection:
        await rows.write(connection, [untold], "books", 9_000)
    assert await pool.fetchval("SELECT reference FROM payments") == "r7", "what nobody told stays"


async def test_what_is_to_be_captured_is_listed_once_and_nothing_for_a_batch_without_any(till: Till) -> None:
    """Its id is the pump's: a list of nothing would be claimed, and taken apart, for ever."""
    booking = await till.book("tok_error", GA=1)
    await till.drain()
    claim, pool = Claimed(await record_of(till, booking), b"", 0), await till.office.pool()
    for status, payment, listed in (
        ("failed", PaymentChange("declined", "r7", "why"), False),
        ("failed", None, False),
        ("confirmed", PaymentChange("authorized", "r7", None, None, "capture"), True),
    ):
        verdict = Verdict.CONFIRM if listed else Verdict.FAIL
        decision = Decision(claim, verdict, Payload(), 0, Standing.OPEN, status, None, payment)
        await pool.execute("UPDATE bookings SET status = 'pending'")
        async with pool.acquire() as connection:
            number = await rows.write(connection, [decision], "books", 9_000)
        assert (number is not None) is listed
        assert await pool.fetchval("SELECT count(*) FROM captures") == listed
    assert await pool.fetchval("SELECT payment_keys FROM captures WHERE id = $1", number) == [claim.record.payment_key]


async def test_what_is_decided_stays_as_it_is(till: Till) -> None:
    booking = await till.book(GA=1)
    await till.rest()
    record = await record_of(till, booking)
    change = PaymentChange("voided", due="void")
    decision = Decision(Claimed(record, b"", 0), Verdict.FAIL, Payload(), 0, Standing.OPEN, "failed", None, change)
    pool = await till.office.pool()
    before = await pool.fetch("SELECT * FROM payments")
    statuses = await pool.fetch("SELECT status, failure_code FROM bookings")
    async with pool.acquire() as connection:
        with pytest.raises(rows.Raced):
            await rows.write(connection, [decision], "books", 9_000)
    assert await pool.fetch("SELECT status, failure_code FROM bookings") == statuses, (
        "nor does a booking that has ended"
    )
    await pool.execute("UPDATE bookings SET status = 'pending'")
    async with pool.acquire() as connection:
        await rows.write(connection, [decision], "books", 9_000)
    assert await pool.fetch("SELECT * FROM payments") == before


# ---------------------------------------------------------------- without a server


class Asked:
    """A connection that finds these rows, and notes what it was asked with."""

    def __init__(self, *found: Any) -> None:
        self.found = list(found)
        self.asked: list[tuple[Any, ...]] = []

    async def fetch(self, _query: str, *arguments: Any) -> Any:
        self.asked.append(arguments)
        return self.found


async def test_what_bookings_name_is_looked_up_once() -> None:
    """What is not there, all or part of it, is an orphan, and is not remembered."""
    one, two, three = ("c", "e", "t1"), ("c", "e", "t2"), ("d", "f", "t3")
    seen = {one}
    asked: Any = Asked(two, three)
    await rows.vouch(asked, {one, two, three}, seen)
    ((clients, events, tiers),) = asked.asked
    assert sorted(zip(clients, events, tiers, strict=True)) == [two, three]
    assert seen == {one, two, three}
    nobody: Any = Asked()
    await rows.vouch(nobody, {one, three}, seen)
    assert nobody.asked == []
    seen.discard(two)
    with pytest.raises(rows.Orphan):
        await rows.vouch(nobody, {one, two}, seen)
    assert seen == {one, three}


async def test_what_is_remembered_of_them_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "TRIPLES_MAX", 2)
    seen = {("c", "e", f"t{n}") for n in range(2)}
    await rows.vouch(Asked(("c", "e", "x")), {("c", "e", "x")}, seen)  # type: ignore[arg-type]
    assert len(seen) == 3
    await rows.vouch(Asked(("c", "e", "y")), {("c", "e", "y")}, seen)  # type: ignore[arg-type]
    assert seen == {("c", "e", "y")}


@pytest.mark.parametrize("counted", [0, 1, 300])
async def test_a_key_is_looked_up_by_itself_whatever_the_statistics_say(till: Till, counted: int) -> None:
    """Those of a young table make every index alike: by client and event, each look-up would read the whole sale."""
    insert = (
        "INSERT INTO bookings (id, client_id, event_id, customer_id, status, amount_cents, currency, idempotency_key,"
        " fingerprint, sequence, created_at) SELECT gen_random_uuid(), 'shop', 'event', 'c' || i, 'confirmed', 1, 'EUR',"
        " 'k' || i, 'f', i, now() FROM generate_series($1::int, $2::int) i"
    )
    pool = await till.office.pool()
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute("CREATE TEMP TABLE bookings (LIKE bookings INCLUDING ALL)")
            await connection.execute(insert, 1, counted)
            await connection.execute("ANALYZE bookings")
            await connection.execute(insert, counted + 1, 5_000)
            keys = [f"k{n}" for n in range(20)]
            plan = await connection.fetch(f"EXPLAIN {rows.KNOWN_BY_KEY}", ["shop"] * 20, ["event"] * 20, keys)
            whether = await connection.fetch(f"EXPLAIN {rows.ANY_BY_KEY}", keys)
        finally:
            await transaction.rollback()
    for asked in (plan, whether):
        said = "\n".join(row[0] for row in asked)
        assert "Index Cond: (idempotency_key = " in said.replace("bookings.", ""), said
