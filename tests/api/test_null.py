"""Null is as good as absent, in every optional member of every body: many client libraries write each field they know."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from api import schemas
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from tests.api.conftest import booking_of
from tests.api.transport.test_server import Serving, answer_of, connect, request_of, serving
from tests.conftest import SaleMaker

__all__ = ["serving"]

CARD = {"method": "card", "card_name": "Ada", "card_number": "4242424242424242"}
NULLS: dict[str, Any] = {
    "reference": None,
    "hold_s": None,
    "expected_amount_cents": None,
    "access_code": None,
    "return_url": None,
    "metadata": None,
}

PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # name: a body without optional members, the same with each null
    "paid by number": ({"payment": CARD}, NULLS | {"payment": CARD | {"token": None}}),
    "paid by token": (
        {"payment": {"method": "card", "token": "tok_ok"}},
        NULLS | {"payment": {"method": "card", "token": "tok_ok", "card_name": None, "card_number": None}},
    ),
    "held": ({"payment": ...}, NULLS | {"payment": None}),
}


def test_every_optional_member_is_tried() -> None:
    """Those of a booking and of its payment, as they are documented."""
    optional = {
        name
        for model in (schemas.BookingRequest, schemas.PaymentRequest)
        for name, field in model.model_fields.items()
        if not field.is_required()
    }
    nulls = {
        name
        for _, body in PAIRS.values()
        for name, value in {**body, **(body["payment"] or {})}.items()
        if value is None
    }

    assert optional <= nulls


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=20)


@pytest.mark.parametrize("name", PAIRS)
async def test_a_booking_with_nulls_repeats_the_one_without(
    api: httpx2.AsyncClient, event: EventView, name: str
) -> None:
    """Either way round: the same fingerprint."""
    for number, bodies in enumerate((PAIRS[name], PAIRS[name][::-1])):
        headers = {"Idempotency-Key": f"k{number}"}
        answers = [await api.post("/v1/bookings", json=booking_of(event, **body), headers=headers) for body in bodies]

        assert answers[0].status_code == answers[1].status_code == (201 if name == "held" else 202), answers[1].text
        assert answers[0].json()["id"] == answers[1].json()["id"]
        assert answers[1].headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("settings", ["lane"], indirect=True)
async def test_it_is_so_in_the_lane(serving: Serving, event: EventView, office: BoxOffice) -> None:
    """Before and after a connection's head has been taken for a shape."""
    reader, writer = await connect(serving)
    for turn in range(3):
        for name, bodies in PAIRS.items():
            ids = set()
            for body in bodies:
                sent = json.dumps(booking_of(event, **body)).encode()
                writer.write(request_of(sent, f"{name}-{turn}"))
                status, _, booking = await answer_of(reader)
                assert status == (201 if name == "held" else 202), booking
                ids.add(booking["id"])
            assert len(ids) == 1
    writer.close()


async def test_nulls_in_what_follows(api: httpx2.AsyncClient, event: EventView) -> None:
    """To pay, to extend, to refund."""
    held = await api.post("/v1/bookings", json=booking_of(event, payment=None), headers={"Idempotency-Key": "h"})
    path = f"/v1/bookings/{held.json()['id']}"
    assert (await api.post(f"{path}/extend", json={"extra_s": 5})).status_code == 200
    for body in (CARD, CARD | {"token": None}):
        paid = await api.post(f"{path}/payment", json=body, headers={"Idempotency-Key": "p"})
        assert paid.status_code == 202, paid.text
    assert paid.headers["idempotency-replayed"] == "true"
