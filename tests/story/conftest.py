"""A shop that talks HTTP, a worker that does its rounds when asked, and a customer with a bank."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest

from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from ops.stack.servers import Servers
from tests.conftest import load_all
from tests.support.broom import Broom
from tests.support.shop.web import Shop
from tests.support.ways import STRAIGHT, Way


@pytest.fixture
def way(request: pytest.FixtureRequest, open_way: Callable[[str], Way]) -> Way:
    """How the box office goes to its stores: as the test says, or else the environment."""
    return open_way(getattr(request, "param", os.environ.get("STORY_WAY", STRAIGHT)))


@pytest.fixture
async def broom(broom: Broom, servers: Servers, way: Way) -> AsyncIterator[Broom]:
    """Empties the stores at the end of the way."""
    if way.servers is servers:
        yield broom
        return
    own = Broom(way.servers)
    yield own
    await own.close()


@pytest.fixture
def settings(settings: Settings, way: Way) -> Settings:
    holds = settings.holds.model_copy(update={"ttl_s": 600})
    return settings.model_copy(update={"holds": holds, "redis_url": way.redis_url, "database_url": way.database_url})


@pytest.fixture
async def shop(api: httpx2.AsyncClient, office: BoxOffice, open_sale: Callable[..., Awaitable[Any]]) -> Shop:
    """A shop, and a concert with ten GA tickets at 10.00 and two VIP at 20.00."""
    await load_all(office)
    await open_sale(GA=10, VIP=2)
    return Shop(api, office)
