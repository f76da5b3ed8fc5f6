"""What settlement asks the gateway for a payment, and how it reads what it finds there."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice.gateway.base import (
    Authorized,
    AuthorizeRequest,
    Declined,
    Found,
    NotFound,
    RequiresAction,
    Unknown,
)
from boxoffice.settlement import draining
from tests.support.shop.office import Till


@pytest.mark.parametrize(
    ("status", "means"),
    [
        ("authorized", Authorized("r", 500, "EUR")),
        ("captured", Authorized("r", 500, "EUR")),
        ("declined", Declined("lost_card", "r")),
        ("requires_action", RequiresAction("https://bank", "r")),
        ("voided", Declined("lost_card", "r")),
        ("processing", Unknown("processing")),
    ],
)
def test_what_is_found_in_the_words_of_an_authorisation(status: Any, means: Any) -> None:
    """The amount is what was set aside, taken or not."""
    found = Found(status, "r", 500, "EUR", 400, 300, "lost_card", "https://bank")
    assert draining._authorization(found) == means


@pytest.mark.parametrize(("status", "code"), [("declined", "declined"), ("voided", "voided")])
def test_a_reason_that_nobody_told(status: Any, code: str) -> None:
    assert draining._authorization(Found(status, "r", 500, "EUR")) == Declined(code, "r")


class Calls:
    """Which payments are asked for and looked up from now on."""

    def __init__(self, till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
        self.authorized: list[AuthorizeRequest] = []
        self.looked_up: list[tuple[str, str | None]] = []
        authorize, lookup = till.gateway.authorize_batch, till.gateway.lookup

        async def authorize_batch(requests: list[AuthorizeRequest]) -> Any:
            self.authorized += requests
            return await authorize(requests)

        async def lookup_(payment_key: str, reference: str | None = None, since_ms: int | None = None) -> Any:
            self.looked_up.append((payment_key, reference))
            return await lookup(payment_key, reference, since_ms)

        monkeypatch.setattr(till.gateway, "authorize_batch", authorize_batch)
        monkeypatch.setattr(till.gateway, "lookup", lookup_)


async def test_an_unknown_payment_is_asked_for_again_and_one_at_the_bank_is_looked_up(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same request with the same key is the best look-up there is; what waits for its customer is only read."""
    waits = await till.book("tok_3ds", GA=1)
    unknown = await till.book("tok_error", GA=1)
    await till.drain()
    assert await till.payments(waits) + await till.payments(unknown) == ["requires_action/-", "unknown/-"]
    keys = {booking: (await till.record(booking)).payment_key for booking in (waits, unknown)}  # type: ignore[union-attr]
    calls = Calls(till, monkeypatch)
    for booking in (waits, unknown):
        await till.claimable(booking)
    await till.drain()

    assert [(each.payment_key, each.booking_id) for each in calls.authorized] == [(keys[unknown], unknown)]
    assert calls.looked_up == [(keys[waits], f"sim_{keys[waits][:20]}")]
    await till.customer_acts(waits)
    await till.look_again(waits)
    await till.at_rest(waits, unknown)


async def test_what_is_asked_for_is_what_was_booked(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(till, monkeypatch)
    booking = await till.book("tok_card_declined", GA=2, VIP=1)
    record = await till.record(booking)
    assert record is not None
    await till.drain()
    assert calls.authorized == [
        AuthorizeRequest(record.payment_key, booking, 4_000, "USD", "card", "tok_card_declined_0002")
    ]


@pytest.mark.parametrize("answer", [Unknown("timeout"), NotFound()])
async def test_a_payment_at_the_bank_that_cannot_be_read_waits_on(
    till: Till, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    """Its customer is still sent where it was sent, and it is found under the same reference."""
    booking = await till.book("tok_3ds", GA=1)
    await till.drain()
    before = [tuple(row) for row in await till.fetch("SELECT status, reference, next_action, due FROM payments")]

    async def silent(*_: object) -> Any:
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(till.gateway, "lookup", silent)
        await till.look_again(booking)
    assert [
        tuple(row) for row in await till.fetch("SELECT status, reference, next_action, due FROM payments")
    ] == before
    record = await till.record(booking)
    assert record is not None and record.payload.outcome is not None
    assert (record.payload.outcome.reference, record.payload.outcome.next_action) == before[0][1:3]
    await till.customer_acts(booking)
    await till.look_again(booking)
    await till.at_rest(booking)
    assert await till.state(booking) == "C confirmed"
