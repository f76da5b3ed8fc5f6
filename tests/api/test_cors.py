"""Pages of other origins: what they may ask, and which answers they may read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2
import pytest

from api.app import create_app, entrance_of
from api.cors import Cors
from api.front import Front
from boxoffice.errors import StoreAway
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from tests.api.conftest import SHOP_FRONT
from tests.support.shop.orders import KEY

SHOP = SHOP_FRONT.encode()
ALLOW = b"access-control-allow-origin"
EXPOSED = b", ".join(
    [
        b"Content-Location, Date, ETag, Idempotency-Replayed, Location, Preference-Applied, RateLimit, RateLimit-Policy",
        b"Retry-After, X-Request-Id",
    ]
)


class Keys:
    """API keys that are for these pages."""

    def __init__(self, *origins: bytes) -> None:
        self.origins = frozenset(origins)

    async def renew(self) -> None:
        """Nothing is known: what was, stays."""
        raise StoreAway


async def answer(
    origins: tuple[str, ...], headers: Mapping[bytes, bytes], method: str = "GET", of_keys: tuple[bytes, ...] = ()
) -> dict[bytes, bytes]:
    """The headers that an answer comes with, whose application says of itself that it varies."""
    keys: Any = Keys(*of_keys)
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"vary", b"Accept")]})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": "/v1/events", "headers": list(headers.items())}
    await Cors(app, origins, lambda: keys)(scope, None, send)  # type: ignore[arg-type]
    return {b":status": b"%d" % sent[0]["status"], **dict(sent[0]["headers"])}


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ((SHOP_FRONT,), SHOP, SHOP), (("https://a.example", SHOP_FRONT), SHOP, SHOP), (("*",), SHOP, b"*"),
        ((SHOP_FRONT,), b"https://other.example", None), ((SHOP_FRONT,), SHOP + b".evil", None), ((SHOP_FRONT,), b"null", None),
    ],
)  # fmt: skip
async def test_an_answer_says_who_may_read_it(origins: tuple[str, ...], origin: bytes, allowed: bytes | None) -> None:
    """That it depends on the origin, and which headers a page may read; nothing of credentials."""
    assert await answer(origins, {b"origin": origin}) == {
        b":status": b"200", b"vary": b"Accept, Origin", b"access-control-expose-headers": EXPOSED,
        **({ALLOW: allowed} if allowed else {}),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("of_keys", "allowed"),
    [((SHOP,), SHOP), ((b"https://a.example", SHOP), SHOP), ((b"*",), SHOP), ((b"https://a.example",), None)],
)
async def test_an_answer_may_be_read_by_a_page_that_a_key_is_for(
    of_keys: tuple[bytes, ...], allowed: bytes | None
) -> None:
    """With the settings' pages, and without any."""
    for origins in ((), ("https://b.example",)):
        assert (await answer(origins, {b"origin": SHOP}, of_keys=of_keys)).get(ALLOW) == allowed


async def test_where_there_are_no_pages_nothing_is_said_of_them() -> None:
    """Neither by the settings nor by a key."""
    assert await answer((), {b"origin": SHOP}) == {b":status": b"200", b"vary": b"Accept"}


@pytest.mark.parametrize("origins", [(SHOP_FRONT,), ("*",)])
async def test_a_server_is_told_nothing_of_origins(origins: tuple[str, ...]) -> None:
    assert await answer(origins, {}) == {b":status": b"200", b"vary": b"Accept"}


@pytest.mark.parametrize(
    ("origin", "method", "headers", "status"),
    [
        (SHOP, b"POST", b"authorization,content-type,idempotency-key", b"200"), (SHOP, b"GET", b"Authorization", b"200"),
        (SHOP, b"HEAD", None, b"200"), (SHOP, b"DELETE", None, b"400"), (SHOP, b"POST", b"x-other", b"400"),
        (b"https://other.example", b"GET", None, b"400"),
    ],
)  # fmt: skip
async def test_a_page_is_told_what_it_may_ask(
    origin: bytes, method: bytes, headers: bytes | None, status: bytes
) -> None:
    """Never with credentials, and only the origins of the settings."""
    asked = {b"origin": origin, b"access-control-request-method": method}
    if headers is not None:
        asked[b"access-control-request-headers"] = headers
    told = await answer((SHOP_FRONT,), asked, "OPTIONS")
    assert told[b":status"] == status
    assert told.get(ALLOW) == (SHOP if origin == SHOP else None)
    assert told[b"access-control-allow-methods"] == b"GET, HEAD, PATCH, POST"
    assert {b"authorization", b"content-type", b"idempotency-key"} <= {
        name.strip() for name in told[b"access-control-allow-headers"].lower().split(b",")
    }
    assert b"access-control-allow-credentials" not in told
    assert told[b"content-type" if status == b"400" else b"content-length"] in (b"application/problem+json", b"0")


@pytest.mark.parametrize("path", ["/v1/events", "/v1/events/x", "/v1/bookings/x", "/nowhere", "/healthz"])
async def test_a_page_may_read_whatever_failed(
    settings: Settings, office: BoxOffice, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Whichever part of the application gave the answer, and also when it is our mistake."""

    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(office.catalogue.api_keys, "caller_of", broken)
    transport = httpx2.ASGITransport(app=create_app(settings, office=office), raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {KEY}", "Origin": SHOP_FRONT}
    async with httpx2.AsyncClient(transport=transport, base_url="http://x", headers=headers) as client:
        found = await client.get(path)
    assert found.status_code == {"/nowhere": 404, "/healthz": 200}.get(path, 500)
    assert (found.headers["access-control-allow-origin"], found.headers["vary"]) == (SHOP_FRONT, "Origin")


async def test_it_stands_around_the_whole_application(settings: Settings, office: BoxOffice) -> None:
    around = create_app(settings, office=office)
    assert isinstance(around.app, Cors) and isinstance(entrance_of(around), Front) == settings.api.fast_path
