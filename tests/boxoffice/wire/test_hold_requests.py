"""Bodies about a booking that is there: what each says once it is read, and where and why another is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from boxoffice.errors import BadRequest
from boxoffice.gateway.base import PaymentGateway, Token
from boxoffice.settings import Settings
from boxoffice.stores.record import Charge
from boxoffice.wire.hold_requests import (
    HoldPaymentRequest,
    RefundRequest,
    parse_extension,
    parse_nothing,
    parse_payment,
    parse_refund,
)

SETTINGS = Settings()
TEXT_MAX, ITEMS_MAX = SETTINGS.limits.text_max, SETTINGS.limits.items_max
QUANTITY_MAX, TTL_S = SETTINGS.limits.quantity_max, SETTINGS.holds.ttl_s
CARD = "4242424242424242"


class Gateway:
    accepts_cards = True

    def tokenize(self, card_number: str, card_name: str) -> Token:
        return Token(f"{card_number[:2]} for {card_name}", card_number[-4:])

    def check_token(self, token: str) -> Token:
        return Token(f"checked {token}", "9999")


GATEWAY: PaymentGateway = Gateway()  # type: ignore[assignment]


def refusal(call: Any, raw: bytes, *args: Any) -> tuple[str, str]:
    with pytest.raises(BadRequest) as refused:
        call(raw, *args)
    (error,) = refused.value.details["errors"]
    assert getattr(refused.value, "pointer", error["pointer"]) == error["pointer"]
    return error["pointer"], error["code"]


@pytest.mark.parametrize(
    ("raw", "charge"),
    [
        (b"", None),
        (b" {\r\n\t} ", None),
        (b"\r\n\t ", None),
        (b'{"method": null, "card_name": null, "card_number": null, "token": null}', None),
        (b'{"method": "card", "token": "tok"}', Charge("card", "checked tok", None, "9999")),
        (b'\xef\xbb\xbf{"method": "card", "token": "tok"}', Charge("card", "checked tok", None, "9999")),
        (b'{"method": "card", "card_number": "%s", "card_name": "Ada"}' % CARD.encode(),
         Charge("card", "42 for Ada", "Ada", "4242")),
    ],
)  # fmt: skip
def test_how_a_hold_is_to_be_paid(raw: bytes, charge: Charge | None) -> None:
    assert parse_payment(raw, SETTINGS, GATEWAY) == HoldPaymentRequest(charge, None)


@pytest.mark.parametrize("expected", [0, 9_800, None])
def test_what_a_hold_is_expected_to_cost(expected: int | None) -> None:
    """With a payment, and without one."""
    said = json.dumps({"expected_amount_cents": expected}).encode()
    assert parse_payment(said, SETTINGS, GATEWAY) == HoldPaymentRequest(None, expected)
    said = said.removesuffix(b"}") + b', "method": "card", "token": "tok"}'
    paid = HoldPaymentRequest(Charge("card", "checked tok", None, "9999"), expected)
    assert parse_payment(said, SETTINGS, GATEWAY) == paid


@pytest.mark.parametrize(
    ("raw", "pointer", "code"),
    [
        (b'{"method": "cash"}', "/method", "unknown_method"),
        (b'{"method": "card", "token": "%s"}' % CARD.encode(), "/token", "card_data"),
        (b'{"method": "card", "token": "t", "card_name": "%s"}' % (b"n" * (TEXT_MAX + 1)), "/card_name", "too_long"),
        (b'{"token": "t"}', "/method", "missing"),
        (b'{"card_name": "Ada", "method": null}', "/method", "missing"),
        (b'{"card_number": "4"}', "/method", "missing"),
        (b'{"method": "card", "token": "t", "expected_amount_cents": -1}', "/expected_amount_cents", "out_of_range"),
        (b'{"method": "card", "token": "t", "expected_amount_cents": 1.5}', "/expected_amount_cents", "wrong_type"),
        (b'{"method": "card", "token": "t", "amount": 1}', "/amount", "unknown_member"),
        (b'{"method": "card", "method": "card", "token": "t"}', "", "duplicate_member"),
        (b'{"method": 1}', "/method", "wrong_type"),
        (b"[]", "", "wrong_type"),
        (b"{", "", "not_json"),
    ],
)
def test_why_a_payment_is_refused(raw: bytes, pointer: str, code: str) -> None:
    """The payment is the whole body: it is pointed at from there."""
    assert refusal(parse_payment, raw, SETTINGS, GATEWAY) == (pointer, code)


@pytest.mark.parametrize("extra_s", [1, TTL_S])
def test_how_much_longer_a_hold_shall_last(extra_s: int) -> None:
    assert parse_extension(b'{"extra_s": %d}' % extra_s, SETTINGS) == extra_s


@pytest.mark.parametrize(
    ("raw", "pointer", "code"),
    [
        (b"", "/extra_s", "missing"),
        (b"{}", "/extra_s", "missing"),
        (b'{"extra_s": 0}', "/extra_s", "out_of_range"),
        (b'{"extra_s": %d}' % (TTL_S + 1), "/extra_s", "out_of_range"),
        (b'{"extra_s": null}', "/extra_s", "wrong_type"),
        (b'{"extra_s": 1, "until": 2}', "/until", "unknown_member"),
        (b'{"extra_s": 1, "extra_s": 2}', "", "duplicate_member"),
    ],
)
def test_why_an_extension_is_refused(raw: bytes, pointer: str, code: str) -> None:
    assert refusal(parse_extension, raw, SETTINGS) == (pointer, code)


def refund(items: Any, **more: Any) -> bytes:
    return json.dumps({"items": items, **more}).encode()


def item(tier_id: Any = "t1", quantity: Any = 1) -> dict[str, Any]:
    return {"tier_id": tier_id, "quantity": quantity}


@pytest.mark.parametrize(
    ("raw", "asked"),
    [
        (refund("all"), RefundRequest(None, "requested", False)),
        (refund("owed"), RefundRequest(None, "requested", True)),
        (refund("all", reason=None), RefundRequest(None, "requested", False)),
        (refund("all", reason="r" * TEXT_MAX), RefundRequest(None, "r" * TEXT_MAX, False)),
        (refund([item("t1", 2), item("t2", 1)], reason="ill"), RefundRequest({"t1": 2, "t2": 1}, "ill", False)),
        (refund([item("t" * 64, QUANTITY_MAX)]), RefundRequest({"t" * 64: QUANTITY_MAX}, "requested", False)),
        (refund([item(f"t{n}") for n in range(ITEMS_MAX)]),
         RefundRequest({f"t{n}": 1 for n in range(ITEMS_MAX)}, "requested", False)),
    ],
)  # fmt: skip
def test_what_is_to_be_refunded(raw: bytes, asked: RefundRequest) -> None:
    assert parse_refund(raw, SETTINGS) == asked


@pytest.mark.parametrize(
    ("raw", "pointer", "code"),
    [
        (b"", "/items", "missing"),
        (b'{"reason": "x"}', "/items", "missing"),
        (refund("some"), "/items", "malformed"),
        (refund([]), "/items", "empty"),
        (refund([item(f"t{n}") for n in range(ITEMS_MAX + 1)]), "/items", "too_many"),
        (refund([item(quantity=0)]), "/items/0/quantity", "out_of_range"),
        (refund([item(), item("t2", QUANTITY_MAX + 1)]), "/items/1/quantity", "out_of_range"),
        (refund([item(), item("")]), "/items/1/tier_id", "empty"),
        (refund([item("t" * 65)]), "/items/0/tier_id", "too_long"),
        (refund([item(), item("t2"), item()]), "/items/2/tier_id", "duplicate_tier"),
        (refund("all", reason=""), "/reason", "empty"),
        (refund("all", reason="r" * (TEXT_MAX + 1)), "/reason", "too_long"),
        (refund("all", reason=CARD), "/reason", "card_data"),
        (refund("all", amount_cents=1), "/amount_cents", "unknown_member"),
        (b'{"items": "all", "items": "owed"}', "", "duplicate_member"),
    ],
)
def test_why_a_refund_is_refused(raw: bytes, pointer: str, code: str) -> None:
    assert refusal(parse_refund, raw, SETTINGS) == (pointer, code)


def test_a_request_without_a_body_may_have_an_empty_one() -> None:
    parse_nothing(b"")
    parse_nothing(b"{}")
    assert refusal(parse_nothing, b'{"items": []}') == ("/items", "unknown_member")
    assert refusal(parse_nothing, b"[]") == ("", "wrong_type")
