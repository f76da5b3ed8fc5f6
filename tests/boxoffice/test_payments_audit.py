"""The gateway's books against ours: each difference is found, and mended as far as it can be."""

from __future__ import annotations

import pytest

from boxoffice import ids, keys
from boxoffice.errors import CannotRun
from boxoffice.gateway.base import AuthorizeRequest, CaptureRequest
from boxoffice.payments_audit import DIFFERENCES
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
    key, booking = ids.digest("stray"), ids.booking_id(0, 1_000)
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
    async def away(*_: object) -> None:
        raise OSError

    await stray(till, captured=False)
    monkeypatch.setattr(till.office.redis, "get", away)
    with pytest.raises(CannotRun):
        await audit(till)


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
    await till.office.redis.delete(keys.booking(0, booking))
    assert (await till.office.dossiers.of(booking))["redis"] is None
