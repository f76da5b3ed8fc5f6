"""The feed over HTTP, in each way into the application: pages, types, waiting, whose it is, and what is wrong with a cursor."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from boxoffice.notices.cursors import Cursor
from boxoffice.notices.writing import write
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from tests.api.conftest import CONTRACT
from tests.conftest import KEY, OTHER_KEY, SHARD, SaleMaker, settle_all
from tests.support.shop.office import book
from tests.support.shop.orders import CLIENT, OTHER
from tests.support.waiting import true_soon
from tests.support.wire import Answer, Door, Wire

pytestmark = pytest.mark.wire

TYPE = "webhook_endpoint.disabled"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Few may wait, and of one shop fewer."""
    few = settings.api.model_copy(update={"waits_max": 3, "waits_client_max": 2})
    return settings.model_copy(update={"api": few})


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    made = await open_sale(GA=50)
    assert made.shard == SHARD
    return made


def request_of(query: str = "", key: str = KEY, method: str = "GET") -> bytes:
    return f"{method} /v1/feed{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n".encode()


async def ask(door: Door, query: str = "", key: str = KEY, method: str = "GET") -> Answer:
    wire = await door.connect().send(request_of(query, key, method)).quiet()
    (answer,) = wire.answers(heads=method == "HEAD")
    CONTRACT.check(method, "/v1/feed", answer.status, httpx2.Headers(answer.headers), answer.body)
    return answer


def page(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    assert answer.headers["cache-control"] == "no-store"
    found: dict[str, Any] = json.loads(answer.body)
    return found


def problem(answer: Answer, status: int, slug: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.body)
    assert (answer.status, found["type"]) == (status, f"/problems/{slug}"), found
    return found


async def tell(office: BoxOffice, client: str = CLIENT, count: int = 1) -> None:
    async with office.database.begin() as connection:
        for n in range(count):
            await write(connection, client, TYPE, {"endpoint_id": f"e{n}", "reason": "failing"})


async def begin(door: Door, office: BoxOffice, query: str, key: str = KEY) -> Wire:
    """A connection whose request waits."""
    before = door_waits(office)
    wire = door.connect().send(request_of(query, key))
    await true_soon(lambda: door_waits(office) > before)
    return wire


def door_waits(office: BoxOffice) -> int:
    return office.feed.waiting


async def test_a_sale_is_told_in_its_order(door: Door, office: BoxOffice, event: EventView) -> None:
    """From its making to its bookings; page by page it is the same as in one."""
    bookings = [(await book(office, event, GA=1)).booking_id for _ in range(3)]
    await settle_all(office)
    whole = page(await ask(door))
    assert whole["data"][0]["type"] == "event.created" and whole["data"][0]["event_id"] == event.id
    confirmed = [notice for notice in whole["data"] if notice["type"] == "booking.confirmed"]
    assert {notice["booking_id"] for notice in confirmed} == set(bookings)
    assert {notice["data"]["status"] for notice in confirmed} == {"confirmed"}
    assert len({notice["id"] for notice in whole["data"]}) == len(whole["data"])
    assert (whole["more"], whole["data"][-1]["cursor"]) == (False, whole["cursor"])
    found, cursor, more = [], "", True
    while more:
        part = page(await ask(door, f"?limit=2&after={cursor}" if cursor else "?limit=2"))
        assert len(part["data"]) <= 2
        found += part["data"]
        cursor, more = part["cursor"], part["more"]
    assert found == whole["data"]
    middle = whole["data"][2]["cursor"]
    assert page(await ask(door, f"?after={middle}"))["data"] == whole["data"][3:]


async def test_types_leave_out_the_others(door: Door, office: BoxOffice, event: EventView) -> None:
    await book(office, event, GA=1)
    await settle_all(office)
    some = page(await ask(door, "?types=payment.captured,booking.confirmed"))
    assert {notice["type"] for notice in some["data"]} == {"payment.captured", "booking.confirmed"}
    none = page(await ask(door, "?types=booking.failed"))
    assert none["data"] == [] and page(await ask(door, f"?after={none['cursor']}"))["data"] == []


async def test_a_shop_is_told_its_own_alone(door: Door, office: BoxOffice, event: EventView) -> None:
    """Whatever cursor it has: one is not another shop's key."""
    for client in (CLIENT, OTHER):
        await book(office, event, GA=1, client=client)
    await settle_all(office)
    booked: dict[str, set[str]] = {}
    for key, other in ((KEY, OTHER_KEY), (OTHER_KEY, KEY)):
        ours = page(await ask(door, key=key))
        first = page(await ask(door, "?limit=1", key=other))["cursor"]
        again = page(await ask(door, f"?after={first}", key=key))
        booked[key] = {notice["booking_id"] for notice in ours["data"] if notice["booking_id"]}
        assert len(booked[key]) == 1
        assert {notice["booking_id"] for notice in again["data"] if notice["booking_id"]} == booked[key]
    assert booked[KEY].isdisjoint(booked[OTHER_KEY])


async def test_from_now_on(door: Door, office: BoxOffice) -> None:
    await tell(office, count=3)
    now = page(await ask(door, "?after=now"))
    assert (now["data"], now["more"]) == ([], False)
    await tell(office)
    assert len(page(await ask(door, f"?after={now['cursor']}"))["data"]) == 1


async def test_head_says_what_get_would(door: Door, office: BoxOffice) -> None:
    await tell(office)
    answer = await ask(door, method="HEAD")
    assert (answer.status, answer.body) == (200, b"") and int(answer.headers["content-length"]) > 100


async def test_who_waits_is_answered_once_there_is_something(door: Door, office: BoxOffice) -> None:
    """Of its own: what another shop is told, and other types, it waits on."""
    cursor = page(await ask(door, "?after=now"))["cursor"]
    wire = await begin(door, office, f"?after={cursor}&wait=30&types={TYPE}")
    async with office.database.begin() as connection:
        await write(connection, OTHER, TYPE, {"endpoint_id": "x", "reason": "gone"})
        await write(connection, CLIENT, "event.changed", {})
    await true_soon(lambda: office.feed.looks > 4)
    assert not wire.answers()
    await tell(office)
    (answer,) = (await wire.quiet()).answers()
    (notice,) = page(answer)["data"]
    assert notice["type"] == TYPE and door_waits(office) == 0


async def test_who_waits_in_vain_gets_an_empty_page(door: Door, office: BoxOffice) -> None:
    """With the cursor to go on from: nothing is lost in between."""
    await tell(office)
    cursor = page(await ask(door))["cursor"]
    began = time.monotonic()
    empty = page(await ask(door, f"?after={cursor}&wait=1"))
    assert time.monotonic() - began > 0.9
    assert (empty["data"], empty["more"]) == ([], False)
    await tell(office)
    assert len(page(await ask(door, f"?after={empty['cursor']}&wait=30"))["data"]) == 1


async def test_what_is_there_is_not_waited_for(door: Door, office: BoxOffice) -> None:
    await tell(office)
    assert len(page(await ask(door, "?wait=30"))["data"]) == 1


async def test_who_has_gone_takes_no_place(door: Door, office: BoxOffice) -> None:
    wire = await begin(door, office, "?after=now&wait=30")
    wire.hang_up()
    await true_soon(lambda: door_waits(office) == 0)


async def test_who_sends_no_more_is_answered_at_once(door: Door, office: BoxOffice) -> None:
    """It takes no place any more, and may read: later, and with its request."""
    began = time.monotonic()
    wire = await begin(door, office, "?after=now&wait=30")
    wire.send(end=True)
    both = door.connect().send(request_of("?after=now&wait=30"), end=True)
    for each in (wire, both):
        (answer,) = (await each.quiet()).answers()
        found = page(answer)
        assert (found["data"], found["more"]) == ([], False)
    assert door_waits(office) == 0
    assert time.monotonic() - began < 15


async def test_a_process_that_stops_answers_at_once(door: Door, office: BoxOffice) -> None:
    wires = [await begin(door, office, "?after=now&wait=30", key) for key in (KEY, OTHER_KEY)]
    office.end_waits()
    for wire in wires:
        (answer,) = (await wire.quiet()).answers()
        assert page(answer)["data"] == []
    began = time.monotonic()
    assert page(await ask(door, "?after=now&wait=30"))["data"] == []
    assert time.monotonic() - began < 15


async def test_only_so_many_may_wait(door: Door, office: BoxOffice) -> None:
    """Of one shop, and in all; who need not wait is answered as ever."""
    wires = [await begin(door, office, "?after=now&wait=30") for _ in range(2)]
    refused = await ask(door, "?after=now&wait=30")
    assert problem(refused, 429, "too-many-waits")["limit"] == 2
    assert refused.headers["retry-after"] == "1"
    wires.append(await begin(door, office, "?after=now&wait=30", OTHER_KEY))
    problem(await ask(door, "?after=now&wait=30", OTHER_KEY), 503, "overloaded")
    assert page(await ask(door, "?after=now"))["data"] == []
    office.end_waits()
    await asyncio.gather(*(wire.quiet() for wire in wires))
    assert door_waits(office) == 0


@pytest.mark.parametrize(
    ("query", "parameter", "code"),
    [
        ("?after=x", "after", "cursor"),
        ("?after=", "after", "length"),
        ("?after=%00", "after", "control_character"),
        ("?types=booking.sold", "types", "unknown"),
        ("?limit=0", "limit", "out_of_range"),
        ("?limit=x", "limit", "int_parsing"),
        ("?wait=31", "wait", "out_of_range"),
        ("?wait=1&wait=1", "wait", "duplicate"),
        ("?follow=1", "follow", "unknown_parameter"),
    ],
)
async def test_what_cannot_be_is_named(door: Door, query: str, parameter: str, code: str) -> None:
    found = problem(await ask(door, query), 400, "malformed-request")
    assert found["errors"] == [{"parameter": parameter, "code": code}]


async def test_who_may_not_read_hears_of_no_parameter(door: Door) -> None:
    problem(await ask(door, "?follow=1", "no.key"), 401, "unauthorized")


async def test_a_cursor_of_what_is_forgotten_is_gone(door: Door, office: BoxOffice) -> None:
    """One of another history, or of a place that there is not yet: never a page that leaves something out."""
    await tell(office, count=2)
    good = Cursor.read(page(await ask(door))["cursor"])
    for bad in (good._replace(nonce=good.nonce ^ 1), good._replace(position=good.position + 1)):
        for wait in ("", "&wait=30"):
            problem(await ask(door, f"?after={quote(str(bad))}{wait}"), 410, "cursor-gone")
    assert page(await ask(door, f"?after={quote(str(good))}"))["data"] == []


async def test_a_shop_that_was_away_for_a_day_catches_up_in_seconds(door: Door, office: BoxOffice) -> None:
    """A hundred thousand notices, each once and in their order, a thousand a page."""
    count = 100_000
    async with office.database.begin() as connection:
        await connection.execute(
            "INSERT INTO notices (client_id, type, details) SELECT $1, $2, jsonb_build_object('endpoint_id', n::text) "
            "FROM generate_series(0, $3::int - 1) n",
            CLIENT, TYPE, count,
        )  # fmt: skip
    await office.notices.number()
    wire, found, cursor = door.connect(), 0, ""
    began = time.monotonic()
    while True:
        wire.forget()
        await wire.send(request_of(f"?limit=1000&after={cursor}" if cursor else "?limit=1000")).quiet()
        (answer,) = wire.answers()
        part = page(answer)
        assert [int(notice["data"]["endpoint_id"]) for notice in part["data"]] == [
            *range(found, found + len(part["data"]))
        ]
        found, cursor = found + len(part["data"]), part["cursor"]
        if not part["more"]:
            break
    assert found == count
    assert time.monotonic() - began < 30, "it takes four on a machine that does nothing else"
