"""The gateway's books against ours: each difference is found, and mended as far as it can be."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from boxoffice import ids
from boxoffice.errors import CannotRun
from boxoffice.gateway.base import (
    AuthorizeRequest,
    Record,
)
from boxoffice.repair import payments_audit
from boxoffice.repair.differences import DIFFERENCES, Difference
from boxoffice.stores import keys
from tests.conftest import SHARD
from tests.support.clocks import Passing
from tests.support.differences import AGO, NEVER, NOW, ours, pair_of_sales, stray, told
from tests.support.shop.office import Till


async def audit(till: Till, *, fix: bool = False) -> list[tuple[str, bool | None]]:
    """What differs, and whether it was mended."""
    return [(found.what, found.mended) async for found in till.office.payments_audit.run(fix=fix, grace_s=0)]


async def mended(till: Till, what: str) -> None:
    """It is found, mended when asked to, and gone afterwards."""
    assert await audit(till) == [(what, None)]
    assert await audit(till, fix=True) == [(what, True)]
    await till.pump()
    assert await audit(till) == []


async def test_books_that_agree(till: Till) -> None:
    """Confirmed, declined, cancelled, refunded in part, still pending, held: nothing to tell."""
    confirmed, cancelled, refunded = [await till.book(GA=2) for _ in range(3)]
    await till.book("tok_card_declined", GA=1)
    await till.rest()
    await till.cancel(cancelled)
    await till.refund(refunded, GA=1)
    await till.book("tok_3ds", GA=1)
    hold = await till.hold(VIP=1)
    await till.drain()
    await till.pump_once()

    assert await audit(till) == []
    assert await till.state(confirmed) == "C confirmed"
    assert await till.state(hold) == "H -"


async def test_money_set_aside_for_nothing(till: Till) -> None:
    key = await stray(till, captured=False)
    await mended(till, "authorized_without_booking")
    assert (await till.gateway.lookup(key, None)).status == "voided"  # type: ignore[union-attr]


async def test_money_taken_for_nothing(till: Till) -> None:
    key = await stray(till, captured=True)
    await mended(till, "captured_without_booking")
    assert (await till.gateway.lookup(key, None)).refunded_cents == 500  # type: ignore[union-attr]


async def test_a_booking_that_is_about_to_be_written_is_no_difference(till: Till) -> None:
    """It is pending in Redis under this very payment."""
    booking = await till.book(GA=1)
    record = await till.record(booking)
    assert record is not None
    await till.gateway.authorize(AuthorizeRequest(record.payment_key, booking, 1_000, "USD", "card", "tok_ok_4242"))
    assert await audit(till, fix=True) == []
    await till.at_rest(booking)


async def test_money_set_aside_for_a_failed_booking(till: Till) -> None:
    booking = await till.book(GA=1)
    await till.drain()
    till.office.pump.given.clear()
    pool = await till.office.pool()
    await pool.execute("DELETE FROM captures")
    await pool.execute("UPDATE payments SET status = 'failed', due = NULL, due_at = NULL, leased_until = NULL")
    await pool.execute("UPDATE bookings SET status = 'failed' WHERE id = $1", booking)
    await mended(till, "authorized_not_confirmed")
    assert (await till.payment(booking)).status == "voided"


async def test_money_taken_for_a_failed_booking(till: Till) -> None:
    booking = await till.book(GA=1)
    await till.rest()
    pool = await till.office.pool()
    await pool.execute("UPDATE payments SET status = 'failed'")
    await pool.execute("UPDATE bookings SET status = 'failed' WHERE id = $1", booking)
    await mended(till, "captured_not_confirmed")
    assert (await till.payment(booking)).refunded_cents == 1_000


async def test_a_confirmed_booking_that_was_never_paid(till: Till) -> None:
    booking = await till.book(GA=1)
    await till.drain()
    till.office.pump.given.clear()
    await (await till.office.pool()).execute("DELETE FROM captures")
    await (await till.office.pool()).execute("UPDATE payments SET due = NULL, due_at = NULL, leased_until = NULL")
    await mended(till, "confirmed_not_captured")
    assert (await till.payment(booking)).captured_cents == 1_000


async def test_a_capture_that_was_not_marked(till: Till) -> None:
    booking = await till.book(GA=1)
    await till.rest()
    await (await till.office.pool()).execute("UPDATE payments SET status = 'authorized'")
    await mended(till, "capture_not_marked")
    assert await till.payments(booking) == ["captured/-"]


async def test_what_only_a_person_can_mend(till: Till) -> None:
    """Other amounts, and money that the gateway never saw."""
    booking = await till.book(GA=2)
    await till.rest()
    pool = await till.office.pool()
    await pool.execute("UPDATE payments SET amount_cents = 1900")
    assert await audit(till, fix=True) == [("amount_differs", None)]
    await pool.execute("UPDATE payments SET amount_cents = 2000")
    record = await till.record(booking)
    assert record is not None
    await till.gateway.refund("elsewhere", record.payment_key, "", 100)
    assert await audit(till) == [("refunded_differs", None)]
    assert await audit(till, fix=True) == [("refunded_differs", True)]
    assert await audit(till) == []
    await pool.execute(
        "INSERT INTO payments (payment_key, booking_id, gateway, method, amount_cents, currency, status)"
        " VALUES ('unheard', $1, 'simulator', 'card', 1, 'USD', 'captured')", booking,
    )  # fmt: skip
    assert ("unknown_to_gateway", None) in await audit(till, fix=True)


async def test_half_an_audit_is_none(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise OSError

    await stray(till, captured=False)
    monkeypatch.setattr(till.office.redis, "pipeline", away)
    with pytest.raises(CannotRun):
        await audit(till)


@pytest.mark.parametrize("when", ["before the row is read again", "before it is locked", "before it is looked up"])
async def test_what_workers_do_meanwhile_is_left_to_them(
    till: Till, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Right after an outage: money is set aside for many bookings, and while the audit goes through them a worker settles
    and captures them. None of it is told, or let go."""
    audited = till.office.payments_audit
    booked = [await till.book(GA=1) for _ in range(5)]
    for booking in booked:
        record = await till.record(booking)
        assert record is not None
        await till.gateway.authorize(AuthorizeRequest(record.payment_key, booking, 1_000, "USD", "card", "tok_ok_4242"))
    name = {
        "before the row is read again": "under_way",
        "before it is locked": "mend",
        "before it is looked up": "is_on_its_way",
    }[when]
    if name != "under_way":
        # They were settled; their captures were lost, and due long ago.
        await till.drain()
        till.office.pump.given.clear()
        pool = await till.office.pool()
        await pool.execute("DELETE FROM captures")
        await pool.execute("UPDATE payments SET due_at = now() - interval '1 hour'")
    real = getattr(audited, name)

    async def overtaken(*args: Any) -> Any:
        await till.drain()
        await till.office.pump.work_given()
        if name != "under_way":
            await till.office.pump.work_outbox()
        return await real(*args)

    monkeypatch.setattr(audited, name, overtaken)
    found = await audit(till, fix=True)
    assert found == ([("confirmed_not_captured", False)] if name == "mend" else [])
    assert {(await till.payment(booking)).status for booking in booked} == {"captured"}
    await till.at_rest(*booked)


async def test_what_is_due_already_is_left_to_the_workers(till: Till) -> None:
    """Overdue after an outage, or because none is running: it is told, and a worker does it."""
    booked = [await till.book(GA=1) for _ in range(3)]
    await till.drain()
    till.office.pump.given.clear()
    pool = await till.office.pool()
    await pool.execute("DELETE FROM captures")
    await pool.execute("UPDATE payments SET due_at = now() - interval '1 hour', tries = 7")
    before = await pool.fetch("SELECT payment_key, due, due_at, tries FROM payments ORDER BY 1")
    assert await audit(till, fix=True) == 3 * [("confirmed_not_captured", True)]
    assert await pool.fetch("SELECT payment_key, due, due_at, tries FROM payments ORDER BY 1") == before
    await pool.execute("UPDATE payments SET leased_until = now() + interval '1 minute'")
    assert await audit(till, fix=True) == [], "one that a worker has claimed is on its way"
    await till.at_rest(*booked)


async def test_nothing_is_mended_while_an_operator_has_to_decide(till: Till) -> None:
    """A PostgreSQL that went back lacks bookings that were confirmed: their money is not for the audit to give back."""
    await stray(till, captured=True)
    pool = await till.office.pool()
    await pool.execute("UPDATE shards SET alert = 'postgres_went_back'")
    assert await audit(till) == [("captured_without_booking", None)]
    with pytest.raises(CannotRun, match="decide that first"):
        await audit(till, fix=True)


async def test_the_money_of_a_parked_booking_stays_set_aside(till: Till) -> None:
    """Also of one that nobody can read: `dead retry` may still sell it, `dead fail` lets its money go."""
    booked = [await till.book(GA=1) for _ in range(2)]
    for booking in booked:
        record = await till.record(booking)
        assert record is not None
        await till.gateway.authorize(AuthorizeRequest(record.payment_key, booking, 1_000, "USD", "card", "tok_ok_4242"))
    raws = [await till.office.redis.get(keys.booking(SHARD, booking)) for booking in booked]
    await till.office.redis.set(keys.booking(SHARD, booked[0]), raws[0].replace(b"\n", b"\n{broken", 1))
    await till.office.redis.set(keys.booking(SHARD, booked[1]), b"garbage")
    await till.drain()
    assert await till.office.redis.zcard(keys.dead(SHARD)) == 2
    assert await audit(till, fix=True) == []
    for booking, raw in zip(booked, raws, strict=True):
        await till.office.redis.set(keys.booking(SHARD, booking), raw)
    await till.office.parked.retry_all(await till.office.parked.all())
    await till.rest()
    assert {(await till.payment(booking)).status for booking in booked} == {"captured"}


def test_every_difference_is_explained() -> None:
    assert all(meaning for meaning in DIFFERENCES.values())


async def test_everything_that_is_known_of_a_booking(till: Till) -> None:
    """Side by side, without the gateway's token; also when Redis has forgotten it."""
    booking = await till.book(GA=1)
    await till.rest()

    dossier = await till.office.dossiers.of(booking)

    assert dossier["redis"]["state"] == "confirmed"
    assert dossier["postgres"]["booking"][0]["status"] == "confirmed"
    assert [found["captured_cents"] for found in dossier["gateway"].values()] == [1_000]
    assert "tok_" not in str(dossier)
    await till.office.redis.delete(keys.booking(SHARD, booking))
    assert (await till.office.dossiers.of(booking))["redis"] is None


# ------------------------------------------------------------------ what is a difference


@pytest.mark.parametrize(
    ("record", "row", "what"),
    [
        (told("authorized"), ours("authorized", "confirmed"), "confirmed_not_captured"),
        (told("authorized"), ours("authorized", "cancelled"), "confirmed_not_captured"),
        (told("authorized"), ours("captured", "confirmed"), "confirmed_not_captured"),
        (told("authorized"), ours("failed", "cancelled"), "authorized_not_confirmed"),
        (told("authorized"), ours("voided", "confirmed"), "authorized_not_confirmed"),
        (told("authorized"), ours("unknown", "failed"), "authorized_not_confirmed"),
        (told("authorized"), ours("authorized", "failed"), "authorized_not_confirmed"),
        (told("authorized"), ours("declined", "held"), "authorized_not_confirmed"),
        (told("authorized"), ours("unknown", "pending"), None),
        (told("authorized"), ours("requires_action", "held"), None),
        (told("captured", 1_000), ours("captured", "confirmed"), None),
        (told("captured", 1_000), ours("captured", "failed"), None),
        (told("captured", 1_000), ours("authorized", "confirmed"), "capture_not_marked"),
        (told("captured", 1_000), ours("authorized", "cancelled"), "capture_not_marked"),
        (told("captured", 1_000), ours("authorized", "failed"), "captured_not_confirmed"),
        (told("captured", 1_000), ours("voided", "confirmed"), "captured_not_confirmed"),
        (told("captured", 1_000), ours("unknown", "expired"), "captured_not_confirmed"),
        (told("captured", 1_000), ours("unknown", "pending"), None),
        (told("voided"), ours("authorized", "confirmed"), None),
        (told("declined"), ours("authorized", "confirmed"), None),
        (told("authorized"), ours("authorized", "confirmed", settled=False), None),
        (told("authorized"), ours("authorized", "confirmed", leased=True), None),
        (told("authorized"), ours("authorized", "confirmed", due="capture", overdue=False), None),
        (told("authorized"), ours("authorized", "confirmed", due="capture"), "confirmed_not_captured"),
        (told("captured", 1_000), ours("failed", "failed", due="void", overdue=False), None),
        (told("captured", 1_000), ours("failed", "failed", due="void"), "captured_not_confirmed"),
    ],
)
def test_the_difference_that_money_makes(record: Record, row: dict[str, object], what: str | None) -> None:
    """What workers will do by themselves, and what is undecided, is none."""
    assert payments_audit.money_differs(record, row) == what


@pytest.mark.parametrize("change", [{"status": "voided"}, {"captured_cents": 1}, {"refunded_cents": 1}])
async def test_what_the_gateway_tells_otherwise_by_now_is_left_alone(
    till: Till, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    """Between its list and a second look something has happened: somebody is at work."""
    booking = await till.book(GA=1)
    await till.rest()
    await (await till.office.pool()).execute("UPDATE payments SET status = 'failed'")
    await (await till.office.pool()).execute("UPDATE bookings SET status = 'failed' WHERE id = $1", booking)
    lookup = till.gateway.lookup

    async def later(*args: Any) -> Any:
        return replace(await lookup(*args), **change)

    with monkeypatch.context() as patch:
        patch.setattr(till.gateway, "lookup", later)
        assert await audit(till, fix=True) == []
    assert await audit(till) == [("captured_not_confirmed", None)]


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ("amount_cents = 999", True),
        ("currency = 'EUR'", True),
        ("reference = 'elsewhere'", False),
    ],
)
async def test_amounts_and_currencies_are_compared(till: Till, change: str, differs: bool) -> None:
    await till.book(GA=1)
    await till.rest()
    await (await till.office.pool()).execute(f"UPDATE payments SET {change}")
    assert (("amount_differs", None) in await audit(till)) == differs


@pytest.mark.parametrize("change", ["amount_cents = 999", "currency = 'EUR'", ""])
async def test_what_is_only_set_aside_is_compared_too(till: Till, change: str) -> None:
    """While a worker is about to capture it."""
    await till.book(GA=1)
    await till.drain()
    till.office.pump.given.clear()
    if change:
        await (await till.office.pool()).execute(f"UPDATE payments SET {change}")
    found = [(each.what, each.mended) async for each in till.office.payments_audit.run(fix=True, grace_s=60)]
    assert found == ([("amount_differs", None)] if change else [])


async def test_what_was_taken_in_part_differs(till: Till) -> None:
    """The gateway has what we set aside, and took less of it than our row says."""
    booking = await till.book(GA=2)
    await till.drain()
    till.office.pump.given.clear()
    record = await till.record(booking)
    assert record is not None
    await till.gateway.capture(record.payment_key, "", 1_500)
    pool = await till.office.pool()
    await pool.execute("DELETE FROM captures")
    await pool.execute("UPDATE payments SET status = 'captured', due = NULL")
    assert await audit(till) == [("amount_differs", None)]


@pytest.mark.parametrize("listed", ["now", "a while ago"])
async def test_what_a_worker_is_about_to_capture_is_left_to_it(till: Till, listed: str) -> None:
    """As long as the list that names it is leased."""
    await till.book(GA=1)
    await till.drain()
    till.office.pump.given.clear()
    pool = await till.office.pool()
    await pool.execute("UPDATE payments SET due = NULL")
    if listed != "now":
        await pool.execute("UPDATE captures SET leased_until = now() - interval '1 second'")
    assert await audit(till) == ([] if listed == "now" else [("confirmed_not_captured", None)])


async def test_a_stray_that_went_back_in_part_gives_back_the_rest(till: Till) -> None:
    """And one that went back whole is no difference."""
    key = await stray(till, captured=True)
    await till.gateway.refund_at_gateway(key, 200)
    assert await audit(till, fix=True) == [("captured_without_booking", True)]
    found = await till.gateway.lookup(key, None)
    assert (found.captured_cents, found.refunded_cents) == (500, 500)  # type: ignore[union-attr]
    assert await audit(till) == []


@pytest.mark.parametrize("state", ["P", "C", "other payment"])
async def test_a_stray_of_a_booking_that_redis_knows(till: Till, state: str) -> None:
    """Only what is pending under this very payment is about to be written."""
    booking = await till.hold(GA=1)
    await till.pay(booking)
    record = await till.record(booking)
    assert record is not None
    key = ids.digest("other") if state == "other payment" else record.payment_key
    await till.gateway.authorize(AuthorizeRequest(key, booking, 1_000, "USD", "card", "tok_ok_4242"))
    if state == "C":
        record.state = "C"
        await till.office.redis.set(keys.booking(ids.shard_of(booking), booking), record.pack())
    assert await audit(till) == ([] if state == "P" else [("authorized_without_booking", None)])


# ------------------------------------------------------------------ what is told of a difference


def in_books(status: str, **changes: Any) -> dict[str, Any]:
    """A row as `_OURS` reads it."""
    row = {"status": status, "booking": "ours", "booking_status": "confirmed", "amount_cents": 1_000, "currency": "USD",
           "refunded_cents": 0}  # fmt: skip
    return row | changes


@pytest.mark.parametrize(
    ("record", "row", "booking", "theirs", "ours"),
    [
        (told("authorized"), None, "b", "authorized 10.00 USD", "nothing"),
        (told("captured", 900), None, "b", "captured 10.00 USD, captured 9.00 USD, refunded 0.00 USD", "nothing"),
        (told("captured", 900, 300), in_books("voided"), "ours",
         "captured 10.00 USD, captured 9.00 USD, refunded 3.00 USD", "voided 10.00 USD, booking confirmed"),
        (told("authorized"), in_books("failed", amount_cents=7, refunded_cents=5, booking_status="held"), "ours",
         "authorized 10.00 USD", "failed 0.07 USD, booking held, refunded 0.05 USD"),
    ],
)  # fmt: skip
def test_what_is_told_of_a_difference(
    record: Record, row: dict[str, Any] | None, booking: str, theirs: str, ours: str
) -> None:
    found = payments_audit.difference_of("amount_differs", record, row, True)
    assert found == Difference("amount_differs", "k", booking, theirs, ours, True, False)


async def test_our_row_is_read_with_what_it_gave_back(till: Till) -> None:
    """Each payment's own refunds, those that are under way or done; and how long ago anything about it changed."""
    first, second = await pair_of_sales(till)
    pool, audited = await till.office.pool(), till.office.payments_audit
    rows = await till.fetch("SELECT payment_key, booking_id::text AS booking, reference FROM payments")
    keys_of = {row["booking"]: row["payment_key"] for row in rows}
    found = await audited.our_rows(list(keys_of.values()), 0)
    assert {row["booking"]: row["refunded_cents"] for row in found.values()} == {first: 1_500, second: 2_000}
    assert [key for key in await audited.our_rows([keys_of[second]], 0)] == [keys_of[second]]
    for status, cents in (("owed", 1_500), ("pending", 3_500), ("due", 1_500), ("succeeded", 3_500)):
        await pool.execute(
            "UPDATE refunds SET status = $1, owed_since = now(), failure_code = 'x' WHERE booking_id = $2::uuid",
            status,
            second,
        )
        found = await audited.our_rows(list(keys_of.values()), 0)
        assert found[keys_of[second]]["refunded_cents"] == cents - 1_500
        assert found[keys_of[first]]["refunded_cents"] == 1_500
        assert found[keys_of[second]]["reversed"] is True
    row = dict(found[keys_of[second]])
    assert {name: row[name] for name in ("status", "due", "amount_cents", "currency", "booking_status", "gateway")} == {
        "status": "captured", "due": None, "amount_cents": 4_000, "currency": "USD", "booking_status": "confirmed",
        "gateway": till.gateway.books,
    }  # fmt: skip
    await pool.execute("UPDATE refunds SET amount_cents = 1")
    assert [row["reversed"] for row in (await audited.our_rows(list(keys_of.values()), 0)).values()] == [True, True]
    await pool.execute("UPDATE refunds SET amount_cents = 0")
    assert [row["reversed"] for row in (await audited.our_rows(list(keys_of.values()), 0)).values()] == [False, False]


@pytest.mark.parametrize(
    ("updated", "since", "booking", "leased", "told"),
    [
        (AGO, NEVER, AGO, NEVER, (True, True, False)),
        (NOW, NEVER, AGO, NEVER, (False, False, False)),
        (AGO, NEVER, NOW, NEVER, (True, False, False)),
        (NOW, AGO, AGO, NEVER, (True, True, False)),
        (AGO, NOW, AGO, NEVER, (False, False, False)),
        (AGO, NEVER, AGO, "now() + interval '1 minute'", (True, True, True)),
        (AGO, NEVER, AGO, AGO, (True, True, False)),
    ],
)
async def test_how_long_ago_anything_changed(
    till: Till, updated: str, since: str, booking: str, leased: str, told: tuple[bool, ...]
) -> None:
    """Overdue, settled, leased: with a grace of a minute, and of two."""
    await till.book(GA=1)
    await till.rest()
    pool = await till.office.pool()
    await pool.execute(f"UPDATE payments SET updated_at = {updated}, due_since = {since}, leased_until = {leased}")
    await pool.execute(f"UPDATE bookings SET updated_at = {booking}")
    key = await pool.fetchval("SELECT payment_key FROM payments")
    for grace_s, expected in ((60, told), (120, (False, False, told[2]))):
        row = (await till.office.payments_audit.our_rows([key], grace_s))[key]
        assert (row["overdue"], row["settled"], row["leased"]) == expected


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("", 1),
        ("status = 'authorized'", 1),
        ("status = 'voided'", 0),
        ("status = 'unknown'", 0),
        ("created_at = now()", 0),
        ("created_at = now() - interval '50 seconds'", 0),
        ("created_at = now() - interval '70 seconds'", 1),
        ("gateway = 'stripe/live/acct_1'", 0),
    ],
)
async def test_money_that_the_gateway_never_saw(till: Till, change: str, found: int) -> None:
    """But for what was made after it began to list its payments, a grace before; and what moved in other books."""
    booking = await till.book(GA=1)
    await till.rest()
    pool = await till.office.pool()
    await pool.execute(
        "INSERT INTO payments (payment_key, booking_id, gateway, method, amount_cents, currency, status, created_at)"
        " VALUES ('unheard', $1, 'simulator', 'card', 123, 'USD', 'captured', now() - interval '1 day')", booking,
    )  # fmt: skip
    if change:
        await pool.execute(f"UPDATE payments SET {change} WHERE payment_key = 'unheard'")
    told = [each async for each in till.office.payments_audit.run(fix=True, grace_s=60)]
    assert told == found * [Difference("unknown_to_gateway", "unheard", booking, "nothing", "1.23 USD", None, False)]
    assert till.office.payments_audit.others == ({"stripe/live/acct_1": 1} if "stripe" in change else {})
    again = [each async for each in till.office.payments_audit.run(fix=True, grace_s=60)]
    assert again == told
    assert till.office.payments_audit.others == ({"stripe/live/acct_1": 1} if "stripe" in change else {})


@pytest.mark.parametrize(("made_s", "under_way"), [(-1, False), (1, True), (-100, False)])
async def test_what_was_just_made_is_about_to_be_written(till: Till, made_s: int, under_way: bool) -> None:
    """Within the grace; and where nobody says for which booking, nothing else tells."""
    till.office.clock = Passing(5_000.0).clock
    record = Record("k", None, 1_000 * (5_000 - 60 + made_s), told("authorized").payment)
    assert await till.office.payments_audit.under_way(record, 60) is under_way
    other = replace(record, booking_id="no booking of ours")
    assert await till.office.payments_audit.under_way(other, 60) is under_way


@pytest.mark.parametrize("fix", [True, False])
async def test_what_is_due_again_is_due_since_then(till: Till, fix: bool) -> None:
    """The row says what, since when, and what the gateway calls the payment; the other payment's stays as it is."""
    booking, other = await till.book(GA=1), await till.book(GA=1)
    await till.rest()
    pool = await till.office.pool()
    lost = "status = 'captured', reference = NULL, due = NULL, due_at = NULL, due_since = NULL, leased_until = NULL"
    await pool.execute(f"UPDATE payments SET {lost}")
    await pool.execute("UPDATE payments SET status = 'authorized' WHERE booking_id = $1", booking)
    at_gateway = await till.payment(booking)
    assert await audit(till, fix=fix) == [("capture_not_marked", True if fix else None)]
    query = "SELECT status, reference, due, due_at IS NULL AS at, due_since, leased_until FROM payments WHERE booking_id = $1"
    (row,), (left,) = await till.fetch(query, booking), await till.fetch(query, other)
    expected = ("authorized", at_gateway.reference, "capture", False, None, None)
    assert tuple(row) == (expected if fix else ("authorized", None, None, True, None, None))
    assert tuple(left) == ("captured", None, None, True, None, None)


async def test_how_many_payments_stand_in_which_books_is_told(till: Till) -> None:
    """When none of those that moved money stands in ours; one that does is enough."""
    booked = [await till.book(GA=1) for _ in range(7)]
    await till.rest()
    pool = await till.office.pool()
    others = [f"stripe/live/acct_{n}" for n in range(5)]
    for booking, books in zip(booked, ["simulator/other", *others, others[0]], strict=True):
        await pool.execute("UPDATE payments SET gateway = $2 WHERE booking_id = $1", booking, books)
    check = till.office.payments_audit.check_gateway
    with pytest.raises(CannotRun) as refused:
        await check()
    assert (
        "(1 in simulator/other, 2 in stripe/live/acct_0, 1 in stripe/live/acct_1, 1 in stripe" in refused.value.detail
    )
    assert f"keeps {till.gateway.books}" in refused.value.detail
    await pool.execute("UPDATE payments SET gateway = $2 WHERE booking_id = $1", booked[0], till.gateway.books)
    await check()
    await pool.execute("UPDATE payments SET status = 'failed' WHERE booking_id = $1", booked[0])
    with pytest.raises(CannotRun, match="All payments"):
        await check()
    await pool.execute("UPDATE payments SET status = 'failed'")
    await check()


async def test_a_payment_in_other_books_is_none_of_the_listed(till: Till) -> None:
    """Whichever of those that the gateway listed together it is."""
    for _ in range(3):
        await till.book(GA=1)
    await till.rest()
    pool = await till.office.pool()
    for (key,) in await till.fetch("SELECT payment_key FROM payments"):
        await pool.execute("UPDATE payments SET status = 'voided' WHERE payment_key = $1", key)
        assert len(await audit(till)) == 1
        await pool.execute("UPDATE payments SET gateway = 'stripe/acct_1' WHERE payment_key = $1", key)
        assert await audit(till) == []
        await pool.execute(
            "UPDATE payments SET status = 'captured', gateway = $2 WHERE payment_key = $1", key, till.gateway.books
        )


@pytest.mark.parametrize("shard", [0, 1])
async def test_an_alert_of_any_shard_keeps_the_audit_from_mending(till: Till, shard: int) -> None:
    await (await till.office.pool()).execute("UPDATE shards SET alert = 'both_changed' WHERE shard = $1", shard)
    assert await audit(till) == []
    with pytest.raises(CannotRun, match=rf"Shard {shard} is closed \(both_changed\)"):
        await audit(till, fix=True)


@pytest.mark.parametrize("shard", [0, 1])
async def test_a_commit_that_is_missing_in_any_shard_ends_the_audit(till: Till, shard: int) -> None:
    await till.office.redis.sadd(keys.told(shard), "50:1")
    with pytest.raises(CannotRun, match="PostgreSQL went back in time"):
        await audit(till)
