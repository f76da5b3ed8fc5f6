"""The simulated bank, played through at the API of `make run`."""

from __future__ import annotations

import pytest

from boxoffice.gateway.base import Found
from boxoffice.gateway.factory import open_simulator
from boxoffice.gateway.simulator import action_page
from boxoffice.settings import Settings
from tests.conftest import CLIENT, SHARD, eventually
from tests.support.gateways import with_gateway


async def test_a_customer_confirms_at_the_simulated_bank(office, open_sale, api, book):
    """`payment.next_action` leads to a page; its button lets the booking go on."""
    event = await open_sale(GA=5)
    card = {"method": "card", "card_name": "Ada Lovelace", "card_number": "4000000000003220"}
    posted = await book(event, payment=card)
    await office.settlements[SHARD].drain()

    booking = None
    for _ in range(200):
        await office.settlements[SHARD].drain()
        booking = (await api.get(f"/v1/bookings/{posted.json()['id']}")).json()
        if booking["payment"]["next_action"]:
            break
    url = booking["payment"]["next_action"]
    url = url if isinstance(url, str) else url["url"]
    assert "requires_action" in (await api.get(url)).text
    pressed = await api.post(url)
    assert "authorized" in pressed.text
    back = "https://example.com/paid?redirect_status=succeeded"
    assert (pressed.status_code, pressed.headers["location"]) == (303, back), "gateway.return_url"
    assert f'href="{back}"' in (await api.get(url)).text


async def test_a_customer_comes_back_to_where_the_booking_says(office, open_sale, api, book):
    await office.access.set_return_urls(CLIENT, ["https://shop.example"])
    office.catalogue.api_keys.look_at = 0.0
    await office.catalogue.api_keys.renew()
    card = {"method": "card", "card_name": "Ada Lovelace", "card_number": "4000000000003220"}
    posted = (await book(await open_sale(GA=5), payment=card, return_url="https://shop.example/back?a=1")).json()

    async def action() -> str | None:
        await office.settlements[SHARD].drain()
        return (await api.get(f"/v1/bookings/{posted['id']}")).json()["payment"]["next_action"]

    pressed = await api.post(await eventually(action))
    assert pressed.headers["location"] == "https://shop.example/back?a=1&redirect_status=succeeded"


async def test_the_simulated_bank_knows_no_strangers(api):
    """A payment that there is not has no page."""
    assert (await api.get("/actions/00000000000000000000000000000000")).status_code == 404


@pytest.mark.parametrize(
    ("status", "return_url", "back"),
    [
        ("authorized", "https://shop.example/paid", "https://shop.example/paid?redirect_status=succeeded"),
        ("declined", "https://shop.example/?a=1#top", "https://shop.example/?a=1&redirect_status=failed#top"),
    ],
)
def test_the_way_back_says_how_it_went(status: str, return_url: str, back: str) -> None:
    assert action_page.way_back(Found(status, "r", 1_000, "USD"), return_url) == back  # type: ignore[arg-type]


def test_the_page_of_a_simulator_inside_is_at_the_api(settings: Settings) -> None:
    """Wherever that listens: `make run`, `boxoffice api` and compose alike."""
    own = settings.model_copy(update={"port": 9_123})
    assert open_simulator(own).actions == "http://127.0.0.1:9123/actions"
    assert open_simulator(with_gateway(own, url="http://pages/")).actions == "http://pages/actions"
