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


METHOD = {"id": "pm_1", "object": "payment_method", "card": {"fingerprint": "Fp1"}}


@pytest.mark.parametrize(
    ("card", "name"),
    [
        (None, ""),
        ({}, ""),
        ({"fingerprint": None}, ""),
        ({"fingerprint": "Fp1"}, "Fp1"),
        ({"fingerprint": 80 * "F"}, 64 * "F"),
    ],
)
def test_what_a_card_is_called(card: Any, name: str) -> None:
    """Of a method that has one, or that is known by its id alone."""
    method = stripe.PaymentMethod.construct_from(METHOD | {"card": card}, "sk_test")
    assert answers.fingerprint_of(method) == name
    failed = intent(
        "requires_payment_method",
        last_payment_error={"code": "x", "decline_code": None, "payment_method": METHOD | {"card": card}},
    )
    assert answers.found_of(failed).card == name
    assert answers.fingerprint_of("pm_1") == answers.fingerprint_of(None) == ""


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
        (
            "requires_payment_method",
            {"last_payment_error": {"code": "card_declined", "decline_code": "lost_card", "payment_method": METHOD}},
            Declined("lost_card", "pi_1", "Fp1"),
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


def error_of(kind: type[stripe.StripeError], status: int | None = None, code: str | None = None, param: str | None = None,
             message: str = "", *, headers: dict[str, str] | None = None, said: Any = None) -> Any:  # fmt: skip
    """What the package raises for such an answer."""
    body = {"error": {"type": "x", "code": code, "param": param, "message": message} | (said or {})}
    if kind in (stripe.CardError, stripe.InvalidRequestError):
        return kind(message, param, code=code, http_status=status, json_body=body, headers=headers)  # type: ignore[call-arg]
    return kind(message, code=code, http_status=status, json_body=body, headers=headers)  # type: ignore[no-untyped-call]


INVALID, PERMISSION = stripe.InvalidRequestError, stripe.PermissionError


@pytest.mark.parametrize(
    ("error", "ours", "amount"),
    [
        (error_of(stripe.AuthenticationError, 401), "invalid_api_key", ""),
        (error_of(PERMISSION, 403), "permission", ""),
        (error_of(PERMISSION, 403, "account_not_activated"), "account_not_activated", ""),
        (error_of(INVALID, 400, "x", message="A Similar object exists in test mode"), "livemode_mismatch", ""),
        (error_of(INVALID, 404, "x", message="a similar object exists in live mode"), "livemode_mismatch", ""),
        (error_of(INVALID, 400), "invalid_request", ""),
        (error_of(INVALID, 400, "parameter_unknown"), "parameter_unknown", ""),
        (error_of(INVALID, 404, "parameter_unknown"), "", ""),
        (error_of(INVALID, 402, "parameter_unknown"), "", ""),
        (error_of(INVALID, 400, "amount_too_small"), "", "amount_too_small"),
        (error_of(INVALID, 400, "amount_too_large"), "", "amount_too_large"),
        (error_of(INVALID, 400, "invalid_charge_amount"), "", "invalid_charge_amount"),
        (
            error_of(INVALID, 400, "invalid_charge_amount_no_decimal_compatible"),
            "",
            "invalid_charge_amount_no_decimal_compatible",
        ),
        (error_of(INVALID, 400, "parameter_invalid_integer", "amount"), "", "parameter_invalid_integer"),
        (error_of(INVALID, 400, None, "amount"), "", "invalid_amount"),
        (error_of(INVALID, 400, "whatever", "currency"), "", "currency_not_supported"),
        (error_of(INVALID, 400, "whatever", "payment_method"), "", ""),
        (error_of(INVALID, 400, "whatever", "payment_method_data[card]"), "", ""),
        (error_of(INVALID, 400, "whatever", "customer"), "whatever", ""),
        (error_of(INVALID, 400, "payment_method_unactivated", "payment_method"), "payment_method_unactivated", ""),
        (error_of(INVALID, 400, "payment_method_types_unactivated"), "payment_method_types_unactivated", ""),
        (error_of(INVALID, 400, "livemode_mismatch"), "livemode_mismatch", ""),
        *(
            (error_of(INVALID, 400, code), "", "")
            for code in (
                "payment_method_x",
                "card_x",
                "incorrect_x",
                "expired_x",
                "invalid_number",
                "invalid_cvc",
                "invalid_expiry_month",
                "token_x",
                "payment_intent_incompatible_payment_method",
                "payment_intent_payment_attempt_failed",
                "payment_intent_unexpected_state",
                "payment_intent_authentication_failure",
                "setup_x",
                "authentication_required",
                "resource_already_exists",
                "processing_error",
            )
        ),
        (error_of(stripe.CardError, 402, "card_declined"), "", ""),
        (error_of(stripe.CardError, 402, "amount_too_small", "amount"), "", ""),
        (error_of(stripe.APIError, 500), "", ""),
        (error_of(stripe.RateLimitError, 429, "rate_limit"), "", ""),
    ],
    ids=lambda value: (
        f"{type(value).__name__} {value.http_status} {value.code}" if isinstance(value, Exception) else ""
    ),
)
def test_whether_a_refusal_is_about_us_the_amount_or_the_card(error: Any, ours: str, amount: str) -> None:
    """About us it is waited for; an amount never passes; of the card it is a decline."""
    assert answers.misconfigured_code(error) == ours
    assert answers.unchargeable_code(error) == amount
    assert answers.unknown_of(error) == Unknown(f"status {error.http_status}", ours)


def test_who_was_not_reached_said_nothing_of_us() -> None:
    assert answers.unknown_of(stripe.APIConnectionError("hunter2")) == Unknown("unreachable")  # type: ignore[no-untyped-call]
    assert {"invalid_api_key", "account_not_activated"} == answers.OF_ALL


@pytest.mark.parametrize(
    ("headers", "again"),
    [
        (None, False),
        ({}, False),
        ({"Idempotent-Replayed": "true"}, True),
        ({"idempotent-replayed": "x"}, True),
        ({"a": "b"}, False),
    ],
)
@pytest.mark.parametrize(
    ("kind", "status", "nothing_when_new", "refuses"),
    [
        (stripe.CardError, 402, False, True),
        (INVALID, 400, False, True),
        (stripe.IdempotencyError, 400, True, False),
        (stripe.APIError, 500, False, False),
        (stripe.APIError, 409, False, False),
        (stripe.IdempotencyError, 409, False, False),
        (stripe.RateLimitError, 429, False, False),
        (stripe.AuthenticationError, 401, False, False),
    ],
)
def test_what_an_old_error_says(
    headers: Any, again: bool, kind: Any, status: int, nothing_when_new: bool, refuses: bool
) -> None:
    """A repeated one says nothing of now, unless the first request is still at work; a refusal did nothing."""
    error = error_of(kind, status, headers=headers)
    assert answers.replayed(error.headers) is again
    assert answers.leaves_unknown(error) is ((again or nothing_when_new) and status != 409)
    assert answers.did_nothing(error) is refuses
    assert isinstance(error, answers.REFUSALS) is (refuses or kind is stripe.IdempotencyError)


@pytest.mark.parametrize(
    ("code", "decline_code", "means"),
    [
        ("card_declined", "lost_card", "lost_card"),
        ("card_declined", "generic_decline", "card_declined"),
        ("expired_card", None, "expired_card"),
        (None, None, "invalid_request"),
        ("payment_intent_authentication_failure", None, "authentication_failed"),
        ("charge_expired_for_capture", None, "authorization_expired"),
    ],
)
@pytest.mark.parametrize("reference", ["pi_9", None])
def test_why_a_card_was_declined(code: str | None, decline_code: str | None, means: str, reference: str | None) -> None:
    """The bank's reason where there is one, with the payment it belongs to."""
    said: dict[str, Any] = {"decline_code": decline_code}
    if reference:
        said["payment_intent"] = {"id": reference, "object": "payment_intent"}
    error = error_of(stripe.CardError, 402, code, said=said)
    assert answers.code_of(error) == means
    assert answers.declined_of(error) == Declined(means, reference)
    said["payment_method"] = METHOD
    assert answers.declined_of(error_of(stripe.CardError, 402, code, said=said)).card == "Fp1"
    if reference:
        said["payment_intent"]["last_payment_error"] = {"payment_method": METHOD}
        del said["payment_method"]
        assert answers.declined_of(error_of(stripe.CardError, 402, code, said=said)).card == "Fp1"
    bare = stripe.CardError("", None, code)  # type: ignore[arg-type]
    assert answers.declined_of(bare) == Declined(answers.code_of(bare), None)


def test_what_we_wrote_beside_what_others_wrote() -> None:
    noted = intent("canceled", metadata={"payment_key": "k", "order": "7"})
    assert [answers.noted(noted, name) for name in ("payment_key", "order", "refund_key")] == ["k", "7", None]
    assert answers.noted(intent("canceled", metadata=None), "payment_key") is None
    assert [answers.id_of(thing) for thing in (None, "ch_1", noted)] == [None, "ch_1", "pi_1"]
