"""A claimed booking, what PostgreSQL knows of it, and what is decided. Values: no I/O, and nothing changes them."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from msgspec import Struct

from boxoffice.stores.record import Payload, Record

__all__ = [
    "CONFIRM",
    "DECIDED",
    "DUPLICATE",
    "NEW",
    "OPEN",
    "Claimed",
    "Decision",
    "Known",
    "PaymentChange",
    "PaymentRow",
    "Standing",
    "Terms",
    "Verdict",
]


class PaymentRow(Struct, frozen=True, gc=False):
    """What PostgreSQL knows of this very payment."""

    status: str
    reference: str | None
    failure_code: str | None
    next_action: str | None
    age_ms: int


class Known(Struct, frozen=True, gc=False):
    """What PostgreSQL knows of the booking, or of the one that used its key first."""

    id: str
    status: str
    failure_code: str | None
    was_sold: bool = False
    """It was confirmed once: its tickets come back as a stock move, not by a verdict."""
    fingerprint: str = ""
    payment: PaymentRow | None = None
    items: str = ""
    """With which it was sold, if it was a hold before; as a record has them."""


class Terms(Struct, frozen=True, gc=False):
    """The rules of one pass."""

    now_ms: int
    deadline_ms: int
    """Age at which an unknown payment is given up."""
    shared: bool = False
    """Leases of this claim may have lapsed: another worker may have asked for its payments."""


class Claimed(Struct, frozen=True, gc=False):
    """One claimed booking, as its claim found it."""

    record: Record
    raw: bytes
    lapses: int


class Standing(Enum):
    """Where a claimed booking stands in PostgreSQL, and so what is written of it."""

    NEW = auto()
    """Never seen: it is inserted."""
    OPEN = auto()
    """There, and its payment undecided: it is updated."""
    DUPLICATE = auto()
    """Another booking used its key first: it is inserted as that one's duplicate."""
    DECIDED = auto()
    """Decided before: nothing is written, and Redis hears of it."""


class Verdict(Enum):
    """What settle.lua is to do with a claimed booking. Its letters stand in settlement/mirror.py."""

    CONFIRM = auto()
    FAIL = auto()
    EXPIRE = auto()
    CANCEL = auto()
    GIVE_BACK = auto()
    """Sold and cancelled before Redis heard of it: its tickets count as sold, and a stock move brings them back."""
    HOLD = auto()
    RELEASE = auto()
    """To be claimed again after the delay."""
    PARK = auto()


NEW: Final = Standing.NEW
OPEN: Final = Standing.OPEN
DUPLICATE: Final = Standing.DUPLICATE
DECIDED: Final = Standing.DECIDED
CONFIRM: Final = Verdict.CONFIRM
"""What every booking is compared with. Python 3.11 takes ten times as long to find a member in its enumeration, eight times
a booking."""


class PaymentChange(Struct, frozen=True, gc=False):
    """What a payment's row is to say."""

    status: str
    reference: str | None = None
    failure_code: str | None = None
    next_action: str | None = None
    due: str | None = None
    """What is still due at the gateway: `capture` or `void`."""
    card: str = ""
    """What the gateway calls the card that it declined. Counted, and never written down."""


class Decision(Struct, frozen=True, gc=False):
    """What becomes of a claimed booking: `status`, `failure` and `payment` go to PostgreSQL, `verdict`, `payload` and
    `delay_ms` to Redis."""

    claim: Claimed
    verdict: Verdict
    payload: Payload
    delay_ms: int = 0
    standing: Standing = Standing.OPEN
    status: str = "pending"
    failure: str | None = None
    payment: PaymentChange | None = None
    """None: nobody asked for a payment."""
    duplicate_of: str | None = None
    """The booking that used this one's key first, while Redis had forgotten it."""
