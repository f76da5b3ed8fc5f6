"""What Stripe's objects mean in our words: statuses, amounts, codes. Pure."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from boxoffice.gateway.base import (
    AlreadyCaptured,
    Authorized,
    Declined,
    Done,
    Found,
    Refused,
    RequiresAction,
    Unknown,
)
from boxoffice.gateway.stripe import answers as answers

BANK = {"type": "redirect_to_url", "redirect_to_url": {"url": "https://bank"}}


def intent(status: str, **changes: Any) -> stripe.PaymentIntent:
    """A PaymentIntent of 50.00, of which 40.00 can be captured or 30.00 were, and 10.00 went back."""
    values = {
        "id": "pi_1", "object": "payment_intent", "status": status, "amount": 5_000, "amount_capturable": 4_000,
        "amount_received": 3_000, "currency": "usd", "latest_charge": None, "last_payment_error": None,
        "next_action": None, "metadata": {},
    } | changes  # fmt: skip
    return stripe.PaymentIntent.construct_from(values, "sk_test")


@pytest.mark.parametrize(
    ("status", "changes", "means"),
    [
        ("requires_capture", {}, Authorized("pi_1", 4_000, "USD")),
        ("succeeded", {}, Authorized("pi_1", 5_000, "USD")),
        ("requires_capture", {"currency": "isk", "amount_capturable": 500}, Authorized("pi_1", 5, "ISK")),
        ("requires_action", {"next_action": BANK}, RequiresAction("https://bank", "pi_1")),
        ("requires_action", {}, RequiresAction("", "pi_1")),
        ("requires_payment_method", {}, Declined("card_declined", "pi_1")),
        (
            "requires_payment_method",
            {"last_payment_error": {"code": "card_declined", "decline_code": "lost_card"}},
            Declined("lost_card", "pi_1"),
        ),
        (
            "requires_payment_method",
            {"last_payment_error": {"code": "expired_card", "decline_code": None}},
            Declined("expired_card", "pi_1"),
        ),
        (
            "requires_payment_method",
            {"last_payment_error": {"code": "payment_intent_authentication_failure", "decline_code": None}},
            Declined("authentication_failed", "pi_1"),
        ),
        ("canceled", {}, Declined("voided", "pi_1")),
        ("processing", {}, Unknown("processing")),
        ("requires_confirmation", {}, Unknown("requires_confirmation")),
        ("something_new", {}, Unknown("something_new")),
    ],
)
def test_how_an_authorisation_stands(status: str, changes: dict[str, Any], means: Any) -> None:
    assert answers.authorization_of(intent(status, **changes)) == means


@pytest.mark.parametrize(
    ("status", "ours"),
    [
        ("requires_payment_method", "declined"),
        ("requires_action", "requires_action"),
        ("requires_capture", "authorized"),
        ("succeeded", "captured"),
        ("canceled", "voided"),
        ("processing", "processing"),
        ("requires_confirmation", "processing"),
        ("something_new", "processing"),
    ],
)
@pytest.mark.parametrize("expanded", [True, False])
def test_how_a_payment_is_found(status: str, ours: Any, expanded: bool) -> None:
    """With what was set aside, taken and given back, each its own number."""
    charge = {"id": "ch_1", "object": "charge", "amount_refunded": 1_000} if expanded else "ch_1"
    found = answers.found_of(intent(status, latest_charge=charge, next_action=BANK))
    failure = {"canceled": "voided"}.get(status)
    action = "https://bank" if status == "requires_action" else None
    assert found == Found(ours, "pi_1", 5_000, "USD", 3_000, 1_000 if expanded else 0, failure, action)


@pytest.mark.parametrize(
    ("status", "means"),
    [
        ("canceled", Done("pi_1")),
        ("succeeded", AlreadyCaptured(3_000)),
        ("requires_capture", Unknown("requires_capture")),
        ("processing", Unknown("processing")),
    ],
)
def test_whether_money_is_let_go(status: str, means: Any) -> None:
    assert answers.voided_of(intent(status)) == means


@pytest.mark.parametrize(
    ("status", "amount", "means"),
    [
        ("succeeded", 3_000, Done("pi_1")),
        ("succeeded", 2_999, Refused("already_captured")),
        ("succeeded", 5_000, Refused("already_captured")),
        ("requires_capture", 3_000, Unknown("requires_capture")),
        ("canceled", 3_000, Unknown("canceled")),
    ],
)
def test_whether_this_much_is_captured(status: str, amount: int, means: Any) -> None:
    assert answers.captured_of(intent(status), amount) == means


@pytest.mark.parametrize(("status", "own"), [(500, True), (503, True), (499, False), (400, False), (None, False)])
def test_whose_error_it_is(status: int | None, own: bool) -> None:
    """Of Stripe's own one cannot say whether what was asked for was done."""
    error = stripe.APIError("", http_status=status)  # type: ignore[no-untyped-call]
    assert answers.is_server_error(error) is own


def test_keys_that_are_spent_are_counted() -> None:
    assert [answers.numbered("key:cap", number) for number in range(3)] == ["key:cap", "key:cap:1", "key:cap:2"]
