"""What a shop may ask for once a booking is there: to pay, change, extend or refund it. As strict as `requests.py`."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from msgspec import Struct

from boxoffice.errors import CardDataRefused, Malformed
from boxoffice.gateway.base import PaymentGateway
from boxoffice.settings import Settings
from boxoffice.stores.record import Charge
from boxoffice.wire.requests import (
    ID_MAX,
    ItemForm,
    PaymentForm,
    charge_of,
    check_amount,
    check_text,
    lines_of,
)
from boxoffice.wire.strict import read_strictly

__all__ = [
    "ChangeRequest",
    "HoldPaymentRequest",
    "RefundRequest",
    "parse_change",
    "parse_extension",
    "parse_nothing",
    "parse_payment",
    "parse_refund",
]

DEFAULT_REASON: Final = "requested"


class RefundRequest(NamedTuple):
    """Tickets to refund, None for all that are left, and why. `owed`: no tickets, but the money that is owed."""

    items: dict[str, int] | None
    reason: str
    owed: bool = False


class ChangeRequest(Struct):
    """What a hold shall have: tier id and quantity, each tier once; and what its shop thinks that all of it costs then."""

    lines: tuple[tuple[str, int], ...]
    expected_amount_cents: int | None = None


class HoldPaymentRequest(NamedTuple):
    """How a hold is to be paid, None for no payment, which does for what costs nothing; and what its shop thinks it costs."""

    charge: Charge | None
    expected_amount_cents: int | None = None


class HoldPayment(Struct, forbid_unknown_fields=True):
    """The fields of `PaymentForm`, which may all be absent, or null, here."""

    method: str | None = None
    card_name: str | None = None
    card_number: str | None = None
    token: str | None = None
    expected_amount_cents: int | None = None


class Change(Struct, forbid_unknown_fields=True):
    items: list[ItemForm]
    expected_amount_cents: int | None = None


class Extension(Struct, forbid_unknown_fields=True):
    extra_s: int


class Refund(Struct, forbid_unknown_fields=True):
    items: list[ItemForm] | Literal["all", "owed"]
    reason: str | None = None


class _Nothing(Struct, forbid_unknown_fields=True):
    pass


def parse_payment(raw: bytes, settings: Settings, gateway: PaymentGateway) -> HoldPaymentRequest:
    """Read how a hold is to be paid: what stands under `payment` in a booking, and what it is expected to cost. No payment for
    no body, or one without any of that, which do for a booking that costs nothing.

    Raises `Malformed`, or `CardDataRefused` for a card number where none may be.
    """
    body = read_strictly(raw.strip(b" \t\r\n") or b"{}", HoldPayment)
    expected, given = check_amount(body.expected_amount_cents), (body.card_name, body.card_number, body.token)
    if body.method is None:
        if given != (None, None, None):
            raise Malformed("A member is missing.", pointer="/method", code="missing")
        return HoldPaymentRequest(None, expected)
    try:
        return HoldPaymentRequest(
            charge_of(PaymentForm(body.method, *given), settings.limits.text_max, gateway), expected
        )
    except (Malformed, CardDataRefused) as error:
        _point_at_body(error)
        raise


def parse_change(raw: bytes, settings: Settings) -> ChangeRequest:
    """Read what a hold shall have instead of what it has. All of it has to be said.

    Raises `Malformed`, or `CardDataRefused`.
    """
    body = read_strictly(raw or b"{}", Change)
    return ChangeRequest(lines_of(body.items, settings), check_amount(body.expected_amount_cents))


def parse_extension(raw: bytes, settings: Settings) -> int:
    """Seconds that a hold shall last longer. They have to be said: a body that was lost must not mean the most.

    Raises `Malformed`.
    """
    extra_s = read_strictly(raw or b"{}", Extension).extra_s
    if not 1 <= extra_s <= settings.holds.ttl_s:
        detail = f"An extension is 1 to {settings.holds.ttl_s} seconds."
        raise Malformed(detail, pointer="/extra_s", code="out_of_range")
    return extra_s


def parse_refund(raw: bytes, settings: Settings) -> RefundRequest:
    """Read what is to be refunded: items, the word `all` for everything that is left, or the word `owed` for what the
    gateway refused to give back before. One of them has to be said: a
    body that was lost must not mean everything.

    Raises `Malformed`.
    """
    body = read_strictly(raw or b"{}", Refund)
    reason = DEFAULT_REASON if body.reason is None else body.reason
    check_text(reason, "/reason", settings.limits.text_max)
    if isinstance(body.items, str):
        return RefundRequest(None, reason, owed=body.items == "owed")
    if not 1 <= len(body.items) <= settings.limits.items_max:
        code = "too_many" if body.items else "empty"
        raise Malformed(f"A refund has 1 to {settings.limits.items_max} items.", pointer="/items", code=code)
    items: dict[str, int] = {}
    for at, item in enumerate(body.items):
        if not 1 <= item.quantity <= settings.limits.quantity_max:
            detail = f"A quantity is a whole number from 1 to {settings.limits.quantity_max}."
            raise Malformed(detail, pointer=f"/items/{at}/quantity", code="out_of_range")
        check_text(item.tier_id, f"/items/{at}/tier_id", ID_MAX)
        if item.tier_id in items:
            raise Malformed("A tier is named twice.", pointer=f"/items/{at}/tier_id", code="duplicate_tier")
        items[item.tier_id] = item.quantity
    return RefundRequest(items, reason)


def parse_nothing(raw: bytes) -> None:
    """A request that takes no body: none, or `{}`. What is said there and not heard might be a part (`items`), and the
    whole would be done.

    Raises `Malformed`.
    """
    if raw:
        read_strictly(raw, _Nothing)


def _point_at_body(error: Malformed | CardDataRefused) -> None:
    """The payment is the whole body here: `/payment/token` is `/token`."""
    if error.pointer.startswith("/payment/"):
        error.pointer = error.pointer.removeprefix("/payment")
    error.details["errors"][0]["pointer"] = error.pointer
