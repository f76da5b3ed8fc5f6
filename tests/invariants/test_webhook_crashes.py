"""A worker may die wherever it tells a shop: every notice is delivered at least once, and what is written of it is true."""

from __future__ import annotations

from collections import Counter

import pytest

from boxoffice.notices.writing import write
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from tests.conftest import eventually
from tests.invariants.conftest import Fork, ends, working
from tests.support.endpoint import ALLOWED, at_endpoint
from tests.support.shop.orders import CLIENT

NOTICES = 12


@pytest.fixture
def settings(settings: Settings) -> Settings:
    webhooks = settings.webhooks.model_copy(update={"timeout_s": 5.0, "in_flight_max": 2, **ALLOWED})
    return settings.model_copy(update={"webhooks": webhooks})


@pytest.mark.parametrize("point", ["endpoint_claimed", "notice_delivered", "delivery_marked"])
async def test_a_worker_dies_while_it_tells_a_shop(office: BoxOffice, fork: Fork, point: str) -> None:
    async with at_endpoint() as endpoint:
        made = await office.endpoints.create(CLIENT, endpoint.url)
        async with office.database.begin() as connection:
            for number in range(NOTICES):
                await write(connection, CLIENT, "event.changed", {"number": number})
        assert await ends(fork("work", crash_at=point)) == "killed by SIGKILL"
        heard = len(endpoint.heard)
        assert (heard == 0) == (point == "endpoint_claimed")
        (lapse,) = await office.database.fetch("SELECT leased_until > now() AS leased FROM webhook_endpoints")
        assert lapse["leased"], "nobody else has it meanwhile"
        logged = {each["notice_id"] for each in await office.endpoints.deliveries(CLIENT, made["id"])}
        assert logged <= set(endpoint.ids), "what is written down was delivered"
        assert (len(logged) < heard) == (point == "notice_delivered")
        await office.database.execute("UPDATE webhook_endpoints SET leased_until = now()")

        async def all_written() -> bool:
            return len(await office.endpoints.deliveries(CLIENT, made["id"])) == NOTICES

        async with working(office):
            await eventually(all_written)
        times = Counter(endpoint.ids)
        assert len(times) == NOTICES
        twice = {notice for notice, count in times.items() if count > 1}
        assert twice == (set(endpoint.ids[:heard]) - logged)
        log = await office.endpoints.deliveries(CLIENT, made["id"])
        assert {each["status"] for each in log} == {"delivered"}
