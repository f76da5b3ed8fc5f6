"""What PostgreSQL forgot is written again word for word, in whichever shard it was; and what may be written of the rest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from boxoffice import ids
from boxoffice.books.moves import Note, came_back
from boxoffice.books.rewrite import rewrite
from boxoffice.office import BoxOffice
from boxoffice.repair.guard import Guard
from boxoffice.repair.rebuild import POSTGRES_WENT_BACK
from boxoffice.sales.store import NewTier
from boxoffice.stores import keys
from tests.conftest import CLIENT, SaleMaker
from tests.support.houses import House, Houses
from tests.support.past import Past
from tests.support.shop.office import Till

SHARD = 1

ROWS = {
    "bookings": "SELECT id, client_id, event_id, customer_id, reference, status, amount_cents, currency, idempotency_key,"
    " fingerprint, duplicate_of, failure_code, sequence, expires_at, created_at,"
    " metadata, return_url FROM bookings b WHERE {} ORDER BY id",
    "booking_items": "SELECT i.* FROM booking_items i JOIN bookings b ON b.id = i.booking_id WHERE {} ORDER BY 1, 2",
    "payments": "SELECT payment_key, booking_id, gateway, method, p.last4, p.amount_cents, refunded_cents, p.currency,"
    " p.status, p.reference, p.failure_code FROM payments p JOIN bookings b ON b.id = p.booking_id WHERE {} ORDER BY 1",
    "refunds": "SELECT refund_key, booking_id, payment_key, r.amount_cents, r.currency, reason, r.status, r.fingerprint,"
    " r.items FROM refunds r JOIN bookings b ON b.id = r.booking_id WHERE {} ORDER BY 1",
    "inventory": "SELECT tier_id, total, sold FROM inventory JOIN tiers b ON b.id = tier_id WHERE {} ORDER BY 1",
}
"""As far as Redis can know them. When a row was last touched, and what the pump is to do, are its own."""


@pytest.fixture
def past(office: BoxOffice) -> Past:
    return Past(office)


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> Till:
    return Till(office, await open_sale(GA=10))


@pytest.fixture
async def guard(houses: Houses) -> Guard:
    for guard in houses.office.guards:
        await guard.tick()
    return houses.office.guards[SHARD]


async def rows(house: House) -> dict[str, list[tuple[Any, ...]]]:
    """What PostgreSQL has of a concert."""
    where = "b.event_id = $1"
    return {
        name: [tuple(row) for row in await house.fetch(query.format(where), house.event.id)]
        for name, query in ROWS.items()
    }


async def end_holds(house: House) -> None:
    """Tried to be paid and declined, then ended: by its shop, by its deadline."""
    for kind in ("given_up", "timed_out"):
        house.booked[kind] = await house.book(None, hold_s=900, customer="gil", GA=1)
        await house.pay(house.booked[kind], "tok_card_declined")
    await house.rest()
    await house.cancel(house.booked["given_up"])
    record = await house.record(house.booked["timed_out"])
    assert record is not None
    await house.time_is_up(record.id)
    await house.office.holds.expire(house.shard)


# ------------------------------------------------------------------ word for word


@pytest.mark.parametrize("page", [2, 1_000])
async def test_it_is_written_again_word_for_word(
    houses: Houses, past: Past, guard: Guard, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """Of both concerts of the shard, however few records are looked at at once. The other shard's guard writes its own."""
    monkeypatch.setattr("boxoffice.repair.recovery.PAGE", page)
    monkeypatch.setattr("boxoffice.repair.recovery.CHUNK", page)
    await past.remember()
    for house in houses.houses:
        await house.fill()
    await houses.houses[0].rest()
    for house in houses.houses:
        await end_holds(house)
    for house in houses.houses:
        await house.finish()
    await houses.houses[0].drain()
    await houses.houses[0].pump()
    before = [await rows(house) for house in houses.houses]
    counted = [await house.counted() for house in houses.houses]
    states = [await house.states() for house in houses.houses]
    await past.come_back()

    assert await guard.tick() == "recovered"
    for house in houses.of(0):
        assert await house.fetch("SELECT 1 FROM bookings WHERE event_id = $1", house.event.id) == []
    assert await houses.office.guards[0].tick() == "recovered"

    for house in houses.houses:
        await house.look_again(house.booked["waiting"])
    await houses.houses[0].pump()
    for house, row, count, state in zip(houses.houses, before, counted, states, strict=True):
        now = forgiving(await rows(house), house)
        for name, some in forgiving(row, house).items():
            assert now[name] == some, name
        assert await house.counted() == count
        assert await house.states() == state


def forgiving(found: dict[str, list[tuple[Any, ...]]], house: House) -> dict[str, list[tuple[Any, ...]]]:
    """Without the deadline that a test moved."""
    ended = house.booked["timed_out"]
    bookings = [row if str(row[0]) != ended else (*row[:13], None, *row[14:]) for row in found["bookings"]]
    return found | {"bookings": bookings}


@pytest.mark.parametrize("paid", [True, False])
async def test_a_hold_that_was_changed_is_written_again_with_what_it_has_now(
    houses: Houses, past: Past, guard: Guard, paid: bool
) -> None:
    """PostgreSQL goes back to where it had other items: what was sold is what was paid for, and nothing stays of the rest. Of
    one that is held in both stores alike, a mender tells."""
    house, _ = houses.of(SHARD)
    booking = await house.book(None, customer="ann", GA=2)
    await house.pay(booking, "tok_card_declined")
    await house.rest()
    await past.remember()
    await house.change(booking, GA=1, VIP=1)
    if paid:
        await house.pay(booking)
    else:
        await house.pay(booking, "tok_insufficient_funds")
    await house.rest()
    before = await rows(house)
    counted = await house.counted()
    await past.come_back()

    assert await guard.tick() == "recovered"

    await house.rest()
    if not paid:
        await house.fetch("UPDATE bookings SET updated_at = updated_at - interval '1 hour'")
        await houses.office.menders[SHARD].mend()
    now = await rows(house)
    assert now["booking_items"] == before["booking_items"]
    assert [row[6] for row in now["bookings"]] == [row[6] for row in before["bookings"]] == [1_000 + 2_000]
    assert await house.counted() == counted
    assert await house.state(booking) == ("C confirmed" if paid else "H held")


# ------------------------------------------------------------------ what may be sold of it


async def test_the_first_to_come_keep_their_tickets(houses: Houses, past: Past, guard: Guard, monkeypatch: Any) -> None:
    """Whatever the order in which their records are found, and however many are written at once. The last tier that is
    short withdraws all of a booking; what it would have had of the others goes to the next."""
    monkeypatch.setattr("boxoffice.repair.recovery.CHUNK", 2)
    house, other = houses.of(SHARD)
    await past.remember()
    orders = [{"GA": 1, "VIP": 2}, {"GA": 2, "VIP": 2}, {"GA": 2}, {"GA": 15}]
    booked = [await house.book(customer=f"c{n}", **order) for n, order in enumerate(orders[:2])]
    booked += [await other.book(customer="eve", GA=20)]
    booked += [await house.book(customer=f"d{n}", **order) for n, order in enumerate(orders[2:])]
    await house.rest()
    await past.come_back()
    for tier, total in zip(house.event.tiers, (18, 3), strict=True):
        await (await house.office.pool()).execute("UPDATE inventory SET total = $1 WHERE tier_id = $2", total, tier.id)

    assert await guard.tick() == "recovered"

    states = [await house.state(booking) for booking in booked]
    assert states == ["C confirmed", "F failed", "C confirmed", "C confirmed", "C confirmed"]
    assert await house.left("GA") == (0, 0, 18)
    assert await house.left("VIP") == (1, 0, 2)
    await house.at_rest(*booked)


async def test_whoever_was_forgotten_has_the_same_tickets_counted(houses: Houses, past: Past, guard: Guard) -> None:
    """The record's customer is a pseudonym by then: its digest is another than that of the customer. Of others none is kept."""
    house, _ = houses.of(SHARD)
    await past.remember()
    booking = await house.book(customer="ann", GA=3)
    other = await house.book(customer="bob", GA=1)
    await house.rest()
    pseudonym = (await house.office.forgetting.forget(CLIENT, "ann", "eve")).pseudonym
    await past.come_back()

    assert await guard.tick() == "recovered"

    await house.at_rest(booking, other)
    found = await house.fetch("SELECT customer_id, owner FROM bookings ORDER BY customer_id")
    assert [tuple(row) for row in found] == [("bob", None), (pseudonym, ids.owner_digest(CLIENT, "ann"))]


async def test_a_key_that_was_used_again_stays_with_whom_postgresql_has(
    houses: Houses, past: Past, guard: Guard
) -> None:
    """The other one is its duplicate: no tickets, no payment of its own."""
    house, _ = houses.of(SHARD)
    await past.remember()
    lost = await house.book(GA=2)
    await house.rest()
    record = await house.record(lost)
    assert record is not None
    await past.come_back()
    await house.office.redis.delete(keys.idempotency(SHARD, record.scope))
    first = ids.booking_id(SHARD, record.admitted_ms)
    await (await house.office.pool()).execute(
        "INSERT INTO bookings (id, client_id, event_id, customer_id, status, amount_cents, currency, idempotency_key,"
        " fingerprint, failure_code, sequence, created_at)"
        " VALUES ($1::uuid, $2, $3, 'ada', 'failed', 2000, 'USD', $4, $5, 'x', 1, now())",
        first, CLIENT, house.event.id, record.payload.key, record.fingerprint,
    )  # fmt: skip

    assert await guard.tick() == "recovered"

    (row,) = await house.fetch(
        "SELECT status, failure_code, duplicate_of::text FROM bookings WHERE id = $1::uuid", lost
    )
    assert tuple(row) == ("failed", "duplicate", first)
    assert await house.fetch("SELECT 1 FROM payments UNION ALL SELECT 1 FROM booking_items") == []
    assert await house.left("GA") == (20, 0, 0)


@pytest.mark.parametrize(("percent", "refunded"), [(100, 7_000), (50, 3_500), (0, 0)])
async def test_a_cancellation_that_nobody_remembers_gives_back_by_the_terms(
    houses: Houses, past: Past, guard: Guard, percent: int, refunded: int
) -> None:
    """Its moves' marks are gone after a week; its record is not. Of another event's terms nothing is taken."""
    house, other = houses.of(SHARD)
    pool = await house.office.pool()
    await pool.execute("UPDATE events SET refund_percent = $1 WHERE id = $2", percent, house.event.id)
    await pool.execute("UPDATE events SET refund_percent = 10 WHERE id = $1", other.event.id)
    await past.remember()
    booking = await house.book(GA=3, VIP=2)
    elsewhere = await other.book(GA=1)
    await house.rest()
    await house.cancel(booking)
    await other.cancel(elsewhere)
    await house.pump()
    for name in await house.office.redis.keys(f"{keys.shard_tag(SHARD)}:moved:*"):
        await house.office.redis.delete(name)
    await past.come_back()

    assert await guard.tick() == "recovered"

    await house.rest()
    assert await house.state(booking) == "X cancelled"
    assert await house.payments(booking) == ["captured/-"]
    assert (await house.payment(booking)).refunded_cents == refunded
    assert (await house.payment(elsewhere)).refunded_cents == 100
    (row,) = await house.fetch("SELECT refund_key FROM refunds WHERE booking_id = $1::uuid", booking) or [(None,)]
    assert row[0] in (ids.digest(booking, "cancel"), None)
    assert await house.left("GA") == (20, 0, 0)


async def test_a_part_that_came_back_before_is_not_given_back_twice(houses: Houses, past: Past, guard: Guard) -> None:
    """A refund of one ticket is remembered; the cancellation of the rest is not: the rest is given back by the terms."""
    house, _ = houses.of(SHARD)
    await past.remember()
    booking = await house.book(GA=3)
    await house.rest()
    await house.refund(booking, "part", GA=1)
    kept = set(await house.office.redis.keys(f"{keys.shard_tag(SHARD)}:moved:*"))
    await house.cancel(booking)
    await house.pump()
    for name in set(await house.office.redis.keys(f"{keys.shard_tag(SHARD)}:moved:*")) - kept:
        await house.office.redis.delete(name)
    await past.come_back()

    assert await guard.tick() == "recovered"

    await house.at_rest(booking)
    amounts = await house.fetch("SELECT amount_cents, reason FROM refunds ORDER BY 1")
    assert [tuple(row) for row in amounts] == [(1_000, "test"), (2_000, "cancelled")]
    assert (await house.payment(booking)).refunded_cents == 3_000


async def test_free_bookings_owe_nothing(houses: Houses, past: Past, guard: Guard) -> None:
    """Cancelled, and nobody remembers how: no refund of nothing."""
    office = houses.office
    starts_at = datetime.now(UTC) + timedelta(days=30)
    event = await office.store.create_event(CLIENT, "Fair", starts_at, "USD", [NewTier("GA", 0, 10)])
    assert event.shard == SHARD
    till = Till(office, event)
    await past.remember()
    confirmed, cancelled = await till.book(None, GA=1), await till.book(None, GA=2)
    await till.rest()
    await till.cancel(cancelled)
    for name in await office.redis.keys(f"{keys.shard_tag(SHARD)}:moved:*"):
        await office.redis.delete(name)
    await past.come_back()

    assert await guard.tick() == "recovered"

    assert [await till.state(booking) for booking in (confirmed, cancelled)] == ["C confirmed", "X cancelled"]
    assert await till.fetch("SELECT 1 FROM refunds UNION ALL SELECT 1 FROM payments") == []
    await till.at_rest(confirmed, cancelled)


@pytest.mark.parametrize("state", ["unknown", "requires_action"])
async def test_a_payment_that_was_undecided_then_ends_as_redis_was_told(till: Till, state: str) -> None:
    """With the gateway's reason and reference, and with nothing for its customer to do any more."""
    booking = await till.book("tok_card_declined", GA=1)
    await till.rest()
    record = await till.record(booking)
    assert record is not None and record.payload.outcome is not None
    pool = await till.office.pool()
    await pool.execute("UPDATE bookings SET status = 'pending', failure_code = NULL")
    await pool.execute(
        "UPDATE payments SET status = $1, failure_code = NULL, next_action = 'https://bank.example', due = NULL", state
    )
    async with pool.acquire() as connection, connection.transaction():
        await rewrite(
            connection, ids.shard_of(booking), [record], {}, gateway="books", known={till.event.id}, forget=False
        )
    rows = await till.fetch("SELECT status, failure_code, reference, next_action, due FROM payments")
    outcome = record.payload.outcome
    assert outcome.failure_code == "card_declined"
    assert [tuple(row) for row in rows] == [("declined", "card_declined", outcome.reference, None, None)]


async def test_a_hold_that_was_sold_is_written_with_the_items_that_its_record_has(till: Till) -> None:
    """Whether or not the record remembers that they were changed."""
    booking = await till.hold(GA=2)
    await till.pay(booking)
    await till.rest()
    record = await till.record(booking)
    assert record is not None and not record.changed
    pool = await till.office.pool()
    await pool.execute("UPDATE bookings SET status = 'held', amount_cents = 5000")
    await pool.execute("UPDATE booking_items SET quantity = 5")
    async with pool.acquire() as connection, connection.transaction():
        await rewrite(
            connection, ids.shard_of(booking), [record], {}, gateway="books", known={till.event.id}, forget=False
        )
    (row,) = await till.fetch(
        "SELECT status, amount_cents, quantity, refunded FROM bookings b JOIN booking_items i ON i.booking_id = b.id"
    )
    assert tuple(row) == ("confirmed", 2_000, 2, 0)


# ------------------------------------------------------------------ whose it is


@pytest.mark.parametrize("how", ["recover", "accept"])
async def test_recovering_one_shard_leaves_the_other_as_it_is(
    houses: Houses, past: Past, guard: Guard, how: str
) -> None:
    """Its records, its events and its row: PostgreSQL lacks its commits, too, and its own guard will see to them."""
    await past.remember()
    for house in houses.houses:
        house.booked["sold"] = await house.book(customer="ann", GA=1)
    await houses.houses[0].rest()
    await past.come_back()
    photo, row = await houses.photo(0), await houses.row(0)

    if how == "recover":
        assert await guard.tick() == "recovered"
    else:
        await guard.rebuilder.rebuild(accept_postgres=True)

    assert (await houses.photo(0), await houses.row(0)) == (photo, row)
    expected = "C confirmed" if how == "recover" else "F failed"
    assert [await house.state(house.booked["sold"]) for house in houses.of(SHARD)] == [expected] * 2
    assert [await house.state(house.booked["sold"]) for house in houses.of(0)] == ["C -"] * 2
    assert await houses.office.guards[0].tick() == "recovered"


async def test_an_event_that_postgresql_lacks_is_taken_off_the_sale_of_its_shard(houses: Houses, guard: Guard) -> None:
    """When an operator accepts it. Its sibling goes on selling, and nothing of the other shard is forgotten."""
    gone, sibling = houses.of(SHARD)
    lost, kept = await gone.book(GA=1), await sibling.book(customer="ann", GA=1)
    await gone.rest()
    pool = await gone.office.pool()
    for statement in (
        "DELETE FROM captures", "DELETE FROM payments WHERE booking_id IN (SELECT id FROM bookings WHERE event_id = $1)",
        "DELETE FROM booking_items WHERE booking_id IN (SELECT id FROM bookings WHERE event_id = $1)",
        "DELETE FROM bookings WHERE event_id = $1",
        "DELETE FROM inventory WHERE tier_id IN (SELECT id FROM tiers WHERE event_id = $1)",
        "DELETE FROM event_changes WHERE event_id = $1", "DELETE FROM tiers WHERE event_id = $1",
        "DELETE FROM event_shares WHERE event_id = $1", "DELETE FROM events WHERE id = $1",
    ):  # fmt: skip
        await pool.execute(statement, *([gone.event.id] if "$1" in statement else []))
    await gone.office.redis.sadd(keys.told(SHARD), "99:1")  # type: ignore[misc]
    photo = await houses.photo(0)
    assert await guard.tick() == POSTGRES_WENT_BACK
    version = await gone.office.redis.hget(keys.catalogue(SHARD), "version")  # type: ignore[misc]

    await guard.rebuilder.rebuild(accept_postgres=True)

    on_sale = {name.decode() for name in await gone.office.redis.hkeys(keys.catalogue(SHARD))}  # type: ignore[misc]
    assert on_sale == {sibling.event.id, "version"}
    assert int(await gone.office.redis.hget(keys.catalogue(SHARD), "version")) > int(version)  # type: ignore[misc]
    assert not await gone.office.redis.exists(keys.event(SHARD, gone.event.id), keys.owners(SHARD, gone.event.id))
    assert await gone.state(lost) == "F failed"
    assert await sibling.left("GA") == (19, 0, 1)
    assert await sibling.state(kept) == "C confirmed"
    assert await houses.photo(0) == photo


# ------------------------------------------------------------------ how much came back


def note(tier: str, quantity: int, key: str = "k", all_items: str = "") -> Note:
    return Note("booking", tier, quantity, key, 500, "reason", "", "", all_items)


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ([note("a", 1), note("b", 2)], {"k": {"a": 1, "b": 2}}),
        ([note("a", 1), note("a", 2)], {"k": {"a": 3}}),
        ([note("a", 1, all_items="a:1,b:2")], {"k": {"a": 1, "b": 2}}),
        ([note("a", 1, all_items="a:1,b:2"), note("b", 2, all_items="a:1,b:2")], {"k": {"a": 1, "b": 2}}),
        ([note("a", 1, all_items="a:1"), note("a", 1, "l", "a:1")], {"k": {"a": 1}, "l": {"a": 1}}),
        ([note("a", 2, "")], {"": {"a": 2}}),
        ([], {}),
    ],
)
def test_notes_tell_what_came_back_with_each_refund(notes: list[Note], expected: dict[str, dict[str, int]]) -> None:
    """The whole of it, however many of its tiers Redis heard of."""
    assert {key: dict(tickets) for key, (_, tickets) in came_back(notes).items()} == expected
