"""Every kind of notice: when it is written, and what its data says. Written once, here; `docs/notices.md` has the table."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["BY_NAME", "NOTICE_TYPES", "OF_EVENT", "OF_REFUND", "TYPES", "Kind"]


class Kind(NamedTuple):
    """One kind of notice."""

    name: str
    subject: str
    """What it is about: `booking`, `payment`, `refund`, `dispute`, `event` or `webhook_endpoint`."""
    status: str | None
    """The status that its subject has from then on; None: the data says it, or no status moved."""
    when: str
    body: tuple[str, ...] = ()
    """Members of its data, beside the status; each is left out where there is nothing to say."""


_SETTLED: Final = ("failure_code", "duplicate_of", "payment")

TYPES: Final = (
    Kind("booking.pending", "booking", "pending", "Its payment is undecided: it waits for its customer or its bank.",
         _SETTLED),
    Kind("booking.held", "booking", "held", "A payment of the hold brought nothing; another card may.", _SETTLED),
    Kind("booking.confirmed", "booking", "confirmed", "It is sold. What it costs is set aside, and captured next.", _SETTLED),
    Kind("booking.failed", "booking", "failed", "It ended without tickets.", _SETTLED),
    Kind("booking.expired", "booking", "expired", "A hold ended that a payment had been tried for.", _SETTLED),
    Kind("booking.cancelled", "booking", "cancelled", "By its shop, with its event, or as its capture was refused.",
         _SETTLED),
    Kind("booking.changed", "booking", None, "A hold that a payment was tried for has other items, or lasts longer."),
    Kind("booking.refunded", "booking", None, "Tickets of a confirmed booking came back.", ("items", "refund_id")),
    Kind("booking.paid_too_late", "booking", None, "Its money arrived after its end. It goes back.", ("failure_code",)),
    Kind("booking.forgotten", "booking", None, "What was personal in it was erased."),
    Kind("payment.captured", "payment", "captured", "The money was taken.", ("amount_cents",)),
    Kind("payment.capture_refused", "payment", "failed", "The gateway will never capture it: a confirmed booking is cancelled.",
         ("failure_code",)),
    Kind("payment.captured_too_late", "payment", "captured",
         "It was captured after its booking's end, and is refunded.", ("amount_cents", "failure_code")),
    Kind("payment.voided", "payment", "voided", "What was set aside was let go.", ("failure_code",)),
    Kind("payment.failed", "payment", "failed", "It ended without money.", ("failure_code",)),
    Kind("payment.changed", "payment", None, "The gateway's books said otherwise than ours.", ("status", "due")),
    Kind("refund.requested", "refund", "due", "Money is to go back: it was asked for, or is tried again.",
         ("refund_id", "amount_cents", "failure_code")),
    Kind("refund.pending", "refund", "pending", "The gateway has taken it on.", ("refund_id", "amount_cents", "failure_code")),
    Kind("refund.succeeded", "refund", "succeeded", "The gateway says that it is paid.",
         ("refund_id", "amount_cents", "failure_code")),
    Kind("refund.failed", "refund", "owed", "The gateway refused it: the money is owed.",
         ("refund_id", "amount_cents", "failure_code")),
    Kind("refund.written_off", "refund", "written_off", "A person ended it.", ("refund_id", "amount_cents")),
    Kind("refund.dropped", "refund", "dropped", "Its payment was never captured: nothing is to go back.",
         ("refund_id", "amount_cents", "failure_code")),
    Kind("dispute.changed", "dispute", None, "A customer disputes the payment at the bank, or that went on.",
         ("dispute_id", "dispute_status", "amount_cents", "withdrawn")),
    Kind("event.created", "event", None, "It was made, or shared with the shop.", ("status", "version", "action")),
    Kind("event.changed", "event", None, "It, one of its tiers, or who may sell it changed.",
         ("status", "version", "action", "tier_id", "fields")),
    Kind("event.paused", "event", "paused", "Nothing of it is let in for a while.", ("version", "action")),
    Kind("event.resumed", "event", "active", "A pause ended.", ("version", "action")),
    Kind("event.opened", "event", "active", "It is on sale, within its windows.", ("version", "action", "fields")),
    Kind("event.closed", "event", "inactive", "It is off sale.", ("version", "action", "fields")),
    Kind("event.postponed", "event", None, "It starts at another time.", ("status", "version", "action", "fields")),
    Kind("event.called_off", "event", "called_off", "It will not take place: all is given back.", ("version", "action")),
    Kind("webhook_endpoint.disabled", "webhook_endpoint", None, "Nothing more is sent to this endpoint of the shop's.",
         ("endpoint_id", "reason")),
)  # fmt: skip

NOTICE_TYPES: Final = tuple(kind.name for kind in TYPES)

BY_NAME: Final = {kind.name: kind for kind in TYPES}

OF_REFUND: Final = {kind.status: kind.name for kind in TYPES if kind.subject == "refund" and kind.status}
"""Status of a refund to what is told of it."""

OF_EVENT: Final = {
    "create": "event.created", "pause": "event.paused", "resume": "event.resumed", "postpone": "event.postponed",
    "call_off": "event.called_off",
}  # fmt: skip
"""Action of an event's history to what is told of it; any other is a change, unless it opens or closes the event."""
