"""What a shop may ask for: bodies, read once, strictly, before anything else happens.

Only JSON in UTF-8, no member twice, no member that we do not know, no number that is not written as a whole number, no
control characters and no card number in any text. A card number in its own place is exchanged for a token here, and
goes no further. Nothing of a refused request is repeated in the refusal: it says where (a JSON pointer, RFC 6901) and
a code.

One file because a body, its parts and their checks are read against each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from boxoffice import ids
from boxoffice.errors import BoxOfficeError, CardDataRefused, Malformed
from boxoffice.gateway.base import PaymentGateway
from boxoffice.settings import Settings
from boxoffice.stores.record import Charge
from boxoffice.telemetry.redaction import has_card_number
from boxoffice.texts import fault_of
from boxoffice.wire.metadata import metadata_of
from boxoffice.wire.strict import in_our_words, not_json, refuse_twice, without_mark

__all__ = [
    "ID_MAX",
    "BookingRequest",
    "named_in",
    "parse_booking",
]

ID_MAX: Final = 64
"""Characters of an event's or a tier's id; ours have 12."""

AMOUNT_MAX: Final = 2**53 - 1
"""Minor units: up to here a double, which Lua and JavaScript count in, knows every whole number."""
CODE_MAX: Final = 64
"""Characters of an access code."""

CODES_KNOWN: Final = 4_096
"""Access codes that were sent last, whose digests are remembered: some 0.8 MB, in the memory of the process alone."""

TOKEN_MAX: Final = 255
"""Characters of a gateway's token."""


class BookingRequest(Struct, gc=False):
    """A booking as asked for, well-formed. Whether there is such a tier is for the catalogue to say."""

    customer_id: str
    lines: tuple[tuple[str, int], ...]
    """Tier id and quantity, each tier once."""
    reference: str | None
    charge: Charge | None
    """None: a hold, to be paid later."""
    hold_s: int | None
    expected_amount_cents: int | None = None
    """What its shop has seen that it costs; None when it does not say."""
    metadata: str | None = None
    """The shop's own words, as JSON in the order of their keys; None when there are none."""
    return_url: str | None = None
    """Where the customer comes back to from the bank; None: where all do."""
    access_code: str = ""
    """Digest of its access code: the code itself ends here. Empty without one."""
    barred: Callable[[], BoxOfficeError] | None = None
    """Makes the error with which it is refused, unless it is the repeat of a booking."""


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
    expected_amount_cents: int | UnsetType | None = UNSET
    metadata: dict[str, str] | UnsetType | None = UNSET
    return_url: str | UnsetType | None = UNSET
    access_code: str | UnsetType | None = UNSET


_booking = msgspec.json.Decoder(Booking).decode


class NamedTier(Struct, gc=False):
    tier_id: str


class NamedBooking(Struct, gc=False):
    """Of a booking's body what tells whose it is, and of which event."""

    customer_id: str
    items: list[NamedTier]


_named = msgspec.json.Decoder(NamedBooking).decode


def named_in(raw: bytes) -> tuple[str, str] | None:
    """A booking's customer and its first tier, of a body that is not checked otherwise; None when they are not in it."""
    try:
        body = _named(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return (body.customer_id, body.items[0].tier_id) if body.items else None


def parse_booking(raw: bytes, settings: Settings, gateway: PaymentGateway) -> BookingRequest:
    """Read the body of a booking.

    Raises `Malformed`, or `CardDataRefused` for a card number anywhere but in `payment.card_number`, and there too when
    the gateway takes tokens only.
    """
    try:
        body = _booking(raw)
    except msgspec.ValidationError as error:
        raise in_our_words(str(error)) from None
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
    lines = lines_of(body.items, settings)
    expected = None if body.expected_amount_cents is UNSET else check_amount(body.expected_amount_cents)
    metadata = metadata_of(body.metadata) if body.metadata else None
    return_url = None if body.return_url is UNSET else body.return_url
    code = _code(body.access_code) if body.access_code else ""
    charge = hold_s = None
    if not body.payment:
        hold_s = _hold_s(body, settings)
    elif body.hold_s is not UNSET and body.hold_s is not None:
        raise Malformed("A booking with its payment is not held.", pointer="/hold_s", code="not_a_hold")
    else:
        charge = charge_of(body.payment, text_max, gateway)
    return BookingRequest(body.customer_id, lines, reference, charge, hold_s, expected, metadata, return_url, code)


@lru_cache(CODES_KNOWN)
def _code(code: str) -> str:
    """Its digest. Many bookings of a presale have the same code: to check and to digest it costs 3 µs."""
    check_text(code, "/access_code", CODE_MAX)
    return ids.code_digest(code)


def check_amount(expected: int | None) -> int | None:
    """Raises `Malformed` for an amount that nothing costs."""
    if expected is not None and not 0 <= expected <= AMOUNT_MAX:
        detail = f"An amount is a whole number of minor units, from 0 to {AMOUNT_MAX}."
        raise Malformed(detail, pointer="/expected_amount_cents", code="out_of_range")
    return expected


def lines_of(items: list[ItemForm], settings: Settings) -> tuple[tuple[str, int], ...]:
    """Tier id and quantity of what is to be booked. Raises `Malformed`."""
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
    # A comprehension is a call, and nearly all have one item.
    lines = (
        ((item.tier_id, item.quantity),)
        if len(items) == 1
        else tuple([(each.tier_id, each.quantity) for each in items])
    )
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
        if payment.token is not UNSET and payment.token is not None:
            raise Malformed("Either a card_number or a token.", pointer="/payment/token", code="ambiguous")
        if not gateway.accepts_cards:
            raise CardDataRefused(pointer="/payment/card_number")
        if name is None:
            raise Malformed("A payment by card_number needs a card_name.", pointer="/payment/card_name", code="missing")
        token = gateway.tokenize(_bare(payment.card_number), name)
    return Charge("card", token.token, name, token.last4)


_BLANKS: Final = re.compile(r"[\s\u2010-\u2015\u2212-]+")


def _bare(card_number: str) -> str:
    """A card number as people type it: with blanks, or dashes, between its digits."""
    return card_number if card_number.isdigit() else _BLANKS.sub("", card_number)


def check_text(text: str, pointer: str, most: int) -> None:
    if not 1 <= len(text) <= most or not text.isascii() or not text.isprintable() or text[0] == " ":
        _refuse_text(text, pointer, most)
    if (len(text) > 12 or not text.isascii()) and has_card_number(text):
        raise CardDataRefused(pointer=pointer)


def _refuse_text(text: str, pointer: str, most: int) -> None:
    """Say what is wrong with a text, if anything is."""
    if fault := fault_of(text, most):
        raise Malformed(f"This {fault.what}: {pointer}.", pointer=pointer, code=fault.code)


# Members named twice, of which a decoder keeps the last


def _refuse_members_named_twice(raw: bytes, body: Booking) -> None:
    """Exact, and cheap for nearly all: each member brings a colon, and so does one named twice.

    Where a text has colons of its own, or an escape hides one, the body is read again.
    """
    members = 2 + 2 * len(body.items) + (body.reference is not UNSET) + (body.hold_s is not UNSET)
    members += body.expected_amount_cents is not UNSET
    if body.metadata is not UNSET:
        members += 1 + len(body.metadata or ())
    members += body.return_url is not UNSET
    members += body.access_code is not UNSET
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
