"""Which methods a path has, and that it says so."""

from __future__ import annotations

import httpx2
import pytest

from boxoffice.office import BoxOffice
from tests.api.conftest import SHOP_FRONT, Book
from tests.conftest import SaleMaker


async def test_head_is_answered_wherever_get_is(
    api: httpx2.AsyncClient, book: Book, office: BoxOffice, open_sale: SaleMaker
) -> None:
    """As the GET, without its body: uptime monitors ask so. Refusals too."""
    event = await open_sale(GA=5)
    location = (await book(event)).headers["location"]
    for path in (
        "/healthz", "/readyz", "/openapi.json", "/docs", "/docs/swagger-ui.css", "/v1/events", f"/v1/events/{event.id}",
        "/v1/bookings", location, "/v1/bookings/nobody", "/v1/events/nobody", "/nothing", "/v1/events?limit=x",
    ):  # fmt: skip
        told = await api.get(path)
        answer = await api.head(path)
        assert (answer.status_code, answer.content) == (told.status_code, b""), path
        for name in ("content-type", "cache-control"):
            assert answer.headers[name] == told.headers[name], path
        # A booking may have become another meanwhile.
        assert abs(int(answer.headers["content-length"]) - len(told.content)) < 200
    for path in (f"{location}/cancel", f"{location}/payment", "/v1/webhooks/simulator"):
        answer = await api.head(path)
        assert (answer.status_code, answer.headers["allow"], answer.content) == (405, "POST", b"")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/bookings", "GET, HEAD, POST"), ("DELETE", "/v1/bookings/x", "GET, HEAD, PATCH"),
        ("PUT", "/v1/events", "GET, HEAD, POST"), ("DELETE", "/v1/events/x", "GET, HEAD, PATCH"),
        ("GET", "/v1/events/x/pause", "POST"), ("POST", "/healthz", "GET, HEAD"),
        ("GET", "/v1/bookings/x/cancel", "POST"), ("OPTIONS", "/v1/bookings", "GET, HEAD, POST"),
        ("PUT", "/v1/bookings/x/refunds", "GET, HEAD, POST"),
        ("TRACE", "/v1/bookings", "GET, HEAD, POST"), ("PUT", "/actions/x", "GET, HEAD, POST"),
    ],
)  # fmt: skip
async def test_another_method_is_told_which_there_are(
    api: httpx2.AsyncClient, method: str, path: str, allowed: str
) -> None:
    answer = await api.request(method, path)

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_page_that_may_not_ask_is_told_in_a_problem(api: httpx2.AsyncClient) -> None:
    """Preflights too, and who may ask is told nothing but that."""
    for origin, method, status in (
        (SHOP_FRONT, "HEAD", 200),
        (SHOP_FRONT, "PUT", 400),
        ("https://x.example", "GET", 400),
    ):
        answer = await api.options("/v1/events", headers={"Origin": origin, "Access-Control-Request-Method": method})
        assert answer.status_code == status
        if status == 200:
            assert answer.content == b""
        else:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["type"] == "/problems/malformed-request"
