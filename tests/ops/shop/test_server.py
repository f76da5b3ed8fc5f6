"""What the shop's back end does for a page, and what it does not let it do."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from ops.shop import server
from ops.shop.asking import Api
from ops.shop.server import create_app
from ops.shop.terms import Terms
from tests.conftest import settle_all
from tests.ops.shop.conftest import BROWSE, NEARBY, ORIGIN, SECRET, Buyer
from tests.support.shop.orders import CLIENT, tier_of

PAGE = Path(server.__file__).with_name("page")


def order_of(event: EventView, number: str = "order00001", **tickets: int) -> dict[str, Any]:
    items = [{"tier_id": tier_of(event, code), "quantity": count} for code, count in tickets.items()]
    return {"order": number, "items": items}


async def hold(
    client: httpx2.AsyncClient, event: EventView, key: str = "hold-key-1", **tickets: int
) -> httpx2.Response:
    body = order_of(event, **tickets)
    return await client.post("/shop/bookings", json=body, headers={"Idempotency-Key": key})


async def pay(
    client: httpx2.AsyncClient, booking: str, token: str = "tok_ok", key: str = "pay-key-1"
) -> httpx2.Response:
    url = f"/shop/bookings/{booking}/payment"
    return await client.post(url, json={"token": token}, headers={"Idempotency-Key": key})


async def test_the_page_is_told_what_it_needs_and_nothing_secret(ada: httpx2.AsyncClient) -> None:
    config = (await ada.get("/shop/config")).json()
    assert config == {"api": "http://boxoffice.test", "key": BROWSE}
    for path in ("/", "/shop/config", *(f"/assets/{file.name}" for file in PAGE.iterdir())):
        assert SECRET not in (await ada.get(path)).text


async def test_a_customer_holds_pays_and_refunds(
    ada: httpx2.AsyncClient, event: EventView, office: BoxOffice
) -> None:  # fmt: skip
    held = await hold(ada, event, VIP=1, GA=2)
    assert held.status_code == 201, held.text
    booking = held.json()
    assert (booking["status"], booking["amount_cents"]) == ("held", 5_000)

    extended = await ada.post(f"/shop/bookings/{booking['id']}/extend", json={"extra_s": 60})
    assert extended.status_code == 200 and extended.json()["expires_at"] > booking["expires_at"]

    assert (await pay(ada, booking["id"])).status_code == 202
    await settle_all(office)
    assert (await ada.get(f"/shop/bookings/{booking['id']}")).json()["status"] == "confirmed"
    listed = (await ada.get("/shop/bookings")).json()["data"]
    assert [(each["id"], each["reference"]) for each in listed] == [(booking["id"], "order00001")]

    some = {"items": [{"tier_id": tier_of(event, "GA"), "quantity": 1}]}
    url = f"/shop/bookings/{booking['id']}/refunds"
    refunded = await ada.post(url, json=some, headers={"Idempotency-Key": "refund-key"})
    assert (refunded.status_code, refunded.json()["amount_cents"]) == (201, 2_000)
    for items in ("all", "owed", None):
        refused = await ada.post(url, json={"items": items}, headers={"Idempotency-Key": "more-than-one"})
        assert refused.status_code == 400, "at the full price all are given back by the shop's people alone"
    cancelled = await ada.post(f"/shop/bookings/{booking['id']}/cancel", json={})
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")


async def test_a_customer_comes_back_from_the_bank_to_the_shop_with_the_orders_number(
    ada: httpx2.AsyncClient, event: EventView
) -> None:
    """From where the order came: at another origin of the same shop there is neither its cookie nor what the page has kept."""
    assert (await hold(ada, event, GA=1)).json()["return_url"] == f"{ORIGIN}/?order=order00001"
    ada.headers["Origin"] = NEARBY
    held = await hold(ada, event, key="hold-key-2", GA=1)
    assert held.json()["return_url"] == f"{NEARBY}/?order=order00001"


async def test_an_order_is_sent_on_under_the_key_of_the_page(ada: httpx2.AsyncClient, event: EventView) -> None:
    first, again = [await hold(ada, event, GA=2) for _ in range(2)]
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    other = await hold(ada, event, "hold-key-2", GA=2)
    assert other.json()["id"] != first.json()["id"]


async def test_who_books_is_not_for_the_page_to_say(ada: httpx2.AsyncClient, event: EventView) -> None:
    """Nor where the bank sends them, nor by what it was paid for."""
    said = {"customer_id": "somebody", "return_url": "https://evil.example", "metadata": {"a": "b"}, "reference": "x"}
    body = order_of(event, GA=1) | said
    booking = (await ada.post("/shop/bookings", json=body, headers={"Idempotency-Key": "key-key-1"})).json()
    assert re.fullmatch("[0-9a-f]{32}", booking["customer_id"])
    assert (booking["return_url"], booking["metadata"]) == (f"{ORIGIN}/?order=order00001", {})


async def test_another_customers_booking_does_not_exist(
    ada: httpx2.AsyncClient, buyer: Buyer, event: EventView, office: BoxOffice
) -> None:  # fmt: skip
    """Whatever is asked of it, in the words of one that never was; and nothing happens to it."""
    booking = (await hold(ada, event, GA=1)).json()["id"]
    eve = buyer()
    await eve.get("/")

    async def all_answers(booking: str) -> list[tuple[int, str]]:
        key = {"Idempotency-Key": "key-of-eve"}
        answers = [await eve.get(f"/shop/bookings/{booking}")]
        for verb, body in (
            ("payment", {"token": "tok_ok"}),
            ("extend", {"extra_s": 9}),
            ("cancel", {}),
            ("refunds", {"items": [{"tier_id": tier_of(event, "GA"), "quantity": 1}]}),
        ):
            answers.append(await eve.post(f"/shop/bookings/{booking}/{verb}", json=body, headers=key))
        return [(answer.status_code, answer.text) for answer in answers]

    answers = await all_answers(booking)
    assert answers == await all_answers("01890000-0000-7000-8000-000000000000")
    assert {status for status, _ in answers} == {404}
    assert (await eve.get("/shop/bookings")).json()["data"] == []
    assert (await ada.get(f"/shop/bookings/{booking}")).json()["status"] == "held"

    # Who knows whose it is from before says no as well.
    assert (await all_answers(booking))[0][0] == 404


@pytest.mark.parametrize("booking", ["..%2Fevents", "a%2Fb", "x" * 65, "%00", "x?limit=1"])
async def test_a_path_is_no_way_to_another_route(ada: httpx2.AsyncClient, booking: str) -> None:
    assert (await ada.get(f"/shop/bookings/{booking}")).status_code == 404


async def test_refusals_reach_the_page_as_they_are(ada: httpx2.AsyncClient, event: EventView) -> None:
    await hold(ada, event, "hold-key-2", VIP=10)
    refused = await hold(ada, event, VIP=1)
    assert (refused.status_code, refused.headers["content-type"]) == (409, "application/problem+json")
    problem = refused.json()
    assert problem["type"] == "/problems/sold-out" and problem["shortfall"][0]["available"] == 0
    assert problem["may_return"] is True and int(refused.headers["retry-after"]) > 0


async def test_without_a_session_nothing_is_done(buyer: Buyer, event: EventView) -> None:
    client = buyer()
    answers = [
        await client.get("/shop/bookings"),
        await hold(client, event, GA=1),
        await client.get("/shop/bookings/x"),
    ]
    assert [(answer.status_code, answer.json()["type"]) for answer in answers] == [(401, "/problems/no-session")] * 3


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400), (b"[]", 400), (b'{"order": NaN}', 400), (b'{"order": "\\ud800abcdefgh"}', 400), (b"\xff", 400),
        (b"[" * 8_000, 400), (b'{"order": "' + b"x" * 9_000 + b'"}', 413), (b'{"order": "short"}', 400), (b"", 400),
    ],
)  # fmt: skip
async def test_a_body_that_is_no_order_goes_nowhere(ada: httpx2.AsyncClient, body: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": "key-key-1"}
    answer = await ada.post("/shop/bookings", content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_only_what_is_there_is_served(ada: httpx2.AsyncClient) -> None:
    for path in ("/nothing", "/assets/../server.py", "/assets/%2e%2e/server.py", "/assets/", "/shop"):
        assert (await ada.get(path)).status_code == 404, path
    assert (await ada.delete("/", headers={"Content-Type": "application/json"})).status_code == 405
    assert (await ada.get("/healthz")).text == "ok\n"


async def test_the_page_and_its_parts_are_looked_at_again_and_not_sent_again(ada: httpx2.AsyncClient) -> None:
    for path in ("/", "/assets/main.js"):
        first = await ada.get(path)
        assert first.headers["cache-control"] == "no-cache"
        again = await ada.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert again.status_code in (200, 304) and (path == "/" or again.status_code == 304)


def test_the_test_cards_of_the_page_are_the_simulators() -> None:
    from boxoffice.gateway.simulator import cards

    shown = re.findall(r'\["(tok_\w+)", "(\d{4})",', (PAGE / "words.js").read_text())
    assert len(shown) >= 10
    for token, last4 in shown:
        assert cards.check_token(token).last4 == last4


def test_the_page_has_no_script_or_style_of_its_own_and_nothing_from_elsewhere() -> None:
    page = (PAGE / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    for file in PAGE.iterdir():
        found = re.findall(r"https?://[^\s\"'`)]+", file.read_text())
        assert [url for url in found if not url.startswith("http://www.w3.org/")] == [], file.name
        assert "innerHTML" not in file.read_text(), file.name


# ---------------------------------------------------------------- an API that does not answer

Answering = Callable[[httpx2.Request], Awaitable[httpx2.Response]]


@pytest.fixture
async def shop_on(terms: Terms) -> AsyncIterator[Callable[[Answering], httpx2.AsyncClient]]:
    """A shop on an API that answers like this."""
    opened: list[httpx2.AsyncClient] = []

    def shop_on(answering: Answering) -> httpx2.AsyncClient:
        api = httpx2.AsyncClient(transport=httpx2.MockTransport(answering), base_url=terms.api_url)
        transport = httpx2.ASGITransport(app=create_app(terms, api))
        opened.append(httpx2.AsyncClient(transport=transport, base_url=ORIGIN, headers={"Origin": ORIGIN}))
        return opened[-1]

    yield shop_on
    for client in opened:
        await client.aclose()


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (httpx2.ReadTimeout("late"), 504, "not-known-yet"),
        (httpx2.RemoteProtocolError("cut"), 504, "not-known-yet"),
        (httpx2.ReadError("reset"), 504, "not-known-yet"),
        (httpx2.ConnectError("refused"), 503, "away"),
        (httpx2.ConnectTimeout("no way"), 503, "away"),
    ],
)
async def test_a_missing_answer_is_said_to_be_missing(
    shop_on: Callable[[Answering], httpx2.AsyncClient], error: httpx2.TransportError, status: int, slug: str
) -> None:
    """Never a failure: the page sends it again, under the same key."""
    sent: list[httpx2.Request] = []

    async def answering(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        raise error

    client = shop_on(answering)
    await client.get("/")
    body = {"order": "order00001", "items": []}
    answer = await client.post("/shop/bookings", json=body, headers={"Idempotency-Key": "key-key-1"})
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")
    assert answer.headers["retry-after"] == "1"
    assert len(sent) == 1, "it repeats nothing by itself"
    assert sent[0].headers["idempotency-key"] == "key-key-1"
    assert sent[0].headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(("status", "slug"), [(401, "unauthorized"), (403, "forbidden")])
async def test_a_refused_key_is_the_shops_trouble_and_not_its_customers(
    shop_on: Callable[[Answering], httpx2.AsyncClient], status: int, slug: str
) -> None:
    async def answering(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, json={"type": f"/problems/{slug}", "detail": "key"})

    client = shop_on(answering)
    await client.get("/")
    answer = await client.get("/shop/bookings")
    assert (answer.status_code, answer.json()["type"]) == (502, "/problems/shop-key")


async def test_retry_after_and_the_wish_to_wait_are_passed_on(
    shop_on: Callable[[Answering], httpx2.AsyncClient],
) -> None:
    asked: list[str | None] = []

    async def answering(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers.get("prefer"))
        return httpx2.Response(503, json={"type": "/problems/busy"}, headers={"Retry-After": "7", "X-Internal": "x"})

    client = shop_on(answering)
    await client.get("/")
    for wish in ("wait=10", "wait=11", "respond-async"):
        answer = await client.get("/shop/bookings/abc", headers={"Prefer": wish})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
        assert "x-internal" not in answer.headers
    assert asked == [None] * 3, "whose it is comes first, at once"
    made = await client.post(
        "/shop/bookings", json={"order": "order00001"}, headers={"Prefer": "wait=10", "Idempotency-Key": "key-key-1"}
    )
    assert made.status_code == 503 and asked[-1] == "wait=10"


async def test_whose_a_booking_is_is_asked_once(terms: Terms) -> None:
    asked: list[str] = []

    async def answering(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        return httpx2.Response(200, json={"id": "abc", "customer_id": "ada"})

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answering), base_url=terms.api_url) as client:
        api = Api(terms, client)
        assert await api.owned("abc", "ada") is None
        assert await api.owned("abc", "ada") is None
        refused = await api.owned("abc", "eve")
        assert refused is not None and refused.status_code == 404
        assert asked == ["/v1/bookings/abc"]


async def test_the_browse_key_reads_from_the_shops_page_alone(
    api: httpx2.AsyncClient, terms: Terms, event: EventView
) -> None:  # fmt: skip
    """As the page asks for it; the shop's other key has no right to manage anything."""

    async def read(origin: str) -> int:
        headers = {"Authorization": f"Bearer {BROWSE}", "Origin": origin}
        return (await api.get("/v1/events", headers=headers)).status_code

    assert (await read(ORIGIN), await read("http://evil.test")) == (200, 403)
    manage = await api.post(f"/v1/events/{event.id}/pause", headers={"Authorization": f"Bearer {SECRET}"})
    assert manage.status_code == 403
    assert json.loads(manage.text)["scope"] == "manage" and CLIENT not in manage.text
