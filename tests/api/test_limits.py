"""At the edge: whatever has a limit is accepted there, and done to the end; one more is refused, and the answer names the
field."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from api.app import create_app
from api.transport import shape
from api.transport.reader import WEBHOOK_MAX
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.checks import COUNT_MAX, NewTier
from boxoffice.settings import Settings
from tests.api.conftest import Book, assert_problem, booking_of
from tests.conftest import CLIENT, KEY, SaleMaker, counters, settle_all
from tests.support.checks import check_at_rest
from tests.support.wire import WAYS, Door

CARD = "4242424242424242"


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    """Of as many tiers as there may be in a booking, and one more."""
    return await open_sale(**{f"T{n:02d}": 1_000 for n in range(11)})


def _soon() -> datetime:
    return datetime.now(UTC) + timedelta(days=30)


def _client(settings: Settings, office: BoxOffice) -> httpx2.AsyncClient:
    """A shop of an API with these settings."""
    transport = httpx2.ASGITransport(app=create_app(settings, office=office), raise_app_exceptions=False)
    return httpx2.AsyncClient(
        transport=transport, base_url="http://boxoffice.test", headers={"Authorization": f"Bearer {KEY}"}
    )


# ------------------------------------------------------------------ the largest booking


@pytest.mark.parametrize(
    "limits", [{}, {"items_max": 100, "quantity_max": 1_000, "text_max": 1_000}], ids=["usual", "widest"]
)
async def test_the_largest_booking_is_sold_and_given_back(
    office: BoxOffice, settings: Settings, limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many tiers as there may be, as many tickets of each, at the highest price, with the longest texts and the longest
    key: every cent is counted, in Redis, in PostgreSQL, at the gateway and in the answer."""
    wide = settings.model_copy(update={"limits": settings.limits.model_copy(update=limits)})
    office.settings = wide
    most = wide.limits
    tiers = [NewTier(f"T{n:02d}", COUNT_MAX, COUNT_MAX) for n in range(most.items_max)]
    event = await office.store.create_event(CLIENT, "Opera", _soon(), "USD", tiers)
    await office.catalogue.refresh()
    body = {
        "customer_id": "c" * most.text_max,
        "reference": "r" * most.text_max,
        "items": [{"tier_id": tier.id, "quantity": most.quantity_max} for tier in event.tiers],
        "payment": {"method": "card", "card_name": "n" * most.text_max, "card_number": CARD},
    }
    cents = most.items_max * most.quantity_max * COUNT_MAX
    async with _client(wide, office) as api:
        key = {"Idempotency-Key": "k" * 255}
        answer = await api.post("/v1/bookings", json=body, headers=key)
        assert answer.status_code == 202, answer.text
        assert answer.json()["amount_cents"] == cents
        again = await api.post("/v1/bookings", json=body, headers=key)
        assert (again.json()["id"], again.headers["idempotency-replayed"]) == (answer.json()["id"], "true")
        await settle_all(office)
        path = f"/v1/bookings/{answer.json()['id']}"
        for _ in range(2):  # from Redis, then from PostgreSQL
            booking = (await api.get(path)).json()
            assert (booking["status"], booking["amount_cents"]) == ("confirmed", cents)
            assert (booking["customer_id"], booking["reference"]) == (body["customer_id"], body["reference"])
            assert [item["quantity"] for item in booking["items"]] == [most.quantity_max] * most.items_max
            assert {item["line_total_cents"] for item in booking["items"]} == {most.quantity_max * COUNT_MAX}
            await office.redis.delete(f"{{s{event.shard:02d}}}:bk:{booking['id']}")
        left = await counters(office, event, "T00")
        assert (left.available, left.sold, left.total) == (COUNT_MAX - most.quantity_max, most.quantity_max, COUNT_MAX)
        (record,) = [record.payment async for record in office.gateway.records()]
        assert (record.status, record.captured_cents) == ("captured", cents)
        some = {"items": [{"tier_id": tier.id, "quantity": most.quantity_max} for tier in event.tiers[:-1]]}
        if len(some["items"]) > 1:
            refund = (
                await api.post(f"{path}/refunds", json=some | {"reason": "x" * most.text_max}, headers=key)
            ).json()
            assert refund["amount_cents"] == cents - most.quantity_max * COUNT_MAX
        assert (await api.post(f"{path}/cancel")).json()["refunded_cents"] == cents
    while await office.pump.work_outbox():
        pass
    assert (await counters(office, event, "T00")).available == COUNT_MAX
    await check_at_rest(office, [booking["id"]])


async def test_a_tier_is_sold_to_its_last_ticket(
    api: httpx2.AsyncClient, book: Book, office: BoxOffice, open_sale: SaleMaker
) -> None:
    """As many as are left are had; one more is not."""
    event = await open_sale(GA=10)
    assert (await book(event, 9)).status_code == 202
    refused = assert_problem(await book(event, 2), 409, "sold-out")
    assert [short["available"] for short in refused["shortfall"]] == [1]
    assert (await book(event, 1)).status_code == 202
    assert_problem(await book(event, 1), 409, "sold-out")
    await settle_all(office)
    assert (await counters(office, event, "GA")).sold == 10


async def test_a_customer_has_as_many_as_the_event_allows(
    api: httpx2.AsyncClient, book: Book, office: BoxOffice, open_sale: SaleMaker
) -> None:
    event = await open_sale(GA=20)
    await office.control.change_event(event.id, customer_max=4)
    assert (await book(event, 3)).status_code == 202
    refused = assert_problem(await book(event, 2), 409, "customer-limit")
    assert (refused["held"], refused["limit"], refused["may_take"]) == (3, 4, 1)
    assert (await book(event, 1)).status_code == 202
    assert_problem(await book(event, 1), 409, "customer-limit")
    assert (await book(event, 4, customer_id="another")).status_code == 202


# ------------------------------------------------------------------ each bound of a booking


def item(event: EventView, **changes: Any) -> dict[str, Any]:
    return {"items": [{"tier_id": event.tiers[0].id, "quantity": 1} | changes]}


def items(event: EventView, count: int) -> dict[str, Any]:
    return {"items": [{"tier_id": tier.id, "quantity": 1} for tier in event.tiers[:count]]}


def paid(**changes: Any) -> dict[str, Any]:
    return {"payment": {"method": "card", "card_name": "Ada", "token": "tok_ok"} | changes}


BOUNDS = {
    # name: what is good, what is one beyond, where, why
    "customer_id": (lambda _: {"customer_id": "c" * 200}, lambda _: {"customer_id": "c" * 201}, "/customer_id", "too_long"),
    "no customer_id": (lambda _: {"customer_id": "c"}, lambda _: {"customer_id": ""}, "/customer_id", "empty"),
    "wide customer_id": (
        lambda _: {"customer_id": "\U0001f39f" * 200}, lambda _: {"customer_id": "\U0001f39f" * 201}, "/customer_id",
        "too_long",
    ),
    "reference": (lambda _: {"reference": "r" * 200}, lambda _: {"reference": "r" * 201}, "/reference", "too_long"),
    "card_name": (
        lambda _: paid(card_name="n" * 200), lambda _: paid(card_name="n" * 201), "/payment/card_name", "too_long",
    ),
    "items": (lambda event: items(event, 10), lambda event: items(event, 11), "/items", "too_many"),
    "no items": (lambda event: items(event, 1), lambda event: items(event, 0), "/items", "empty"),
    "quantity": (
        lambda event: item(event, quantity=10), lambda event: item(event, quantity=11), "/items/0/quantity", "out_of_range",
    ),
    "no quantity": (
        lambda event: item(event, quantity=1), lambda event: item(event, quantity=0), "/items/0/quantity", "out_of_range",
    ),
    "hold_s": (
        lambda _: {"payment": ..., "hold_s": 600}, lambda _: {"payment": ..., "hold_s": 601}, "/hold_s", "out_of_range",
    ),
    "no hold_s": (lambda _: {"payment": ..., "hold_s": 1}, lambda _: {"payment": ..., "hold_s": 0}, "/hold_s", "out_of_range"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOUNDS)
async def test_a_booking_at_a_bound_is_settled_and_one_beyond_is_refused(
    api: httpx2.AsyncClient, book: Book, office: BoxOffice, event: EventView, name: str
) -> None:
    good, bad, pointer, code = BOUNDS[name]

    problem = assert_problem(await book(event, **bad(event)), 400, "malformed-request")
    assert problem["errors"] == [{"pointer": pointer, "code": code}]

    answer = await book(event, **good(event))
    assert answer.status_code in (201, 202), answer.text
    booking = answer.json()
    if "hold_s" in name:
        held_s = good(event)["hold_s"]
        assert (booking["status"], booking["expires_in_s"], lasts_s(booking)) == ("held", held_s, held_s)
        return
    await settle_all(office)
    booking = (await api.get(f"/v1/bookings/{booking['id']}")).json()
    assert booking["status"] == "confirmed"
    assert booking.items() >= {name: text for name, text in good(event).items() if name in TEXTS}.items()


TEXTS = ("customer_id", "reference")


def lasts_s(booking: dict[str, Any]) -> float:
    """From its admission to its deadline."""
    made, ends = (datetime.fromisoformat(booking[name]) for name in ("created_at", "expires_at"))
    return (ends - made).total_seconds()


@pytest.mark.parametrize(
    ("part", "good", "bad", "where"),
    [
        ("tier", (64, 404, "not-found"), (65, 400, "malformed-request"), "/items/0/tier_id"),
        ("token", (255, 400, "token"), (256, 400, "too_long"), "/payment/token"),
    ],
)
async def test_an_id_as_long_as_it_may_be_is_looked_for(
    api: httpx2.AsyncClient, book: Book, event: EventView, part: str, good: tuple[Any, ...], bad: tuple[Any, ...],
    where: str,
) -> None:  # fmt: skip
    """There is none, and that is what is said of it; of a longer one, that it is too long."""
    for length, status, said in (good, bad):
        text = "x" * length
        answer = await book(event, **(item(event, tier_id=text) if part == "tier" else paid(token=text)))
        assert (answer.status_code, said in answer.text) == (status, True), answer.text
        if status == 400:
            assert answer.json()["errors"][0]["pointer"] == where


@pytest.mark.parametrize("length", [255, 256])
async def test_a_key_has_up_to_255_characters(
    api: httpx2.AsyncClient, book: Book, event: EventView, length: int
) -> None:
    """In the header of a booking and of what follows, bare or quoted, and in the query of a list."""
    key = "k" * length
    hold = (await book(event, payment=...)).json()["id"]
    sold = {"method": "card", "token": "tok_ok"}
    for written in (key, f'"{key}"'):
        for path, body in (("/v1/bookings", booking_of(event)), (f"/v1/bookings/{hold}/payment", sold)):
            answer = await api.post(path, json=body, headers={"Idempotency-Key": written})
            if length == 255:
                assert answer.status_code == 202
            else:
                problem = assert_problem(answer, 400, "malformed-request")
                assert problem["errors"] == [{"header": "Idempotency-Key", "code": "too_long"}]
    found = await api.get("/v1/bookings", params={"event_id": event.id, "idempotency_key": key})
    assert found.status_code == (200 if length == 255 else 400)
    if length == 255:
        assert len(found.json()["data"]) == 1


# ------------------------------------------------------------------ what follows a booking


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"reason": "x" * 200}, None, None),
        ({"reason": "x" * 201}, "/reason", "too_long"),
        ({"quantity": 10}, None, None),
        ({"quantity": 11}, "/items/0/quantity", "out_of_range"),
        ({"quantity": 0}, "/items/0/quantity", "out_of_range"),
        ({"count": 10}, None, None),
        ({"count": 11}, "/items", "too_many"),
        ({"tier_id": "x" * 64}, "/items", "unknown_tier"),
        ({"tier_id": "x" * 65}, "/items/0/tier_id", "too_long"),
    ],
)
async def test_a_refund_has_the_bounds_of_a_booking(
    api: httpx2.AsyncClient, book: Book, office: BoxOffice, event: EventView, body: dict[str, Any], pointer: str | None,
    code: str | None,
) -> None:  # fmt: skip
    booked = [{"tier_id": tier.id, "quantity": 10} for tier in event.tiers[:10]]
    booking = (await book(event, items=booked)).json()["id"]
    await settle_all(office)
    tiers = event.tiers[: body.get("count", 1)]
    wanted = [{"tier_id": body.get("tier_id", tier.id), "quantity": body.get("quantity", 1)} for tier in tiers]
    answer = await api.post(
        f"/v1/bookings/{booking}/refunds", json={"items": wanted, "reason": body.get("reason", "x")},
        headers={"Idempotency-Key": "k"},
    )  # fmt: skip
    if code:
        problem = assert_problem(answer, 400, "malformed-request")
        assert problem["errors"] == [{"pointer": pointer, "code": code}]
    else:
        cents = sum(tier.price_cents for tier in tiers) * body.get("quantity", 1)
        assert (answer.status_code, answer.json()["amount_cents"]) == (201, cents)


@pytest.mark.parametrize(("extra_s", "good"), [(0, False), (1, True), (600, True), (601, False)])
async def test_an_extension_is_a_second_or_more_and_no_longer_than_a_hold(
    api: httpx2.AsyncClient, book: Book, event: EventView, extra_s: int, good: bool
) -> None:
    hold = (await book(event, payment=...)).json()
    answer = await api.post(f"/v1/bookings/{hold['id']}/extend", json={"extra_s": extra_s})
    if good:
        assert lasts_s(answer.json()) == lasts_s(hold) + extra_s
    else:
        problem = assert_problem(answer, 400, "malformed-request")
        assert problem["errors"] == [{"pointer": "/extra_s", "code": "out_of_range"}]


# ------------------------------------------------------------------ lists


@pytest.mark.parametrize("path", ["/v1/bookings", "/v1/events"])
@pytest.mark.parametrize(("limit", "good"), [(0, False), (1, True), (100, True), (101, False)])
async def test_a_page_has_one_to_a_hundred(
    api: httpx2.AsyncClient, event: EventView, path: str, limit: int, good: bool
) -> None:
    answer = await api.get(path, params={"limit": limit})
    assert answer.status_code == (200 if good else 400)
    assert good or answer.json()["errors"][0]["parameter"] == "limit"


async def test_a_page_that_is_just_full_is_the_last(
    api: httpx2.AsyncClient, book: Book, office: BoxOffice, open_sale: SaleMaker
) -> None:
    """No page follows that has nothing on it; of bookings and of events alike."""
    for _ in range(3):
        await book(await open_sale(GA=5))
    await settle_all(office)
    for path in ("/v1/bookings", "/v1/events"):
        for limit, pages in ((1, [1, 1, 1]), (2, [2, 1]), (3, [3]), (4, [3])):
            sizes, cursor = [], ""
            while cursor is not None:
                page = (await api.get(path, params={"limit": limit} | ({"cursor": cursor} if cursor else {}))).json()
                sizes.append(len(page["data"]))
                cursor = page["next_cursor"]
            assert sizes == pages, (path, limit)


@pytest.mark.parametrize("parameter", ["customer_id", "event_id", "reference"])
async def test_a_parameter_has_1_to_255_characters(api: httpx2.AsyncClient, parameter: str) -> None:
    for length, status in ((0, 400), (1, 200), (255, 200), (256, 400)):
        answer = await api.get("/v1/bookings", params={parameter: "x" * length})
        assert answer.status_code == status
        if status == 400:
            assert answer.json()["errors"] == [{"parameter": parameter, "code": "length"}]


# ------------------------------------------------------------------ bytes


def booking_bytes(event: EventView, size: int, key: str, head: int = 0, chunked: bool = False) -> bytes:
    """A booking whose body has so many bytes, and whose head, with its empty line, has (0: any)."""
    body = json.dumps(booking_of(event)).encode()
    body += b" " * (size - len(body))
    lines = [
        "POST /v1/bookings HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}", "Content-Type: application/json",
        f"Idempotency-Key: {key}", "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}",
    ]  # fmt: skip
    if head:
        lines.append("X-Pad: " + "x" * (head - len("\r\n".join([*lines, "X-Pad: ", "", ""]))))
    whole = "\r\n".join([*lines, "", ""]).encode()
    return whole + (b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body)


@pytest.mark.parametrize("settings", ["lane"], indirect=True)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("warm", [0, 8], ids=["cold", "warm"])
async def test_a_body_may_have_as_many_bytes_as_it_may(
    settings: Settings, office: BoxOffice, event: EventView, monkeypatch: pytest.MonkeyPatch, way: str, warm: int
) -> None:
    """One more, and it is refused: announced or in chunks, and on a connection whose heads are known."""
    monkeypatch.setattr(shape, "is_worth_it", lambda _: True)
    most = settings.limits.body_max_bytes
    door = Door(way, settings, office)
    for number, (size, chunked, status) in enumerate(
        ((most, False, 202), (most + 1, False, 400), (most, True, 202), (most + 1, True, 400))
    ):
        wire = door.connect()
        for n in range(warm):
            await wire.send(booking_bytes(event, 300, f"warm-{number}-{n}")).quiet()
        answers = (await wire.send(booking_bytes(event, size, f"key-{number}", chunked=chunked)).quiet()).answers()
        assert answers[-1].status == status
        assert len(answers) == warm + 1
        assert status == 202 or json.loads(answers[-1].body)["errors"] == [{"pointer": "", "code": "body_too_large"}]


@pytest.mark.parametrize("settings", ["lane"], indirect=True)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "in pieces"])
async def test_a_head_may_have_as_many_bytes_as_it_may(
    settings: Settings, office: BoxOffice, event: EventView, way: str, cut: bool
) -> None:
    most = settings.limits.head_max_bytes
    door = Door(way, settings, office)
    for head, status in ((most, 202), (most + 1, 431)):
        request = booking_bytes(event, 300, f"key-{head}", head)
        assert request.index(b"\r\n\r\n") + 4 == head
        pieces = [request[at : at + 1_000] for at in range(0, len(request), 1_000)] if cut else [request]
        answers = await door.answers(*pieces)
        assert [answer.status for answer in answers] == [status]


@pytest.mark.parametrize("settings", ["lane"], indirect=True)
@pytest.mark.parametrize("way", WAYS)
async def test_a_webhook_may_have_as_many_bytes_as_it_may(settings: Settings, office: BoxOffice, way: str) -> None:
    """It is read to its end, and then its signature is missed."""
    door = Door(way, settings, office)
    for size, said in ((WEBHOOK_MAX, "webhook-refused"), (WEBHOOK_MAX + 1, "body_too_large")):
        head = f"POST /v1/webhooks/simulator HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
        (answer,) = await door.answers(head + b"x" * size)
        assert (answer.status, said in answer.body.decode()) == (400, True), answer.body
