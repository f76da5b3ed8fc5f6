"""Which store is believed about a booking, and what its rows come to."""

from __future__ import annotations

import base64
from dataclasses import replace as with_
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import astuple, replace

from boxoffice import ids
from boxoffice.bookings import listing, reading
from boxoffice.bookings.reading import BookingFilter, Page
from boxoffice.bookings.records import Seen
from boxoffice.bookings.rows import refund_state
from boxoffice.errors import GateClosed, Malformed, NotFound, StoreAway, Unavailable
from boxoffice.stores import keys
from boxoffice.stores.record import Body, Line, Payload, Record
from boxoffice.wire.render import RefundState
from tests.conftest import CLIENT, SHARD
from tests.support.shop.office import Till, book_many
from tests.support.shop.orders import OTHER

NOW_MS = 1_800_000_000_000
RECORD = Record(
    ids.booking_id(SHARD, NOW_MS), "P", 1, NOW_MS, 0, "pay", "scope", "print", "event0000000", "owner", "t:1", "1",
    Body(CLIENT, "ada", 1_000, "USD", (Line("t", 1, 1_000),)), Payload(),
)  # fmt: skip


@pytest.mark.parametrize(
    ("state", "tries", "age_ms", "fresh"),
    [
        ("H", "0", 10**9, True),
        ("P", "1", 1_999, True),
        ("P", "1", 2_000, False),
        ("C", "1", 29_999, True),
        ("C", "1", 30_000, False),
        ("F", "1", 29_999, True),
        ("E", "1", 30_000, False),
        ("C", "1g", 0, False),
        ("H", "1g", 0, True),
        ("X", "1", 0, False),
    ],
)
def test_how_long_redis_alone_is_asked(state: str, tries: str, age_ms: int, fresh: bool) -> None:
    epoch_ns = 1_000_000 * (NOW_MS + age_ms) + 999_999
    assert reading.is_fresh(replace(RECORD, state=state, tries=tries), lambda: epoch_ns) is fresh


@pytest.mark.parametrize(
    ("wanted", "agrees"),
    [
        (BookingFilter(), True),
        (BookingFilter(customer_id="ada", status="held", reference="r"), True),
        (BookingFilter(customer_id="bob"), False),
        (BookingFilter(status="pending"), False),
        (BookingFilter(reference="ada"), False),
        (BookingFilter(customer_id="ada", status="held", reference="s"), False),
    ],
)
async def test_what_is_wanted(till: Till, wanted: BookingFilter, agrees: bool) -> None:
    record = replace(RECORD, state="H", event=till.event.id, body=replace(RECORD.body, reference="r"))
    view = await till.office.bookings.show(record)
    assert reading.agrees(view, wanted) is agrees
    assert reading.agrees(view, with_(wanted, event_id="x", key_digest="y")) is agrees, "PostgreSQL compares these"


def test_a_cursor_names_the_booking_behind_which_to_go_on() -> None:
    """And in a list by change the microsecond of its change as well: in a list of the other order it makes no sense."""
    created = listing.cursor_of(RECORD.id)
    assert (len(created), listing.place_after(created, listing.CREATED)) == (22, RECORD.id)
    place = listing.place_of(listing.UPDATED, RECORD.id, 1_900_000_000_123_456)
    updated = listing.cursor_of(place)
    assert (len(updated), listing.place_after(updated, listing.UPDATED)) == (32, place)
    far = base64.urlsafe_b64encode(b"\xff" * 24).decode()
    for order, cursor, wrongs in ((listing.CREATED, created, [updated]), (listing.UPDATED, updated, [created, far])):
        for wrong in ("", cursor[:-2], cursor + "AAAA", "é" * 22, "!" * 22, "A", "AAAA", *wrongs):
            with pytest.raises(Malformed) as refused:
                listing.place_after(wrong, order)
            assert refused.value.details["errors"] == [{"parameter": "cursor", "code": "cursor"}]


ROW: dict[str, Any] = {"written_off": 0, "pending_cents": 0, "owed_cents": 0, "owed_code": None, "owed_ms": None}


@pytest.mark.parametrize(
    ("row", "state"),
    [
        ({}, RefundState("succeeded", 0, 0, None, None)),
        ({"written_off": 1}, RefundState("written_off", 0, 0, None, None)),
        ({"pending_cents": 5, "written_off": 1}, RefundState("pending", 5, 0, None, None)),
        ({"pending_cents": 5, "owed_cents": 7, "owed_code": "closed", "owed_ms": 1_000},
         RefundState("owed", 5, 7, "closed", "1970-01-01T00:00:01.000Z")),
    ],
)  # fmt: skip
def test_how_the_refunds_of_a_booking_stand_together(row: dict[str, Any], state: RefundState) -> None:
    assert refund_state(ROW | row) == state  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chosen", "lead"),
    [
        ({}, "client_id"),
        ({"status": "confirmed"}, "client_id"),
        ({"status": "held"}, "client_id, status"),
        ({"event_id": "e", "status": "held"}, "event_id, client_id"),
        ({"customer_id": "c", "event_id": "e"}, "customer_id, client_id"),
        ({"reference": "r", "customer_id": "c"}, "client_id, reference"),
    ],
)
@pytest.mark.parametrize("after", [None, RECORD.id], ids=["first page", "next page"])
def test_a_list_is_looked_for_in_the_index_that_has_it(chosen: dict[str, str], lead: str, after: str | None) -> None:
    """Its columns lead, in its order; the others are conditions; a value stands for each mark."""
    columns = {"client_id": "shop", **chosen}
    query = listing.by_lead(columns, after, 7)
    names = lead.split(", ")
    bounds = [columns[name] for name in names] + ([after] if after else [])
    others = [name for name in columns if name not in names]
    assert query.bounds == bounds
    assert query.values == bounds + [columns[name] for name in others]
    assert (
        f"ROW({lead}) >= ROW(" in query.page
        and f"ORDER BY {', '.join(f'{name} DESC' for name in (*names, 'id'))}" in query.page
    )
    for at, name in enumerate(others, len(bounds) + 1):
        assert f"AND {name} = ${at}" in query.page
    assert "LIMIT 5000" in query.page and "LIMIT 8" in query.page and "OFFSET 4999 LIMIT 1" in query.last
    assert ("::uuid" in query.page) is (after is not None)


# ------------------------------------------------------------------ whom to believe


async def stands(till: Till, **changes: Any) -> tuple[str, Record]:
    """A confirmed booking, whose row says so, and a record that says that it is held."""
    booking = await till.book(GA=1)
    await till.rest()
    record = await till.record(booking)
    assert record is not None
    return booking, replace(record, **{"state": "H", **changes})


@pytest.mark.parametrize(
    ("status", "record", "shut", "told"),
    [
        ("confirmed", None, False, "confirmed"),
        ("confirmed", {"state": "H"}, False, "confirmed"),
        ("held", {"state": "F"}, False, "failed"),
        ("pending", {"state": "H"}, False, "held"),
        ("held", {"state": "F"}, True, "held"),
        ("confirmed", {"state": "P"}, False, "confirmed"),
        ("held", {"state": "P", "payment_key": "another"}, False, "pending"),
        ("held", {"state": "P"}, False, "held"),
    ],
)
async def test_the_store_that_knows_more_is_believed(
    till: Till, status: str, record: dict[str, Any] | None, shut: bool, told: str
) -> None:
    booking, seen = await stands(till, **(record or {}))
    await (await till.office.pool()).execute("UPDATE bookings SET status = $1", status)
    found = await till.office.bookings.settled(CLIENT, booking, seen if record else None, redis_away=False, shut=shut)
    assert (found.view.status, found.view.id, found.original) == (told, booking, True)


@pytest.mark.parametrize("redis_away", [True, False])
@pytest.mark.parametrize("row", ["none", "another client's"])
async def test_what_nobody_has_is_not_found_unless_somebody_was_not_asked(
    till: Till, redis_away: bool, row: str
) -> None:
    booking, record = await stands(till)
    bookings = till.office.bookings
    client = OTHER if row != "none" else CLIENT
    asked = booking if row != "none" else RECORD.id
    with pytest.raises(StoreAway if redis_away and row == "none" else NotFound):
        await bookings.settled(client, asked, None, redis_away=redis_away)
    shown = await bookings.settled(client, asked, record, redis_away=redis_away)
    assert shown.view.status == "held", "the caller has seen that the record is the client's"


@pytest.mark.parametrize("known", [True, False])
async def test_without_postgresql_the_record_is_the_answer(
    till: Till, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    booking, record = await stands(till)

    async def away(*_: object) -> None:
        raise StoreAway

    monkeypatch.setattr(till.office.bookings.rows, "ask", away)
    ask = till.office.bookings.settled(CLIENT, booking, record if known else None, redis_away=False)
    if known:
        assert (await ask).view.status == "held"
        refunded = replace(record, state="C", tries="1g")
        with pytest.raises(StoreAway):  # which of its tickets are valid, Redis does not know
            await till.office.bookings.settled(CLIENT, booking, refunded, redis_away=False)
    else:
        with pytest.raises(StoreAway):
            await ask


@pytest.mark.parametrize("by", ["row", "record"])
async def test_a_repetition_is_answered_by_the_original(till: Till, by: str) -> None:
    """Whichever store says what it repeats; a client is shown no other client's original."""
    original, _ = await stands(till)
    repeated = await till.book(GA=1)
    await till.rest()
    bookings, pool = till.office.bookings, await till.office.pool()
    if by == "row":
        await pool.execute(
            "UPDATE bookings SET status = 'failed', failure_code = 'duplicate', duplicate_of = $1::uuid"
            " WHERE id = $2::uuid", original, repeated,
        )  # fmt: skip
        found = await bookings.settled(CLIENT, repeated, None, redis_away=False)
    else:
        said = await till.record(repeated)
        assert said is not None
        said = replace(said, state="F", payload=Payload(failure=f"duplicate_of:{original}"))
        await till.office.redis.set(keys.booking(1, repeated), said.pack())
        found = await bookings.get(CLIENT, repeated)
    assert (found.view.id, found.original) == (original, False)
    await pool.execute("UPDATE bookings SET client_id = 'other0000000' WHERE id = $1::uuid", original)
    await till.office.redis.delete(keys.booking(1, original))
    with pytest.raises(NotFound):
        await bookings.settled(CLIENT, repeated, None, redis_away=False) if by == "row" else await bookings.get(
            CLIENT, repeated
        )


@pytest.mark.parametrize(
    ("shut", "away", "fresh", "told"),
    [(False, False, True, "H"), (True, False, True, "row"), (False, True, True, "row"), (False, False, False, "row")],
)
async def test_under_a_shut_gate_the_row_is_believed(
    till: Till, monkeypatch: pytest.MonkeyPatch, shut: bool, away: bool, fresh: bool, told: str
) -> None:
    """`get` asks Redis first, and passes on what it heard; what only a shut Redis lacks may be there all the same."""
    booking, record = await stands(till)
    bookings = till.office.bookings
    monkeypatch.setattr(reading, "is_fresh", lambda *_: fresh)

    async def found(_: str) -> tuple[Record | None, bool, bool]:
        return (None if away else record), away, shut

    monkeypatch.setattr(bookings, "record", found)
    assert (await bookings.get(CLIENT, booking)).view.status == ("held" if told == "H" else "confirmed")
    with pytest.raises(NotFound):
        await bookings.get(OTHER, booking)
    await (await till.office.pool()).execute("UPDATE bookings SET status = 'failed' WHERE id = $1::uuid", booking)
    assert (await bookings.get(CLIENT, booking)).view.status == ("held" if told == "H" else "failed")


@pytest.mark.parametrize(
    ("away", "shut", "error"), [(True, False, StoreAway), (False, True, StoreAway), (False, False, NotFound)]
)
async def test_what_a_shut_redis_lacks_is_not_called_unknown(
    till: Till, monkeypatch: pytest.MonkeyPatch, away: bool, shut: bool, error: type[Exception]
) -> None:
    async def none(_: str) -> tuple[None, bool, bool]:
        return None, away, shut

    monkeypatch.setattr(till.office.bookings, "record", none)
    with pytest.raises(error):
        await till.office.bookings.get(CLIENT, RECORD.id)


@pytest.mark.parametrize(
    ("status", "change", "shut", "wanted", "told"),
    [
        ("confirmed", {"state": "H"}, False, BookingFilter(), "confirmed"),
        ("held", {"state": "H"}, False, BookingFilter(), "held"),
        ("pending", {"state": "H"}, False, BookingFilter(), "held"),
        ("pending", {"state": "H"}, True, BookingFilter(), "pending"),
        ("pending", {"state": "H"}, False, BookingFilter(status="held"), "held"),
        ("pending", {"state": "H"}, False, BookingFilter(status="pending"), None),
        ("held", {"state": "P", "payment_key": "another", "admitted_ms": 1}, False, BookingFilter(), "pending"),
        ("held", {"state": "P", "admitted_ms": 1}, False, BookingFilter(), "held"),
        ("held", {"state": "P", "admitted_ms": 10**14}, False, BookingFilter(), "pending"),
        ("held", {"state": "F", "admitted_ms": 1}, False, BookingFilter(), "failed"),
        ("held", {"state": "F", "body": replace(RECORD.body, client=OTHER)}, False, BookingFilter(), "held"),
    ],
)  # fmt: skip
async def test_a_listed_booking_reads_as_it_would_alone(
    till: Till, monkeypatch: pytest.MonkeyPatch, status: str, change: dict[str, Any], shut: bool,
    wanted: BookingFilter, told: str | None,
) -> None:  # fmt: skip
    booking, record = await stands(till, **change)
    await (await till.office.pool()).execute("UPDATE bookings SET status = $1", status)
    bookings = till.office.bookings
    row = (await bookings.read_rows([booking]))[booking]

    async def found(_: str) -> tuple[Record | None, bool, bool]:
        return record, False, shut

    monkeypatch.setattr(bookings, "record", found)
    view = await bookings.as_read(row, wanted)
    assert (view and view.status) == told


async def test_rows_of_several_bookings_are_read_at_once(till: Till) -> None:
    """By id; there is none of what PostgreSQL does not know."""
    made = await book_many(till.office, till.event, 3, GA=1)
    await till.rest()
    rows = await till.office.bookings.read_rows([*made, ids.booking_id(SHARD, NOW_MS)])
    assert {name: row.view.id for name, row in rows.items()} == dict(zip(made, made, strict=True))


@pytest.mark.parametrize("error", [NotFound, Unavailable])
async def test_a_listed_booking_whose_event_is_not_loaded_is_told_by_its_row(
    till: Till, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    booking, record = await stands(till)
    await (await till.office.pool()).execute("UPDATE bookings SET status = 'pending'")
    bookings = till.office.bookings
    row = (await bookings.read_rows([booking]))[booking]

    async def none(_: object) -> None:
        raise error

    async def found(_: str) -> tuple[Record | None, bool, bool]:
        return record, False, False

    monkeypatch.setattr(bookings, "record", found)
    monkeypatch.setattr(bookings, "show", none)
    view = await bookings.as_read(row, BookingFilter())
    assert view is not None and view.status == "pending"


async def test_records_are_read_in_their_shards(till: Till) -> None:
    """Each in its own, in one call of many; what is no record is none, and a shard that nobody serves is said to be away
    only where somebody keeps it."""
    booking, record = await stands(till)
    bookings, redis = till.office.bookings, till.office.redis
    first = replace(record, id=ids.booking_id(0, NOW_MS))
    await redis.set(keys.booking(0, first.id), first.pack())
    await redis.set(keys.booking(1, booking), record.pack())
    lost, bad = ids.booking_id(0, NOW_MS), ids.booking_id(1, NOW_MS)
    await redis.set(keys.booking(1, bad), b"nonsense")
    found = await bookings.read_records([booking, first.id, lost, bad])
    assert found == {
        booking: Seen(record.pack()), first.id: Seen(first.pack()), lost: Seen(None), bad: Seen(b"nonsense"),
    }  # fmt: skip
    assert await bookings.record(booking) == (record, False, False)
    assert await bookings.record(bad) == await bookings.record(lost) == (None, False, False)
    far = ids.booking_id(2, NOW_MS)
    assert await bookings.record(far) == (None, False, False)
    await redis.set(keys.booking(2, far), b"kept")
    assert await bookings.record(far) == (None, True, False)
    await redis.delete(keys.gate(0))
    assert await bookings.record(first.id) == (first, False, True)
    assert await bookings.record(booking) == (record, False, False)


async def test_rows_are_read_with_all_their_parts(till: Till) -> None:
    booking = await till.hold(GA=2, VIP=1, hold_s=600)
    await till.pay(booking)
    await till.rest()
    pool = await till.office.pool()
    await pool.execute(
        "UPDATE bookings SET reference = 'r', created_at = to_timestamp(1000.25), expires_at = to_timestamp(4102444800)"
    )
    row = (await till.office.bookings.read_rows([booking]))[booking]
    (payment,) = await till.fetch("SELECT payment_key, reference FROM payments")
    assert (row.client, row.payment_key, row.duplicate_of) == (CLIENT, payment["payment_key"], None)
    view = row.view
    await pool.execute("UPDATE booking_items SET refunded = 1 WHERE tier_id = $1", till.event.tiers[0].id)
    row = (await till.office.bookings.read_rows([booking]))[booking]
    view = row.view
    expected = [(2, 1, 1_000), (1, 0, 2_000)]
    assert sorted(map(astuple, view.items)) == sorted(
        (tier.id, tier.code, quantity, back, price, quantity * price)
        for tier, (quantity, back, price) in zip(till.event.tiers, expected, strict=True)
    )
    assert (view.id, view.status, view.event_id, view.customer_id, view.reference, view.amount_cents, view.currency) == (
        booking, "confirmed", till.event.id, "ada", "r", 4_000, "USD",
    )  # fmt: skip
    assert (view.refunded_cents, view.refund, view.failure, view.expires_in_s) == (0, None, None, None)
    assert (view.created_at, view.expires_at) == ("1970-01-01T00:16:40.250Z", "2100-01-01T00:00:00.000Z")
    assert view.payment is not None
    assert (view.payment.status, view.payment.method, view.payment.last4, view.payment.reference) == (
        "captured", "card", "4242", payment["reference"],
    )  # fmt: skip
    for code, repeats in (("duplicate", UUID(RECORD.id)), ("idempotency_key_reused", None)):
        await pool.execute(
            "UPDATE bookings SET status = 'failed', failure_code = $1, duplicate_of = $2::uuid", code, RECORD.id
        )
        row = (await till.office.bookings.read_rows([booking]))[booking]
        assert row.duplicate_of == repeats and row.view.failure is not None and row.view.failure.code == code


@pytest.mark.parametrize(
    ("status", "last4", "token", "told"),
    [("authorized", "4242", "tok", "4242"), ("unknown", None, "tok", "tok"), ("declined", None, None, None)],
)
async def test_one_attempt_to_pay(
    till: Till, status: str, last4: str | None, token: str | None, told: str | None
) -> None:
    """By its key and its booking; with the fingerprint of its card, while anybody remembers it."""
    booking, other = await till.book(GA=1), await till.book(GA=1)
    await till.rest()
    pool, bookings = await till.office.pool(), till.office.bookings
    await pool.execute(
        "UPDATE payments SET status = $1, last4 = $2, token = $3, reference = 'r', failure_code = 'f', next_action = 'n'",
        status, last4, token,
    )  # fmt: skip
    key = await pool.fetchval("SELECT payment_key FROM payments WHERE booking_id = $1", booking)
    found = await bookings.attempt(booking, key)
    assert found is not None
    print_, view = found
    assert print_ == (ids.payment_fingerprint("card", told) if told else None)
    assert (view.status, view.method, view.last4, view.reference, view.failure_code, view.next_action) == (
        "pending" if status == "unknown" else status, "card", last4, "r", "f", "n",
    )  # fmt: skip
    assert await bookings.attempt(other, key) is None
    assert await bookings.attempt(booking, "another") is None


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], None),
        ([("dropped", 100, None)], None),
        ([("succeeded", 100, None), ("dropped", 50, None)], RefundState("succeeded", 0, 0, None, None)),
        ([("succeeded", 0, None)], RefundState("succeeded", 0, 0, None, None)),
        ([("due", 100, None), ("pending", 200, None), ("succeeded", 50, None)],
         RefundState("pending", 300, 0, None, None)),
        ([("written_off", 100, 1), ("succeeded", 50, None)], RefundState("written_off", 0, 0, None, None)),
        ([("owed", 100, 9), ("owed", 200, 8), ("due", 50, None), ("written_off", 20, 1)],
         RefundState("owed", 50, 300, "code8", "1970-01-01T00:00:08.000Z")),
    ],
)  # fmt: skip
async def test_the_refunds_of_a_booking_are_added_up(
    till: Till, rows: list[tuple[str, int, int | None]], told: RefundState | None
) -> None:
    """Its own; what is owed since the longest is told first."""
    booking, other = await till.book(GA=1), await till.book(GA=1)
    await till.rest()
    pool = await till.office.pool()
    of = {row[0]: row[1] for row in await till.fetch("SELECT booking_id::text, payment_key FROM payments")}
    for at, (status, cents, since) in enumerate([*rows, ("owed", 7, 3)]):
        whose = other if at == len(rows) else booking
        await pool.execute(
            "INSERT INTO refunds (refund_key, booking_id, payment_key, amount_cents, currency, status, reason, owed_since,"
            " failure_code, written_off_at, written_off_by, written_off_reason) VALUES ($1, $2::uuid, $3, $4, 'USD', $5::text,"
            " 'x', to_timestamp($6), $7, CASE $5::text WHEN 'written_off' THEN now() END,"
            " CASE $5::text WHEN 'written_off' THEN 'me' END, CASE $5::text WHEN 'written_off' THEN 'why' END)",
            f"r{at}", whose, of[whose], cents, status, since, f"code{since}",
        )  # fmt: skip
    await pool.execute("UPDATE payments SET refunded_cents = 33 WHERE booking_id = $1", booking)
    view = (await till.office.bookings.read_rows([booking, other]))[booking].view
    assert (view.refund, view.refunded_cents) == (told, 33)


async def test_the_latest_payment_is_told(till: Till) -> None:
    """Of its own booking, whichever key it has."""
    booking = await till.book(GA=1)
    await till.book(GA=2)
    await till.rest()
    pool = await till.office.pool()
    await pool.execute("UPDATE payments SET created_at = to_timestamp(100)")
    for key, at, status in (("zz", 200, "unknown"), ("aa", 50, "declined"), ("zy", 200, "failed")):
        await pool.execute(
            "INSERT INTO payments (payment_key, booking_id, gateway, method, amount_cents, currency, status, created_at)"
            " VALUES ($1, $2, 'simulator', 'card', 1, 'USD', $3, to_timestamp($4))", key, booking, status, at,
        )  # fmt: skip
    row = (await till.office.bookings.read_rows([booking]))[booking]
    assert row.payment_key == "zy", "of two at once, the first by its key"
    await pool.execute("DELETE FROM payments WHERE payment_key = 'zy'")
    row = (await till.office.bookings.read_rows([booking]))[booking]
    assert row.payment_key == "zz" and row.view.payment is not None and row.view.payment.status == "pending"
    await pool.execute("DELETE FROM payments WHERE booking_id = $1", booking)
    row = (await till.office.bookings.read_rows([booking]))[booking]
    assert (row.payment_key, row.view.payment, row.view.refunded_cents) == (None, None, 0)


@pytest.mark.parametrize(("shut", "told"), [(True, "held"), (False, "failed")])
async def test_what_a_shut_redis_calls_ended_may_be_held(
    till: Till, monkeypatch: pytest.MonkeyPatch, shut: bool, told: str
) -> None:
    """It may have gone back, or be another: PostgreSQL alone is believed, though Redis seems to know more."""
    booking, record = await stands(till, state="F")
    await (await till.office.pool()).execute("UPDATE bookings SET status = 'held'")

    async def found(_: str) -> tuple[Record | None, bool, bool]:
        return record, False, shut

    monkeypatch.setattr(till.office.bookings, "record", found)
    assert (await till.office.bookings.get(CLIENT, booking)).view.status == told


async def test_a_key_whose_booking_neither_store_has_finds_nothing(till: Till) -> None:
    """An empty page, as for a key that nobody has used: a list is never not found."""
    booking = await till.hold(key="mine", GA=1)
    wanted = BookingFilter(event_id=till.event.id, key_digest=ids.digest("mine"))
    assert [view.id for view in (await till.office.bookings.list(CLIENT, wanted, None, 10)).views] == [booking]
    await till.office.redis.delete(keys.booking(ids.shard_of(booking), booking))
    assert await till.office.bookings.list(CLIENT, wanted, None, 10) == Page([], None)


@pytest.mark.parametrize("error", [NotFound, Unavailable, GateClosed, OSError])
async def test_a_key_is_looked_up_in_postgresql_while_nobody_knows_the_event(
    till: Till, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    booking = await till.book(key="mine", GA=1)
    await till.rest()
    bookings = till.office.bookings

    async def nobody(_: str) -> object:
        raise error

    monkeypatch.setattr(till.office.catalogue, "event", nobody)
    page = await bookings.list(CLIENT, BookingFilter(event_id=till.event.id, key_digest=ids.digest("mine")), None, 10)
    assert [view.id for view in page.views] == [booking]
