"""The short cut for the hot routes takes what it may, and says of whom it was."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from api import answers
from api.app import create_app
from api.pipeline import prepare
from api.server import connection_class
from api.transport import lane, shape
from api.transport.condition import Condition
from api.transport.shape import COMPILED_EACH_S
from api.transport.turns import Turns
from boxoffice.admission.flood import FLOOD
from boxoffice.errors import BoxOfficeError
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from boxoffice.telemetry import request_id
from boxoffice.telemetry.series import REFUSED_CONNECTIONS
from tests.api.conftest import booking_of
from tests.conftest import CLIENT, KEY, SaleMaker, counters
from tests.support.waiting import pace
from tests.support.wire import Door, Wire

pytestmark = pytest.mark.wire


@pytest.fixture
def door(settings: Settings, office: BoxOffice) -> Door:
    return Door("lane", settings, office)


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=50)


def request_of(method: str, target: str, body: bytes = b"", more: str = "") -> bytes:
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{more}\r\n"
    )
    return head.encode() + body


def booking(event: EventView, key: str, more: str = "", quantity: int = 1) -> bytes:
    body = json.dumps(booking_of(event, quantity)).encode()
    return request_of("POST", "/v1/bookings", body, f"Idempotency-Key: {key}\r\n{more}")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST", "OPTIONS"])
@pytest.mark.parametrize(("what", "methods"), [("booking", "GET, HEAD, PATCH"), ("event", "GET, HEAD, PATCH")])
async def test_only_a_get_is_a_read(door: Door, event: EventView, method: str, what: str, methods: str) -> None:
    """Whatever else is asked of the path goes the ordinary way, which knows whether it may be."""
    (booked,) = await door.answers(booking(event, "k"))
    path = booked.headers["location"] if what == "booking" else f"/v1/events/{event.id}"
    (read,) = await door.answers(request_of("GET", path))
    (answer,) = await door.answers(request_of(method, path))
    assert read.status == 200
    if method in methods:
        assert answer.status == 400, "a change without a body: no read of the event"
    else:
        assert (answer.status, answer.headers["allow"]) == (405, methods)


async def test_a_refusal_says_whose_request_it_was(door: Door, event: EventView) -> None:
    """By the client's id: no line has an API key."""
    await door.answers(booking(event, "known"))
    with capture_logs() as said:
        (answer,) = await door.answers(request_of("POST", "/v1/bookings", b"{", "Idempotency-Key: k\r\n"))
        (refused,) = await door.answers(booking(event, "more", quantity=11))
    assert (answer.status, refused.status) == (400, 400)
    lines = [line for line in said if line["event"] == "request.refused"]
    assert [(line["client"], line["route"]) for line in lines] == [(CLIENT, "book")] * len(lines)
    assert lines
    assert KEY not in str(said)


async def test_no_request_leaves_its_name_behind(door: Door, event: EventView, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bookings are taken while the connection reads, which goes on to read whatever comes next."""
    monkeypatch.setattr(request_id.in_hand, "name", b"before")
    wire = door.connect()
    for body, key in ((booking(event, "a"), "a"), (booking(event, "b", quantity=11), "b")):
        wire.protocol.data_received(body)
        assert request_id.now() == b"before", key
    await wire.quiet()
    assert [answer.status for answer in wire.answers()] == [202, 400]


async def test_a_sale_that_says_no_says_whose_request_it_was(door: Door, open_sale: SaleMaker) -> None:
    event = await open_sale(GA=1)
    with capture_logs() as said:
        wire = door.connect()
        for n in range(3):
            await wire.send(booking(event, f"{n}")).quiet()
    assert [answer.status for answer in wire.answers()] == [202, 409, 409]
    assert {line["client"] for line in said if line["event"] == "request.refused"} == {CLIENT}


async def test_a_page_of_another_origin_goes_the_ordinary_way(door: Door, event: EventView) -> None:
    """Where its origin is looked at."""
    for more, vary in (("", None), ("Origin: https://shop.example\r\n", "Origin")):
        (booked,) = await door.answers(booking(event, "k", more))
        (read,) = await door.answers(request_of("GET", f"/v1/events/{event.id}", more=more))
        assert (booked.headers.get("vary"), read.headers.get("vary")) == (vary, vary)


async def test_a_connection_learns_from_its_second_booking(
    door: Door, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six times at most, and only from bookings that need not wait. Of a head that nobody has written before, the second
    lesson is the first that is worth it."""
    for name, empty in (("known", {}), ("seen", set()), ("compiled_at", float("-inf"))):
        monkeypatch.setattr(shape, name, empty)
    event = await open_sale(GA=5_000)
    wire = door.connect()
    await wire.send(booking(event, "first")).quiet()
    assert wire.protocol.shape is None
    for n in range(20):
        if wire.protocol.shape is None:
            await wire.send(booking(event, f"{n}")).quiet()
    assert wire.protocol.shape is not None
    lessons = wire.protocol.lessons
    assert lessons == lane.LESSONS - 2
    await wire.send(booking(event, "alike")).quiet()
    assert wire.protocol.lessons == lessons, "it fitted, and taught nothing"
    for n in range(100):
        if wire.protocol.lessons:
            await wire.send(booking(event, f"other-{n}", f"X-{n}: a\r\n")).quiet()
    assert wire.protocol.lessons == 0
    assert {answer.status for answer in wire.answers()} == {202}


@pytest.mark.parametrize("shapes", [True, False])
async def test_a_connection_without_shapes_learns_none(
    door: Door, settings: Settings, open_sale: SaleMaker, shapes: bool
) -> None:
    """`api.shapes` is off: every head is parsed, and the answers are the same."""
    event = await open_sale(GA=50)
    api = settings.api.model_copy(update={"shapes": shapes})
    door.kind = connection_class(settings.model_copy(update={"api": api}), door.config.app)
    wire = door.connect()
    for n in range(7):
        wire.protocol.lessons = min(wire.protocol.lessons, lane.LESSONS)
        await wire.send(booking(event, f"{n}")).quiet()
        await pace(COMPILED_EACH_S * shapes)
    assert (wire.protocol.shape is not None) is shapes
    assert [answer.status for answer in wire.answers()] == [202] * 7


@pytest.mark.parametrize(("in_lane", "fast_path"), [(True, True), (False, True), (True, False)])
def test_the_lane_is_there_when_the_settings_say_so(
    settings: Settings, office: BoxOffice, in_lane: bool, fast_path: bool
) -> None:
    """It stands on the fast path."""
    api = settings.api.model_copy(update={"lane": in_lane, "fast_path": fast_path})
    changed = settings.model_copy(update={"api": api})
    kind: Any = connection_class(changed, create_app(changed, office=office))
    assert hasattr(kind, "front") is (in_lane and fast_path)
    assert kind.limits is changed.limits and kind.patience.head_s == api.head_s


async def test_bookings_that_waited_for_their_turn_are_no_lessons(
    door: Door, event: EventView, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is opened in a rush learns as soon as one is read at once."""
    for name, empty in (("known", {}), ("seen", set())):
        monkeypatch.setattr(shape, name, empty)
    wire = door.connect()
    for number in range(lane.LESSONS + 2):
        wire.protocol.turns.is_over(wire.protocol.loop)
        wire.protocol.turns.spend(1)
        await wire.send(booking(event, f"late-{number}")).quiet()
        await pace(COMPILED_EACH_S)
    assert wire.protocol.shape is None and len(wire.answers()) == lane.LESSONS + 2
    for number in range(3):
        await wire.send(booking(event, f"soon-{number}")).quiet()
        await pace(COMPILED_EACH_S)
    assert wire.protocol.shape is not None


async def test_who_does_not_stay_is_told_and_closed(door: Door, event: EventView) -> None:
    wire = await door.connect().send(booking(event, "k", "Connection: close\r\n")).quiet()
    (answer,) = wire.answers()
    assert (answer.status, answer.headers["connection"], wire.over) == (202, "close", True)
    drained = door.connect()
    for n in range(3):
        await drained.send(booking(event, f"d{n}")).quiet()
    drained.protocol.draining = True
    await drained.send(booking(event, "d9")).quiet()
    assert drained.answers()[-1].headers["connection"] == "close"
    assert [("connection" in answer.headers) for answer in drained.answers()[:-1]] == [False] * 3


async def test_whoever_has_hung_up_is_not_answered(door: Door, event: EventView, office: BoxOffice) -> None:
    """Its booking counts all the same."""
    wire: Wire = door.connect()
    wire.send(booking(event, "k"))
    wire.hang_up()
    (again,) = await door.answers(booking(event, "k"))
    assert (again.status, again.headers["idempotency-replayed"], bytes(wire.received)) == (202, "true", b"")


@pytest.mark.parametrize("mistake", [ValueError("planted"), BoxOfficeError()])
async def test_a_mistake_of_ours_is_an_answer(
    door: Door, event: EventView, office: BoxOffice, monkeypatch: pytest.MonkeyPatch, mistake: Exception
) -> None:
    """Where a booking is handed on, and where its answer is made."""

    def broken(*_: object, **__: object) -> None:
        raise mistake

    await door.answers(booking(event, "first"))
    with monkeypatch.context() as patched:
        patched.setattr(office.admission, "submit", broken)
        (answer,) = await door.answers(booking(event, "k"))
        assert (answer.status, b"planted" in answer.body) == (500, False)
    monkeypatch.setattr(answers, "accepted", broken)
    (answer,) = await door.answers(booking(event, "k"))
    assert (answer.status, b"planted" in answer.body) == (500, False)


async def test_the_next_booking_waits_for_the_answer_to_the_one_before(door: Door, event: EventView) -> None:
    """On a connection whose bookings are known by their shape, too: one that has to be looked up is answered first."""
    wire = door.connect()
    for n in range(10):
        if wire.protocol.shape is None:
            await wire.send(booking(event, f"warm-{n}")).quiet()
    assert wire.protocol.shape is not None
    warm = len(wire.answers())
    body = json.dumps({**booking_of(event), "items": [{"tier_id": "nobodysknown", "quantity": 1}]}).encode()
    slow = request_of("POST", "/v1/bookings", body, "Idempotency-Key: warm-s\r\n")

    await wire.send(
        slow, booking(event, "warm-x"), slow.replace(b"warm-s", b"warm-t"), booking(event, "warm-y")
    ).quiet()

    assert [answer.status for answer in wire.answers()[warm:]] == [404, 202, 404, 202]


class NoTime(Turns):
    """Turns in a flood that have no time for anybody."""

    over = True

    def is_over(self, loop: asyncio.AbstractEventLoop) -> bool:
        return super().is_over(loop) or self.over


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> NoTime:
    monkeypatch.setattr(Condition, "turns", turns := NoTime())
    turns.over = False
    return turns


async def test_a_booking_in_a_flood_is_sent_away_before_it_is_looked_at(
    door: Door, turns: NoTime, office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a connection that has written one before and on one that is new; with the name that its client gave it. Nothing is
    taken, and the same booking is let in when there is time; a repeat of one that is in is told so then."""
    event = await open_sale(GA=500)
    wire = door.connect()
    while wire.protocol.shape is None:
        await wire.send(booking(event, f"{len(wire.answers())}", "X-Request-Id: mine\r\n")).quiet()
        await pace(COMPILED_EACH_S)
    before = len(wire.answers())
    held = (await counters(office, event, "GA")).held
    FLOOD.begin(60)
    turns.over = True
    monkeypatch.setattr(lane, "prepare", None)
    sent_away = REFUSED_CONNECTIONS.cell("overloaded").value
    for other in (wire, door.connect()):
        for key in ("again", "0", "again"):
            await other.send(booking(event, key, "X-Request-Id: mine\r\n")).quiet()
        told = other.answers()[-3:]
        assert [answer.status for answer in told] == [503] * 3
        assert {answer.headers["retry-after"] for answer in told} == {"1", "2", "3"}, "not all together"
        assert {answer.headers["x-request-id"] for answer in told} == {"mine"}
        assert {json.loads(answer.body)["request_id"] for answer in told} == {"mine"}
    assert REFUSED_CONNECTIONS.cell("overloaded").value == sent_away + 6
    assert len(wire.answers()) == before + 3 and (await counters(office, event, "GA")).held == held
    monkeypatch.setattr(lane, "prepare", prepare)
    turns.over = False
    for key in ("again", "0"):
        await wire.send(booking(event, key, "X-Request-Id: mine\r\n")).quiet()
    let_in, repeated = wire.answers()[-2:]
    assert (let_in.status, repeated.status, repeated.headers["idempotency-replayed"]) == (202, 202, "true")
    assert (await counters(office, event, "GA")).held == held + 1


async def test_bookings_that_come_together_in_a_flood_are_each_told(
    door: Door, turns: NoTime, event: EventView
) -> None:
    """One after the other, and one in pieces, too; what has begun to arrive when the flood is over is let in."""
    wire = door.connect()
    await wire.send(booking(event, "first")).quiet()
    FLOOD.begin(60)
    turns.over = True
    whole = booking(event, "a") + booking(event, "b")
    await wire.send(whole[:40], whole[40:700], whole[700:]).quiet()
    assert [answer.status for answer in wire.answers()] == [202, 503, 503]
    wire.send(booking(event, "c")[:99])
    turns.over = False
    await wire.send(booking(event, "c")[99:]).quiet()
    assert wire.answers()[-1].status == 202
