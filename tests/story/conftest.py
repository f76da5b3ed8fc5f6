"""A shop that talks HTTP, a worker that does its rounds when asked, and a customer with a bank."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from tests.conftest import load_all
from tests.support.shop.web import Shop


@pytest.fixture
def settings(settings: Settings) -> Settings:
    holds = settings.holds.model_copy(update={"ttl_s": 600})
    return settings.model_copy(update={"holds": holds})


@pytest.fixture
async def shop(api: httpx2.AsyncClient, office: BoxOffice, open_sale: Callable[..., Awaitable[Any]]) -> Shop:
    """A shop, and a concert with ten GA tickets at 10.00 and two VIP at 20.00."""
    await load_all(office)
    await open_sale(GA=10, VIP=2)
    return Shop(api, office)
