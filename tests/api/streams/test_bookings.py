"""Streams of one booking: each state is told, and none is missed, whatever becomes of the subscription."""

from __future__ import annotations

import pytest

from api.app import create_app
from api.streams import bookings
from boxoffice.errors import BoxOfficeError, GateClosed, StoreAway
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from boxoffice.stores import keys
from tests.conftest import KEY, SHARD, SaleMaker
from tests.support.messages import follow, get, messages_of, nth
from tests.support.proxy import proxied
from tests.support.shop.office import Till
from tests.support.waiting import eventually, true_soon
from tests.support.wire import Door, Wire

pytestmark = pytest.mark.wire


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=50)


@pytest.fixture
def till(office: BoxOffice, event: EventView) -> Till:
    return Till(office, event)


async def follow_booking(door: Door, booking: str) -> Wire:
    return await follow(door, get(f"/v1/bookings/{booking}/stream", key=KEY))


def states(wire: Wire) -> list[str]:
    return [message.data["status"] for message in messages_of(bytes(wire.received))]


@pytest.mark.parametrize("shard", [0, SHARD])
async def test_each_state_is_told(door: Door, office: BoxOffice, open_sale: SaleMaker, shard: int) -> None:
    """A hold that is changed, declined, paid, and at last cancelled: that is the end."""
    till = Till(office, await open_sale(shard=shard, GA=50))
    hold = await till.hold(GA=1)
    wire = await follow_booking(door, hold)
    await till.change(hold, GA=2)
    assert (await nth(wire, 2)).data["items"][0]["quantity"] == 2
    await till.pay(hold, "tok_card_declined")
    await nth(wire, 3)
    await till.rest_bookings()
    assert (await nth(wire, 4)).data["payment"]["status"] == "declined"
    await till.pay(hold)
    await nth(wire, 5)
    await till.rest_bookings()
    await nth(wire, 6)
    assert states(wire) == ["held", "held", "pending", "held", "pending", "confirmed"]
    await till.cancel(hold)
    await till.rest()
    await nth(wire, 7)
    await true_soon(lambda: wire.closing)
    assert states(wire)[6:] == ["cancelled"]


async def test_what_happens_while_it_begins_is_told(door: Door, till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the first look and the subscription: the booking is read once more."""
    other = await follow_booking(door, await till.hold(GA=1))
    await nth(other, 1)
    booking = await till.book(GA=1)
    get_booking = till.office.bookings.get
    settled = []

    async def get_then_settle(*args: str) -> object:
        found = await get_booking(*args)
        if not settled and args[1] == booking:
            settled.append(booking)
            await till.rest_bookings()
        return found

    monkeypatch.setattr(till.office.bookings, "get", get_then_settle)
    wire = await follow_booking(door, booking)
    await true_soon(lambda: states(wire)[-1:] == ["confirmed"])


async def test_a_lost_subscription_loses_nothing(till: Till, settings: Settings) -> None:
    booking = await till.book(GA=1)
    async with proxied(settings.redis_url) as (proxy, url):
        far_settings = settings.model_copy(update={"redis_url": url})
        async with open_box_office(far_settings) as far:
            door = Door("lane", far_settings, far)
            wire = await follow_booking(door, booking)

            async def listens() -> bool:
                ((_, count),) = await till.office.redis.pubsub_numsub("{s01}:news")  # type: ignore[no-untyped-call]
                return bool(count)

            await eventually(listens)
            proxy.refuse = True
            proxy.reset_all()
            await till.rest_bookings()
            assert states(wire) == ["pending"]
            proxy.refuse = False
            await nth(wire, 2)
            assert states(wire) == ["pending", "confirmed"]


@pytest.mark.parametrize("error", [StoreAway, GateClosed, RuntimeError])
async def test_who_could_not_be_read_is_read_again(
    door: Door, till: Till, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """The subscription stands all the while, so nobody calls again."""
    monkeypatch.setattr(bookings, "AGAIN_S", 0.02)
    wire = await follow_booking(door, await till.book(GA=1))
    await nth(wire, 1)
    failed = []

    async def fails(*_: str) -> object:
        failed.append(1)
        raise error() if issubclass(error, BoxOfficeError) else error("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(till.office.bookings, "get", fails)
        await till.rest_bookings()
        await true_soon(lambda: len(failed) > 2)
        assert states(wire) == ["pending"]
    await nth(wire, 2)
    assert states(wire) == ["pending", "confirmed"]


async def test_who_has_gone_is_not_read_again(door: Door, till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bookings, "AGAIN_S", 0.02)
    wire, other = [await follow_booking(door, await till.book(GA=1)) for _ in range(2)]
    await nth(other, 1)
    failed = []

    async def fails(_client: str, name: str) -> object:
        failed.append(name)
        raise StoreAway

    monkeypatch.setattr(till.office.bookings, "get", fails)
    await till.office.redis.publish("{s01}:news", "*")
    await true_soon(lambda: len(set(failed)) == 2)
    wire.hang_up()
    failed.clear()
    await true_soon(lambda: len(failed) > 2)
    assert len(set(failed)) == 1


async def test_a_booking_that_redis_has_forgotten_is_followed(door: Door, till: Till) -> None:
    """What a move changes of it is told all the same."""
    booking = await till.book(GA=1)
    await till.rest_bookings()
    await till.office.redis.delete(keys.booking(SHARD, booking))
    wire = await follow_booking(door, booking)
    await nth(wire, 1)
    await till.cancel(booking)
    await till.rest()
    await nth(wire, 2)
    assert states(wire) == ["confirmed", "cancelled"]
    await true_soon(lambda: wire.closing)


async def test_every_process_hears(door: Door, till: Till, settings: Settings) -> None:
    """Two APIs, and a worker that is a third process."""
    booking = await till.book(GA=1)
    async with open_box_office(settings) as second, open_box_office(settings) as worker:
        other = Door("lane", settings, second)
        wires = [await follow_booking(each, booking) for each in (door, other)]
        await Till(worker, till.event).rest_bookings()
        for wire in wires:
            await nth(wire, 2)
            assert states(wire) == ["pending", "confirmed"]
        await other.aclose()


async def test_several_may_read_one(door: Door, till: Till) -> None:
    booking = await till.book(GA=1)
    wires = [await follow_booking(door, booking) for _ in range(3)]
    wires[0].hang_up()
    await till.rest_bookings()
    for wire in wires[1:]:
        assert (await nth(wire, 2)).data["status"] == "confirmed"
    assert states(wires[0]) == ["pending"]


async def test_what_reads_as_before_is_not_told(door: Door, till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds that pass are no news."""
    hold = await till.hold(GA=1)
    wire = await follow_booking(door, hold)
    reads = []
    get_booking = till.office.bookings.get

    async def counted(*args: str) -> object:
        reads.append(args)
        return await get_booking(*args)

    monkeypatch.setattr(till.office.bookings, "get", counted)
    for count in range(2):
        await till.office.redis.publish("{s01}:news", "*")
        await true_soon(lambda count=count: len(reads) > count)  # type: ignore[misc]
    await till.change(hold, GA=3)
    await nth(wire, 2)
    assert len(messages_of(bytes(wire.received))) == 2


async def test_a_server_that_is_not_ours_gives_the_first_message(
    office: BoxOffice, settings: Settings, till: Till
) -> None:
    """It cannot hand its connection over: the reader comes back for the next."""
    import httpx2

    booking = await till.book(GA=1)
    transport = httpx2.ASGITransport(app=create_app(settings, office=office))
    async with httpx2.AsyncClient(transport=transport, base_url="http://x") as api:
        for path in (f"/v1/bookings/{booking}/stream", f"/v1/events/{till.event.id}/stream"):
            answer = await api.get(path, headers={"Authorization": f"Bearer {KEY}"})
            assert answer.status_code == 200
            assert answer.text.count("data: ") == 1
