"""Real servers, started once; clean stores for every test; a box office on them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import httpx2
import pytest

from api import quiet
from boxoffice.admission.flood import FLOOD
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.store import CatalogueStore, NewTier
from boxoffice.settings import ApiSettings, GatewaySettings, Settings
from boxoffice.stores import database, keys, postgres
from boxoffice.stores.gate import look
from boxoffice.stores.postgres import migrate
from boxoffice.telemetry.outages import outages
from boxoffice.telemetry.seldom import seldom
from ops.stack.servers import Servers, temporary_servers
from tests.support.broom import Broom
from tests.support.environment import kept_environment
from tests.support.kept import Kept
from tests.support.least import LeastRights
from tests.support.patience import LIMITS, give_time
from tests.support.shop.orders import CLIENT, KEY, OTHER, OTHER_KEY, tier_of
from tests.support.unfinished import end_all, running
from tests.support.waiting import eventually
from tests.support.warm import WarmServers
from tests.support.ways import WAYS, Way

GENERATION = "first"

SHARD = 1
"""The shard of the event under test: the last one of two, see `shards` and `open_sale`."""


def pytest_configure() -> None:
    """Commands, APIs and workers that a test starts in processes of their own have two shards as well."""
    os.environ["BOXOFFICE_SHARDS"] = str(SHARD + 1)
    give_time()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that may take minutes come first: whichever of them began last would end long after all others."""
    items.sort(key=lambda item: all(mark.args[0] < LONG_S for mark in item.iter_markers("timeout")))


def pytest_collection_finish() -> None:
    """Thirteen thousand tests are a million objects, none of which goes away: nobody looks at them again and again."""
    gc.collect()
    gc.freeze()


LONG_S = 240
"""A test with such a timeout is a long one."""


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Valkey and PostgreSQL, migrated."""
    if warm := WarmServers.named():
        yield cast(Servers, warm)
        return
    with temporary_servers() as servers:
        migrate(Settings(redis_url=servers.redis_url, database_url=servers.database_url))
        yield servers


@pytest.fixture(scope="session")
def open_way(servers: Servers) -> Iterator[Callable[[str], Way]]:
    """A way by its name, opened when it is first asked for."""
    opened: dict[str, Way] = {}
    with contextlib.ExitStack() as stack:

        def open_way(name: str) -> Way:
            if name not in opened:
                opened[name] = stack.enter_context(WAYS[name](servers))
            return opened[name]

        yield open_way


@pytest.fixture(scope="session")
def least_rights(servers: Servers) -> LeastRights:
    """Users and roles with the least rights, on the servers of the tests."""
    with ThreadPoolExecutor(1) as thread:  # it brings its own loop, and may be asked for in the middle of another
        return thread.submit(lambda: asyncio.run(LeastRights.made(servers))).result()


@pytest.fixture(scope="session")
async def loop_of_tests() -> asyncio.AbstractEventLoop:
    """The loop in which all tests run, one after another."""
    return asyncio.get_running_loop()


@pytest.fixture(autouse=True)
def _nothing_goes_on(loop_of_tests: asyncio.AbstractEventLoop) -> Iterator[None]:
    """A test ends the tasks that it or its fixtures began: one that goes on would speak in the midst of another test."""
    before = running(loop_of_tests)
    yield
    if began := running(loop_of_tests) - before:
        end_all(loop_of_tests, began)


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """What a test writes into the environment ends with it. Commands that run in this process write there which data
    directory they work on, and programs that another test starts would work on that."""
    with kept_environment():
        yield


@pytest.fixture
def products_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions of PostgreSQL that pause are cut off as soon as the product says, and not as late as in other tests."""
    for name, limit_ms in LIMITS.items():
        monkeypatch.setattr(postgres, name, limit_ms)


@pytest.fixture(autouse=True)
def _says_anew() -> None:
    """What was said in another test is said again, and a flood in which it ended is over."""
    FLOOD.end()
    seldom.forget()
    quiet.forget()
    outages.forget()


@pytest.fixture
def shards() -> int:
    """Shards of the office: two, so that a line which means shard 0 whatever it is asked fails. Tests that should hold for
    other numbers are parametrised over this."""
    return SHARD + 1


@pytest.fixture
def settings(servers: Servers, shards: int, tmp_path: Path) -> Settings:
    """Settings on the test servers. Tests change them with `model_copy`."""
    assert "BOXOFFICE_CRASHPOINT" not in os.environ
    return Settings(
        redis_url=servers.redis_url,
        database_url=servers.database_url,
        data_dir=tmp_path,
        shards=shards,
        log_level="error",
        gateway=GatewaySettings(webhook_secret="whsec_simulator"),
        # What is read is what is there: those that try copies say for how long they last.
        api=ApiSettings(copy_ms=0),
    )


EMPTIEST_SHARD = CatalogueStore.emptiest_shard
"""Where the product puts a new event."""


@pytest.fixture
def in_shard(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Every new event goes into the last shard, or into another one: `in_shard(0)`."""

    def in_shard(wanted: int) -> None:
        async def choose(store: CatalogueStore, _: object) -> int:
            return wanted % store.shards

        monkeypatch.setattr(CatalogueStore, "emptiest_shard", choose)

    in_shard(-1)
    return in_shard


@pytest.fixture(scope="session")
async def kept_sessions(servers: Servers) -> AsyncIterator[None]:
    """Offices get the pools and engines of those before them, see `tests/support/kept.py`."""
    kept = Kept(servers.database_url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "open_pool", kept.open_pool)
        patch.setattr(database, "open_engine", kept.open_engine)
        yield
    await kept.close()


@pytest.fixture(scope="session")
async def broom(servers: Servers, kept_sessions: None) -> AsyncIterator[Broom]:
    """What empties the stores, on connections that stay open from test to test."""
    broom = Broom(servers)
    yield broom
    await broom.close()


@pytest.fixture
async def clean(broom: Broom, shards: int, in_shard: object) -> None:
    """Nothing in either store, every gate open, and new events go into the last shard."""
    await broom.sweep(shards, GENERATION)


async def make_shops(office: BoxOffice) -> None:
    """A shop and another shop, each with its key."""
    for client, name, key in ((CLIENT, "Shop", KEY), (OTHER, "Other shop", OTHER_KEY)):
        await office.access.create_client(name, client_id=client)
        await office.access.add_api_key(client, key)


@pytest.fixture
async def office(clean: None, broom: Broom, settings: Settings) -> AsyncIterator[BoxOffice]:
    """A box office with a shop, another shop, and nothing on sale."""
    async with open_box_office(settings, redis_retries=3) as office:
        await broom.put_shops(office, make_shops)
        yield office


@pytest.fixture
def operators_office(office: BoxOffice) -> BoxOffice:
    """Of people at a terminal, who put events on sale. The same one, unless processes differ in what they may do."""
    return office


@pytest.fixture
def api_office(office: BoxOffice) -> BoxOffice:
    """Of the API. The same one, unless processes differ in what they may do."""
    return office


SaleMaker = Callable[..., Awaitable[EventView]]


@pytest.fixture
def open_sale(operators_office: BoxOffice, in_shard: Callable[[int], None]) -> SaleMaker:
    """Puts an event on sale in the last shard: `await open_sale(GA=100, VIP=5)`, or in another: `open_sale(shard=0, GA=1)`.

    Prices are 1000, 2000, … in the order given. The other shop sells it, too.
    """

    async def open_sale(*, starts_in: timedelta = timedelta(days=30), shard: int = -1, **capacities: int) -> EventView:
        tiers = [NewTier(code, 1_000 * at, capacity) for at, (code, capacity) in enumerate(capacities.items(), 1)]
        in_shard(shard)
        event = await operators_office.store.create_event(
            CLIENT, "Concert", datetime.now(UTC) + starts_in, "USD", tiers, shared_with=[OTHER]
        )
        in_shard(-1)
        assert event.shard == shard % operators_office.settings.shards
        return event

    return open_sale


@dataclass(frozen=True)
class Counters:
    """One tier in Redis."""

    available: int
    held: int
    sold: int
    total: int


async def counters(office: BoxOffice, event: EventView, code: str) -> Counters:
    """What Redis counts of a tier, in one read."""
    tier = tier_of(event, code)
    found = await office.redis.hgetall(keys.event(event.shard, event.id))
    counted = Counters(*(int(found[f"{letter}:{tier}".encode()]) for letter in "ahct"))
    assert counted.available + counted.held + counted.sold == counted.total, "I1: nothing appears, nothing vanishes"
    assert min(counted.available, counted.held, counted.sold) >= 0
    return counted


async def settle_all(office: BoxOffice, *, timeout_s: float = 20) -> None:
    """Let the box office settle until nothing is pending, money included."""

    async def settled() -> bool:
        waiting = 0
        for settlement in office.settlements:
            await settlement.drain()
            waiting += await office.redis.zcard(keys.pending(settlement.shard))
        await office.pump.work_given()
        return not waiting

    await eventually(settled, timeout_s=timeout_s)


async def until_later(office: BoxOffice, by_ms: int) -> None:
    """Wait until Redis's clock, by which leases and deadlines end, is so much later."""

    async def now_ms() -> int:
        seconds, micros = await office.redis.time()
        return seconds * 1_000 + micros // 1_000

    until_ms = await now_ms() + by_ms

    async def later() -> bool:
        return await now_ms() >= until_ms

    await eventually(later, timeout_s=by_ms / 1_000 + 10)


async def load_all(office: BoxOffice) -> None:
    """Load every shard, as a worker does."""
    for shard in range(office.settings.shards):
        await office.loader.load(shard)


async def check_run(office: BoxOffice) -> None:
    """Redis has just started: what a worker's guard does then."""

    async def opened() -> bool:
        for guard in office.guards:
            await guard.tick()
        return all([(await look(office.shards[guard.shard])).word == "open" for guard in office.guards])

    await eventually(opened)


@pytest.fixture
async def api(api_office: BoxOffice, settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """A shop's client of the API, in this process."""
    from api.app import create_app

    app = create_app(settings, office=api_office)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://boxoffice.test", headers={"Authorization": f"Bearer {KEY}"}
    ) as client:
        yield client
