"""Signing in at the page of operators: a cookie that counts for the page alone, and for no longer than its key is good."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from redis.exceptions import OutOfMemoryError

from api.app import create_app
from boxoffice.access.rates import Allowance, rate_limited
from boxoffice.access.store import Grant
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from boxoffice.stores import keys
from tests.api.conftest import assert_problem
from tests.conftest import CLIENT

HERE = "http://boxoffice.test"
PAGE = {"X-Boxoffice-Page": "ops"}
CHANGE = PAGE | {"Origin": HERE, "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def key(office: BoxOffice) -> str:
    return await office.access.create_api_key(CLIENT, Grant(("ops",)))


@pytest.fixture
def page(api: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """A browser: it has no key of its own."""
    del api.headers["Authorization"]
    return api


async def sign_in(page: httpx2.AsyncClient, key: str, **headers: str) -> httpx2.Response:
    answer = await page.post("/ops/session", json={"api_key": key}, headers=CHANGE | headers)
    assert answer.status_code == 201, answer.text
    return answer


async def who(page: httpx2.AsyncClient, **headers: str) -> httpx2.Response:
    return await page.get("/v1/ops/session", headers=PAGE | headers)


async def test_a_session_stands_for_its_key(page: httpx2.AsyncClient, office: BoxOffice, key: str) -> None:
    """And neither the page nor the cookie, nor Redis, has anything of the secret."""
    answer = await sign_in(page, key)
    prefix, _, secret = key.partition(".")
    assert answer.json() == {"api_key": prefix, "client_id": CLIENT, "scopes": ["ops"]}
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("boxoffice_ops=") and cookie.endswith("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict")
    assert secret not in answer.text + cookie
    token = page.cookies["boxoffice_ops"]
    names = [name.decode() async for name in office.redis.scan_iter(keys.session(0, "*"))]
    assert len(names) == 1 and token not in names[0]
    kept = await office.redis.get(names[0])
    assert kept is not None and secret not in kept.decode() and token not in kept.decode()
    assert 43_000 < await office.redis.ttl(names[0]) <= 43_200
    assert (await who(page)).json() == answer.json()


async def test_over_tls_the_cookie_is_for_this_host_alone(page: httpx2.AsyncClient, key: str) -> None:
    """The browser says by which way it came. There a cookie that somebody on the network planted is not looked at."""
    planted = (await sign_in(page, key)).headers["set-cookie"].partition("=")[2].partition(";")[0]
    page.cookies.clear()
    secure = {"Origin": "https://boxoffice.test"}
    answer = await sign_in(page, key, **secure)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-boxoffice_ops=") and "; Secure" in cookie and "; Path=/;" in cookie
    token = cookie.partition("=")[2].partition(";")[0]
    page.cookies.clear()
    assert (await who(page, Cookie=f"__Host-boxoffice_ops={token}")).status_code == 200
    out = {"Cookie": f"boxoffice_ops={planted}"}
    path = "/v1/ops/parked/x/retry"
    assert_problem(await page.post(path, headers=CHANGE | secure | out), 401, "unauthorized")


@pytest.mark.parametrize("api_key", ["nobody.knows", "shop.wrong", "", "no key"])
async def test_a_wrong_key_signs_nobody_in(page: httpx2.AsyncClient, api_key: str) -> None:
    answer = await page.post("/ops/session", json={"api_key": api_key}, headers=CHANGE)
    assert_problem(answer, 401, "unauthorized")
    assert "set-cookie" not in answer.headers
    assert api_key not in answer.text or not api_key


async def test_a_key_without_the_scope_signs_nobody_in(page: httpx2.AsyncClient, office: BoxOffice) -> None:
    key = await office.access.create_api_key(CLIENT, Grant(("manage", "read", "refund")))
    answer = await page.post("/ops/session", json={"api_key": key}, headers=CHANGE)
    assert assert_problem(answer, 403, "forbidden")["scope"] == "ops"
    assert "set-cookie" not in answer.headers


async def test_sign_ins_are_counted_as_changes_of_the_key(
    page: httpx2.AsyncClient, office: BoxOffice, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def spent(allowance: Allowance) -> None:
        assert allowance.api_key == key.partition(".")[0]
        raise rate_limited("key", 1, 10, 3_000, "x")

    monkeypatch.setattr(office.throttle, "change", spent)
    answer = await page.post("/ops/session", json={"api_key": key}, headers=CHANGE)
    assert answer.status_code == 429 and "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"Origin": HERE}, 400),
        ({"X-Boxoffice-Page": "other", "Origin": HERE}, 400),
        (PAGE, 403),
        (PAGE | {"Origin": "http://evil.test"}, 403),
        (PAGE | {"Origin": "null"}, 403),
        (PAGE | {"Origin": "http://boxoffice.test.evil.test"}, 403),
        (PAGE | {"Origin": HERE, "Sec-Fetch-Site": "same-site"}, 403),
        (PAGE | {"Origin": HERE, "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
async def test_no_other_page_signs_in_or_out(
    page: httpx2.AsyncClient, key: str, headers: dict[str, str], status: int
) -> None:
    assert (await page.post("/ops/session", json={"api_key": key}, headers=headers)).status_code == status
    await sign_in(page, key)
    assert (await page.delete("/ops/session", headers=headers)).status_code == status
    assert (await who(page)).status_code == 200, "still signed in"


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": HERE}, {"X-Boxoffice-Page": "1", "Origin": HERE}, {"Origin": "http://evil.test"}]
)
async def test_a_cookie_alone_is_nobody(
    page: httpx2.AsyncClient, key: str, event: EventView, headers: dict[str, str]
) -> None:
    """A browser sends it whoever asks: a link, a form, another page."""
    await sign_in(page, key)
    assert_problem(await page.get("/v1/ops/session", headers=headers), 401, "unauthorized")
    assert_problem(await page.post(f"/v1/events/{event.id}/pause", headers=headers), 401, "unauthorized")


@pytest.mark.parametrize(
    "headers", [PAGE, PAGE | {"Origin": "http://evil.test"}, CHANGE | {"Sec-Fetch-Site": "same-site"}]
)
async def test_a_change_names_the_pages_own_origin(
    page: httpx2.AsyncClient, key: str, event: EventView, office: BoxOffice, headers: dict[str, str]
) -> None:
    await sign_in(page, key)
    answer = await page.post(f"/v1/events/{event.id}/pause", headers=headers)
    assert assert_problem(answer, 403, "forbidden")["reason"] == "origin"
    assert (await office.store.event(event.id)).status == "active"
    assert (await page.post(f"/v1/events/{event.id}/pause", headers=CHANGE)).status_code == 200
    assert (await office.store.event(event.id)).status == "paused"


async def test_the_hot_routes_look_at_no_cookie(page: httpx2.AsyncClient, office: BoxOffice, event: EventView) -> None:
    """Not even of a key that may do everything."""
    key = await office.access.create_api_key(CLIENT, Grant(("ops", "book", "browse", "read")))
    await sign_in(page, key)
    booking: dict[str, Any] = {"event_id": event.id, "customer_id": "c", "items": []}
    answer = await page.post("/v1/bookings", json=booking, headers=CHANGE | {"Idempotency-Key": "k"})
    if office.settings.api.fast_path:
        assert_problem(answer, 401, "unauthorized")


async def test_signing_out_ends_the_session(page: httpx2.AsyncClient, key: str, office: BoxOffice) -> None:
    """Also of whoever has copied the cookie."""
    await sign_in(page, key)
    copied = {"Cookie": f"boxoffice_ops={page.cookies['boxoffice_ops']}"}
    answer = await page.delete("/ops/session", headers=CHANGE)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "Max-Age=0" in answer.headers["set-cookie"]
    page.cookies.clear()
    assert_problem(await who(page, **copied), 401, "unauthorized")
    assert (await page.delete("/ops/session", headers=CHANGE)).status_code == 204, "once more, and nothing happens"


@pytest.mark.parametrize("end", ["revoked", "expired", "scope", "secret"])
async def test_a_key_that_is_not_good_any_more_ends_its_sessions(
    page: httpx2.AsyncClient, key: str, office: BoxOffice, end: str
) -> None:
    """As soon as the key itself is refused: at the next look at the keys, a second later."""
    await sign_in(page, key)
    prefix = key.partition(".")[0]
    if end == "revoked":
        await office.access.revoke_api_key(prefix)
    elif end == "expired":
        await (await office.pool()).execute("UPDATE api_keys SET expires_at = now() WHERE prefix = $1", prefix)
        await office.loader.load(0)
    elif end == "scope":
        await office.access.add_api_key(CLIENT, key, Grant(("read",)))
    else:
        await office.redis.hset(keys.api_keys(0), prefix, b'{"sha256":"00","client":"shop00000000","scopes":["ops"]}')  # type: ignore[misc]
        await office.redis.hset(keys.api_keys(0), "version", "another")  # type: ignore[misc]
    office.catalogue.api_keys.look_at = 0.0
    answer = await who(page)
    assert answer.status_code == (403 if end == "scope" else 401), answer.text


async def test_another_process_knows_the_session(page: httpx2.AsyncClient, key: str, settings: Settings) -> None:
    await sign_in(page, key)
    token = page.cookies["boxoffice_ops"]
    async with (
        open_box_office(settings) as elsewhere,
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=create_app(settings, office=elsewhere)), base_url=HERE
        ) as other,
    ):
        headers = {"Cookie": f"boxoffice_ops={token}"}
        assert (await who(other, **headers)).status_code == 200
        assert (await other.delete("/ops/session", headers=CHANGE | headers)).status_code == 204
    assert_problem(await who(page), 401, "unauthorized")


async def test_an_emptied_redis_has_forgotten_who_is_signed_in(
    page: httpx2.AsyncClient, key: str, office: BoxOffice
) -> None:
    await sign_in(page, key)
    async for name in office.redis.scan_iter(keys.session(0, "*")):
        await office.redis.delete(name)
    assert_problem(await who(page), 401, "unauthorized")


@pytest.mark.parametrize("token", ["", "x", "x" * 65, "ü", "a;b", "{s00}:gate", "*"])
async def test_a_token_that_is_none_is_nobody(page: httpx2.AsyncClient, token: str) -> None:
    answer = await page.get("/v1/ops/session", headers={**PAGE, "Cookie": f"boxoffice_ops={token}".encode()})  # type: ignore[arg-type]
    assert_problem(answer, 401, "unauthorized")


async def test_a_full_redis_begins_no_session(
    page: httpx2.AsyncClient, office: BoxOffice, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody's mistake, and nothing that stays: 503."""

    async def full(*_: object, **__: object) -> None:
        raise OutOfMemoryError

    monkeypatch.setattr(office.redis, "set", full)
    answer = await page.post("/ops/session", json={"api_key": key}, headers=CHANGE)
    assert_problem(answer, 503, "store-away")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("prefix", ["", "nobody.", "{reader}."])
async def test_a_made_up_cookie_costs_redis_nothing(
    page: httpx2.AsyncClient, office: BoxOffice, key: str, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    """Only of a key that operators have it is asked for a session."""
    await sign_in(page, key)
    page.cookies.clear()
    reader = await office.access.create_api_key(CLIENT, Grant(("read",)))
    asked: list[object] = []

    async def get(name: object) -> None:
        asked.append(name)

    monkeypatch.setattr(office.redis, "get", get)
    cookie = prefix.replace("{reader}", reader.partition(".")[0]) + "A" * 43
    assert_problem(await who(page, Cookie=f"boxoffice_ops={cookie}"), 401, "unauthorized")
    assert asked == []
    cookie = f"{key.partition('.')[0]}." + "A" * 43
    assert_problem(await who(page, Cookie=f"boxoffice_ops={cookie}"), 401, "unauthorized")
    assert len(asked) == 1
