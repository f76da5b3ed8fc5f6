"""What may become of a booking and of a payment, and who moves it. Written once, here.

A booking's state is one letter in Redis and a word everywhere else. `TRANSITIONS` is the whole state machine: the
scripts, the settling transaction and the drawing in `docs/payments.md` are tested against it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = [
    "BOOKING_STATES",
    "CALLED_OFF",
    "DELIVERY_STATUSES",
    "DUPLICATE_OF",
    "EVENT_STATUSES",
    "FINAL",
    "GIVEN_BACK",
    "HOLDS_STOCK",
    "KEY_REUSED",
    "LETTERS",
    "MISCONFIGURED",
    "PAYMENT_DUES",
    "PAYMENT_STATUSES",
    "REFUND_ORIGINS",
    "REFUND_STATUSES",
    "TOO_MANY_DECLINED",
    "TRANSITIONS",
    "WITHDRAWN",
    "WORDS",
    "Transition",
]

WORDS: Final = {
    "H": "held",
    "P": "pending",
    "C": "confirmed",
    "F": "failed",
    "E": "expired",
    "X": "cancelled",
}
"""Letter in a Redis record to the word in PostgreSQL and the API."""

LETTERS: Final = {word: letter for letter, word in WORDS.items()}
BOOKING_STATES: Final = tuple(WORDS.values())

FINAL: Final = frozenset("CFEX")
"""States that nothing but a cancellation (C to X) or late success (E to P) leaves."""

HOLDS_STOCK: Final = frozenset("HP")
"""States whose tickets count as held; those of C count as sold; the others' are on sale again."""


class Transition(NamedTuple):
    """One move: from, to, the verb, and who decides it."""

    source: str
    target: str
    verb: str
    decided_by: str


TRANSITIONS: Final = (
    Transition("", "H", "admit", "Redis"),
    Transition("", "P", "admit", "Redis"),
    Transition("H", "P", "pay", "Redis"),
    Transition("P", "C", "settle", "PostgreSQL"),
    Transition("P", "F", "settle", "PostgreSQL"),
    Transition("P", "H", "settle", "PostgreSQL"),
    Transition("P", "E", "settle", "PostgreSQL"),
    Transition("P", "X", "settle", "PostgreSQL"),
    Transition("H", "E", "expire", "Redis"),
    Transition("H", "X", "cancel", "Redis"),
    Transition("C", "X", "move", "PostgreSQL"),
    Transition("E", "P", "revive", "Redis"),
)
"""Every move there is. P to H: a hold's payment was declined in time. P to X: cancelled while a payment was under way.
E to P: the money arrived after the hold had ended, and there was still stock."""

EVENT_STATUSES: Final = ("active", "paused", "inactive", "called_off")
"""`active`: on sale, within its windows. `paused`: for a moment nothing of it is let in. `inactive`: off sale. `called_off`:
it will not take place, for good; what was paid is given back."""

PAYMENT_STATUSES: Final = (
    "unknown",
    "requires_action",
    "authorized",
    "captured",
    "declined",
    "voided",
    "failed",
)
"""`unknown` is undecided, never a failure; `failed` is a payment that ended without money for any reason but a decline."""

PAYMENT_DUES: Final = ("capture", "void")
"""What a payment row still owes the gateway."""

WITHDRAWN: Final = "withdrawn"
"""Why a booking failed that its shop had been told is confirmed: PostgreSQL forgot it, and it could not be written again."""

DUPLICATE_OF: Final = "duplicate_of:"
"""Begins the failure in the record of a booking whose key had been used before, while Redis had forgotten it; behind it
stands the booking that used it first."""

KEY_REUSED: Final = "idempotency_key_reused"
"""Why a booking failed whose key another request had used, which Redis had forgotten and PostgreSQL had not."""

TOO_MANY_DECLINED: Final = "too_many_declined"
"""Failure code of a payment that no gateway was asked for: too many of its customer's had just been declined."""

MISCONFIGURED: Final = "payment_misconfigured"
"""Why a booking failed whose gateway refused us, whatever the card: our key, our account, the currency, the amount."""

CALLED_OFF: Final = "event_called_off"
"""Why a booking failed or was cancelled whose event will not take place."""

REFUND_STATUSES: Final = ("due", "pending", "succeeded", "owed", "written_off", "dropped")
"""`due`: to be asked for. `pending`: the gateway has taken it on. `succeeded`: the gateway says that it is done; it may
still fail, days later. `owed`: the gateway refused, and a person has to try again or to write it off. `dropped`: its
payment was never captured, so there is nothing to give back."""

DELIVERY_STATUSES: Final = ("waiting", "delivered", "given_up")
"""Of a webhook to a shop. `waiting`: to be tried again. `given_up`: tried in vain for as long as one is tried."""

REFUND_ORIGINS: Final = ("shop", "gateway")
"""Who began a refund: the shop, through us; or somebody at the gateway itself, as in its dashboard."""

GIVEN_BACK: Final = ("due", "pending", "succeeded")
"""Refunds that count in `payments.refunded_cents`: paid back, or under way."""
