"""Metadata of a booking goes with it, by every way in and out: admitted, settled, forgotten by Redis, repeated."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from tests.api.conftest import Book, assert_problem, booking_of
from tests.conftest import KEY, settle_all
from tests.support.wire import Door

WORDS = {"seat_map": "https://shop.example/?a=1&b=2", "Größe": '"L" \\ %s', "a": "1"}


async def test_it_is_shown_wherever_the_booking_is(
    api: httpx2.AsyncClient, event: EventView, book: Book, office: BoxOffice
) -> None:
    """In a batch with bookings that have none; from Redis and from PostgreSQL in the same order."""
    answers = {
        kind: (await book(event, metadata=words, **more)).json()
        for kind, words, more in (
            ("paid", WORDS, {}), ("plain", None, {}), ("empty", {}, {}), ("held", WORDS, {"payment": ...}),
            ("referred", WORDS, {"reference": "r-1"}), ("other", {"b": "2"}, {}),
        )
    }  # fmt: skip
    expected = {"paid": WORDS, "plain": {}, "empty": {}, "held": WORDS, "referred": WORDS, "other": {"b": "2"}}
    for forgotten in (False, True):
        if forgotten:
            await settle_all(office)
            held = answers.pop("held")
            pay = {"method": "card", "token": "tok_card_declined"}
            await api.post(f"/v1/bookings/{held['id']}/payment", json=pay, headers={"Idempotency-Key": "p"})
            await settle_all(office)
            listed = (await api.get("/v1/bookings", params={"status": "held"})).json()["data"]
            assert [each["metadata"] for each in listed] == [WORDS]
            await office.redis.flushall()
        for kind, answer in answers.items():
            assert answer["metadata"] == expected[kind], kind
            read = (await api.get(f"/v1/bookings/{answer['id']}")).json()
            assert read["metadata"] == expected[kind] and [*read["metadata"]] == sorted(expected[kind]), kind
            assert read["reference"] == answer["reference"]
    listed = (await api.get("/v1/bookings")).json()["data"]
    assert {each["id"]: each["metadata"] for each in listed}.items() >= {
        answer["id"]: expected[kind] for kind, answer in answers.items()
    }.items()


def post(body: dict[str, Any], key: str) -> bytes:
    raw = json.dumps(body).encode()
    head = (
        f"POST /v1/bookings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
        f"Idempotency-Key: {key}\r\nContent-Length: {len(raw)}\r\n\r\n"
    )
    return head.encode() + raw


@pytest.mark.wire
async def test_a_repeat_has_the_same_words(door: Door, event: EventView) -> None:
    """In any order, by the short cut as by every other way. Other words, or none, are another request."""
    wire = door.connect()
    for n in range(3):
        await wire.send(post(booking_of(event), f"warm-{n}")).quiet()

    async def ask(metadata: Any, key: str = "k") -> tuple[int, Any]:
        before = len(wire.answers())
        (answer,) = (await wire.send(post(booking_of(event, metadata=metadata), key)).quiet()).answers()[before:]
        return answer.status, json.loads(answer.body)

    status, first = await ask(WORDS)
    assert (status, first["metadata"]) == (202, WORDS)
    status, again = await ask(dict(reversed(WORDS.items())))
    assert (status, again["id"], again["metadata"]) == (202, first["id"], WORDS)
    for other in (WORDS | {"a": "2"}, {"a": "1"}, {}, None):
        assert (await ask(other))[0] == 422, other
    status, plain = await ask(None, "k2")
    assert (status, plain["metadata"]) == (202, {})
    for same in ({}, None):
        assert (await ask(same, "k2"))[1]["id"] == plain["id"]
    for bad, pointer, code in (
        ({"a": 1}, "/metadata", "wrong_type"), ([], "/metadata", "wrong_type"), ({"a": None}, "/metadata", "wrong_type"),
        ({"a": ""}, "/metadata/a", "empty"), ({"a": "4242424242424242"}, "/metadata/a", "card_data"),
    ):  # fmt: skip
        status, problem = await ask(bad, "k3")
        assert (status, problem["errors"]) == (
            422 if code == "card_data" else 400,
            [{"pointer": pointer, "code": code}],
        )


async def test_a_name_that_is_there_twice_is_refused(api: httpx2.AsyncClient, event: EventView) -> None:
    """Also where texts have colons that hide it."""
    good = json.dumps(booking_of(event))[:-1]
    for words in ('{"a": "1", "a": "2"}', '{"a": "x:y", "a": "2", "b": "1"}', '{"a": "1", "\\u0061": "1"}'):
        body = f'{good}, "metadata": {words}}}'
        answer = await api.post(
            "/v1/bookings", content=body, headers={"Content-Type": "application/json", "Idempotency-Key": "t"}
        )
        assert assert_problem(answer, 400, "malformed-request")["errors"][0]["code"] == "duplicate_member", words
