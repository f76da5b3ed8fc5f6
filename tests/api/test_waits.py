"""`Prefer: wait=N`: the answer comes when the booking is final, whichever way the request came in, and never later than it
may."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from api.app import entrance_of
from api.front import Front
from boxoffice.bookings.waiting import Waiting
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from boxoffice.stores import keys
from tests.api.conftest import booking_of
from tests.conftest import KEY, SHARD, SaleMaker, eventually
from tests.support.shop.office import Till
from tests.support.waiting import true_soon
from tests.support.wire import Door

pytestmark = pytest.mark.wire

WAIT = "Prefer: wait=10\r\n"


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=50)


@pytest.fixture
def till(office: BoxOffice, event: EventView) -> Till:
    return Till(office, event)


def request_of(method: str, path: str, body: Any = None, more: str = "", key: str = "k") -> bytes:
    sent = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(sent)}\r\nIdempotency-Key: {key}\r\n{more}\r\n"
    )
    return head.encode() + sent


def booking(event: EventView, key: str = "k", more: str = WAIT, **changes: Any) -> bytes:
    return request_of("POST", "/v1/bookings", booking_of(event, **changes), more, key)


async def listened_to(office: BoxOffice) -> None:
    """Somebody waits, and the subscription stands: nothing that follows can have been seen by a first look."""

    async def listens() -> bool:
        ((_, count),) = await office.redis.pubsub_numsub(keys.news(SHARD))  # type: ignore[no-untyped-call]
        return count > 0

    await eventually(listens)


async def pending(office: BoxOffice, count: int = 1) -> None:
    async def there() -> bool:
        return bool(await office.redis.zcard(keys.pending(SHARD)) == count)

    await eventually(there)


async def test_a_booking_is_answered_once_it_is_final(door: Door, event: EventView, till: Till) -> None:
    wire = door.connect().send(booking(event))
    await pending(till.office)
    await listened_to(till.office)
    assert wire.answers() == []
    await till.rest_bookings()
    (answer,) = (await wire.quiet()).answers()
    shown = json.loads(answer.body)
    assert (answer.status, shown["status"]) == (200, "confirmed")
    assert answer.headers["preference-applied"] == "wait=10"
    assert answer.headers["location"] == f"/v1/bookings/{shown['id']}"
    assert "retry-after" not in answer.headers
    assert shown["availability"][0]["available"] == 49


async def test_what_fails_is_answered_too(door: Door, event: EventView, till: Till) -> None:
    card = {"method": "card", "card_name": "Ada", "card_number": "4000000000000002"}
    wire = door.connect().send(booking(event, payment=card))
    await pending(till.office)
    await till.rest_bookings()
    (answer,) = (await wire.quiet()).answers()
    assert (answer.status, json.loads(answer.body)["failure"]["code"]) == (200, "payment_declined")


async def test_a_hold_is_answered_at_once(door: Door, event: EventView) -> None:
    (answer,) = await door.answers(booking(event, payment=None))
    assert (answer.status, "preference-applied" in answer.headers) == (201, False)


async def test_after_so_long_it_is_still_pending(door: Door, event: EventView) -> None:
    """The plain answer, which says that it was waited for."""
    (answer,) = await door.answers(booking(event, more="Prefer: wait=1\r\n"))
    assert (answer.status, json.loads(answer.body)["status"]) == (202, "pending")
    assert (answer.headers["preference-applied"], answer.headers["retry-after"]) == ("wait=1", "1")


async def test_a_repeat_waits_as_well(door: Door, event: EventView, till: Till) -> None:
    await door.answers(booking(event, more=""))
    wire = door.connect().send(booking(event))
    await listened_to(till.office)
    assert wire.answers() == []
    await till.rest_bookings()
    (answer,) = (await wire.quiet()).answers()
    assert (answer.status, answer.headers["idempotency-replayed"]) == (200, "true")


async def test_answers_stay_in_order(door: Door, event: EventView, till: Till) -> None:
    """What was sent behind a request that waits is answered behind it."""
    wire = door.connect().send(booking(event) + request_of("GET", f"/v1/events/{event.id}"))
    await pending(till.office)
    await listened_to(till.office)
    assert wire.answers() == []
    await till.rest_bookings()
    first, second = (await wire.quiet()).answers()
    assert [first.status, second.status] == [200, 200]
    assert (json.loads(first.body)["status"], json.loads(second.body)["id"]) == ("confirmed", event.id)


async def test_a_connection_that_always_waits(door: Door, event: EventView, till: Till) -> None:
    """By the shape of its head it is known to, as one that never waits is known not to."""
    wire = door.connect()
    for number in range(5):
        wire.send(booking(event, f"w{number}"))
        await pending(till.office)
        await till.rest_bookings()
        await wire.quiet()
    assert [(each.status, each.headers["preference-applied"]) for each in wire.answers()] == [(200, "wait=10")] * 5
    other = door.connect()
    for number in range(5):
        await other.send(booking(event, f"n{number}", more="")).quiet()
    assert [each.status for each in other.answers()] == [202] * 5


async def test_a_read_waits(door: Door, event: EventView, till: Till) -> None:
    made = await till.book(GA=1)
    wire = door.connect().send(request_of("GET", f"/v1/bookings/{made}", more=WAIT))
    await listened_to(till.office)
    assert wire.answers() == []
    await till.rest_bookings()
    (answer,) = (await wire.quiet()).answers()
    assert (answer.status, json.loads(answer.body)["status"]) == (200, "confirmed")
    assert answer.headers["preference-applied"] == "wait=10"
    (again,) = await door.answers(request_of("GET", f"/v1/bookings/{made}", more=WAIT))
    assert "preference-applied" not in again.headers, "it did not have to be waited for"


async def test_a_payment_waits(door: Door, till: Till) -> None:
    hold = await till.hold(GA=1)
    paid = {"method": "card", "card_name": "Ada", "card_number": "4242424242424242"}
    wire = door.connect().send(request_of("POST", f"/v1/bookings/{hold}/payment", paid, WAIT))
    await pending(till.office)
    await listened_to(till.office)
    assert wire.answers() == []
    await till.rest_bookings()
    (answer,) = (await wire.quiet()).answers()
    assert (answer.status, json.loads(answer.body)["status"]) == (200, "confirmed")
    assert answer.headers["preference-applied"] == "wait=10"


async def test_the_bank_is_told_of_at_once(door: Door, till: Till) -> None:
    """A shop cannot wait for the end before it knows where to send its customer."""
    hold = await till.hold(GA=1)
    paid = {"method": "card", "card_name": "Ada", "card_number": "4000000000003220"}
    wire = door.connect().send(request_of("POST", f"/v1/bookings/{hold}/payment", paid, WAIT))
    await pending(till.office)
    await till.drain()
    (answer,) = (await wire.quiet()).answers()
    shown = json.loads(answer.body)
    assert (answer.status, shown["status"], shown["payment"]["status"]) == (202, "pending", "requires_action")


async def test_a_cancellation_waits(door: Door, till: Till) -> None:
    """For the payment that is under way to be let go."""
    made = await till.book(GA=1)
    wire = door.connect().send(request_of("POST", f"/v1/bookings/{made}/cancel", more=WAIT))
    await listened_to(till.office)
    await till.rest_bookings()
    (answer,) = (await wire.quiet()).answers()
    assert (answer.status, json.loads(answer.body)["status"]) == (200, "cancelled")


async def test_who_goes_is_forgotten(door: Door, event: EventView, till: Till) -> None:
    wire = door.connect().send(booking(event))
    await pending(till.office)
    waiting = waiting_of(door)
    await true_soon(lambda: len(waiting) == 1)
    wire.hang_up()
    await true_soon(lambda: len(waiting) == 0)
    await till.rest_bookings()
    assert wire.received == b""


@pytest.mark.parametrize("together", [False, True], ids=["later", "with its request"])
@pytest.mark.parametrize("what", ["book", "read", "pay", "cancel"])
async def test_who_sends_no_more_is_answered_at_once(
    door: Door, event: EventView, till: Till, what: str, together: bool
) -> None:
    """It may read still: what was accepted is said to be, and nobody waits on."""
    paid = {"method": "card", "card_name": "Ada", "card_number": "4242424242424242"}
    if what == "book":
        request, status = booking(event), 202
    elif what == "pay":
        hold = await till.hold(GA=1)
        request, status = request_of("POST", f"/v1/bookings/{hold}/payment", paid, WAIT), 202
    elif what == "read":
        request, status = request_of("GET", f"/v1/bookings/{await till.book(GA=1)}", more=WAIT), 200
    else:
        made = await till.book(GA=1)
        request, status = request_of("POST", f"/v1/bookings/{made}/cancel", more=WAIT), 409
    began = time.monotonic()
    wire = door.connect().send(request, end=together)
    if not together:
        await true_soon(lambda: len(waiting_of(door)) == 1)
        wire.send(end=True)
    (answer,) = (await wire.quiet()).answers()
    assert (answer.status, len(waiting_of(door))) == (status, 0)
    assert json.loads(answer.body)["status"] == (409 if what == "cancel" else "pending")
    assert time.monotonic() - began < 8, "it may wait for ten"


async def test_a_server_that_stops_keeps_nobody(door: Door, event: EventView, till: Till) -> None:
    """They get the plain answer, at once."""
    wire = door.connect().send(booking(event))
    await true_soon(lambda: len(waiting_of(door)) == 1)
    door.app.stop()
    (answer,) = (await wire.quiet()).answers()
    assert answer.status == 202
    (late,) = await door.answers(booking(event, "late"))
    assert (late.status, "preference-applied" in late.headers) == (202, False)


class TestCrowded:
    """One may wait."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"streams": settings.streams.model_copy(update={"waits_max": 1})})

    async def test_others_are_answered_at_once(self, door: Door, event: EventView, till: Till) -> None:
        first = door.connect().send(booking(event, "first"))
        await true_soon(lambda: len(waiting_of(door)) == 1)
        (second,) = await door.answers(booking(event, "second"))
        (read,) = await door.answers(request_of("GET", second.headers["location"], more=WAIT))
        assert (second.status, "preference-applied" in second.headers) == (202, False)
        assert (json.loads(read.body)["status"], "preference-applied" in read.headers) == ("pending", False)
        await till.rest_bookings()
        (answer,) = (await first.quiet()).answers()
        assert answer.status == 200


def waiting_of(door: Door) -> Waiting:
    """Of the application, with its front or without."""
    entrance = entrance_of(door.app)
    waiting: Waiting = entrance.waiting if isinstance(entrance, Front) else entrance.state.waiting
    return waiting
