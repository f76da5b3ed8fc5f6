"""The gateway's books against ours: each difference is found, and mended as far as it can be."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from boxoffice import ids
from boxoffice.errors import CannotRun
from boxoffice.gateway.base import AuthorizeRequest, CaptureRequest, Found, Record
from boxoffice.repair import payments_audit
from boxoffice.repair.payments_audit import DIFFERENCES
from boxoffice.stores import keys
from tests.conftest import SHARD
from tests.support.till import Till


async def audit(till: Till, *, fix: bool = False) -> list[tuple[str, bool | None]]:
    """What differs, and whether it was mended."""
    return [(found.what, found.mended) async for found in till.office.payments_audit.run(fix=fix, grace_s=0)]


async def mended(till: Till, what: str) -> None:
    """It is found, mended when asked to, and gone afterwards."""
    assert await audit(till) == [(what, None)]
    assert await audit(till, fix=True) == [(what, True)]
    await till.pump()
    assert await audit(till) == []


async def stray(till: Till, *, captured: bool) -> str:
    """Money at the gateway for a booking that nobody here knows."""
    key, booking = ids.digest("stray"), ids.booking_id(SHARD, 1_000)
    await till.gateway.authorize(AuthorizeRequest(key, booking, 500, "USD", "card", "tok_ok_4242"))
    if captured:
        await till.gateway.capture_batch([CaptureRequest(key, "", 500)])
    return key


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
    till.office.pump._given.clear()
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
    till.office.pump._given.clear()
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
        "before the row is read again": "_under_way",
        "before it is locked": "_mend",
        "before it is looked up": "_is_on_its_way",
    }[when]
    if name != "_under_way":
        # They were settled; their captures were lost, and due long ago.
        await till.drain()
        till.office.pump._given.clear()
        pool = await till.office.pool()
        await pool.execute("DELETE FROM captures")
        await pool.execute("UPDATE payments SET due_at = now() - interval '1 hour'")
    real = getattr(audited, name)

    async def overtaken(*args: Any) -> Any:
        await till.drain()
        await till.office.pump.work_given()
        if name != "_under_way":
            await till.office.pump.work_outbox()
        return await real(*args)

    monkeypatch.setattr(audited, name, overtaken)
    found = await audit(till, fix=True)
    assert found == ([("confirmed_not_captured", False)] if name == "_mend" else [])
    assert {(await till.payment(booking)).status for booking in booked} == {"captured"}
    await till.at_rest(*booked)


async def test_what_is_due_already_is_left_to_the_workers(till: Till) -> None:
    """Overdue after an outage, or because none is running: it is told, and a worker does it."""
    booked = [await till.book(GA=1) for _ in range(3)]
    await till.drain()
    till.office.pump._given.clear()
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


def told(status: Any, captured: int = 0, refunded: int = 0) -> Record:
    """A payment of 10.00 as the gateway lists it."""
    return Record("k", "b", 1, Found(status, "r", 1_000, "USD", captured, refunded))


def ours(status: str, booking: str, **changes: object) -> dict[str, object]:
    """Our row of it: nothing due, settled long ago."""
    row = {"status": status, "booking_status": booking, "due": None, "overdue": True, "settled": True, "leased": False}
    return row | changes


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
    assert payments_audit._money_differs(record, row) == what


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


async def test_what_was_taken_in_part_differs(till: Till) -> None:
    """The gateway has what we set aside, and took less of it than our row says."""
    booking = await till.book(GA=2)
    await till.drain()
    till.office.pump._given.clear()
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
    till.office.pump._given.clear()
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
