"""The story of a shop that loses its server: it subscribes, sells, is away while more is sold, comes back, and has every notice
once or more and none missing, from webhooks as from the feed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from boxoffice_client import AsyncClient, Retries, bodies, verify_webhook

from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from tests.api.transport.test_server import Serving, connect
from tests.conftest import KEY, SaleMaker, eventually
from tests.support.endpoint import ALLOWED, Endpoint, Heard, at_endpoint
from tests.support.programs import a_worker, again_and_again

pytestmark = pytest.mark.parametrize("settings", ["lane"], indirect=True)

SALES = 6
"""In each part of the story."""


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The shop's server is on this machine, and is tried again soon."""
    monkeypatch.setenv("BOXOFFICE_WEBHOOKS__ALLOW_HTTP", "true")
    monkeypatch.setenv("BOXOFFICE_WEBHOOKS__ALLOWED_NETWORKS", '["127.0.0.0/8"]')
    webhooks = settings.webhooks.model_copy(update={"timeout_s": 1.0, "retry_s": 0.3, "retry_max_s": 0.5, **ALLOWED})
    yield settings.model_copy(update={"webhooks": webhooks})


@contextlib.asynccontextmanager
async def couriers_of(office: BoxOffice) -> AsyncIterator[None]:
    """They go as often as a worker sends them."""
    try:
        async with again_and_again(office.couriers.look, 0.05):
            yield
    finally:
        await office.couriers.stop()


class Shop:
    """Its server notes which webhooks it has taken, and which it lost."""

    def __init__(self, server: Endpoint) -> None:
        self.taken: set[str] = set()
        self.lost: set[str] = set()
        self.is_away = False
        self._answers = server.behave
        server.behave = self.behave

    async def behave(self, writer: asyncio.StreamWriter, heard: Heard) -> None:
        if self.is_away:
            self.lost.add(heard.id)
            writer.transport.abort()
            return
        await self._answers(writer, heard)
        self.taken.add(heard.id)


async def sell(client: AsyncClient, tier: str, part: str) -> None:
    """Some are confirmed, one is declined, and one cancelled."""

    async def one(number: int) -> None:
        token = "tok_card_declined" if number == 0 else "tok_ok"
        accepted = await client.book(
            {
                "customer_id": f"{part}-{number}",
                "items": [{"tier_id": tier, "quantity": 1}],
                "payment": {"method": "card", "token": token},
            }
        )
        booking = await client.wait_until_final(accepted["id"])
        assert booking["status"] == ("failed" if number == 0 else "confirmed")
        if number == 1:
            await client.cancel(accepted["id"])

    await asyncio.gather(*(one(number) for number in range(SALES)))


async def told(client: AsyncClient, after: str | None) -> list[bodies.Notice]:
    """All that the feed has behind a cursor by now."""
    found: list[bodies.Notice] = []
    while True:
        page = await client.read_feed(after=after, limit=7)
        found += page["data"]
        if not page["data"]:
            return found
        after = page["cursor"]


async def test_a_shop_that_was_away_misses_nothing(serving: Serving, office: BoxOffice, open_sale: SaleMaker) -> None:
    sale = await open_sale(GA=100)
    tier = sale.tiers[0].id
    _, writer = await connect(serving)
    writer.close()
    url = f"http://127.0.0.1:{serving.port}"
    async with (
        at_endpoint() as server,
        AsyncClient(url, KEY, retries=Retries(first_s=0.1)) as client,
        a_worker(office),
        couriers_of(office),
    ):
        shop = Shop(server)
        made = await client.create_webhook_endpoint({"url": server.url, "begin": "start"})
        await sell(client, tier, "before")
        before = await told(client, None)
        kept = before[len(before) // 2]["cursor"]  # so far it had come when it was lost

        shop.is_away = True
        await sell(client, tier, "away")

        async def lost_some() -> bool:
            return bool(shop.lost)

        await eventually(lost_some)
        shop.is_away = False
        await sell(client, tier, "after")

        whole = await told(client, None)
        ids = [notice["id"] for notice in whole]
        resumed = [notice["id"] for notice in await told(client, kept)]
        assert len(set(ids)) == len(ids) > 3 * SALES
        # Captures may be told meanwhile: what was read last may have more at its end.
        joined = [*ids[: ids.index(resumed[0])], *resumed]
        assert joined[: len(ids)] == ids, "it goes on where it was, and passes nothing over"

        async def has_heard_all() -> bool:
            return {notice["id"] for notice in await told(client, None)} <= shop.taken

        await eventually(has_heard_all, timeout_s=30)
        assert shop.lost <= shop.taken
        heard: dict[str, Any] = {}
        for each in server.heard:
            notice = verify_webhook(each.body, each.headers, made["secret"])
            assert heard.setdefault(each.id, notice) == notice, "a repeat says the same"
        for notice in await told(client, None):
            if notice["id"] in heard:
                assert {name: value for name, value in notice.items() if name != "cursor"} == heard[notice["id"]]
