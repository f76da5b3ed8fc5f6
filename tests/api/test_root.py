"""`GET /`: to the shop front, where there is one."""

from __future__ import annotations

import httpx2
import pytest

from boxoffice.office import BoxOffice
from boxoffice.settings import Settings


async def get(settings: Settings, office: BoxOffice, url: str, path: str = "/") -> httpx2.Response:
    from api.app import create_app

    changed = settings.model_copy(update={"api": settings.api.model_copy(update={"shop_url": url})})
    office.settings = changed
    transport = httpx2.ASGITransport(app=create_app(changed, office=office))
    async with httpx2.AsyncClient(transport=transport, base_url="http://boxoffice.test") as client:
        return await client.get(path)


@pytest.mark.parametrize("path", ["/", "/?utm_source=poster"])
async def test_buyers_are_sent_to_the_shop_front(settings: Settings, office: BoxOffice, path: str) -> None:
    answer = await get(settings, office, "http://127.0.0.1:8080", path)
    assert (answer.status_code, answer.headers["location"]) == (302, "http://127.0.0.1:8080")


async def test_without_one_a_page_says_what_is_here(settings: Settings, office: BoxOffice) -> None:
    answer = await get(settings, office, "")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    assert 'href="/docs"' in answer.text and "default-src 'none'" in answer.headers["content-security-policy"]
