"""A booking that PostgreSQL tells of reads as Redis told of it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from boxoffice.office import BoxOffice
from tests.conftest import SaleMaker, load_all
from tests.support.shop.office import Till
from tests.support.shop.orders import CLIENT

ALL = {
    "reference": "order-7",
    "metadata": {"desk": "3", "note": "néar the aisle"},
    "return_url": "https://shop.example/back",
}


@pytest.mark.parametrize(
    "more", [{}, ALL, *({name: value} for name, value in ALL.items())], ids=lambda more: "+".join(more)
)
@pytest.mark.parametrize("token", ["tok_ok", "tok_card_declined"])
async def test_both_stores_tell_the_same(
    office: BoxOffice, open_sale: SaleMaker, more: dict[str, object], token: str
) -> None:
    """Word for word: whose words they were, what was booked, and how it was paid."""
    await load_all(office)
    till = Till(office, await open_sale(GA=10, VIP=4))
    booking = await till.book(token, GA=2, VIP=1, customer="Zoë", **more)
    await till.rest()
    told = (await office.bookings.get(CLIENT, booking)).view
    decided = await office.bookings.decided(CLIENT, booking)
    assert (told.metadata, told.reference, told.customer_id) == (more.get("metadata", {}), more.get("reference"), "Zoë")
    assert told.return_url == more.get("return_url")
    assert sorted((item.code, item.quantity) for item in told.items) == [("GA", 2), ("VIP", 1)]
    if token == "tok_ok":
        assert told.payment is not None and decided.payment is not None
        # That it was captured only PostgreSQL knows.
        assert (told.payment.status, decided.payment.status) == ("authorized", "captured")
        decided = replace(decided, payment=replace(decided.payment, status="authorized"))
    assert decided == told
