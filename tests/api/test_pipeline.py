"""The checks that a booking goes through, one by one. That the lane and ASGI answer alike: tests/api/transport/test_fuzz.py."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api import pipeline
from api.headers import Headers
from api.pipeline import CHECKS, NeedsWait, Prepared, Refusal, passed, prepare
from boxoffice.access.store import Grant
from boxoffice.errors import Forbidden, Malformed, NotFound, StoreAway, Unauthorized
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from tests.api.conftest import booking_of
from tests.conftest import CLIENT, KEY, SaleMaker

BEARER = f"Bearer {KEY}".encode()


@pytest.fixture
async def event(open_sale: SaleMaker, office: BoxOffice) -> EventView:
    event = await open_sale(GA=50)
    await office.catalogue.event(event.id)
    return event


def headers(**changed: Any) -> Headers:
    usual: dict[str, Any] = dict(
        authorization=BEARER,
        content_type=b"application/json",
        idempotency_keys=[b"k"],
        origin=None,
        content_encoding=None,
    )
    return Headers(**{**usual, **changed})


def body(event: EventView, **changed: Any) -> bytes:
    return json.dumps({**booking_of(event, 1), **changed}).encode()


def nobodys_tier() -> dict[str, Any]:
    return {"items": [{"tier_id": "nobodysknown", "quantity": 1}]}


async def test_a_booking_of_somebody_known_waits_for_nothing(office: BoxOffice, event: EventView) -> None:
    await office.catalogue.api_keys.caller_of(KEY)
    step = prepare(office, headers(), body(event))
    assert isinstance(step, Prepared)
    assert (step.client, step.order.customer_id) == (CLIENT, booking_of(event, 1)["customer_id"])
    assert step.order.lines == ((event.tiers[0].id, 1),)
    assert step.key_digest == pipeline.parse_idempotency_key([b"k"])


async def test_who_is_not_known_is_looked_up_and_goes_on(office: BoxOffice, event: EventView) -> None:
    """From the check behind, once."""
    step = prepare(office, headers(), body(event))
    assert isinstance(step, NeedsWait) and CHECKS[step.next_check - 1] is pipeline.permitted
    found = await passed(step)
    assert isinstance(found, Prepared)
    assert found == prepare(office, headers(), body(event)), "now it is known"


@pytest.mark.parametrize("known", [False, True])
async def test_a_key_without_the_scope_books_nothing(office: BoxOffice, event: EventView, known: bool) -> None:
    """Neither with its first request, which waits for a look at the key, nor with its next; and its client is named."""
    key = await office.access.create_api_key(CLIENT, Grant(("read",)))
    if known:
        await office.catalogue.api_keys.caller_of(key)
    step = prepare(office, headers(authorization=f"Bearer {key}".encode()), body(event))
    assert isinstance(step, NeedsWait) is not known
    refusal = await passed(step)
    assert isinstance(refusal, Refusal) and (type(refusal.error), refusal.client) == (Forbidden, CLIENT)


async def test_a_tier_that_is_not_in_the_map_is_looked_for(office: BoxOffice, event: EventView) -> None:
    """And the client behind it is named."""
    await office.catalogue.api_keys.caller_of(KEY)
    step = prepare(office, headers(), body(event, **nobodys_tier()))
    assert isinstance(step, NeedsWait) and CHECKS[step.next_check - 1] is pipeline.known_tiers
    refusal = await passed(step)
    assert isinstance(refusal, Refusal)
    assert (type(refusal.error), refusal.client) == (NotFound, CLIENT)


async def test_one_may_wait_for_several_checks(office: BoxOffice, event: EventView) -> None:
    step = prepare(office, headers(), body(event, **nobodys_tier()))
    assert isinstance(step, NeedsWait) and step.next_check == 1
    refusal = await passed(step)
    assert isinstance(refusal, Refusal) and (type(refusal.error), refusal.client) == (NotFound, CLIENT)


@pytest.mark.parametrize("authorization", [None, b"Basic x", b"Bearer nobody.knows"])
async def test_nobodys_booking_is_refused_without_a_name(
    office: BoxOffice, event: EventView, authorization: bytes | None
) -> None:
    """Before anything else of it is looked at."""
    step = prepare(office, headers(authorization=authorization, content_type=b"text/plain"), b"no JSON")
    refusal = await passed(step)
    assert isinstance(refusal, Refusal)
    assert (type(refusal.error), refusal.client) == (Unauthorized, "")
    assert isinstance(step, NeedsWait) is (authorization == b"Bearer nobody.knows"), "nothing is asked for no key"


async def test_a_store_that_is_away_is_a_refusal(
    office: BoxOffice, event: EventView, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: str) -> str:
        raise StoreAway

    monkeypatch.setattr(office.catalogue.api_keys, "caller_of", away)
    step = prepare(office, headers(), body(event))
    assert isinstance(step, NeedsWait)
    refusal = await passed(step)
    assert isinstance(refusal, Refusal) and (type(refusal.error), refusal.client) == (StoreAway, "")


@pytest.mark.parametrize(
    ("changed", "long", "code"),
    [
        ({"content_type": b"text/plain", "idempotency_keys": []}, True, "content_type"),
        ({"content_encoding": b"gzip", "idempotency_keys": []}, True, "content_encoding"),
        ({"idempotency_keys": []}, True, "missing"),
        ({}, True, "body_too_large"),
        ({}, False, "not_json"),
    ],
)
async def test_what_is_wrong_is_said_in_one_order(
    office: BoxOffice, event: EventView, changed: dict[str, Any], long: bool, code: str
) -> None:
    """Headers first, then the length of the body, then what is in it."""
    await office.catalogue.api_keys.caller_of(KEY)
    most = office.settings.limits.body_max_bytes
    refusal = prepare(office, headers(**changed), b"{" * (most + 1 if long else most))
    assert isinstance(refusal, Refusal) and isinstance(refusal.error, Malformed)
    assert (refusal.error.code, refusal.client) == (code, CLIENT)
