"""Who asks the shop: its own page, in a session that nobody else has."""

from __future__ import annotations

from http.cookies import SimpleCookie

import httpx2
import pytest

from boxoffice.sales.catalogue import EventView
from tests.ops.shop.conftest import NEARBY, ORIGIN, Buyer
from tests.ops.shop.test_server import hold, order_of

GOOD = {"Origin": ORIGIN, "Content-Type": "application/json", "Idempotency-Key": "key-key-1"}


async def test_a_session_is_opaque_and_out_of_reach_of_scripts_and_other_sites(buyer: Buyer) -> None:
    first, second = [SimpleCookie((await buyer().get("/")).headers["set-cookie"])["shop-session"] for _ in range(2)]
    assert len(first.value) == 43 and first.value != second.value
    assert first["httponly"] and first["samesite"] == "lax" and first["path"] == "/"


async def test_a_session_stays_what_it_is(ada: httpx2.AsyncClient) -> None:
    for path in ("/", "/shop/config"):
        assert "set-cookie" not in (await ada.get(path)).headers


async def test_a_session_is_secure_where_there_is_tls(buyer: Buyer) -> None:
    secure, nearby = [SimpleCookie((await buyer().get(url)).headers["set-cookie"]) for url in ("/", f"{NEARBY}/")]
    assert secure["shop-session"]["secure"] and not nearby["shop-session"]["secure"]


async def test_a_made_up_session_is_none(buyer: Buyer) -> None:
    client = buyer()
    client.cookies.set("shop-session", "ada")
    assert (await client.get("/shop/bookings")).status_code == 401


@pytest.mark.parametrize(
    ("changes", "status", "slug"),
    [
        ({"Origin": "http://evil.test"}, 403, "foreign-page"),
        ({"Origin": "null"}, 403, "foreign-page"),
        ({"Origin": f"{ORIGIN}.evil.test"}, 403, "foreign-page"),
        ({"Origin": None}, 403, "foreign-page"),
        ({"Content-Type": "text/plain"}, 415, "content-type"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "content-type"),
        ({"Content-Type": None}, 415, "content-type"),
        ({"Host": "evil.test"}, 421, "misdirected"),
    ],
)
async def test_what_another_page_could_send_is_refused(
    ada: httpx2.AsyncClient, event: EventView, changes: dict[str, str | None], status: int, slug: str
) -> None:
    """With the customer's cookie, which a browser might send along; and nothing is booked."""
    headers = {name: value for name, value in (GOOD | changes).items() if value is not None}
    request = ada.build_request("POST", "/shop/bookings", json=order_of(event, GA=1), headers=headers)
    for name in [name for name, value in changes.items() if value is None]:
        del request.headers[name]
    answer = await ada.send(request)
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")
    assert (await hold(ada, event, "key-key-1", GA=2)).status_code == 201, "its key is unused"


async def test_a_page_may_name_the_shop_by_another_of_its_names(ada: httpx2.AsyncClient, event: EventView) -> None:
    headers = GOOD | {"Origin": NEARBY, "Content-Type": "application/json; charset=utf-8"}
    answer = await ada.post("/shop/bookings", json=order_of(event, GA=1), headers=headers)
    assert answer.status_code == 201


async def test_every_answer_says_what_a_page_may_do(ada: httpx2.AsyncClient) -> None:
    for path in ("/", "/assets/main.js", "/shop/config", "/nothing", "/shop/bookings"):
        headers = (await ada.get(path)).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy and "style-src 'self';" in policy
        assert "connect-src 'self' http://boxoffice.test;" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    assert (await ada.get("/shop/config")).headers["cache-control"] == "no-store"
