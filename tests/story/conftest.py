"""A shop that talks HTTP, a worker that does its rounds when asked, and a customer with a bank.

Each story is told twice: by processes that may do everything in both stores, and by an API, a worker and operators that have
the least rights each."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx2
import pytest

from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from ops.stack.servers import Servers
from tests.conftest import load_all, make_shops
from tests.ops.terminal import terminal_of
from tests.support.broom import Broom
from tests.support.least import LeastRights, Offices
from tests.support.shop.web import Shop
from tests.support.ways import STRAIGHT, Way

ONE_USER, LEAST = "one user", "least rights"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every story is told under either, on the servers of the tests: no other way knows the users."""
    if "rights" in metafunc.fixturenames:
        ways = [mark for mark in metafunc.definition.iter_markers("parametrize") if mark.args[0] == "way"]
        elsewhere = ways or os.environ.get("STORY_WAY", STRAIGHT) != STRAIGHT
        metafunc.parametrize("rights", [ONE_USER] if elsewhere else [ONE_USER, LEAST], indirect=True)


@pytest.fixture
def rights(request: pytest.FixtureRequest) -> str:
    """What the processes may do: everything, or what each has need of."""
    return str(request.param)


@pytest.fixture
def settings_of(rights: str, settings: Settings, request: pytest.FixtureRequest) -> Callable[[str], Settings]:
    """Settings of the process of a role."""
    if rights == ONE_USER:
        return lambda _role: settings
    least: LeastRights = request.getfixturevalue("least_rights")
    return lambda role: settings.model_copy(update=least.urls(role, settings))


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
async def offices(
    clean: None, broom: Broom, rights: str, settings_of: Callable[[str], Settings], request: pytest.FixtureRequest
) -> AsyncIterator[Offices]:
    """One for all, or one for each. Under the least rights nothing was refused by Redis once the story is over."""
    async with open_box_office(settings_of("operator"), redis_retries=3) as operator:
        await broom.put_shops(operator, make_shops)
        if rights == ONE_USER:
            yield Offices(operator, operator, operator)
            return
        least: LeastRights = request.getfixturevalue("least_rights")
        least.refusals()
        async with (
            open_box_office(settings_of("worker"), redis_retries=3) as worker,
            open_box_office(settings_of("api")) as api,
        ):
            yield Offices(api, worker, operator)
        assert least.refusals() == []


@pytest.fixture
def office(offices: Offices) -> BoxOffice:
    """The worker's."""
    return offices.worker


@pytest.fixture
def operators_office(offices: Offices) -> BoxOffice:
    return offices.operator


@pytest.fixture
def api_office(offices: Offices) -> BoxOffice:
    return offices.api


@pytest.fixture
def terminal(settings_of: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An operator's."""
    with terminal_of(settings_of("operator"), monkeypatch):
        yield


@pytest.fixture
async def shop(api: httpx2.AsyncClient, office: BoxOffice, open_sale: Callable[..., Awaitable[Any]]) -> Shop:
    """A shop, and a concert with ten GA tickets at 10.00 and two VIP at 20.00."""
    await load_all(office)
    await open_sale(GA=10, VIP=2)
    return Shop(api, office)
