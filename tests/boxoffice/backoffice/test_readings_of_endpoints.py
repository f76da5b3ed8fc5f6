"""What `/metrics` tells of endpoints of shops: how many do well, and how long the oldest notice has waited."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from boxoffice.notices.writing import write
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from boxoffice.telemetry import series
from tests.support.endpoint import ALLOWED, Endpoint, answer, at_endpoint
from tests.support.shop.orders import CLIENT


@pytest.fixture
def settings(settings: Settings) -> Settings:
    webhooks = settings.webhooks.model_copy(update={"timeout_s": 5.0, **ALLOWED})
    return settings.model_copy(update={"webhooks": webhooks})


@pytest.fixture
async def endpoint(office: BoxOffice) -> AsyncIterator[Endpoint]:
    async with at_endpoint() as endpoint:
        yield endpoint
        await office.couriers.stop()


async def happens(office: BoxOffice, ago_s: int = 0) -> None:
    async with office.database.begin() as connection:
        await write(connection, CLIENT, "event.changed", {})
        await connection.execute("UPDATE notices SET at = now() - $1 * interval '1 second'", float(ago_s))
    await office.notices.number()


async def look(office: BoxOffice) -> tuple[dict[str, float], dict[str, float]]:
    """By state: how many endpoints, and how old the oldest notice is that one has not taken."""
    await office.readings.close()
    del office.readings
    await office.readings.metrics("worker", {})
    return (
        {state: count for (state,), count in series.ENDPOINTS.values.items()},
        {state: age for (state,), age in series.UNDELIVERED_AGE.values.items()},
    )


async def test_endpoints_are_counted_by_how_they_do(office: BoxOffice, endpoint: Endpoint) -> None:
    await office.endpoints.create(CLIENT, endpoint.url)
    asked = await office.endpoints.create(CLIENT, endpoint.url + "2")
    await office.endpoints.change(CLIENT, asked["id"], status="disabled")
    assert (await look(office))[0] == {"well": 1, "failing": 0, "disabled_by_us": 0}
    endpoint.behave = answer(500)
    await happens(office)
    await office.couriers.look()
    await office.couriers.at_rest()
    assert (await look(office))[0] == {"well": 0, "failing": 1, "disabled_by_us": 0}
    await office.database.execute("UPDATE webhook_endpoints SET paused_until = NULL")
    endpoint.behave = answer(410)
    await happens(office)
    await office.couriers.look()
    await office.couriers.at_rest()
    assert (await look(office))[0] == {"well": 0, "failing": 0, "disabled_by_us": 1}


async def test_what_an_endpoint_waits_for_has_an_age(office: BoxOffice, endpoint: Endpoint) -> None:
    """Of notices that it wants."""
    await office.endpoints.create(CLIENT, endpoint.url, ["event.changed"])
    other = await office.endpoints.create(CLIENT, endpoint.url + "2", ["event.paused"])
    assert (await look(office))[1] == {"well": 0, "failing": 0}
    await happens(office, ago_s=400)
    ages = (await look(office))[1]
    assert 400 <= ages["well"] < 460 and ages["failing"] == 0
    await office.couriers.look()
    await office.couriers.at_rest()
    assert (await look(office))[1] == {"well": 0, "failing": 0}
    await office.endpoints.delete(CLIENT, other["id"])
    await happens(office, ago_s=700)
    endpoint.behave = answer(500)
    await office.couriers.look()
    await office.couriers.at_rest()
    ages = (await look(office))[1]
    assert ages["well"] == 0 and ages["failing"] < 60, "it was tried, and waits since then"
