"""Limits as shops see them: headers of the IETF's draft, 429 with Retry-After, on every way into the application."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from tests.api.conftest import Book, assert_problem
from tests.conftest import SaleMaker, counters

WINDOW_S = 3_600


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Few bookings an hour, which no test outlasts."""
    rates = settings.rates.model_copy(
        update={"window_s": WINDOW_S, "key_max": 4, "customer_max": 2, "changes_max": 2, "reads_max": 3}
    )
    return settings.model_copy(update={"rates": rates})


async def test_a_booking_is_told_what_is_left(book: Book, open_sale: SaleMaker) -> None:
    """Of its API key, and all limits that it has."""
    event = await open_sale(GA=9)
    for left in (3, 2):
        answer = await book(event, customer_id=f"c{left}")
        assert answer.status_code == 202
        assert answer.headers["ratelimit-policy"] == f'"key";q=4;w={WINDOW_S}, "customer";q=2;w={WINDOW_S}'
        name, r, t = answer.headers["ratelimit"].split(";")
        assert (name, r) == ('"key"', f"r={left}")
        assert t.startswith("t=") and 0 < int(t[2:]) <= WINDOW_S


def prefixes(said: Sequence[Mapping[str, Any]]) -> list[tuple[str, str | None]]:
    """Whose limit the lines of refusals name, and which key."""
    return [(line["whose"], line.get("key_prefix")) for line in said if line["event"] == "request.refused"]


@pytest.mark.parametrize(("whose", "limit"), [("customer", 2), ("key", 4)])
async def test_who_asks_too_often_is_told_when_to_come_again(
    api: httpx2.AsyncClient, office: BoxOffice, book: Book, open_sale: SaleMaker, whose: str, limit: int
) -> None:
    """Nothing is taken; a repeat of what is in is answered as ever; what is no booking is not counted."""
    event = await open_sale(GA=9)
    customers = ["ada"] * 2 if whose == "customer" else [f"c{n}" for n in range(4)]
    for n, customer in enumerate(customers):
        assert (await book(event, key=f"k{n}", customer_id=customer)).status_code == 202
    with capture_logs() as said:
        answer = await book(event, key="late", customer_id="ada")
        await asyncio.sleep(0)
    assert prefixes(said) == [(whose, "shop" if whose == "key" else None)]
    refused = assert_problem(answer, 429, "rate-limited")
    assert (refused["whose"], refused["limit"], refused["window_s"]) == (whose, limit, WINDOW_S)
    assert answer.headers["retry-after"] == str(refused["retry_after"])
    assert answer.headers["ratelimit-policy"] == f'"{whose}";q={limit};w={WINDOW_S}'
    assert answer.headers["ratelimit"] == f'"{whose}";r=0;t={refused["retry_after"]}'
    again = await book(event, key="k0", customer_id=customers[0])
    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    assert "ratelimit" not in again.headers
    assert (await counters(office, event, "GA")).held == limit
    assert (await api.get(f"/v1/bookings/{again.json()['id']}")).status_code == 200


async def test_a_key_with_a_limit_of_its_own(
    api: httpx2.AsyncClient, office: BoxOffice, book: Book, open_sale: SaleMaker
) -> None:
    """In force as soon as the processes have heard of it."""
    event = await open_sale(GA=9)
    await office.access.set_rate("shop", 1)
    office.catalogue.api_keys.look_at = 0
    await office.catalogue.api_keys.renew()
    assert (await book(event, customer_id="a")).headers["ratelimit"].startswith('"key";r=0;')
    assert_problem(await book(event, customer_id="b"), 429, "rate-limited")


async def test_other_requests_are_counted_too(api: httpx2.AsyncClient, book: Book, open_sale: SaleMaker) -> None:
    """Those that change something, and those that read, on every way into the application."""
    event = await open_sale(GA=9)
    hold = (await book(event, customer_id="a", payment=None)).json()
    path = f"/v1/bookings/{hold['id']}"
    assert (await api.post(f"{path}/extend", json={"extra_s": 60})).status_code == 200
    assert (await api.post(f"{path}/cancel")).status_code == 200
    with capture_logs() as said:
        answer = await api.post(f"{path}/cancel")
    assert "key_prefix" not in assert_problem(answer, 429, "rate-limited")
    assert prefixes(said) == [("key", "shop")]
    assert answer.headers["ratelimit-policy"] == f'"changes";q=2;w={WINDOW_S}'
    assert answer.headers["ratelimit"].startswith('"changes";r=0;t=')
    for get in (path, f"/v1/events/{event.id}", "/v1/events"):
        assert (await api.get(get)).status_code == 200
    with capture_logs() as said:
        for get in (path, f"/v1/events/{event.id}", "/v1/events"):
            answer = await api.get(get)
            assert_problem(answer, 429, "rate-limited")
            assert answer.headers["ratelimit-policy"] == f'"reads";q=3;w={WINDOW_S}'
    assert prefixes(said) == [("key", "shop")] * 3


async def test_a_request_that_cannot_be_is_its_callers(api: httpx2.AsyncClient, open_sale: SaleMaker) -> None:
    """It counts as its key's, and is told to its key alone: whoever has none, or has asked too often, hears of that."""
    event = await open_sale(GA=9)
    odd = [f"/v1/events/{event.id}?surprise=1", "/v1/bookings?limit=1&limit=1", "/v1/events/%C3%A9/history"]
    with capture_logs() as said:
        strangers = [await api.get(path, headers={"authorization": "Bearer nobody.knows"}) for path in odd]
        answers = [await api.get(path) for path in odd]
    assert [answer.status_code for answer in strangers] == [401] * 3
    assert [answer.status_code for answer in answers] == [400, 400, 404]
    clients = [line.get("client") or "" for line in said if line["event"] == "request.refused"]
    assert clients[-3:] == [event.client] * 3 and not any(clients[:-3])
    assert_problem(await api.get(odd[0]), 429, "rate-limited")
