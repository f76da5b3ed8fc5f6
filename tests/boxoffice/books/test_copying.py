"""Fields in the text format of COPY."""

from __future__ import annotations

import pytest

from boxoffice.books.copying import as_text, time_text, word
from boxoffice.office import BoxOffice
from tests.conftest import SaleMaker, load_all, settle_all
from tests.support.shop.office import book


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, r"\N"), ("", ""), ("plain", "plain"), ("a\\b", r"a\\b"), ("a\tb", r"a\tb"), ("a\nb", r"a\nb"), ("a\rb", r"a\rb"),
        (r"\N", r"\\N"), ("\\\t\n\r", r"\\\t\n\r"),
    ],
)  # fmt: skip
def test_a_field_of_a_copy(value: str | None, text: str) -> None:
    assert as_text(value) == word(value) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, r"\N"), (1, "1970-01-01 00:00:00.001+00"), (1_700_000_000_099, "2023-11-14 22:13:20.099+00")],
)
def test_a_time_of_a_copy(ms: int, text: str) -> None:
    assert time_text(ms) == text


async def test_a_payment_is_written_with_its_card(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Of each booking its own, and of what costs nothing none."""
    paid, free = await open_sale(GA=10), await open_sale(GA=10)
    pool = await office.pool()
    await office.control.change_tier(free.tiers[0].id, price_cents=0)
    await load_all(office)
    await office.catalogue.read()
    free = await office.catalogue.event(free.id)
    booked = {
        (await book(office, event, token, GA=1)).booking_id: last4
        for event, token, last4 in (
            (paid, "tok_ok", "4242"),
            (paid, "tok_card_declined", "0002"),
            (free, None, None),
        )
    }
    await settle_all(office)
    rows = await pool.fetch("SELECT booking_id::text AS id, method, card_name, last4, token FROM payments")
    found = {row["id"]: tuple(row)[1:] for row in rows}
    assert found == {
        booking: ("card", "Ada Lovelace", last4, {"4242": "tok_ok_4242", "0002": "tok_card_declined_0002"}[last4])
        for booking, last4 in booked.items()
        if last4 is not None
    }
