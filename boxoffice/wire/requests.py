"""What a shop may ask for: bodies and headers, read once, strictly, before anything else happens.

Only JSON in UTF-8, no member twice, no member that we do not know, no number that is not written as a whole number, no
control characters and no card number in any text. A card number in its own place is exchanged for a token here, and
goes no further. Nothing of a refused request is repeated in the refusal: it says where (a JSON pointer, RFC 6901) and
a code.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import msgspec
from msgspec import UNSET, Struct, UnsetType

from boxoffice import ids
from boxoffice.errors import CardDataRefused, Malformed
from boxoffice.gateway.base import PaymentGateway
from boxoffice.settings import Settings
from boxoffice.stores.record import Charge
from boxoffice.telemetry.redaction import has_card_number
from boxoffice.texts import fault_of

__all__ = [
    "ID_MAX",
    "BookingRequest",
    "bad_parameter",
    "check_content_encoding",
    "check_content_type",
    "check_parameter",
    "parse_booking",
    "parse_idempotency_key",
]

ID_MAX: Final = 64
"""Characters of an event's or a tier's id; ours have 12."""

TOKEN_MAX: Final = 255
"""Characters of a gateway's token."""

KEY_MAX: Final = 255
"""Characters of an idempotency key."""


class BookingRequest(Struct, gc=False):
    """A booking as asked for, well-formed. Whether there is such a tier is for the catalogue to say."""

    customer_id: str
    lines: tuple[tuple[str, int], ...]
    """Tier id and quantity, each tier once."""
    reference: str | None
    charge: Charge | None
    """None: a hold, to be paid later."""
    hold_s: int | None


class ItemForm(Struct, forbid_unknown_fields=True, gc=False):
    tier_id: str
    quantity: int


class PaymentForm(Struct, forbid_unknown_fields=True, gc=False):
    """Null is as good as absent: many a client library writes every field it knows."""

    method: str
    card_name: str | UnsetType | None = UNSET
    card_number: str | UnsetType | None = UNSET
    token: str | UnsetType | None = UNSET


class Booking(Struct, forbid_unknown_fields=True, gc=False):
    customer_id: str
    items: list[ItemForm]
    reference: str | UnsetType | None = UNSET
    payment: PaymentForm | UnsetType | None = UNSET
    hold_s: int | UnsetType | None = UNSET


_booking = msgspec.json.Decoder(Booking).decode


def parse_booking(raw: bytes, settings: Settings, gateway: PaymentGateway) -> BookingRequest:
    """Read the body of a booking.

    Raises `Malformed`, or `CardDataRefused` for a card number anywhere but in `payment.card_number`, and there too when
    the gateway takes tokens only.
    """
    try:
        body = _booking(raw)
    except msgspec.ValidationError as error:
        raise told(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if bare := without_mark(raw):
            return parse_booking(bare, settings, gateway)
        raise not_json(raw, error) from None
    _refuse_members_named_twice(raw, body)

    text_max = settings.limits.text_max
    check_text(body.customer_id, "/customer_id", text_max)
    reference = body.reference or None
    if reference:
        check_text(reference, "/reference", text_max)
    lines = _lines(body.items, settings)
    if not body.payment:
        return BookingRequest(body.customer_id, lines, reference, None, _hold_s(body, settings))
    if not _absent(body.hold_s):
        raise Malformed("A booking with its payment is not held.", pointer="/hold_s", code="not_a_hold")
    return BookingRequest(body.customer_id, lines, reference, charge_of(body.payment, text_max, gateway), None)


def _lines(items: list[ItemForm], settings: Settings) -> tuple[tuple[str, int], ...]:
    limits = settings.limits
    if not 1 <= len(items) <= limits.items_max:
        code = "too_many" if items else "empty"
        raise Malformed(f"A booking has 1 to {limits.items_max} items.", pointer="/items", code=code)
    for at, item in enumerate(items):
        if not 1 <= item.quantity <= limits.quantity_max:
            detail = f"A quantity is a whole number from 1 to {limits.quantity_max}."
            raise Malformed(detail, pointer=f"/items/{at}/quantity", code="out_of_range")
        if not 1 <= len(item.tier_id) <= 12 or not item.tier_id.isprintable():
            check_text(item.tier_id, f"/items/{at}/tier_id", ID_MAX)
    lines = tuple([(item.tier_id, item.quantity) for item in items])
    if len(lines) > 1:
        seen = set()
        for at, (tier_id, _) in enumerate(lines):
            if tier_id in seen:
                raise Malformed("A tier is named twice.", pointer=f"/items/{at}/tier_id", code="duplicate_tier")
            seen.add(tier_id)
    return lines


def _hold_s(body: Booking, settings: Settings) -> int | None:
    if body.hold_s is UNSET or body.hold_s is None:
        return None
    if not 1 <= body.hold_s <= settings.holds.ttl_s:
        detail = f"A hold lasts 1 to {settings.holds.ttl_s} seconds."
        raise Malformed(detail, pointer="/hold_s", code="out_of_range")
    return body.hold_s


def charge_of(payment: PaymentForm, text_max: int, gateway: PaymentGateway) -> Charge:
    """How to pay. This is where a card number ends."""
    if payment.method != "card":
        raise Malformed("The only method is card.", pointer="/payment/method", code="unknown_method")
    name = None if payment.card_name is UNSET else payment.card_name
    if name is not None:
        check_text(name, "/payment/card_name", text_max)
    if payment.card_number is UNSET or payment.card_number is None:
        if payment.token is UNSET or payment.token is None:
            raise Malformed("A payment needs a card_number or a token.", pointer="/payment/card_number", code="missing")
        if not 1 <= len(payment.token) <= TOKEN_MAX:
            _refuse_text(payment.token, "/payment/token", TOKEN_MAX)
        check_text(payment.token, "/payment/token", TOKEN_MAX)
        token = gateway.check_token(payment.token)
    else:
        if not _absent(payment.token):
            raise Malformed("Either a card_number or a token.", pointer="/payment/token", code="ambiguous")
        if not gateway.accepts_cards:
            raise CardDataRefused(pointer="/payment/card_number")
        if name is None:
            raise Malformed("A payment by card_number needs a card_name.", pointer="/payment/card_name", code="missing")
        token = gateway.tokenize(_bare(payment.card_number), name)
    return Charge("card", token.token, name, token.last4)


def _absent(value: object) -> bool:
    return value is UNSET or value is None


_BLANKS: Final = re.compile(r"[\s\u2010-\u2015\u2212-]+")


def _bare(card_number: str) -> str:
    """A card number as people type it: with blanks, or dashes, between its digits."""
    return card_number if card_number.isdigit() else _BLANKS.sub("", card_number)


def check_text(text: str, pointer: str, most: int) -> None:
    if not 1 <= len(text) <= most or not text.isascii() or not text.isprintable() or text[0] == " ":
        _refuse_text(text, pointer, most)
    if (len(text) > 12 or not text.isascii()) and has_card_number(text):
        raise CardDataRefused(pointer=pointer)


_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def _refuse_text(text: str, pointer: str, most: int) -> None:
    """Say what is wrong with a text, if anything is."""
    if fault := fault_of(text, most):
        raise Malformed(f"This {fault.what}: {pointer}.", pointer=pointer, code=fault.code)


# What msgspec found


_AT: Final = re.compile(r" - at `\$([a-z_.\[\]0-9]*)`$")
_MISSING: Final = re.compile(r"^Object missing required field `([a-z_0-9]+)`")


def told(said: str) -> Malformed:
    """A decoder's finding in our words. Its own may repeat the input; a path is made of our names and positions."""
    at = _AT.search(said)
    pointer = at[1].replace("[", "/").replace("]", "").replace(".", "/") if at else ""
    if missing := _MISSING.match(said):
        return Malformed("A member is missing.", pointer=f"{pointer}/{missing[1]}", code="missing")
    if said.startswith("Object contains unknown field"):
        return Malformed("There is a member that does not belong here.", pointer=pointer, code="unknown_member")
    if said.startswith("Expected"):
        return Malformed("This is not of the right type.", pointer=pointer, code="wrong_type")
    if "out of range" in said:
        return Malformed("This number is out of range.", pointer=pointer, code="out_of_range")
    return Malformed(pointer=pointer)


_COMPRESSED: Final = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x9c", b"\x78\xda")
"""How gzip, zstd and deflate begin. Brotli has no mark."""

_BYTE: Final = re.compile(r"\(byte ([0-9]+)\)")


def without_mark(raw: bytes) -> bytes:
    """A body behind its byte order mark, which some clients write and a reader may ignore (RFC 8259, 8.1); else nothing."""
    bare = raw.removeprefix(BOM_UTF8)
    return bare if len(bare) < len(raw) and not bare.startswith(BOM_UTF8) else b""


def not_json(raw: bytes, error: Exception) -> Malformed:
    """Why a body could not be read, as far as its bytes tell: never what is in it."""
    if not raw.strip():
        return Malformed("The body is empty.", code="not_json")
    if raw.startswith(_COMPRESSED):
        return Malformed("The body looks compressed: send it as plain JSON in UTF-8.", code="not_json")
    if raw.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or b"\0" in raw[:4]:
        return Malformed("The body looks like UTF-16 or UTF-32: send it in UTF-8.", code="not_json")
    where = _BYTE.search(str(error))
    at = f" It makes no sense from byte {where[1]} on." if where else ""
    return Malformed(f"The body is not JSON in UTF-8.{at}", code="not_json")


# Members named twice, of which a decoder keeps the last


def _refuse_members_named_twice(raw: bytes, body: Booking) -> None:
    """Exact, and cheap for nearly all: each member brings a colon, and so does one named twice.

    Where a text has colons of its own, or an escape hides one, the body is read again.
    """
    members = 2 + 2 * len(body.items) + (body.reference is not UNSET) + (body.hold_s is not UNSET)
    payment = body.payment
    if payment is None:
        members += 1
    elif payment is not UNSET:
        members += 2 + (payment.card_name is not UNSET) + (payment.card_number is not UNSET)
        members += payment.token is not UNSET
    if raw.count(b":") != members or b"\\" in raw:
        try:
            json.loads(raw, object_pairs_hook=refuse_twice)
        except (ValueError, RecursionError):
            raise Malformed("A member is named twice.", code="duplicate_member") from None


def refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member is named twice")
    return members


# Headers and parameters


def parse_idempotency_key(values: Sequence[bytes]) -> str:
    """The digest of the idempotency key: all that is ever kept of it, so nothing in it is looked for.

    It may be quoted, as the Idempotency-Key draft has it, or bare: `"a"` and `a` are the same key. Raises `Malformed`.
    """
    if not values:
        bad_header("An Idempotency-Key is needed here.", "Idempotency-Key", "missing")
    if len(values) > 1:
        bad_header("There is more than one Idempotency-Key.", "Idempotency-Key", "duplicate")
    try:
        key = values[0].decode("ascii").strip(" \t")
    except UnicodeDecodeError:
        bad_header("An Idempotency-Key is printable ASCII.", "Idempotency-Key", "not_printable")
    if key[:1] == '"':
        key = _unquoted(key)
    if not key:
        bad_header("The Idempotency-Key is empty.", "Idempotency-Key", "empty")
    if len(key) > KEY_MAX:
        bad_header(f"An Idempotency-Key has up to {KEY_MAX} characters.", "Idempotency-Key", "too_long")
    if not key.isprintable():
        bad_header("An Idempotency-Key is printable ASCII.", "Idempotency-Key", "not_printable")
    return ids.digest(key)


_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\["\\])*)"')


def _unquoted(key: str) -> str:
    """What a structured-field string says (RFC 9651)."""
    found = _QUOTED.fullmatch(key)
    if found is None:
        bad_header("The Idempotency-Key is not a quoted string.", "Idempotency-Key", "malformed")
    return re.sub(r"\\(.)", r"\1", found[1]) if "\\" in key else found[1]


_UTF8: Final = frozenset((b"utf-8", b"utf8", b"us-ascii", b"ascii"))
"""Names of charsets whose texts are UTF-8."""


def check_content_type(value: bytes | None) -> None:
    """JSON in UTF-8 or nothing. What else the type has for parameters means nothing to us. Raises `Malformed`."""
    if value == b"application/json":
        return
    kind, *parameters = (value or b"").lower().split(b";")
    if kind.strip() != b"application/json":
        bad_header("The Content-Type of a body is application/json.", "Content-Type", "content_type")
    for parameter in parameters:
        name, _, charset = parameter.partition(b"=")
        if name.strip() == b"charset" and charset.strip(b" \t\"'") not in _UTF8:
            bad_header("JSON is in UTF-8: charset=utf-8, or none.", "Content-Type", "charset")


def check_content_encoding(value: bytes | None) -> None:
    """A body comes as it is. Raises `Malformed` for a compressed one."""
    if value is not None and value.strip().lower() not in (b"", b"identity"):
        bad_header("The body is compressed: send it without Content-Encoding.", "Content-Encoding", "content_encoding")


def bad_header(detail: str, header: str, code: str) -> NoReturn:
    error = Malformed(detail, code=code)
    error.details["errors"] = [{"header": header, "code": code}]
    raise error


def bad_parameter(detail: str, parameter: str, code: str) -> Malformed:
    """A parameter of the query that cannot be."""
    error = Malformed(detail, code=code)
    error.details["errors"] = [{"parameter": parameter, "code": code}]
    return error


_SHOPS: Final = frozenset({"customer_id", "event_id", "reference"})


def check_parameter(value: str, parameter: str, most: int = KEY_MAX) -> None:
    """A text in the query. Raises `Malformed`, or `CardDataRefused` where a shop's own texts stand."""
    if not 1 <= len(value) <= most:
        raise bad_parameter(f"This parameter has 1 to {most} characters.", parameter, "length")
    if _CONTROL.search(value):
        raise bad_parameter("This parameter has a control character in it.", parameter, "control_character")
    if parameter in _SHOPS and has_card_number(value):
        raise CardDataRefused(parameter=parameter)
