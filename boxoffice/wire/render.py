"""How events and bookings read: the one place that turns them into the JSON that shops get.

A booking looks the same whether Redis or PostgreSQL told of it.

One file because a shop reads one vocabulary: each view stands beside the function that writes it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from boxoffice.clock import micros, timestamp
from boxoffice.money.refunds import Refunded
from boxoffice.sales.catalogue import EventView
from boxoffice.states import WORDS
from boxoffice.stores.record import Record

__all__ = [
    "FAILURES",
    "BookingView",
    "FailureView",
    "ItemView",
    "PaymentView",
    "RefundItemView",
    "RefundRowView",
    "RefundState",
    "RefundView",
    "booking",
    "event",
    "failure_of",
    "left",
    "of_record",
    "page",
    "refund",
    "refund_row",
    "seconds_left",
    "with_left",
]

FAILURES: Final = {
    "payment_declined": "The payment was declined.",
    "payment_unavailable": "The payment could not be completed in time.",
    "payment_misconfigured": "The gateway cannot take this payment, whatever the card; the shop or its operator has to act.",
    "payment_amount_mismatch": "The gateway authorised another amount, which was let go.",
    "sold_out_at_commit": "The tickets were gone when the payment had been authorised, which was let go.",
    "capture_failed": "The payment could not be captured.",
    "paid_too_late": "The payment arrived after the hold had ended and the tickets were gone; it goes back.",
    "idempotency_key_reused": "Its idempotency key had been used for another request; no money was asked for.",
    "cancelled": "The booking was cancelled.",
    "event_called_off": "The event will not take place. What was paid goes back.",
    "refunded": "All of its tickets were refunded.",
    "withdrawn": "It had been confirmed, and the database lost it; it could not be written again, and its money goes back.",
    "poison": "The booking could not be stored; an operator ended it.",
}
"""Failure code of a booking that ended to its sentence. `docs/errors.md` lists them."""


class ItemView(msgspec.Struct, gc=False):
    """One tier and a quantity in a booking."""

    tier_id: str
    code: str
    quantity: int
    refunded: int
    """Of the quantity: cancelled or refunded. The others are valid as long as the booking is confirmed."""
    unit_price_cents: int
    line_total_cents: int


class PaymentView(msgspec.Struct, gc=False):
    """How the latest payment of a booking went, or goes."""

    status: str
    method: str
    last4: str | None = None
    reference: str | None = None
    failure_code: str | None = None
    next_action: str | None = None
    """Where the customer has to go before the payment can go on."""


class FailureView(msgspec.Struct, gc=False):
    """Why a booking that ended was not confirmed."""

    code: str
    message: str


class RefundState(msgspec.Struct, gc=False):
    """How the refunds of a booking stand, all together."""

    status: str
    """`owed` when anything is, else `pending` when anything is under way, else `succeeded` or `written_off`."""
    pending_cents: int
    owed_cents: int
    code: str | None
    """Why the gateway refused."""
    since: str | None


class BookingView(msgspec.Struct, gc=False):
    """A booking as its shop sees it."""

    id: str
    status: str
    event_id: str
    customer_id: str
    reference: str | None
    metadata: dict[str, str]
    """The shop's own words; empty when there are none."""
    return_url: str | None
    """Where its customer comes back to from the bank; None: where all do."""
    items: list[ItemView]
    amount_cents: int
    currency: str
    refunded_cents: int
    """Given back so far, or on its way. Never what is owed."""
    refund: RefundState | None
    """None while nothing was refunded."""
    created_at: str
    expires_at: str | None
    """When the hold ends; None for a booking posted with its payment."""
    expires_in_s: int | None
    """Whole seconds until then; None when there is no such time, or the booking is final."""
    payment: PaymentView | None
    failure: FailureView | None


class RefundView(msgspec.Struct, gc=False):
    """Money on its way back."""

    id: str | None
    booking_id: str
    booking_status: str
    amount_cents: int
    currency: str
    status: str


class RefundItemView(msgspec.Struct, gc=False):
    """Tickets of one tier that came back with a refund."""

    tier_id: str
    code: str
    quantity: int


class RefundRowView(msgspec.Struct, gc=False):
    """A refund as the books have it."""

    id: str
    booking_id: str
    amount_cents: int
    currency: str
    status: str
    items: list[RefundItemView]
    """Empty when money came back and no tickets."""
    reason: str
    origin: str
    failure_code: str | None
    """The gateway's last word on why it is not paid."""
    owed_since: str | None
    """When the gateway refused it first."""
    created_at: str
    updated_at: str


_json = msgspec.json.Encoder().encode


def of_record(record: Record, event: EventView, now_ms: int | None = None) -> BookingView:
    """What a record in Redis says, with the codes of its event's tiers."""
    body = record.body
    codes = _texts_of(event).codes
    failure = record.payload.failure
    return BookingView(
        record.id,
        WORDS[record.state],
        record.event,
        body.customer,
        body.reference,
        body.metadata or {},
        body.return_url,
        [
            ItemView(line.tier, codes.get(line.tier, ""), line.quantity, 0, line.unit_price_cents,
                     line.quantity * line.unit_price_cents)
            for line in body.lines
        ],
        body.amount_cents,
        body.currency,
        0,
        None,
        timestamp(record.admitted_ms),
        timestamp(record.deadline_ms) if record.deadline_ms else None,
        seconds_left(record.deadline_ms, WORDS[record.state], now_ms),
        _payment(record),
        failure_of(failure) if failure else None,
    )  # fmt: skip


def _payment(record: Record) -> PaymentView | None:
    charge, outcome = record.payload.charge, record.payload.outcome
    if outcome is not None:
        # To a shop, a payment whose outcome nobody can tell yet is one that is under way.
        status = "pending" if outcome.status == "unknown" else outcome.status
        return PaymentView(
            status, outcome.method, outcome.last4, outcome.reference, outcome.failure_code, outcome.next_action
        )
    if charge is not None:
        return PaymentView("pending", charge.method, charge.last4)
    return None


def seconds_left(deadline_ms: int, status: str, now_ms: int | None = None) -> int | None:
    """Until a hold ends, by this host's clock unless the time is given."""
    if not deadline_ms or status not in ("held", "pending"):
        return None
    return max(0, (deadline_ms - (now_ms or time.time_ns() // 1_000_000)) // 1_000)


def failure_of(code: str) -> FailureView:
    """A failure code with its sentence."""
    return FailureView(code, FAILURES.get(code, "The booking failed."))


def booking(view: BookingView) -> bytes:
    """A booking as JSON."""
    return _json(view)


def refund(refunded: Refunded) -> bytes:
    """A refund as JSON."""
    return _json(
        RefundView(
            refunded.refund_key,
            refunded.booking_id,
            refunded.status,
            refunded.amount_cents,
            refunded.currency,
            refunded.refund_status,
        )
    )


def refund_row(view: RefundRowView) -> bytes:
    """A refund of the books as JSON."""
    return _json(view)


class _Texts:
    """What of an event is the same in every answer: everything but the counts."""

    def __init__(self, view: EventView) -> None:
        self.view = view
        self.codes = {tier.id: tier.code for tier in view.tiers}
        self.active = [at for at, tier in enumerate(view.tiers) if tier.active]
        self.event = _template(_json(view.describe([_MARK] * len(view.tiers))))
        shown = [{"tier_id": tier.id, "code": tier.code, "available": _MARK} for tier in view.tiers if tier.active]
        self.left = _template(_json(shown))
        self.last: Sequence[int] | None = None
        self.last_left = b""

    def counts(self, available: Sequence[int]) -> tuple[int, ...]:
        if len(self.active) == len(available):
            return tuple(available)
        return tuple([available[at] for at in self.active])


_MARK: Final = -987_654_321_012_345


def _template(text: bytes) -> bytes:
    return text.replace(b"%", b"%%").replace(b":%d" % _MARK, b":%d")


texts_by_event: dict[str, _Texts] = {}
"""Remembered per event as long as its view is the same object. Nothing but speed depends on it."""


def _texts_of(view: EventView) -> _Texts:
    texts = texts_by_event.get(view.id)
    if texts is None or texts.view is not view:
        if len(texts_by_event) > 10_000:
            texts_by_event.clear()
        texts = texts_by_event[view.id] = _Texts(view)
    return texts


def event(view: EventView, available: Sequence[int]) -> bytes:
    """An event with its active tiers in display order, and what is left of each: `EventView.describe` as JSON."""
    texts = _texts_of(view)
    return texts.event % texts.counts(available)


def left(view: EventView, available: Sequence[int]) -> bytes:
    """What is left of each active tier, in display order."""
    texts = _texts_of(view)
    # The bookings of one admission call are told the same counts, in the same object.
    if texts.last is not available:
        texts.last, texts.last_left = available, texts.left % texts.counts(available)
    return texts.last_left


def with_left(shown: bytes, view: EventView, available: Sequence[int]) -> bytes:
    """A booking as JSON together with what is left of its event, so that a shop front needs no second call."""
    global _last_left
    if _last_left[0] is not available or _last_left[1] is not view:
        _last_left = available, view, left(view, available)
    return b'%b,"availability":%b}' % (shown[:-1], _last_left[2])


_last_left: tuple[object, object, bytes] = None, None, b""
"""The counts of the last such answer, their event, and both as JSON: bookings of one admission call have the same."""


def page(shown: Sequence[bytes], next_cursor: str | None, as_of: datetime | None = None) -> bytes:
    """One page of a listing; with how far it goes, to the microsecond, when that is known."""
    as_of_member = b"" if as_of is None else b',"as_of":%b' % _json(micros(as_of))
    return b'{"data":[%b],"next_cursor":%b%b}' % (b",".join(shown), _json(next_cursor), as_of_member)
