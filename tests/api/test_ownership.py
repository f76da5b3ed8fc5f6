"""Whose is it, over HTTP: two shops ask for the same, under the same key, on the same connection, in each way into the
application; and every route that names a booking is tried by the shop that does not own it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from api.transport import shape
from boxoffice import ids
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.stores import keys
from boxoffice.stores.models import Base
from boxoffice.stores.record import unpack
from tests.api.conftest import booking_of
from tests.conftest import CLIENT, KEY, OTHER_KEY, SHARD, SaleMaker, settle_all
from tests.support.shop.orders import OTHER
from tests.support.wire import Door, Wire

SHOPS = {CLIENT: KEY, OTHER: OTHER_KEY}
CARD = {"method": "card", "card_name": "Ada Lovelace", "card_number": "4242424242424242"}
WARM = 8
"""Bookings after which a connection takes those like them without a parser."""


pytestmark = pytest.mark.wire


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=100, VIP=5)


def request_of(method: str, path: str, api_key: str, body: Any = None, key: str = "k") -> bytes:
    raw = b"" if body is None else json.dumps(body).encode()
    lines = [
        f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {api_key}", "Content-Type: application/json",
        f"Idempotency-Key: {key}", f"Content-Length: {len(raw)}", "", "",
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + raw


async def ask(wire: Wire, request: bytes) -> tuple[int, dict[str, str], Any]:
    """The next answer of the connection."""
    before = len(wire.answers())
    (answer,) = (await wire.send(request).quiet()).answers()[before:]
    return answer.status, answer.headers, json.loads(answer.body)


async def everything(office: BoxOffice) -> dict[str, Any]:
    """All of both stores, but for how many requests who asks has made: a refused one counts, too."""
    pool = await office.pool()
    found: dict[str, Any] = {
        table.name: sorted(
            row["row"] for row in await pool.fetch(f"SELECT to_jsonb(t)::text AS row FROM {table.name} t")
        )
        for table in Base.metadata.sorted_tables
    }
    rates = {keys.rates(shard).encode() for shard in range(office.settings.shards)}
    async for name in office.redis.scan_iter():
        if name not in rates:
            found[name.decode()] = await office.redis.dump(name)
    return found


@pytest.mark.parametrize("pay", [True, False], ids=["paid", "held"])
async def test_two_shops_that_ask_alike_have_each_their_own(
    door: Door, office: BoxOffice, event: EventView, monkeypatch: pytest.MonkeyPatch, pay: bool
) -> None:
    """Same connection, same key, same customer, same tickets: two bookings, each on its shop's books, also when the head
    of the request is known, and what such bookings have in common was written out for the first."""
    monkeypatch.setattr(shape, "is_worth_it", lambda _: True)
    wire, body = door.connect(), booking_of(event, 1, **({} if pay else {"payment": ...}))
    for n in range(WARM):
        await ask(wire, request_of("POST", "/v1/bookings", KEY, body, f"warm-{n}"))

    made: list[tuple[str, str, str]] = []
    for n in range(3):
        for client, api_key in SHOPS.items():
            status, headers, booking = await ask(wire, request_of("POST", "/v1/bookings", api_key, body, f"key-{n}"))
            assert (status, "idempotency-replayed" in headers) == (202 if pay else 201, False)
            made.append((client, api_key, booking["id"]))
            again = await ask(wire, request_of("POST", "/v1/bookings", api_key, body, f"key-{n}"))
            assert (again[2]["id"], again[1]["idempotency-replayed"]) == (booking["id"], "true")

    for settled in (False, True):
        for client, api_key, booking in made:
            record = unpack(booking, await office.redis.get(keys.booking(event.shard, booking)))
            assert record.body.client == client
            assert record.owner in ("", ids.owner_digest(client, "customer-1"))
            for reader in SHOPS.values():
                status, _, _ = await ask(wire, request_of("GET", f"/v1/bookings/{booking}", reader))
                assert status == (200 if reader == api_key else 404)
        for client, api_key in SHOPS.items():
            own = [booking for owner, _, booking in made if owner == client]
            for n, booking in enumerate(own):
                path = f"/v1/bookings?event_id={event.id}&idempotency_key=key-{n}"
                assert [found["id"] for found in (await ask(wire, request_of("GET", path, api_key)))[2]["data"]] == [
                    booking
                ]
            if settled and pay:
                found = (await ask(wire, request_of("GET", "/v1/bookings?customer_id=customer-1", api_key)))[2]["data"]
                assert {view["id"] for view in found} >= set(own)
                assert not {view["id"] for view in found} & {booking for _, _, booking in made if booking not in own}
        await settle_all(office)


def of(booking: str, verb: str) -> str:
    return f"/v1/bookings/{booking}/{verb}"


ACTIONS: dict[str, tuple[str, Callable[[str], str], Any]] = {
    "read": ("GET", lambda booking: f"/v1/bookings/{booking}", None),
    "pay": ("POST", lambda booking: of(booking, "payment"), CARD),
    "change": ("PATCH", lambda booking: f"/v1/bookings/{booking}", "OTHER ITEMS"),
    "extend": ("POST", lambda booking: of(booking, "extend"), {"extra_s": 60}),
    "cancel": ("POST", lambda booking: of(booking, "cancel"), None),
    "refund": ("POST", lambda booking: of(booking, "refunds"), {"items": "all"}),
    "list refunds": ("GET", lambda booking: of(booking, "refunds"), None),
    "refund what is owed": ("POST", lambda booking: of(booking, "refunds"), {"items": "owed"}),
}


@pytest.mark.parametrize("state", ["held", "declined", "pending", "confirmed", "cancelled", "forgotten by Redis"])
async def test_nobody_does_anything_to_anothers_booking(
    door: Door, office: BoxOffice, event: EventView, state: str
) -> None:
    """It is not there: 404 whatever its state, and both stores are as they were. Not even the key is used up."""
    wire = door.connect()
    held = state in ("held", "declined")
    body = booking_of(event, 1, **({"payment": ...} if held else {}))
    booking = (await ask(wire, request_of("POST", "/v1/bookings", KEY, body)))[2]["id"]
    if state == "declined":
        card = CARD | {"card_number": "4000000000000002"}
        await ask(wire, request_of("POST", of(booking, "payment"), KEY, card))
    if state not in ("held", "pending"):
        await settle_all(office)
    if state == "cancelled":
        assert (await ask(wire, request_of("POST", of(booking, "cancel"), KEY)))[0] == 200
    if state == "forgotten by Redis":
        await office.redis.delete(keys.booking(event.shard, booking))
    before = await everything(office)
    for name, (method, path, content) in ACTIONS.items():
        if content == "OTHER ITEMS":
            content = {"items": [{"tier_id": event.tiers[0].id, "quantity": 2}]}
        status, _, problem = await ask(wire, request_of(method, path(booking), OTHER_KEY, content))
        assert (status, problem["type"]) == (404, "/problems/not-found"), (name, problem)
        assert booking not in json.dumps(problem)
    for query in ("", f"?event_id={event.id}&idempotency_key=k", "?customer_id=customer-1", f"?event_id={event.id}",
                  "?idempotency_key=k", "?status=confirmed"):  # fmt: skip
        status, _, page = await ask(wire, request_of("GET", f"/v1/bookings{query}", OTHER_KEY))
        assert (status, page) == (200, {"data": [], "next_cursor": None}), query

    assert await everything(office) == before
    assert (await ask(wire, request_of("GET", f"/v1/bookings/{booking}", KEY)))[0] == 200


NAMED = {"request_id": ""}
"""Each request has an id of its own."""

SELLS = {
    "its own": (KEY, True),
    "shared": (OTHER_KEY, True),
    "another's": (OTHER_KEY, False),
    "no longer": (OTHER_KEY, False),
}


@pytest.mark.parametrize("whose", SELLS)
async def test_who_sees_and_sells_an_event(door: Door, office: BoxOffice, open_sale: SaleMaker, whose: str) -> None:
    """Its owner, and whom it is shared with. To anybody else it is, in every word, what does not exist."""
    api_key, sells = SELLS[whose]
    event, beside = await open_sale(GA=50), await open_sale(GA=5)
    if whose == "another's":
        await office.sharing.unshare(event.id, OTHER)
    wire = door.connect()
    nothing = {"items": [{"tier_id": "nothing00000", "quantity": 1}]}
    unknown = (
        await ask(wire, request_of("GET", "/v1/events/nothing00000", api_key)),
        await ask(wire, request_of("POST", "/v1/bookings", api_key, booking_of(event) | nothing, "n")),
    )
    if whose == "no longer":
        for n in range(3):
            assert (await ask(wire, request_of("POST", "/v1/bookings", api_key, booking_of(event), f"w{n}")))[0] == 202
        await office.sharing.unshare(event.id, OTHER)
        await office.catalogue.read()

    listed = (await ask(wire, request_of("GET", "/v1/events", api_key)))[2]["data"]
    assert [found["id"] for found in listed if found["id"] == event.id] == [event.id] * sells
    assert beside.id in [found["id"] for found in listed]
    both = [{"tier_id": one.tiers[0].id, "quantity": 1} for one in (beside, event)]
    for answer, refused in (
        (await ask(wire, request_of("GET", f"/v1/events/{event.id}", api_key)), unknown[0]),
        (await ask(wire, request_of("POST", "/v1/bookings", api_key, booking_of(event), "k")), unknown[1]),
        (await ask(wire, request_of("POST", "/v1/bookings", api_key, booking_of(event, items=both), "b")), unknown[1]),
        (await ask(wire, request_of("POST", "/v1/bookings", api_key, booking_of(event, items=both[::-1]), "c")), unknown[1]),
    ):  # fmt: skip
        if sells:
            assert answer[0] in (200, 202, 400)
        else:
            assert (answer[0], answer[2] | NAMED) == (404, refused[2] | NAMED)
    assert (await ask(wire, request_of("POST", "/v1/bookings", KEY, booking_of(event), "own")))[0] == 202


async def test_what_was_booked_stays_its_shops_when_the_event_does_not(
    door: Door, office: BoxOffice, event: EventView
) -> None:
    """Read, paid, refunded: whoever has sold a ticket answers for it."""
    wire = door.connect()
    body = booking_of(event, 1, payment=...)
    held = (await ask(wire, request_of("POST", "/v1/bookings", OTHER_KEY, body)))[2]["id"]
    await office.sharing.unshare(event.id, OTHER)
    await office.catalogue.read()
    assert (await ask(wire, request_of("GET", f"/v1/bookings/{held}", OTHER_KEY)))[2]["status"] == "held"
    assert (await ask(wire, request_of("POST", of(held, "payment"), OTHER_KEY, CARD)))[0] == 202
    await settle_all(office)
    assert (await ask(wire, request_of("POST", of(held, "refunds"), OTHER_KEY, {"items": "all"})))[0] == 201


@pytest.mark.parametrize(
    ("written", "good"),
    [
        ("Bearer {}", True), ("bearer {}", True), ("BEARER {}", True), ("bEaReR {}", True), ("Bearer   {}", True),
        ("Bearer {}  ", True), ("Bearer{}", False), ("Bearer\t{}", False), ("Basic {}", False), ("{}", False),
        ("Bearer", False), ("Bearer ", False), ("Bearer {}x", False), ("Bearer {},{}", False), ("Bearer Bearer {}", False),
        ("bearers {}", False),
    ],
)  # fmt: skip
async def test_the_word_bearer_is_in_any_case(door: Door, event: EventView, written: str, good: bool) -> None:
    """RFC 9110, 11.1: the scheme is case-insensitive, and one blank or more follow it. On every route."""
    wire = door.connect()
    authorization = f"Authorization: {written.replace('{}', KEY)}".encode()
    for method, path, body in (
        ("POST", "/v1/bookings", booking_of(event)), ("GET", f"/v1/events/{event.id}", None), ("GET", "/v1/events", None),
        ("GET", f"/v1/bookings/{ids.booking_id(SHARD, 1)}", None), ("GET", "/v1/bookings", None),
        ("POST", of(ids.booking_id(SHARD, 1), "cancel"), None),
    ):  # fmt: skip
        request = request_of(method, path, KEY, body, f"{written} {path}"[:200].replace("\t", " "))
        request = request.replace(f"Authorization: Bearer {KEY}".encode(), authorization)
        status, headers, _ = await ask(wire, request)
        assert (status == 401) != good, (method, path, status)
        assert (status == 401) == ("www-authenticate" in headers)
