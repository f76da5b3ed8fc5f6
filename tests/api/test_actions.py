"""The simulated bank, played through at the API of `make run`."""

from __future__ import annotations


async def test_a_customer_confirms_at_the_simulated_bank(office, open_sale, api, book):
    """`payment.next_action` leads to a page; its button lets the booking go on."""
    event = await open_sale(GA=5)
    card = {"method": "card", "card_name": "Ada Lovelace", "card_number": "4000000000003220"}
    posted = await book(event, payment=card)
    await office.settlements[0].drain()

    booking = None
    for _ in range(200):
        await office.settlements[0].drain()
        booking = (await api.get(f"/v1/bookings/{posted.json()['id']}")).json()
        if booking["payment"]["next_action"]:
            break
    url = booking["payment"]["next_action"]
    url = url if isinstance(url, str) else url["url"]
    assert "requires_action" in (await api.get(url)).text
    assert "authorized" in (await api.post(url)).text


async def test_the_simulated_bank_knows_no_strangers(api):
    """A payment that there is not has no page."""
    assert (await api.get("/actions/00000000000000000000000000000000")).status_code == 404
