"""Bodies and headers of requests: what each says once it is read, and where and why another is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from boxoffice import ids
from boxoffice.errors import BadRequest, CardDataRefused, Malformed
from boxoffice.gateway.base import PaymentGateway, Token
from boxoffice.settings import Settings
from boxoffice.stores.record import Charge
from boxoffice.wire.parameters import check_content_encoding, check_content_type, check_parameter, parse_idempotency_key
from boxoffice.wire.requests import BookingRequest, parse_booking

SETTINGS = Settings()
TEXT_MAX, ITEMS_MAX = SETTINGS.limits.text_max, SETTINGS.limits.items_max
QUANTITY_MAX, TTL_S = SETTINGS.limits.quantity_max, SETTINGS.holds.ttl_s
CARD = "4242424242424242"


class Gateway:
    """Makes tokens of card numbers that tell what it was given."""

    accepts_cards = True

    def tokenize(self, card_number: str, card_name: str) -> Token:
        return Token(f"tok {card_number[-4:]} of {len(card_number)} for {card_name}", card_number[-4:])

    def check_token(self, token: str) -> Token:
        return Token(f"checked {token[:40]}", "9999")


class TokensOnly(Gateway):
    accepts_cards = False


def booking(**changes: Any) -> bytes:
    body: dict[str, Any] = {"customer_id": "ada", "items": [{"tier_id": "t1", "quantity": 2}]}
    return json.dumps({name: value for name, value in (body | changes).items() if value is not ...}).encode()


def paid(**payment: Any) -> bytes:
    return booking(payment={"method": "card", **payment})


def item(tier_id: Any = "t1", quantity: Any = 1) -> dict[str, Any]:
    return {"tier_id": tier_id, "quantity": quantity}


def read(raw: bytes, gateway: type[Gateway] = Gateway) -> BookingRequest:
    found: PaymentGateway = gateway()  # type: ignore[assignment]
    return parse_booking(raw, SETTINGS, found)


def refusal(call: Callable[[], object]) -> dict[str, str]:
    with pytest.raises(BadRequest) as refused:
        call()
    (error,) = refused.value.details["errors"]
    assert isinstance(error, dict)
    return error


LINES = (("t1", 2),)
NAME = "n" * TEXT_MAX


@pytest.mark.parametrize(
    ("raw", "request_"),
    [
        (booking(), BookingRequest("ada", LINES, None, None, None)),
        (booking(reference=None, payment=None, hold_s=None), BookingRequest("ada", LINES, None, None, None)),
        (booking(reference=""), BookingRequest("ada", LINES, None, None, None)),
        (booking(reference="order: 7"), BookingRequest("ada", LINES, "order: 7", None, None)),
        (booking(reference="r" * TEXT_MAX), BookingRequest("ada", LINES, "r" * TEXT_MAX, None, None)),
        (booking(customer_id="c" * TEXT_MAX), BookingRequest("c" * TEXT_MAX, LINES, None, None, None)),
        (booking(customer_id="Zoë"), BookingRequest("Zoë", LINES, None, None, None)),
        (booking(hold_s=1), BookingRequest("ada", LINES, None, None, 1)),
        (booking(hold_s=TTL_S), BookingRequest("ada", LINES, None, None, TTL_S)),
        (booking(items=[item("b", 1), item("a", 3)]), BookingRequest("ada", (("b", 1), ("a", 3)), None, None, None)),
        (booking(items=[item(quantity=QUANTITY_MAX)]), BookingRequest("ada", (("t1", QUANTITY_MAX),), None, None, None)),
        (booking(items=[item("t" * 64)]), BookingRequest("ada", (("t" * 64, 1),), None, None, None)),
        (b"\xef\xbb\xbf" + booking(), BookingRequest("ada", LINES, None, None, None)),
        (booking(expected_amount_cents=None), BookingRequest("ada", LINES, None, None, None)),
        *((booking(expected_amount_cents=cents), BookingRequest("ada", LINES, None, None, None, cents))
          for cents in (0, 2**53 - 1)),
        (booking(expected_amount_cents=1, payment={"method": "card", "token": "tok_ok"}),
         BookingRequest("ada", LINES, None, Charge("card", "checked tok_ok", None, "9999"), None, 1)),
        (paid(token="tok_ok"), BookingRequest("ada", LINES, None, Charge("card", "checked tok_ok", None, "9999"), None)),
        (paid(token="tok_ok", card_name="Ada L", card_number=None),
         BookingRequest("ada", LINES, None, Charge("card", "checked tok_ok", "Ada L", "9999"), None)),
        (paid(card_number=CARD, card_name="Ada", token=None),
         BookingRequest("ada", LINES, None, Charge("card", "tok 4242 of 16 for Ada", "Ada", "4242"), None)),
        (paid(card_number="4242 4242-4242\u20134242", card_name=NAME),
         BookingRequest("ada", LINES, None, Charge("card", f"tok 4242 of 16 for {NAME}", NAME, "4242"), None)),
        (paid(token="t" * 255), BookingRequest("ada", LINES, None, Charge("card", "checked " + "t" * 40, None, "9999"), None)),
        (json.dumps({"customer_id": "a", "items": [item()], "reference": "r", "hold_s": None,
                     "payment": {"method": "card", "card_name": None, "card_number": None, "token": "tok_ok"}}).encode(),
         BookingRequest("a", (("t1", 1),), "r", Charge("card", "checked tok_ok", None, "9999"), None)),
    ],
)  # fmt: skip
def test_what_a_booking_says(raw: bytes, request_: BookingRequest) -> None:
    assert read(raw) == request_


def twice(raw: bytes, name: str) -> bytes:
    """The member comes once more, at the end of its object."""
    return raw.replace(f'"{name}"'.encode(), f'"{name}": null, "{name}"'.encode(), 1)


@pytest.mark.parametrize(
    ("raw", "pointer", "code"),
    [
        (booking(customer_id=""), "/customer_id", "empty"),
        (booking(customer_id=" "), "/customer_id", "empty"),
        (booking(customer_id="c" * (TEXT_MAX + 1)), "/customer_id", "too_long"),
        (booking(customer_id="a\tb"), "/customer_id", "control_character"),
        (booking(customer_id="\u200b"), "/customer_id", "invisible"),
        (booking(customer_id=CARD), "/customer_id", "card_data"),
        (booking(customer_id="4242 4242 4242 4242"), "/customer_id", "card_data"),
        (booking(customer_id="4222222222222"), "/customer_id", "card_data"),
        (booking(customer_id="é" + CARD), "/customer_id", "card_data"),
        (booking(reference="r" * (TEXT_MAX + 1)), "/reference", "too_long"),
        (booking(reference=CARD), "/reference", "card_data"),
        (booking(items=[]), "/items", "empty"),
        (booking(items=[item(f"t{n}") for n in range(ITEMS_MAX + 1)]), "/items", "too_many"),
        (booking(items=[item(quantity=0)]), "/items/0/quantity", "out_of_range"),
        (booking(items=[item(), item("t2", QUANTITY_MAX + 1)]), "/items/1/quantity", "out_of_range"),
        (booking(items=[item("")]), "/items/0/tier_id", "empty"),
        (booking(items=[item("t" * 65)]), "/items/0/tier_id", "too_long"),
        (booking(items=[item(), item("a\nb")]), "/items/1/tier_id", "control_character"),
        (booking(items=[item(CARD)]), "/items/0/tier_id", "card_data"),
        (booking(items=[item(), item()]), "/items/1/tier_id", "duplicate_tier"),
        (booking(items=[item(), item("t2"), item()]), "/items/2/tier_id", "duplicate_tier"),
        (booking(hold_s=0), "/hold_s", "out_of_range"),
        (booking(hold_s=TTL_S + 1), "/hold_s", "out_of_range"),
        (booking(hold_s=60, payment={"method": "card", "token": "tok_ok"}), "/hold_s", "not_a_hold"),
        *((booking(expected_amount_cents=cents), "/expected_amount_cents", "out_of_range") for cents in (-1, 2**53)),
        (booking(expected_amount_cents="1"), "/expected_amount_cents", "wrong_type"),
        (paid(), "/payment/card_number", "missing"),
        (booking(payment={"method": "cash", "token": "t"}), "/payment/method", "unknown_method"),
        (paid(token=""), "/payment/token", "empty"),
        (paid(token="t" * 256), "/payment/token", "too_long"),
        (paid(token="a\tb"), "/payment/token", "control_character"),
        (paid(token=CARD), "/payment/token", "card_data"),
        (paid(token="tok_ok", card_name=CARD), "/payment/card_name", "card_data"),
        (paid(token="tok_ok", card_name="n" * (TEXT_MAX + 1)), "/payment/card_name", "too_long"),
        (paid(token="tok_ok", card_number=CARD, card_name="A"), "/payment/token", "ambiguous"),
        (paid(card_number=CARD), "/payment/card_name", "missing"),
        (booking(customer_id=...), "/customer_id", "missing"),
        (booking(items=[{"tier_id": "t"}]), "/items/0/quantity", "missing"),
        (booking(payment={}), "/payment/method", "missing"),
        (booking(items=[item(quantity="2")]), "/items/0/quantity", "wrong_type"),
        (booking(items=[item(quantity=2.5)]), "/items/0/quantity", "wrong_type"),
        (booking(other=1), "/other", "unknown_member"),
        (booking(items=[{**item(), "price": 1}]), "/items/0/price", "unknown_member"),
        (paid(token="t", cvc="1"), "/payment/cvc", "unknown_member"),
        (b"", "", "not_json"),
        (b"{", "", "not_json"),
        (b"\xef\xbb\xbf", "", "not_json"),
        (b"\xef\xbb\xbf\xef\xbb\xbf" + booking(), "", "not_json"),
        *((twice(paid(token="t", card_name="A", card_number=None), name), "", "duplicate_member")
          for name in ("token", "card_name", "card_number")),
        *((twice(booking(reference="r", hold_s=60, expected_amount_cents=1), name), "", "duplicate_member")
          for name in ("reference", "hold_s", "expected_amount_cents")),
        (booking(payment=None).replace(b'"payment"', b'"payment": null, "payment"'), "", "duplicate_member"),
        (booking().replace(b'"items"', b'"items": [], "items"'), "", "duplicate_member"),
        (booking().replace(b'"tier_id"', b'"tier_id": "x", "tier_id"'), "", "duplicate_member"),
        (booking().replace(b'"customer_id"', b'"customer\\u005fid": "x", "customer_id"'), "", "duplicate_member"),
    ],
)  # fmt: skip
def test_where_and_why_a_booking_is_refused(raw: bytes, pointer: str, code: str) -> None:
    assert refusal(lambda: read(raw)) == {"pointer": pointer, "code": code}


@pytest.mark.parametrize(
    "payment",
    [
        {"token": "t"},
        {"token": "t", "card_name": "A"},
        {"token": "t", "card_name": "A", "card_number": None},
        {"card_name": "A", "card_number": CARD},
    ],
)
@pytest.mark.parametrize("others", [{}, {"reference": "r"}, {"reference": None, "hold_s": None}])
def test_members_are_counted_rather_than_read_twice(
    monkeypatch: pytest.MonkeyPatch, payment: dict[str, Any], others: dict[str, Any]
) -> None:
    """What is written once, without colons in its texts, is read by one decoder: most of the time of a request goes there."""

    def read_again(*_: object, **__: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(json, "loads", read_again)
    assert read(paid(**payment) if not others else booking(payment={"method": "card", **payment}, **others)).charge
    assert read(booking(payment=None, **others)).charge is None


def test_a_gateway_of_tokens_is_sent_no_card_number() -> None:
    with pytest.raises(CardDataRefused) as refused:
        read(paid(card_number=CARD, card_name="A"), TokensOnly)
    assert refused.value.pointer == "/payment/card_number"
    assert read(paid(token="tok_ok"), TokensOnly).charge == Charge("card", "checked tok_ok", None, "9999")


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        (b" \n", "The body is empty."),
        (b"\x1f\x8b\x08", "The body looks compressed: send it as plain JSON in UTF-8."),
        (b"\x28\xb5\x2f\xfd\x00", "The body looks compressed: send it as plain JSON in UTF-8."),
        (b"\x78\x01\x00", "The body looks compressed: send it as plain JSON in UTF-8."),
        (b"\x78\x9c\x00", "The body looks compressed: send it as plain JSON in UTF-8."),
        (b"\x78\xda\x00", "The body looks compressed: send it as plain JSON in UTF-8."),
        (b"\xff\xfe{\0", "The body looks like UTF-16 or UTF-32: send it in UTF-8."),
        (b"\xfe\xff\x20\x20", "The body looks like UTF-16 or UTF-32: send it in UTF-8."),
        (b"{xx\0", "The body looks like UTF-16 or UTF-32: send it in UTF-8."),
        (b"{x}", "The body is not JSON in UTF-8. It makes no sense from byte 1 on."),
        (b"{xyz\0", "The body is not JSON in UTF-8. It makes no sense from byte 1 on."),
    ],
)
def test_why_a_body_cannot_be_read(raw: bytes, detail: str) -> None:
    with pytest.raises(Malformed) as refused:
        read(raw)
    assert refused.value.detail.startswith(detail)
    assert refused.value.code == "not_json"


# ------------------------------------------------------------------ headers and parameters


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b"a", "a"),
        (b"  a b\t", "a b"),
        (b'"a"', "a"),
        (b' "a" ', "a"),
        (b'"a\\"b\\\\c"', 'a"b\\c'),
        (b"a\\b", "a\\b"),
        (b'a"b', 'a"b'),
        (b"k" * 255, "k" * 255),
        (b'"' + b"k" * 255 + b'"', "k" * 255),
    ],
)
def test_what_an_idempotency_key_says(value: bytes, key: str) -> None:
    assert parse_idempotency_key([value]) == ids.digest(key)


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ([], "missing"),
        ([b"a", b"b"], "duplicate"),
        ([b"\xe9"], "not_printable"),
        ([b"a\x01b"], "not_printable"),
        ([b""], "empty"),
        ([b" \t"], "empty"),
        ([b'""'], "empty"),
        ([b"k" * 256], "too_long"),
        ([b'"a'], "malformed"),
        ([b'"a"b"'], "malformed"),
        ([b'"a\\b"'], "malformed"),
        ([b'"a"x'], "malformed"),
    ],
)
def test_why_an_idempotency_key_is_refused(values: list[bytes], code: str) -> None:
    assert refusal(lambda: parse_idempotency_key(values)) == {"header": "Idempotency-Key", "code": code}


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"application/json", ""),
        (b"Application/JSON", ""),
        (b" application/json ; charset=UTF-8", ""),
        (b'application/json;charset="utf-8"', ""),
        (b"application/json; charset='us-ascii'", ""),
        (b"application/json; charset=utf8; q=1", ""),
        (b"application/json; charset=ascii", ""),
        (b"application/json; version=1", ""),
        (b"application/json; charset=latin-1", "charset"),
        (b"application/json; q=1 ; charset =utf-16", "charset"),
        (b"application/json; charset", "charset"),
        (None, "content_type"),
        (b"", "content_type"),
        (b"text/json", "content_type"),
        (b"application/json2", "content_type"),
    ],
)
def test_types_of_bodies(value: bytes | None, code: str) -> None:
    if code:
        assert refusal(lambda: check_content_type(value)) == {"header": "Content-Type", "code": code}
    else:
        check_content_type(value)


@pytest.mark.parametrize(
    ("value", "fine"), [(None, True), (b"", True), (b" Identity ", True), (b"gzip", False), (b"identity, gzip", False)]
)
def test_bodies_are_not_compressed(value: bytes | None, fine: bool) -> None:
    if fine:
        check_content_encoding(value)
    else:
        error = {"header": "Content-Encoding", "code": "content_encoding"}
        assert refusal(lambda: check_content_encoding(value)) == error


@pytest.mark.parametrize(
    ("value", "name", "most", "code"),
    [
        ("a", "cursor", 3, ""),
        ("abc", "cursor", 3, ""),
        ("", "cursor", 3, "length"),
        ("abcd", "cursor", 3, "length"),
        ("a\x1fb", "cursor", 3, "control_character"),
        ("a\x7f", "cursor", 3, "control_character"),
        ("a\x9f", "cursor", 3, "control_character"),
        ("a\xa0", "cursor", 3, ""),
        (CARD, "cursor", 20, ""),
        (CARD, "customer_id", 20, "card_data"),
        (CARD, "event_id", 20, "card_data"),
        (CARD, "reference", 20, "card_data"),
        ("x" * 255, "reference", None, ""),
        ("x" * 256, "reference", None, "length"),
    ],
)
def test_texts_in_the_query(value: str, name: str, most: int | None, code: str) -> None:
    def check() -> None:
        check_parameter(value, name, *([most] if most is not None else []))

    if code:
        assert refusal(check) == {"parameter": name, "code": code}
    else:
        check()


@pytest.mark.parametrize("code", ["", "A" * 65, "AAAA\nBBBB-CCCC", CARD])
def test_what_is_no_access_code_is_refused_each_time(code: str) -> None:
    """The digests of codes are remembered, refusals are not; an empty one is none."""
    for _ in range(2):
        if code:
            assert refusal(lambda: read(booking(access_code=code)))["pointer"] == "/access_code"
        else:
            assert read(booking(access_code=code)).access_code == ""


def test_a_code_is_digested_as_it_reads_however_often_it_comes() -> None:
    for typed in ("abcd-efgh-jkmn", "ABCD EFGH JKMN", "abcd-efgh-jkmn"):
        assert read(booking(access_code=typed)).access_code == ids.code_digest("ABCDEFGHJKMN")
