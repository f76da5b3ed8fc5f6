"""Endpoints over HTTP: made, shown, changed, rotated, deleted; what was delivered, and sent anew."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from boxoffice.notices.writing import write
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from boxoffice.stores.models import Base
from tests.api.conftest import assert_problem
from tests.support.endpoint import ALLOWED, answer, at_endpoint
from tests.support.shop.orders import CLIENT, OTHER_KEY

THEIRS = {"Authorization": f"Bearer {OTHER_KEY}"}
PATH = "/v1/webhook-endpoints"
URL = "https://shop.example/hooks?token=tk_5"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    webhooks = settings.webhooks.model_copy(update={"endpoints_max": 3, "timeout_s": 5.0, **ALLOWED})
    return settings.model_copy(update={"webhooks": webhooks})


async def made(api: httpx2.AsyncClient, url: str = URL, **more: Any) -> dict[str, Any]:
    found = await api.post(PATH, json={"url": url, **more})
    assert found.status_code == 201, found.text
    return found.json()


async def test_one_is_made_and_its_secret_told_once(api: httpx2.AsyncClient) -> None:
    found = await api.post(
        PATH, json={"url": URL, "types": ["booking.confirmed", "booking.confirmed"], "label": "Till"}
    )
    assert (found.status_code, found.headers["cache-control"]) == (201, "no-store")
    new = found.json()
    assert found.headers["location"] == f"{PATH}/{new['id']}"
    secret = new.pop("secret")
    assert secret.startswith("whsec_")
    assert new | {"created_at": ""} == {
        "id": new["id"], "shop": CLIENT, "url": URL, "types": ["booking.confirmed"], "label": "Till", "status": "enabled",
        "disabled_reason": None, "disabled_at": None, "failing_since": None, "paused_until": None, "delivered_at": None,
        "waiting": 0, "created_at": "",
    }  # fmt: skip
    shown = (await api.get(found.headers["location"])).json()
    assert shown == new
    assert (await api.get(PATH)).json() == {"data": [new]}


async def test_of_another_shops_nobody_hears(api: httpx2.AsyncClient, office: BoxOffice) -> None:
    mine = await made(api)
    before = await office.endpoints.one(CLIENT, mine["id"])
    path = f"{PATH}/{mine['id']}"
    for method, where, body in (
        ("GET", path, None), ("PATCH", path, {"status": "disabled"}), ("DELETE", path, None),
        ("POST", f"{path}/rotate", {}), ("GET", f"{path}/deliveries", None),
        ("POST", f"{path}/redeliver", {"since": "2030-01-01T00:00:00Z"}),
    ):  # fmt: skip
        assert_problem(await api.request(method, where, json=body, headers=THEIRS), 404, "not-found")
    assert (await api.get(PATH, headers=THEIRS)).json() == {"data": []}
    assert await office.endpoints.one(CLIENT, mine["id"]) == before


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/url", "missing"),
        ({"url": 5}, "/url", "wrong_type"),
        ({"url": "ftp://shop.example"}, "/url", "scheme"),
        ({"url": "https://10.0.0.1/"}, "/url", "address"),
        ({"url": "https://a@shop.example/"}, "/url", "not_a_url"),
        ({"url": URL, "types": ["booking.confirmed", "nonsense"]}, "/types/1", "unknown_type"),
        ({"url": URL, "types": "booking.confirmed"}, "/types", "wrong_type"),
        ({"url": URL, "label": ""}, "/label", "empty"),
        ({"url": URL, "label": "x" * 101}, "/label", "too_long"),
        ({"url": URL, "begin": "yesterday"}, "/begin", "malformed"),
        ({"url": URL, "secret": "mine"}, "/secret", "unknown_member"),
    ],
)
async def test_what_no_endpoint_may_be(
    api: httpx2.AsyncClient, body: dict[str, Any], pointer: str, code: str
) -> None:  # fmt: skip
    problem = assert_problem(await api.post(PATH, json=body), 400, "malformed-request")
    assert problem["errors"] == [{"pointer": pointer, "code": code}]
    assert (await api.get(PATH)).json() == {"data": []}


@pytest.mark.parametrize(
    "body", [{"url": "https://shop.example/4242424242424242"}, {"url": URL, "label": "4242 4242 4242 4242"}]
)
async def test_no_card_number_is_kept(api: httpx2.AsyncClient, office: BoxOffice, body: dict[str, Any]) -> None:
    found = await api.post(PATH, json=body)
    assert_problem(found, 422, "card-data-not-accepted")
    assert "4242" not in found.text


async def test_no_url_twice_and_no_more_than_there_may_be(api: httpx2.AsyncClient) -> None:
    first = await made(api)
    problem = assert_problem(await api.post(PATH, json={"url": URL}), 400, "malformed-request")
    assert problem["errors"] == [{"pointer": "/url", "code": "duplicate_url"}]
    second, _ = await made(api, URL + "2"), await made(api, URL + "3")
    problem = assert_problem(await api.post(PATH, json={"url": URL + "4"}), 400, "malformed-request")
    assert problem["errors"] == [{"pointer": "", "code": "too_many"}]
    refused = await api.patch(f"{PATH}/{second['id']}", json={"url": URL})
    assert assert_problem(refused, 400, "malformed-request")["errors"][0]["code"] == "duplicate_url"
    assert (await api.delete(f"{PATH}/{first['id']}")).json()["id"] == first["id"]
    await made(api)


async def test_one_is_changed_disabled_and_enabled(api: httpx2.AsyncClient) -> None:
    path = f"{PATH}/{(await made(api, label='Till'))['id']}"
    changed = (await api.patch(path, json={"url": URL + "2", "types": ["event.paused"], "label": None})).json()
    assert (changed["url"], changed["types"], changed["label"]) == (URL + "2", ["event.paused"], None)
    disabled = (await api.patch(path, json={"status": "disabled"})).json()
    assert (disabled["status"], disabled["disabled_reason"], disabled["types"]) == (
        "disabled",
        "asked",
        ["event.paused"],
    )
    enabled = (await api.patch(path, json={"status": "enabled"})).json()
    assert (enabled["status"], enabled["disabled_reason"], enabled["disabled_at"]) == ("enabled", None, None)
    for body in ({}, {"status": "gone"}, {"shop": "other"}, {"url": "http://10.1.1.1"}):
        assert_problem(await api.patch(path, json=body), 400, "malformed-request")


async def test_one_that_is_deleted_is_gone(api: httpx2.AsyncClient) -> None:
    path = f"{PATH}/{(await made(api))['id']}"
    assert (await api.delete(path)).status_code == 200
    for method in ("GET", "DELETE"):
        assert_problem(await api.request(method, path), 404, "not-found")
    assert_problem(await api.patch(path, json={"status": "enabled"}), 404, "not-found")
    assert (await api.get(PATH)).json() == {"data": []}


async def test_two_secrets_sign_for_a_while(api: httpx2.AsyncClient, office: BoxOffice) -> None:
    new = await made(api)
    path = f"{PATH}/{new['id']}/rotate"
    rotated = (await api.post(path)).json()
    assert rotated["secret"] not in ("", new["secret"]) and rotated["before_until"] is not None
    at_once = (await api.post(path, json={"overlap_s": 0})).json()
    assert at_once["before_until"] is None
    for body in ({"overlap_s": -1}, {"overlap_s": 604_801}, {"overlap_s": "1"}, {"secret": "mine"}):
        assert_problem(await api.post(path, json=body), 400, "malformed-request")
    kept = await office.database.fetch("SELECT secret FROM webhook_secrets ORDER BY id")
    assert [row["secret"] for row in kept] == [new["secret"], rotated["secret"], at_once["secret"]]


async def test_what_was_delivered_and_is_sent_anew(api: httpx2.AsyncClient, office: BoxOffice) -> None:
    async with at_endpoint() as endpoint:
        path = f"{PATH}/{(await made(api, endpoint.url))['id']}"
        async with office.database.begin() as connection:
            for _ in range(3):
                await write(connection, CLIENT, "event.changed", {})
        await office.couriers.look()
        await office.couriers.at_rest()
        page = (await api.get(f"{path}/deliveries", params={"limit": 2})).json()
        rest = (await api.get(f"{path}/deliveries", params={"limit": 2, "cursor": page["next_cursor"]})).json()
        rows = [*page["data"], *rest["data"]]
        assert rest["next_cursor"] is None
        assert [row["notice_id"] for row in rows[::-1]] == endpoint.ids
        assert {(row["status"], row["answer"], row["tries"]) for row in rows} == {("delivered", 204, 1)}
        none = (await api.get(f"{path}/deliveries", params={"status": "waiting"})).json()
        assert none == {"data": [], "next_cursor": None}

        again = await api.post(f"{path}/redeliver", json={"notice_id": rows[0]["notice_id"]})
        assert (again.status_code, again.json()) == (202, {"redelivered": 1})
        await office.couriers.look()
        await office.couriers.at_rest()
        assert endpoint.ids[3:] == [rows[0]["notice_id"]]
        every = await api.post(f"{path}/redeliver", json={"since": "2020-01-01T00:00:00Z", "status": "delivered"})
        assert every.json() == {"redelivered": 3}
        later = await api.post(f"{path}/redeliver", json={"since": "2100-01-01T00:00:00+01:00"})
        assert later.json() == {"redelivered": 0}
        endpoint.behave = answer(204)
        assert_problem(await api.post(f"{path}/redeliver", json={"notice_id": "n_9_9_9"}), 404, "not-found")


@pytest.mark.parametrize(
    "body",
    [
        {}, {"until": "2030-01-01T00:00:00Z"}, {"since": "2030-01-01"}, {"since": "2030-01-01T00:00:00"}, {"since": 5},
        {"notice_id": "n", "since": "2030-01-01T00:00:00Z"}, {"notice_id": "n", "status": "waiting"},
        {"since": "2030-01-01T00:00:00Z", "status": "lost"},
    ],
)  # fmt: skip
async def test_what_cannot_be_sent_anew(api: httpx2.AsyncClient, body: dict[str, Any]) -> None:
    path = f"{PATH}/{(await made(api))['id']}/redeliver"
    assert_problem(await api.post(path, json=body), 400, "malformed-request")


@pytest.mark.parametrize(
    "query", ["status=lost", "cursor=x", "cursor=", "limit=0", "limit=1000000", "page=2", "cursor=" + "9" * 30]
)
async def test_a_list_of_deliveries_that_is_not(api: httpx2.AsyncClient, query: str) -> None:
    path = f"{PATH}/{(await made(api))['id']}/deliveries?{query}"
    assert_problem(await api.get(path), 400, "malformed-request")


async def test_a_secret_stands_in_one_table_and_in_no_line(
    api: httpx2.AsyncClient, office: BoxOffice, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does a URL stand in one, which may have a secret in it."""
    new = await made(api, "http://127.0.0.1:9/?token=tk_5")
    async with office.database.begin() as connection:
        await write(connection, CLIENT, "event.changed", {})
    await office.couriers.look()
    await office.couriers.at_rest()
    said = capsys.readouterr()
    assert new["secret"] not in said.out + said.err and "tk_5" not in said.out + said.err
    secret = new["secret"].removeprefix("whsec_")
    for table in Base.metadata.sorted_tables:
        rows = await office.database.fetch(f"SELECT to_jsonb(t)::text AS row FROM {table.name} t")
        assert any(secret in row["row"] for row in rows) == (table.name == "webhook_secrets")
