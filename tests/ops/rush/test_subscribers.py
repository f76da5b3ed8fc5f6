"""A shop of a rush that is told what happens: it loses its server and its follower, comes back, and has every notice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from boxoffice.errors import CannotRun
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from ops.rush.follower import DIES
from ops.rush.history import History
from ops.rush.http_client import HttpClient
from ops.rush.subscribers import BEGINS, Subscriber, Subscribers, draw_absence, lines_of_subscribers
from ops.stack.servers import Servers
from tests.api.transport.test_server import connect, serving_with
from tests.conftest import CLIENT, KEY, OTHER, OTHER_KEY, SaleMaker, eventually
from tests.ops.rush.conftest import GOOD, book
from tests.ops.rush.test_shop_server import TAKES, Drawn
from tests.support.endpoint import ALLOWED
from tests.support.ports import free_port
from tests.support.programs import a_worker, again_and_again

SHORT_S = 3_600.0


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Endpoints may be on this machine, and are tried again soon."""
    monkeypatch.setenv("BOXOFFICE_WEBHOOKS__ALLOW_HTTP", "true")
    monkeypatch.setenv("BOXOFFICE_WEBHOOKS__ALLOWED_NETWORKS", '["127.0.0.0/8"]')
    webhooks = settings.webhooks.model_copy(update={"timeout_s": 2.0, "retry_s": 0.2, "retry_max_s": 0.4, **ALLOWED})
    return settings.model_copy(update={"webhooks": webhooks})


@pytest.fixture
async def api(servers: Servers, settings: Settings, office: BoxOffice, tmp_path: Path) -> AsyncIterator[HttpClient]:
    with serving_with(servers, settings, tmp_path / "api.log") as serving:
        _, writer = await connect(serving)
        writer.close()
        client = HttpClient(serving.port)
        yield client
        await client.close()


Sell = Callable[[str], Awaitable[None]]


@pytest.fixture
async def sell(office: BoxOffice, open_sale: SaleMaker) -> AsyncIterator[Sell]:
    """Some bookings, settled and told of while the test goes on."""
    event = await open_sale(GA=1_000)
    history = History(CLIENT)

    async def sell(part: str) -> None:
        for number in range(5):
            await book(office, history, event.tiers[0].id, f"{part}-{number}", GOOD)

    async with a_worker(office), again_and_again(office.couriers.look, 0.05):
        yield sell
    await office.couriers.stop()


def subscriber(api: HttpClient, drawn: list[float], client: str = CLIENT, key: str = KEY) -> Subscriber:
    return Subscriber(client, key, [api], free_port(), SHORT_S, Drawn(drawn))


async def settled(office: BoxOffice, count: int) -> None:
    async def are() -> bool:
        pool = await office.pool()
        return bool(await pool.fetchval("SELECT count(*) >= $1 FROM bookings WHERE status = 'confirmed'", count))

    await eventually(are, timeout_s=30)


async def has_all(shop: Subscriber) -> None:
    async def has() -> bool:
        return not await shop.lacks()

    await eventually(has, timeout_s=60)


@pytest.mark.timeout(240)
async def test_who_was_away_has_every_notice_and_none_of_anothers(
    office: BoxOffice, api: HttpClient, sell: Sell
) -> None:
    shop, other = subscriber(api, [TAKES]), subscriber(api, [TAKES], OTHER, OTHER_KEY)
    for one in (shop, other):
        await one.subscribe()
    await sell("before")
    await settled(office, 5)
    await has_all(shop)
    shop.server.go()
    await sell("away")
    await settled(office, 10)

    async def failed() -> bool:
        pool = await office.pool()
        return bool(await pool.fetchval("SELECT EXISTS (SELECT FROM webhook_deliveries WHERE status = 'waiting')"))

    await eventually(failed, timeout_s=30)
    assert "was not told of" in await shop.lacks()
    await shop.server.come()
    await sell("after")
    await settled(office, 15)
    await has_all(shop)
    await has_all(other)

    assert len(shop.server.taken) > 15
    assert not shop.server.taken.keys() & other.server.taken.keys()
    assert shop.faults == other.faults == []
    for one in (shop, other):
        one.server.go()


@pytest.mark.timeout(240)
async def test_a_follower_that_ends_with_a_page_in_its_hands_reads_it_again(
    office: BoxOffice, api: HttpClient, sell: Sell
) -> None:
    """Whatever it had not kept: it goes on from its cursor, and has the feed once."""
    shop = subscriber(api, [0.5, DIES / 2, DIES / 2, TAKES])
    await sell("some")
    await settled(office, 5)
    following = asyncio.create_task(shop.follower.follow())

    async def has_followed() -> bool:
        return shop.follower.ends == 2 and bool(shop.follower.copy)

    await eventually(has_followed, timeout_s=30)
    following.cancel()
    assert await shop.follower.catch_up()

    pool = await office.pool()
    told = await pool.fetchval("SELECT sum(size) FROM notices WHERE client_id = $1", CLIENT)
    ids = [notice["id"] for notice in shop.follower.copy]
    assert (len(ids), len({*ids})) == (told, told)
    assert shop.follower.faults == []


async def test_whose_cursor_is_gone_reads_from_the_oldest(office: BoxOffice, api: HttpClient, sell: Sell) -> None:
    shop = subscriber(api, [TAKES])
    await sell("some")
    await settled(office, 5)
    assert await shop.follower.catch_up()
    pool = await office.pool()
    await pool.execute("UPDATE notices SET nonce = 1 WHERE position IS NOT NULL")
    await pool.execute("UPDATE notice_head SET nonce = 1")
    assert not await shop.follower.catch_up()
    assert (shop.follower.copy, shop.follower.anew) == ([], 1)
    assert await shop.follower.catch_up()
    assert shop.follower.copy


async def test_an_answer_that_should_not_be_is_a_fault(api: HttpClient) -> None:
    shop = subscriber(api, [TAKES], key="nobody.nothing")
    assert not await shop.follower.catch_up()
    assert [fault[:9] for fault in shop.faults] == ["feed: 401"]
    with pytest.raises(CannotRun, match="could not subscribe: 401"):
        await shop.subscribe()
    shop.server.go()


@pytest.mark.timeout(240)
async def test_all_of_a_rush_come_to_rest_once_each_is_back_and_has_all(
    office: BoxOffice, api: HttpClient, sell: Sell
) -> None:
    shops = Subscribers({CLIENT: KEY, OTHER: OTHER_KEY}, [api], [free_port(), free_port()], 1.0, 7)
    await shops.subscribe()
    start = asyncio.get_running_loop().time()
    shops.begin(start)
    await sell("some")
    assert await shops.come_to_rest(start, 60) == []
    assert asyncio.get_running_loop().time() - start >= max(sum(one.absence) for one in shops.all)
    (line,) = lines_of_subscribers(figures := shops.figures())
    assert (figures["shops"], figures["away_s"], figures["anew"]) == (2, 0.3, 0)
    assert figures["taken"] == figures["notices"] > 5
    assert f"told       {figures['notices']} notices to 2 shops" in line
    shops.close()

    shops.all[0].server.taken.popitem()
    (unrest,) = await shops.come_to_rest(start, 0)
    assert unrest.startswith(f"shop {CLIENT} was not told of 1 notices")


async def test_without_ports_nobody_listens(api: HttpClient) -> None:
    shops = Subscribers({CLIENT: KEY}, [api], [], 1.0, 7)
    await shops.subscribe()
    shops.begin(0.0)
    assert (await shops.come_to_rest(0.0, 0), shops.figures(), [*lines_of_subscribers({})]) == ([], {}, [])


@pytest.mark.parametrize(("seconds", "away_s"), [(6.0, 2.0), (59.4, 19.8), (60.0, 60.0), (600.0, 60.0)])
def test_an_absence_lasts_a_minute_or_a_third_of_the_time(seconds: float, away_s: float) -> None:
    drawn = [draw_absence(seconds, random.Random(seed)) for seed in range(50)]
    assert {round(one.seconds, 6) for one in drawn} == {away_s}
    assert len({one.at_s for one in drawn}) == 50
    assert all(BEGINS[0] * seconds <= one.at_s <= BEGINS[1] * seconds for one in drawn)
    assert drawn[3] == draw_absence(seconds, random.Random(3))
