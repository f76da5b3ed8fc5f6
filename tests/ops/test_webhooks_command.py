"""`boxoffice webhooks`: as operators make endpoints, look at them and send anew."""

from __future__ import annotations

import json
from typing import Any

import pytest

from boxoffice.notices.writing import write
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from tests.ops.terminal import run
from tests.support.endpoint import ALLOWED, at_endpoint
from tests.support.shop.orders import CLIENT

pytestmark = pytest.mark.usefixtures("terminal")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"webhooks": settings.webhooks.model_copy(update=ALLOWED)})


@pytest.fixture(autouse=True)
def _allowed(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setenv("BOXOFFICE_WEBHOOKS", settings.webhooks.model_dump_json())


async def told(*arguments: str, code: int = 0) -> Any:
    ended, said = await run("webhooks", *arguments, "--json")
    assert ended == code, said
    return json.loads(said)


async def test_an_endpoint_from_its_making_to_its_end(office: BoxOffice) -> None:
    async with at_endpoint() as endpoint:
        ended, said = await run("webhooks", "create", CLIENT, endpoint.url, "--type", "event.changed,event.paused")
        name, secret = said.split()
        assert ended == 0 and secret.startswith("whsec_")
        assert (await told("show", name))["types"] == ["event.changed", "event.paused"]
        assert [each["id"] for each in await told("list", "--shop", CLIENT)] == [name]
        assert name in (await run("webhooks", "list"))[1]
        async with office.database.begin() as connection:
            await write(connection, CLIENT, "event.changed", {})
        await office.couriers.look()
        await office.couriers.at_rest()
        (delivery,) = await told("deliveries", name, "--status", "delivered")
        assert delivery["notice_id"] == endpoint.ids[0]
        assert delivery["notice_id"] in (await run("webhooks", "deliveries", name))[1]
        assert await told("redeliver", name, delivery["notice_id"]) == {"redelivered": 1}
        assert await told("redeliver", name, "--since", "2h") == {"redelivered": 1}
        assert (await run("webhooks", "redeliver", name, "--since", "2030-01-01T00:00:00Z"))[1] == "0 to be sent anew\n"
        assert (await told("disable", name))["status"] == "disabled"
        shown = (await run("webhooks", "show", name))[1]
        assert "status: disabled\n" in shown and "whsec" not in shown
        assert (await told("enable", name))["status"] == "enabled"
        assert (await run("webhooks", "rotate", name, "--overlap", "0"))[1].startswith("whsec_")
        assert (await run("webhooks", "delete", name))[0] == 0
        assert await told("list") == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("redeliver", "x"), ("redeliver", "x", "n", "--since", "2h"), ("redeliver", "x", "--since", "yesterday"),
        ("redeliver", "x", "--since", "2030-01-01T00:00:00"), ("deliveries", "x", "--status", "lost"),
    ],
)  # fmt: skip
async def test_what_cannot_be_asked(arguments: tuple[str, ...]) -> None:
    assert (await run("webhooks", *arguments))[0] == 2
