"""The shop's back end in this process, on an API in this process, on real stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import httpx2
import pytest

from boxoffice.access.store import Grant
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from ops.shop.server import create_app
from ops.shop.terms import Terms
from tests.conftest import SaleMaker, load_all
from tests.support.shop.orders import CLIENT
from tests.support.waiting import eventually

ORIGIN = "https://shop.test"
NEARBY = "http://localhost:8080"
"""The same shop, without TLS."""
BROWSE = "browse.a-key-that-everybody-sees"
SECRET = "secret.a-key-that-nobody-sees"

Buyer = Callable[[], httpx2.AsyncClient]


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    """On sale: ten tickets of one tier, a hundred of another."""
    return await open_sale(VIP=10, GA=100)


@pytest.fixture
async def terms(office: BoxOffice) -> Terms:
    """The shop's two keys, with no right more than they need, and where its customers come back to."""
    await load_all(office)
    await office.access.add_api_key(CLIENT, BROWSE, Grant(("browse",), origins=(ORIGIN,)))
    await office.access.add_api_key(CLIENT, SECRET, Grant(("read", "book", "refund")))
    await office.access.set_return_urls(CLIENT, [ORIGIN, NEARBY])

    async def known() -> bool:
        await office.catalogue.api_keys.renew()
        return ORIGIN in (await office.catalogue.api_keys.caller_of(SECRET)).return_urls

    await eventually(known)
    return Terms("http://boxoffice.test", SECRET, BROWSE, (ORIGIN, NEARBY))


@pytest.fixture
async def buyer(terms: Terms, api: httpx2.AsyncClient) -> AsyncIterator[Buyer]:
    """Makes browsers, each with cookies of its own: `buyer()`."""
    del api.headers["Authorization"]
    async with AsyncExitStack() as stack:
        opened: list[httpx2.AsyncClient] = []

        def buyer() -> httpx2.AsyncClient:
            transport = httpx2.ASGITransport(app=create_app(terms, api))
            client = httpx2.AsyncClient(transport=transport, base_url=ORIGIN, headers={"Origin": ORIGIN})
            opened.append(client)
            stack.push_async_callback(client.aclose)
            return client

        yield buyer


@pytest.fixture
async def ada(buyer: Buyer) -> httpx2.AsyncClient:
    """Somebody who has opened the page."""
    client = buyer()
    assert (await client.get("/")).status_code == 200
    return client
