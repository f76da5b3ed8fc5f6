"""Who gets a stream, what it begins with, and what whoever comes back is spared."""

from __future__ import annotations

import json

import pytest

from boxoffice.access.scopes import BROWSE, READ
from boxoffice.access.store import Grant
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from tests.conftest import CLIENT, KEY, OTHER, OTHER_KEY, SaleMaker, load_all
from tests.support.messages import follow, get, head_of, messages_of, nth
from tests.support.shop.office import Till
from tests.support.waiting import true_soon
from tests.support.wire import Answer, Door

pytestmark = pytest.mark.wire

PAGE = "https://page.example"


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=120, VIP=5)


@pytest.fixture
def till(office: BoxOffice, event: EventView) -> Till:
    return Till(office, event)


async def refused(door: Door, request: bytes) -> Answer:
    (answer,) = await door.answers(request)
    return answer


def slug_of(answer: Answer) -> str:
    return str(json.loads(answer.body)["type"]).rpartition("/")[2]


@pytest.mark.parametrize("kind", ["event", "booking"])
async def test_it_begins_with_how_things_are(door: Door, till: Till, kind: str) -> None:
    path = f"/v1/events/{till.event.id}" if kind == "event" else f"/v1/bookings/{await till.book(GA=1)}"
    wire = await follow(door, get(f"{path}/stream", key=KEY))
    status, headers = head_of(bytes(wire.received))
    assert status == 200
    assert headers["content-type"] == "text/event-stream"
    assert (headers["cache-control"], headers["connection"]) == ("no-store", "close")
    assert (headers["x-accel-buffering"], headers["x-content-type-options"]) == ("no", "nosniff")
    assert {"date", "x-request-id"} <= headers.keys()
    assert not {"content-length", "transfer-encoding"} & headers.keys()
    message = await nth(wire, 1)
    (read,) = await door.answers(get(path, key=KEY))
    if kind == "booking":
        assert (message.event, message.data) == ("booking", json.loads(read.body))
    else:
        tiers = [(tier["code"], tier["available"], tier["exact"], tier["on_sale"]) for tier in message.data["tiers"]]
        assert message.event == "availability"
        assert tiers == [("GA", 120, False, True), ("VIP", 5, True, True)]
        assert (message.data["event_id"], message.data["sold_out"]) == (till.event.id, False)


@pytest.mark.parametrize("kind", ["event", "booking"])
async def test_who_comes_back_is_told_what_is_new(door: Door, till: Till, kind: str) -> None:
    made = await till.book(VIP=1)
    path = f"/v1/events/{till.event.id}/stream" if kind == "event" else f"/v1/bookings/{made}/stream"
    first = await nth(await follow(door, get(path, key=KEY)), 1)
    back = await follow(door, get(path, f"Last-Event-ID: {first.id}", key=KEY))
    assert messages_of(bytes(back.received)) == []
    await till.rest_bookings()
    await till.book(VIP=1)
    assert (await nth(back, 1)).data != first.data
    lost = await follow(door, get(path, f"Last-Event-ID: {first.id}", key=KEY))
    assert (await nth(lost, 1)).data == (await nth(back, 1)).data
    odd = await follow(door, get(path, f"Last-Event-ID: {'x' * 500}", key=KEY))
    assert (await nth(odd, 1)).data == (await nth(back, 1)).data


async def test_a_booking_that_has_ended_is_told_once(door: Door, till: Till) -> None:
    """Then the stream ends, and a browser that comes back is told to come no more."""
    made = await till.book("tok_card_declined", GA=1)
    await till.rest_bookings()
    wire = await follow(door, get(f"/v1/bookings/{made}/stream", key=KEY))
    message = await nth(wire, 1)
    assert message.data["status"] == "failed"
    await true_soon(lambda: wire.closing)
    wire = door.connect().send(get(f"/v1/bookings/{made}/stream", f"Last-Event-ID: {message.id}", key=KEY))
    await true_soon(lambda: wire.received)
    status, headers = head_of(bytes(wire.received))
    assert (status, "content-length" in headers, wire.received.partition(b"\r\n\r\n")[2]) == (204, False, b"")


@pytest.mark.parametrize("kind", ["events", "bookings"])
async def test_strangers_get_nothing(door: Door, till: Till, office: BoxOffice, kind: str) -> None:
    made = await till.book(GA=1)
    path = f"/v1/{kind}/{till.event.id if kind == 'events' else made}/stream"
    nobody = await refused(door, get(path))
    assert (nobody.status, slug_of(nobody)) == (401, "unauthorized")
    scope = READ if kind == "events" else BROWSE
    await office.access.add_api_key(CLIENT, "narrow.secret", Grant(scopes=(scope,)))
    forbidden = await refused(door, get(path, key="narrow.secret"))
    assert (forbidden.status, slug_of(forbidden)) == (403, "forbidden")
    unknown = await refused(door, get(f"/v1/{kind}/nothing/stream", key=KEY))
    assert (unknown.status, slug_of(unknown)) == (404, "not-found")
    odd = await refused(door, get(f"{path}?api_key=x", key=KEY))
    assert (odd.status, json.loads(odd.body)["errors"][0]["code"]) == (400, "unknown_parameter")
    wrong = await refused(door, get(path, key=KEY, method="POST"))
    assert (wrong.status, wrong.headers["allow"]) == (405, "GET, HEAD")
    deeper = await refused(door, get(f"/v1/{kind}/a/b/stream", key=KEY))
    assert deeper.status == 404


async def test_a_booking_of_another_shop_is_none(door: Door, till: Till) -> None:
    answer = await refused(door, get(f"/v1/bookings/{await till.book(GA=1)}/stream", key=OTHER_KEY))
    assert (answer.status, slug_of(answer)) == (404, "not-found")


async def test_an_event_that_is_not_shared_is_none(door: Door, till: Till, office: BoxOffice) -> None:
    await office.sharing.unshare(till.event.id, OTHER)
    await load_all(office)
    await office.catalogue.read()
    answer = await refused(door, get(f"/v1/events/{till.event.id}/stream", key=OTHER_KEY))
    assert (answer.status, slug_of(answer)) == (404, "not-found")


async def test_a_head_is_a_head(door: Door, till: Till) -> None:
    """Without a stream, and the connection stays."""
    wire = door.connect().send(get(f"/v1/events/{till.event.id}/stream", key=KEY, method="HEAD"))
    await true_soon(lambda: wire.received)
    await wire.quiet()
    status, headers = head_of(bytes(wire.received))
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert wire.received.partition(b"\r\n\r\n")[2] == b""
    assert not wire.protocol.busy


async def test_pages_follow_with_their_key(door: Door, till: Till, office: BoxOffice) -> None:
    """A key that is for a page, with the scope `browse` alone, follows an event from there, and from nowhere else."""
    await office.access.add_api_key(CLIENT, "page.secret", Grant(scopes=(BROWSE,), origins=(PAGE,)))
    path = f"/v1/events/{till.event.id}/stream"
    wire = await follow(door, get(path, f"Origin: {PAGE}", key="page.secret"))
    status, headers = head_of(bytes(wire.received))
    assert (status, headers["access-control-allow-origin"]) == (200, PAGE)
    assert (await nth(wire, 1)).event == "availability"
    answer = await refused(door, get(path, "Origin: https://elsewhere.example", key="page.secret"))
    assert (answer.status, slug_of(answer)) == (403, "forbidden")
    asked = get(
        path, f"Origin: {PAGE}", "Access-Control-Request-Method: GET",
        "Access-Control-Request-Headers: authorization, last-event-id", method="OPTIONS",
    )  # fmt: skip
    assert (await refused(door, asked)).status == 200


@pytest.mark.parametrize("limit", ["max", "key_max", "address_max"])
async def test_one_more_than_may_be_is_told_so(door: Door, till: Till, settings: Settings, limit: str) -> None:
    """Of the process, of a key, of an address; and there is room again once one has gone."""
    streams = settings.streams.model_copy(update={limit: 1})
    till.office.settings = settings.model_copy(update={"streams": streams})
    narrow = Door(door.way, till.office.settings, till.office)
    path = f"/v1/events/{till.event.id}/stream"
    first = await follow(narrow, get(path, key=KEY))
    answer = await refused(narrow, get(path, key=KEY))
    told = (answer.status, slug_of(answer), answer.headers["retry-after"])
    assert told == ((503, "streams-full", "5") if limit == "max" else (429, "too-many-streams", "5"))
    if limit == "key_max":
        other = await follow(narrow, get(path, key=OTHER_KEY))
        assert head_of(bytes(other.received)).status == 200
    first.hang_up()
    again = await follow(narrow, get(path, key=KEY))
    assert head_of(bytes(again.received)).status == 200
    await narrow.aclose()
