"""Bodies that are refused before anything else happens, each with where and why."""

from __future__ import annotations

import gzip
import json
from typing import Any

MARK = "m4rk"
CARD = "4242424242424242"


def body_with(**changes: Any) -> bytes:
    """A body that would be good but for the changes. Its tier need not exist: bad bodies are refused before that."""
    body: dict[str, Any] = {
        "customer_id": "customer-1",
        "items": [{"tier_id": "0123456789ab", "quantity": 1}],
        "payment": {"method": "card", "card_name": "Ada", "token": "tok_ok"},
    } | changes
    return json.dumps({name: value for name, value in body.items() if value is not ...}).encode()


def quantity(text: str) -> bytes:
    return body_with(items=[{"tier_id": "0123456789ab", "quantity": "Q"}]).replace(b'"Q"', text.encode())


def item(**changes: Any) -> bytes:
    one = {"tier_id": "0123456789ab", "quantity": 1} | changes
    return body_with(items=[{name: value for name, value in one.items() if value is not ...}])


def payment(**parts: Any) -> bytes:
    return body_with(payment=parts)


GOOD = body_with()

BODIES: dict[str, tuple[bytes, str, str]] = {
    # name: body, pointer, code
    "nothing": (b"", "", "not_json"),
    "no JSON": (b"customer_id=1", "", "not_json"),
    "half": (GOOD[:-5], "", "not_json"),
    "two": (GOOD + GOOD, "", "not_json"),
    "trailing comma": (GOOD[:-1] + b",}", "", "not_json"),
    "single quotes": (GOOD.replace(b'"', b"'"), "", "not_json"),
    "comment": (b"/* */" + GOOD, "", "not_json"),
    "byte order marks": (b"\xef\xbb\xbf" * 2 + GOOD, "", "not_json"),
    "byte order marks only": (b"\xef\xbb\xbf" * 5_000, "", "not_json"),
    "compressed": (gzip.compress(GOOD), "", "not_json"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "", "not_json"),
    "UTF-16 without mark": (GOOD.decode().encode("utf-16-le"), "", "not_json"),
    "UTF-32": (GOOD.decode().encode("utf-32"), "", "not_json"),
    "Latin-1": (body_with(customer_id="X").replace(b"X", b"\xe9"), "", "not_json"),
    "overlong UTF-8": (body_with(customer_id="X").replace(b"X", b"\xc0\x80"), "", "not_json"),
    "surrogate in UTF-8": (body_with(customer_id="X").replace(b"X", b"\xed\xa0\x80"), "", "not_json"),
    "lone surrogate": (body_with(customer_id="X").replace(b"X", b"\\ud800"), "", "not_json"),
    "reversed surrogates": (body_with(customer_id="X").replace(b"X", b"\\udc00\\ud800"), "", "not_json"),
    "raw newline": (body_with(customer_id="X").replace(b"X", b"\n"), "", "not_json"),
    "raw NUL": (body_with(customer_id="X").replace(b"X", b"\x00"), "", "not_json"),
    "array": (b"[]", "", "wrong_type"),
    "null": (b"null", "", "wrong_type"),
    "deep array": (b"[" * 15_000, "", "wrong_type"),
    "deep object": (b'{"a":' * 3_000, "/a", "unknown_member"),
    "deep inside": (body_with(items="X").replace(b'"X"', b"[" * 8_000 + b"]" * 7_000), "/items/0", "wrong_type"),
    "100,000 deep": (b"[" * 100_000, "", "body_too_large"),
    "unknown member": (body_with(surprise=MARK), "/surprise", "unknown_member"),
    "unknown member of no plain name": (body_with(**{f"{MARK} x": 1}), "", "unknown_member"),
    "unknown member of a long name": (body_with(**{MARK + "x" * 37: 1}), "", "unknown_member"),
    "number as member": (body_with(**{f"{MARK}12345": 1}), "", "unknown_member"),
    "card number as member": (body_with(**{CARD: 1}), "", "unknown_member"),
    "unknown member of an item": (item(surprise=MARK), "/items/0/surprise", "unknown_member"),
    "price from the shop": (item(unit_price_cents=1), "/items/0/unit_price_cents", "unknown_member"),
    "security code": (
        payment(method="card", card_name="A", card_number=CARD, cvc="123"), "/payment/cvc", "unknown_member",
    ),
    "member twice": (GOOD[:-1] + b',"customer_id":"customer-2"}', "", "duplicate_member"),
    "member twice, escaped": (GOOD[:-1] + b',"customer\\u005fid":"customer-2"}', "", "duplicate_member"),
    "member twice, hidden by an escape": (
        body_with(customer_id="X").replace(b"X", b"a\\u003ab")[:-1] + b',"reference":"1","reference":"2"}',
        "", "duplicate_member",
    ),
    "quantity twice": (quantity('1,"quantity":2'), "", "duplicate_member"),
    "no customer": (body_with(customer_id=...), "/customer_id", "missing"),
    "customer null": (body_with(customer_id=None), "/customer_id", "wrong_type"),
    "customer a number": (body_with(customer_id=7), "/customer_id", "wrong_type"),
    "customer empty": (body_with(customer_id=""), "/customer_id", "empty"),
    "customer blank": (body_with(customer_id="  "), "/customer_id", "empty"),
    "customer long": (body_with(customer_id=MARK * 51), "/customer_id", "too_long"),
    "customer NUL": (body_with(customer_id=MARK + "\0"), "/customer_id", "control_character"),
    "customer newline": (body_with(customer_id=MARK + "\n"), "/customer_id", "control_character"),
    "customer DEL": (body_with(customer_id=MARK + "\x7f"), "/customer_id", "control_character"),
    "customer C1": (body_with(customer_id=MARK + "\x85"), "/customer_id", "control_character"),
    "reference a number": (body_with(reference=1), "/reference", "wrong_type"),
    "reference long": (body_with(reference=MARK * 51), "/reference", "too_long"),
    "reference NUL": (body_with(reference="\0"), "/reference", "control_character"),
    "no items": (body_with(items=...), "/items", "missing"),
    "empty items": (body_with(items=[]), "/items", "empty"),
    "items an object": (body_with(items={}), "/items", "wrong_type"),
    "eleven items": (body_with(items=[{"tier_id": f"{n:012}", "quantity": 1} for n in range(11)]), "/items", "too_many"),
    "item a text": (body_with(items=[MARK]), "/items/0", "wrong_type"),
    "tier twice": (
        body_with(items=[{"tier_id": "0123456789ab", "quantity": n} for n in (1, 2)]), "/items/1/tier_id", "duplicate_tier",
    ),
    "no tier": (item(tier_id=...), "/items/0/tier_id", "missing"),
    "tier empty": (item(tier_id=""), "/items/0/tier_id", "empty"),
    "tier long": (item(tier_id=MARK * 20), "/items/0/tier_id", "too_long"),
    "tier NUL": (item(tier_id=MARK + "\0"), "/items/0/tier_id", "control_character"),
    "tier a number": (item(tier_id=1), "/items/0/tier_id", "wrong_type"),
    "no quantity": (item(quantity=...), "/items/0/quantity", "missing"),
    "quantity 0": (quantity("0"), "/items/0/quantity", "out_of_range"),
    "quantity -0": (quantity("-0"), "/items/0/quantity", "out_of_range"),
    "quantity -1": (quantity("-1"), "/items/0/quantity", "out_of_range"),
    "quantity 11": (quantity("11"), "/items/0/quantity", "out_of_range"),
    "quantity 2^31": (quantity(str(2**31)), "/items/0/quantity", "out_of_range"),
    "quantity 2^53+1": (quantity(str(2**53 + 1)), "/items/0/quantity", "out_of_range"),
    "quantity 2^64": (quantity(str(2**64)), "/items/0/quantity", "out_of_range"),
    "quantity of 5,000 digits": (quantity("9" * 5_000), "/items/0/quantity", "out_of_range"),
    "quantity 1e400": (quantity("1e400"), "/items/0/quantity", "out_of_range"),
    "quantity 1e0": (quantity("1e0"), "/items/0/quantity", "wrong_type"),
    "quantity 1.0": (quantity("1.0"), "/items/0/quantity", "wrong_type"),
    "quantity 1.5": (quantity("1.5"), "/items/0/quantity", "wrong_type"),
    "quantity a text": (quantity('"1"'), "/items/0/quantity", "wrong_type"),
    "quantity true": (quantity("true"), "/items/0/quantity", "wrong_type"),
    "quantity null": (quantity("null"), "/items/0/quantity", "wrong_type"),
    "quantity a list": (quantity("[1]"), "/items/0/quantity", "wrong_type"),
    "quantity NaN": (quantity("NaN"), "", "not_json"),
    "quantity Infinity": (quantity("-Infinity"), "", "not_json"),
    "quantity 01": (quantity("01"), "", "not_json"),
    "quantity +1": (quantity("+1"), "", "not_json"),
    "quantity 0x1": (quantity("0x1"), "", "not_json"),
    "number and name null": (payment(method="card", card_name="A", card_number=None), "/payment/card_number", "missing"),
    "name null": (payment(method="card", card_name=None, card_number=CARD), "/payment/card_name", "missing"),
    "null twice": (body_with(payment=None)[:-1] + b',"payment":null}', "", "duplicate_member"),
    "items null": (body_with(items=None), "/items", "wrong_type"),
    "method null": (payment(method=None, token="tok_ok"), "/payment/method", "wrong_type"),
    "payment a text": (body_with(payment=MARK), "/payment", "wrong_type"),
    "payment empty": (payment(), "/payment/method", "missing"),
    "method unknown": (payment(method=MARK), "/payment/method", "unknown_method"),
    "no number": (payment(method="card", card_name="Ada"), "/payment/card_number", "missing"),
    "no name": (payment(method="card", card_number=CARD), "/payment/card_name", "missing"),
    "name empty": (payment(method="card", card_name="", card_number=CARD), "/payment/card_name", "empty"),
    "name NUL": (payment(method="card", card_name="A\0", card_number=CARD), "/payment/card_name", "control_character"),
    "number not Luhn": (
        payment(method="card", card_name="A", card_number="4242424242424241"), "/payment/card_number", "card_number",
    ),
    "number with blanks not Luhn": (
        payment(method="card", card_name="A", card_number="4242 4242 4242 4241"), "/payment/card_number", "card_number",
    ),
    "number of blanks": (payment(method="card", card_name="A", card_number=" - "), "/payment/card_number", "card_number"),
    "number in other digits": (
        payment(method="card", card_name="A", card_number="\uff14\uff12" * 8), "/payment/card_number", "card_number",
    ),
    "number short": (payment(method="card", card_name="A", card_number="42"), "/payment/card_number", "card_number"),
    "number a number": (payment(method="card", card_name="A", card_number=int(CARD)), "/payment/card_number", "wrong_type"),
    "number and token": (
        payment(method="card", card_name="A", card_number=CARD, token="tok_ok"), "/payment/token", "ambiguous",
    ),
    "token empty": (payment(method="card", token=""), "/payment/token", "empty"),
    "token long": (payment(method="card", token=MARK * 100), "/payment/token", "too_long"),
    "token unknown": (payment(method="card", token=MARK), "/payment/token", "token"),
    "hold and payment": (body_with(hold_s=60), "/hold_s", "not_a_hold"),
    "hold of no time": (body_with(payment=..., hold_s=0), "/hold_s", "out_of_range"),
    "hold too long": (body_with(payment=..., hold_s=601), "/hold_s", "out_of_range"),
    "hold a text": (body_with(payment=..., hold_s="60"), "/hold_s", "wrong_type"),
}  # fmt: skip
