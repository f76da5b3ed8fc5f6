"""What scripts publish reaches whoever listens; and who may have missed something is told that, whatever happens to the
connection."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio.connection import AbstractConnection

from boxoffice import ids
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from boxoffice.stores import keys, news
from boxoffice.stores.news import ANY
from boxoffice.stores.redis_rights import acl_rule
from ops.stack.servers import Servers
from tests.conftest import SHARD, SaleMaker
from tests.support.least import as_user, set_user
from tests.support.proxy import proxied
from tests.support.shop.office import Till
from tests.support.shop.orders import CLIENT
from tests.support.waiting import eventually, true_soon


class Ear:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.states: list[str] = []

    def heard(self, state: str) -> None:
        self.states.append(state)


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> Till:
    return Till(office, await open_sale(GA=50))


async def standing(office: BoxOffice, booking: str) -> Ear:
    """Somebody who listens to a booking, for whom the subscription stands."""
    ear = Ear()
    if not office.shards.news.listen(booking, ear):
        await true_soon(lambda: ear.states)
        assert ear.states == [ANY], "whoever is told that the subscription does not stand yet is called when it does"
        ear.states.clear()
    return ear


async def listeners(office: BoxOffice, shard: int = SHARD) -> int:
    """Subscriptions to the channel of a shard, as Redis counts them."""
    ((_, count),) = await office.redis.pubsub_numsub(keys.news(shard))  # type: ignore[no-untyped-call]
    return int(count)


async def test_each_way_of_a_booking_is_heard(till: Till) -> None:
    """What becomes of a hold: changed, extended, paid, declined, paid anew and sold; others are cancelled, or expire."""
    office = till.office
    hold, cancelled, expired = [await till.hold(GA=1) for _ in range(3)]
    ear, other, third = [await standing(office, booking) for booking in (hold, cancelled, expired)]
    await till.change(hold, GA=2)
    await office.holds.extend(CLIENT, hold, None)
    await till.pay(hold, "tok_card_declined")
    await till.rest_bookings()
    await till.pay(hold)
    await till.rest_bookings()
    await till.cancel(cancelled)
    await till.time_is_up(expired)
    await office.holds.expire(SHARD)
    await true_soon(lambda: len(ear.states) >= 6 and other.states and third.states)
    assert ear.states == ["H", "H", "P", "H", "P", "C"]
    assert (other.states, third.states) == (["X"], ["E"])
    await till.cancel(hold)
    await till.rest()
    await true_soon(lambda: ear.states[6:] == ["X"])


@pytest.mark.parametrize("shard", [0, SHARD])
async def test_a_batch_is_one_message(office: BoxOffice, open_sale: SaleMaker, shard: int) -> None:
    """In its own shard's channel, whichever it is; and bookings that are sold and fail together are told apart."""
    till = Till(office, await open_sale(shard=shard, GA=50))
    sold, failed = await till.book(GA=1), await till.book("tok_card_declined", GA=1)
    assert ids.shard_of(sold) == shard
    ears = [await standing(office, booking) for booking in (sold, failed)]
    await till.rest_bookings()
    await true_soon(lambda: all(ear.states for ear in ears))
    assert [ear.states for ear in ears] == [["C"], ["F"]]


async def test_nobody_who_forgot_is_called(till: Till) -> None:
    booking = await till.book(GA=1)
    ear, other = await standing(till.office, booking), await standing(till.office, booking)
    till.office.shards.news.forget(booking, ear)
    till.office.shards.news.forget(booking, ear)
    await till.rest_bookings()
    await true_soon(lambda: other.states)
    assert (ear.states, other.states) == ([], ["C"])


async def test_a_listener_that_fails_keeps_nobody_from_hearing(till: Till) -> None:
    class Deaf:
        def heard(self, state: str) -> None:
            raise RuntimeError(state)

    booking = await till.book(GA=1)
    till.office.shards.news.listen(booking, Deaf())
    ear = await standing(till.office, booking)
    await till.rest_bookings()
    await true_soon(lambda: ear.states)


async def test_a_connection_that_is_lost_is_made_anew(till: Till) -> None:
    """And who may have missed something is called: what was published in between nobody hears."""
    booking = await till.book(GA=1)
    ear = await standing(till.office, booking)
    await till.office.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[no-untyped-call]
    await true_soon(lambda: ear.states)
    assert ear.states == [ANY]
    await till.rest_bookings()
    await true_soon(lambda: ear.states[1:])
    assert ear.states == [ANY, "C"]


async def test_a_mistake_ends_a_connection_and_not_the_listening(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """As any other end of it: there is another, and everybody is called."""
    booking = await till.book(GA=1)
    ear = await standing(till.office, booking)
    failed = []
    read = AbstractConnection.read_response

    async def fails(connection: Any, *args: Any, **named: Any) -> Any:
        if named.get("timeout") != news.SILENT_S or failed:
            return await read(connection, *args, **named)
        found = await read(connection, *args, **named)
        failed.append(found)
        raise ValueError("a bug")

    monkeypatch.setattr(AbstractConnection, "read_response", fails)
    for _ in range(2):
        await till.office.redis.publish(keys.news(SHARD), "*")
    await true_soon(lambda: ear.states == [ANY, ANY])
    assert len(failed) == 1
    await till.rest_bookings()
    await true_soon(lambda: "C" in ear.states)


async def test_what_becomes_of_one_that_redis_has_forgotten_is_heard(till: Till) -> None:
    """A refund of a booking whose record's life is over: whoever follows it reads it in PostgreSQL."""
    booking = await till.book(GA=2)
    await till.rest_bookings()
    await till.office.redis.delete(keys.booking(SHARD, booking))
    ear = await standing(till.office, booking)
    await till.cancel(booking)
    await till.rest()
    await true_soon(lambda: ear.states)
    assert ear.states == ["X"]


async def test_a_server_that_says_nothing_is_given_up(
    till: Till, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is cut somewhere on the way looks as if nothing ever happened."""
    monkeypatch.setattr(news, "SILENT_S", 0.2)
    booking = await till.book(GA=1)
    async with (
        proxied(settings.redis_url) as (proxy, url),
        open_box_office(settings.model_copy(update={"redis_url": url})) as far,
    ):
        ear = await standing(far, booking)
        proxy.when, proxy.then = b"PING", "black-hole"
        await true_soon(lambda: proxy.swallowed)
        proxy.when = None
        await true_soon(lambda: ear.states)
        assert ear.states == [ANY]


async def test_it_listens_while_somebody_does(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a little longer: who waits for one booking after the other subscribes once."""
    monkeypatch.setattr(news, "SILENT_S", 0.1)
    assert await listeners(till.office) == 0
    booking = await till.book(GA=1)
    ear = await standing(till.office, booking)
    assert await listeners(till.office) == 1
    till.office.shards.news.forget(booking, ear)

    async def gone() -> bool:
        return await listeners(till.office) == 0

    await eventually(gone)
    await standing(till.office, booking)
    assert await listeners(till.office) == 1


async def test_a_repair_calls_everybody(till: Till) -> None:
    """What it has changed is not counted up: all of its shard look."""
    booking, other = await till.book(GA=1), await till.hold(GA=1)
    ears = [await standing(till.office, each) for each in (booking, other)]
    await till.office.shards[SHARD].redis.publish(keys.news(SHARD), "*")
    await true_soon(lambda: all(ear.states for ear in ears))
    assert [ear.states for ear in ears] == [[ANY], [ANY]]


async def test_a_script_that_may_not_publish_does_its_work(till: Till, servers: Servers, settings: Settings) -> None:
    """What it has decided stands; nobody hears of it, and whoever waits looks later."""
    rule = acl_rule("worker").replace("&{s*}:news", "")
    set_user(servers, "mute", *rule.split())
    url = as_user(settings.redis_url, "mute")
    async with open_box_office(settings.model_copy(update={"redis_url": url})) as mute:
        booking = await till.book(GA=1)
        ear = await standing(till.office, booking)
        await Till(mute, till.event).rest_bookings()
        assert await till.state(booking) == "C confirmed"
    assert ear.states == []


async def test_a_booking_of_a_shard_that_nobody_serves_has_no_news(office: BoxOffice) -> None:
    elsewhere = ids.booking_id(63, 1)
    assert not office.shards.news.listen(elsewhere, Ear())
    office.shards.news.forget(elsewhere, Ear())
