"""A customer is forgotten: nothing personal is left in either store, and the books, the limits and the counters agree."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from boxoffice import ids
from boxoffice.books import interventions, personal
from boxoffice.books.moves import Note
from boxoffice.errors import CannotRun, CustomerLimit, KeyReused
from boxoffice.office import BoxOffice
from boxoffice.sales.control import Actor
from boxoffice.stores import keys
from tests.conftest import SHARD, SaleMaker, load_all
from tests.ops.terminal import run
from tests.support.calling_off import work_off
from tests.support.checks import check_at_rest
from tests.support.shop.office import Till, book
from tests.support.shop.orders import CLIENT, OTHER

pytestmark = pytest.mark.usefixtures("terminal")

WHO = "ada@example.org"


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> Till:
    await load_all(office)
    return Till(office, await open_sale(GA=50))


async def forget(*arguments: str) -> dict[str, Any]:
    code, said = await run("customers", "forget", WHO, "--client", CLIENT, "--json", *arguments)
    assert code == 0
    found: dict[str, Any] = json.loads(said)
    return found


async def everything(till: Till) -> str:
    """All that PostgreSQL and Redis have, as text."""
    rows = [
        str([dict(row) for row in await till.fetch(f"SELECT * FROM {table}")])
        for table in (
            "bookings",
            "payments",
            "refunds",
            "dead_letters",
            "interventions",
            "webhook_events",
            "stock_moves",
        )
    ]
    redis = till.office.redis
    probes = {keys.probe(shard).encode() for shard in range(len(till.office.shards))}  # of whoever looks for its rights
    for name in sorted({*await redis.keys("*")} - probes):
        if await redis.type(name) == b"string":
            rows.append(f"{name} {await redis.get(name)}")
    return "\n".join(rows)


async def busy(till: Till) -> list[str]:
    """Bookings of the customer: confirmed and refunded in part, declined, cancelled at the desk, a hold that ended."""
    kept = await till.book(GA=3, customer=WHO, reference="order-1", metadata={"a": WHO}, return_url=f"https://{WHO}")
    await till.book("tok_card_declined", GA=1, customer=WHO)
    gone = await till.book(GA=2, customer=WHO)
    paid = await till.hold(GA=1, customer=WHO)
    await till.rest()
    await till.pay(paid, "tok_card_declined")
    await till.rest()
    await till.cancel(paid)
    await run("bookings", "cancel", gone, "--reason", f"{WHO} called")
    items = {till.event.tiers[0].id: 1}
    await till.office.refunds.refund(CLIENT, kept, ids.digest("r"), items, f"for {WHO}")
    hold = await till.book(None, GA=1, customer=WHO, metadata={WHO: "a"})
    await till.cancel(hold)
    await till.rest()
    await till.fetch(
        "INSERT INTO dead_letters (booking_id, record, error, attempts) VALUES ($1, $2, 'x', 1)", kept, WHO.encode()
    )
    return [kept, gone, paid, hold]


async def test_nothing_personal_is_left_and_the_books_stay(till: Till) -> None:
    kept, *_ = await busy(till)
    other = await till.book(GA=1, customer="grace")
    same = (await book(till.office, till.event, client=OTHER, customer=WHO, GA=1)).booking_id
    await till.rest()
    before = await till.fetch("SELECT id, status, amount_cents, reference FROM bookings ORDER BY id")
    money = await till.fetch("SELECT payment_key, status, amount_cents, refunded_cents FROM payments ORDER BY 1")

    found = await forget("--by", "eve")

    assert found["erased"] == {"bookings": 4, "payments": 4, "refunds": 1, "dead_letters": 1, "interventions": 1}
    assert found["records"] == 5
    left = await everything(till)
    assert left.count(WHO) == 2, "another shop's customer of the same name, in both stores"
    for what in ("Ada Lovelace", "4242"):
        assert left.count(what) == (await everything_of(till, other, same)).count(what), "of the others"
    assert await till.fetch("SELECT id, status, amount_cents, reference FROM bookings ORDER BY id") == before
    assert (
        await till.fetch("SELECT payment_key, status, amount_cents, refunded_cents FROM payments ORDER BY 1") == money
    )
    (row,) = await till.fetch("SELECT operator, outcome FROM interventions WHERE verb = 'forget'")
    assert tuple(row) == ("eve", "erased 4 bookings, 5 records")
    assert (await till.office.bookings.get(CLIENT, kept)).view.customer_id == found["pseudonym"]
    notes = [name async for name in till.office.redis.scan_iter(f"{keys.moved(SHARD, '')}*")]
    assert notes and min([await till.office.redis.ttl(name) for name in notes]) > 0
    await check_at_rest(till.office, [])


async def everything_of(till: Till, *bookings: str) -> str:
    rows = [
        str(
            [
                dict(row)
                for row in await till.fetch(f"SELECT * FROM {table} WHERE {column} = ANY($1::uuid[])", list(bookings))
            ]
        )
        for table, column in (("bookings", "id"), ("payments", "booking_id"))
    ]
    return "\n".join(rows + [str(await till.office.redis.get(keys.booking(SHARD, each))) for each in bookings])


async def test_what_redis_remembers_of_other_refunds_stays(till: Till) -> None:
    """Another customer's, and what no shop wrote."""
    mine, other, gone = [await till.book(GA=2, customer=name) for name in (WHO, "grace", WHO)]
    await till.rest()
    for booking in (mine, other):
        items = {till.event.tiers[0].id: 1}
        await till.office.refunds.refund(CLIENT, booking, ids.digest(booking), items, f"for {booking}")
    await till.cancel(gone)
    await till.rest()

    async def reasons() -> dict[str, str]:
        names = [name async for name in till.office.redis.scan_iter(f"{keys.moved(SHARD, '')}*")]
        notes = [msgspec.json.decode(await till.office.redis.get(name), type=Note) for name in names]
        return {note.booking: note.reason for note in notes}

    before = await reasons()
    assert before.keys() == {mine, other, gone} and before[gone] in personal.OURS
    await forget()
    assert await reasons() == before | {mine: personal.ERASED}


async def test_once_more_changes_nothing(till: Till) -> None:
    await busy(till)
    pseudonym = (await forget())["pseudonym"]
    before = await till.fetch("SELECT * FROM bookings ORDER BY id")
    assert await forget() == {"pseudonym": None, "erased": dict.fromkeys(personal.TABLES, 0), "records": 0, "unread": 0}
    assert await till.fetch("SELECT * FROM bookings ORDER BY id") == before
    with pytest.raises(CannotRun, match="pseudonym"):
        await run("customers", "forget", pseudonym, "--client", CLIENT)
    code, said = await run("customers", "forget", "nobody", "--client", CLIENT)
    assert (code, "nothing; in Redis: 0 records" in said, "gateway" in said) == (0, True, True)


async def test_what_was_erased_before_is_told_once(till: Till) -> None:
    """A record in Redis that came back leads to its row once more."""
    await busy(till)
    pseudonym = (await forget())["pseudonym"]
    told = "SELECT coalesce(sum(size), 0)::int FROM notices WHERE type = 'booking.forgotten'"
    ((count,),) = await till.fetch(told)
    assert count == 4
    known = [str(row["id"]) for row in await till.fetch("SELECT id FROM bookings WHERE customer_id = $1", pseudonym)]
    async with till.office.database.begin() as connection:
        erased = await personal.erase(connection, known, pseudonym, ids.owner_digest(CLIENT, WHO))
    assert (len(known), erased) == (4, dict.fromkeys(personal.TABLES, 0))
    assert [tuple(row) for row in await till.fetch(told)] == [(count,)]


async def test_who_died_on_the_way_is_gone_on_with(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    await busy(till)
    with monkeypatch.context() as dying:
        dying.setattr(personal, "erase", None)
        with pytest.raises(TypeError):
            await forget()
    found = await forget()
    assert (found["records"], found["erased"]["bookings"]) == (0, 4)
    assert WHO not in await everything(till)
    assert {row[0] for row in await till.fetch("SELECT customer_id FROM bookings")} == {found["pseudonym"]}


async def test_what_is_booked_meanwhile_is_erased_too(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Booked and settled after the records were read: PostgreSQL knows it, and so it is looked for in Redis."""
    await busy(till)
    begin = interventions.begin

    async def slowly(database: Any, verb: str, *rest: Any) -> int:
        monkeypatch.undo()
        await till.book(GA=1, customer=WHO)
        await till.rest()
        return await begin(database, verb, *rest)

    await till.fetch("UPDATE events SET customer_max = NULL")
    monkeypatch.setattr(interventions, "begin", slowly)
    found = await till.office.forgetting.forget(CLIENT, WHO, "eve")
    assert (found.records, found.erased["bookings"]) == (6, 5)
    assert WHO not in await everything(till)


async def fail(till: Till, booking: str, record: bytes, parked: bool = False) -> None:
    await till.fetch(
        "INSERT INTO dead_letters (booking_id, record, error, attempts, parked_at)"
        " VALUES ($1, $2, 'x', 1, CASE WHEN $3 THEN now() END)",
        booking, record, parked,
    )  # fmt: skip


async def test_what_failed_of_bookings_that_postgresql_does_not_have_is_erased_too(till: Till) -> None:
    """A hold that an operator ended, and one whose record only a failure still has; another's failure stays."""
    hold, lost, other = [await till.hold(GA=1, customer=who) for who in (WHO, WHO, "grace")]
    await run("bookings", "cancel", hold, "--reason", f"{WHO} called")
    await till.cancel(lost)
    await till.rest()
    await fail(till, hold, WHO.encode())
    for booking in (lost, other):
        raw = await till.office.redis.get(keys.booking(SHARD, booking))
        assert raw is not None
        await fail(till, booking, raw)
    await till.office.redis.delete(keys.booking(SHARD, lost))
    assert await till.fetch("SELECT id FROM bookings") == []
    found = await forget()
    assert (found["pseudonym"], found["records"], found["unread"]) == (None, 1, 0)
    assert {table: count for table, count in found["erased"].items() if count} == {
        "dead_letters": 2,
        "interventions": 1,
    }
    assert WHO not in await everything(till)
    (kept,) = await till.fetch("SELECT booking_id::text FROM dead_letters WHERE record <> ''")
    assert kept[0] == other


@pytest.mark.parametrize("redis_has_it", [True, False])
async def test_what_is_parked_and_has_no_row_is_undecided(till: Till, redis_has_it: bool) -> None:
    """Its record is all that is left of the booking."""
    hold = await till.hold(GA=1, customer=WHO)
    await till.cancel(hold)
    await till.rest()
    raw = await till.office.redis.get(keys.booking(SHARD, hold))
    assert raw is not None
    await fail(till, hold, raw, parked=True)
    if not redis_has_it:
        await till.office.redis.delete(keys.booking(SHARD, hold))
    before = await everything(till)
    with pytest.raises(CannotRun, match="1 parked"):
        await forget()
    assert await everything(till) == before


async def test_how_many_records_nobody_can_read_is_told(till: Till) -> None:
    """Of bookings without a row: of others it is known whose they are."""
    booking = await till.book(GA=1, customer="grace")
    await till.rest()
    await fail(till, booking, b"x")
    await fail(till, ids.booking_id(SHARD, 1_000), b"x")
    await fail(till, ids.booking_id(SHARD, 1_001), b"")
    assert (await forget())["unread"] == 1
    said = (await run("customers", "forget", WHO, "--client", CLIENT))[1]
    assert "1 records cannot be read" in said
    await till.fetch("DELETE FROM dead_letters")
    assert "cannot be read" not in (await run("customers", "forget", WHO, "--client", CLIENT))[1]


async def test_a_record_that_nobody_can_read_keeps_nobody_from_being_forgotten(till: Till) -> None:
    """Its row tells whose it is; what the record says is gone with it a day after the booking ended."""
    torn, other = [await till.book(GA=1, customer=WHO) for _ in range(2)]
    await till.rest()
    await till.office.redis.set(keys.booking(SHARD, torn), "C|nonsense", keepttl=True)
    found = await forget()
    assert (found["erased"]["bookings"], found["records"], found["unread"]) == (2, 1, 1)
    record = await till.record(other)
    assert record is not None and record.body.customer == found["pseudonym"]


async def test_whose_event_was_called_off_stays_so_in_the_report(till: Till) -> None:
    """Reasons that are no free text are the books'."""
    office = till.office
    await busy(till)
    await office.calling_off.call_off(till.event.id, "rain", Actor("key:shop", CLIENT))
    await work_off(till)
    before = await office.calling_off.report(till.event.id)
    await forget()
    after = await office.calling_off.report(till.event.id)
    assert after == before
    assert after["refunds"]
    assert WHO not in await everything(till)


async def test_tickets_of_a_called_off_event_are_given_back_to_who_was_forgotten(till: Till) -> None:
    await till.book(GA=2, customer=WHO)
    await till.rest()
    await forget()
    await till.office.calling_off.call_off(till.event.id, "rain", Actor("key:shop", CLIENT))
    await work_off(till)
    await check_at_rest(till.office)


async def test_asked_again_it_is_the_same_booking(till: Till) -> None:
    """From Redis's record, and from PostgreSQL once that has left: no second booking, no other customer's name."""
    kept = await till.book(key="k", GA=2, customer=WHO)
    await till.rest()
    pseudonym = (await forget())["pseudonym"]
    assert await till.book(key="k", GA=2, customer=WHO) == kept
    with pytest.raises(KeyReused):
        await till.book(key="k", GA=2, customer=pseudonym)
    record = await till.record(kept)
    assert record is not None
    await till.office.redis.delete(keys.booking(SHARD, kept), keys.idempotency(SHARD, record.scope))
    again = await till.book(key="k", GA=2, customer=WHO)
    await till.rest()
    (row,) = await till.fetch("SELECT duplicate_of::text FROM bookings WHERE id = $1::uuid", again)
    assert row[0] == kept
    await check_at_rest(till.office, [kept])


async def test_a_limit_outlives_who_was_forgotten(till: Till) -> None:
    """Also a rebuild, which counts anew from PostgreSQL; and tickets that go back are given back to it."""
    await till.fetch("UPDATE events SET customer_max = 3")
    await till.office.loader.load(SHARD)
    first = await till.book(GA=2, customer=WHO)
    await till.rest()
    await forget()
    again = await till.book(GA=1, customer=WHO)
    await till.rest()
    await till.office.redis.delete(keys.owners(SHARD, till.event.id))
    await till.office.rebuilders[SHARD].rebuild()
    with pytest.raises(CustomerLimit):
        await till.book(GA=1, customer=WHO)
    await till.cancel(first)
    assert await till.book(GA=2, customer=WHO)
    await till.rest()
    with pytest.raises(CustomerLimit):
        await till.book(GA=1, customer=WHO)
    await forget()
    await check_at_rest(till.office, [first, again])


UNDECIDED = {
    "a hold": "1 bookings in Redis",
    "pending": "1 bookings in Redis",
    "owed": "1 refunds",
    "due": "1 payments",
    "unknown": "1 payments",
    "requires_action": "1 payments",
    "looked at": "1 payments",
    "refund due": "1 refunds",
    "refund pending": "1 refunds",
    "parked": "1 parked",
}


@pytest.mark.parametrize("what", UNDECIDED)
async def test_what_is_undecided_comes_first(till: Till, what: str) -> None:
    """Refused with what it is, and nothing at all is erased."""
    booking = await till.book("tok_refund_refused" if what == "owed" else "tok_ok", GA=2, customer=WHO)
    await till.rest()
    match what:
        case "a hold":
            await till.hold(GA=1, customer=WHO)
        case "pending":
            await till.book(GA=1, customer=WHO)
        case "owed":
            await till.cancel(booking)
            await till.pump()
        case "due":
            await till.fetch("UPDATE payments SET due = 'void', due_at = now() + interval '1 hour'")
        case "unknown" | "requires_action":
            await till.fetch("UPDATE payments SET status = $1", what)
        case "looked at":
            await till.fetch("INSERT INTO looks (payment_key) SELECT payment_key FROM payments")
        case "refund due" | "refund pending":
            await till.cancel(booking)
            await till.fetch("UPDATE refunds SET status = $1", what.removeprefix("refund "))
        case _:
            await till.fetch(
                "INSERT INTO dead_letters (booking_id, record, error, attempts, parked_at) VALUES ($1, '', 'x', 1, now())",
                booking,
            )
    before = await everything(till)
    with pytest.raises(CannotRun) as caught:
        await forget()
    assert UNDECIDED[what] in caught.value.detail
    assert "Nothing was erased" in caught.value.detail
    assert await everything(till) == before


async def test_without_redis_nothing_is_erased(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    await till.book(GA=2, customer=WHO)
    await till.rest()
    before = await everything(till)
    with monkeypatch.context() as away:
        away.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
        with pytest.raises(Exception, match="Nothing was erased"):
            await forget()
    assert await everything(till) == before
