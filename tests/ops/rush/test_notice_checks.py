"""What shops were told is held against the tables (I15): planted differences are found, and nothing else is."""

from __future__ import annotations

import pytest

from tests.conftest import CLIENT
from tests.ops.rush.conftest import Plant, Sold


async def refunded(sold: Sold) -> None:
    """One booking's tickets came back, and so did the money."""
    await sold.office.refunds.cancel(CLIENT, sold.confirmed)
    sold.history.entries[0].status = "cancelled"
    await sold.office.pump.work_outbox()


async def test_what_was_told_is_what_stands_there(sold: Sold) -> None:
    await refunded(sold)
    await sold.office.notices.number()
    findings = await sold.audit()
    assert findings["I15"].evidence == []
    (looked,) = findings["I15"].looked_at
    assert looked.endswith("0 fresh")


async def a_change_was_told_to_nobody(sold: Sold) -> None:
    await sold.sql("UPDATE bookings SET failure_code = 'x' WHERE id = $1::uuid", sold.failed)


async def a_notice_is_lost(sold: Sold) -> None:
    await sold.sql("DELETE FROM notices WHERE type = 'booking.confirmed'")


async def a_payment_was_told_to_nobody(sold: Sold) -> None:
    await sold.sql("DELETE FROM notices WHERE type = 'payment.captured'")


async def another_amount_was_told(sold: Sold) -> None:
    await sold.sql("UPDATE notices SET cents = array_fill(7::bigint, ARRAY[size]) WHERE type = 'payment.captured'")


async def a_refund_was_told_to_nobody(sold: Sold) -> None:
    await refunded(sold)
    await sold.sql("DELETE FROM notices WHERE type = 'refund.succeeded'")


async def an_event_was_changed_without_a_word(sold: Sold) -> None:
    await sold.sql("UPDATE events SET version = version + 1 WHERE id = $1", sold.event.id)


async def a_booking_was_told_of_that_is_not_there(sold: Sold) -> None:
    await sold.sql(
        "UPDATE notices SET bookings = array_fill(gen_random_uuid(), ARRAY[size]) WHERE type = 'booking.failed'"
    )


async def another_shop_was_told(sold: Sold) -> None:
    await sold.sql("UPDATE notices SET client_id = 'other0000000' WHERE type = 'booking.failed'")


async def a_place_was_given_to_nothing(sold: Sold) -> None:
    await sold.office.notices.number()
    await sold.sql("DELETE FROM notices WHERE position = 2")


@pytest.mark.parametrize(
    "plant",
    [
        a_change_was_told_to_nobody,
        a_notice_is_lost,
        a_payment_was_told_to_nobody,
        another_amount_was_told,
        a_refund_was_told_to_nobody,
        an_event_was_changed_without_a_word,
        a_booking_was_told_of_that_is_not_there,
        another_shop_was_told,
        a_place_was_given_to_nothing,
    ],
)
async def test_a_planted_difference_is_found(sold: Sold, plant: Plant) -> None:
    await plant(sold)
    findings = await sold.audit()
    assert "I15" in findings.broken
    assert findings["I15"].evidence


@pytest.mark.parametrize("since", ["begun_at", "trimmed_at"])
async def test_what_is_older_than_the_record_may_have_no_notice(sold: Sold, since: str) -> None:
    """It began later, or let go of what is older."""
    await refunded(sold)
    await sold.sql("DELETE FROM notices")
    assert "I15" in (await sold.audit()).broken
    await sold.sql(f"UPDATE notice_head SET {since} = now(), position = 0, nonce = 0")
    assert (await sold.audit())["I15"].evidence == []
