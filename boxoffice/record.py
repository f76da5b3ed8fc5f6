"""A booking's record in Redis: one string of three lines, packed and unpacked here and nowhere else in Python.

    head      state|sequence|admitted_ms|deadline_ms|payment_key|scope|fingerprint|event|owner|items|tries
    body      JSON that never changes: client, customer, reference, key, amount, currency, lines
    payload   JSON: what the gateway needs while the booking is pending, how it went afterwards

`tries` is the number of payment attempts and flags: `e` extended, `x` cancel requested, `r` revived by late success,
`b` given back by a stock move before it was settled here, `g` some of its tickets were given back.
The scripts read the head only. One string instead of a hash of ten fields halves the memory of a booking.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

__all__ = [
    "Body",
    "Charge",
    "Line",
    "Outcome",
    "Payload",
    "Record",
    "pack_items",
    "pack_rest",
    "payment_key_of",
    "unpack",
]


class Line(msgspec.Struct, array_like=True, frozen=True):
    """One booking item: a tier, how many tickets, and the price of one in minor units."""

    tier: str
    quantity: int
    unit_price_cents: int


class Body(msgspec.Struct, frozen=True, omit_defaults=True, rename={
    "client": "c", "customer": "u", "key": "k", "amount_cents": "a", "currency": "y", "lines": "l", "reference": "r",
}):  # fmt: skip
    """What was booked, by whom. `key` is the digest of the idempotency key."""

    client: str
    customer: str
    key: str
    amount_cents: int
    currency: str
    lines: tuple[Line, ...]
    reference: str | None = None


class Charge(msgspec.Struct, frozen=True, omit_defaults=True, rename={
    "method": "m", "token": "t", "card_name": "n", "last4": "l",
}):  # fmt: skip
    """How the customer pays. The token says behaviour and last four, never a card number."""

    method: str
    token: str
    card_name: str | None = None
    last4: str | None = None


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True, rename={
    "status": "s", "method": "m", "last4": "l", "reference": "r", "failure_code": "f", "next_action": "n",
}):  # fmt: skip
    """How a payment went, or goes."""

    status: str
    method: str
    last4: str | None = None
    reference: str | None = None
    failure_code: str | None = None
    next_action: str | None = None


class Payload(msgspec.Struct, frozen=True, omit_defaults=True, rename={
    "charge": "p", "outcome": "o", "failure": "f",
}):  # fmt: skip
    """The changing part. `failure` is why a final booking is not confirmed."""

    charge: Charge | None = None
    outcome: Outcome | None = None
    failure: str | None = None


_body = msgspec.json.Decoder(Body)
_payload = msgspec.json.Decoder(Payload)
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Record:
    """An unpacked record."""

    id: str
    state: str
    sequence: int
    admitted_ms: int
    deadline_ms: int
    payment_key: str
    scope: str
    fingerprint: str
    event: str
    owner: str
    items: str
    tries: str
    body: Body
    payload: Payload

    @property
    def attempts(self) -> int:
        """Payments that were tried."""
        return int(self.tries.rstrip("exrbg") or 0)

    @property
    def extended(self) -> bool:
        """Whether the hold was extended before."""
        return "e" in self.tries

    @property
    def cancel_requested(self) -> bool:
        """Whether the shop cancelled while a payment was under way."""
        return "x" in self.tries

    @property
    def revived(self) -> bool:
        """Whether its money arrived after its hold had ended, and there was still stock."""
        return "r" in self.tries

    @property
    def refunded(self) -> bool:
        """Whether some of its tickets were given back. PostgreSQL knows how many."""
        return "g" in self.tries

    def pack(self) -> bytes:
        """The record as Redis keeps it."""
        head = (
            f"{self.state}|{self.sequence}|{self.admitted_ms}|{self.deadline_ms}|{self.payment_key}|{self.scope}|"
            f"{self.fingerprint}|{self.event}|{self.owner}|{self.items}|{self.tries}"
        )
        return b"\n".join((head.encode(), _encode(self.body), _encode(self.payload)))


def pack_items(lines: tuple[Line, ...]) -> str:
    """`tier:quantity,…` in the order of the lines, which is by tier."""
    return ",".join([f"{line.tier}:{line.quantity}" for line in lines])


def pack_rest(
    *, payment_key: str, scope: str, fingerprint: str, event: str, owner: str, items: str, body: Body, payload: Payload
) -> bytes:
    """A new record behind its deadline, as admit.lua completes it."""
    head = f"{payment_key}|{scope}|{fingerprint}|{event}|{owner}|{items}|{1 if payment_key else 0}"
    return b"\n".join((head.encode(), _encode(body), _encode(payload)))


def pack_payload(payload: Payload) -> bytes:
    """The last line alone."""
    return _encode(payload)


def unpack(booking_id: str, raw: bytes) -> Record:
    """Read a record.

    Raises ValueError (msgspec's errors are ValueErrors too) when it is no record: such a booking is parked.
    """
    head, body, payload = raw.split(b"\n", 2)
    (state, sequence, admitted_ms, deadline_ms, payment_key, scope, fingerprint, event, owner, items, tries) = (
        head.decode().split("|")
    )
    return Record(
        booking_id, state, int(sequence), int(admitted_ms), int(deadline_ms), payment_key, scope, fingerprint, event,
        owner, items, tries, _body.decode(body), _payload.decode(payload),
    )  # fmt: skip


def payment_key_of(raw: bytes) -> str:
    """The payment key of a record whose other lines may be unreadable; empty when its head is, too."""
    head = raw.partition(b"\n")[0].decode(errors="replace").split("|")
    return head[4] if len(head) > 4 else ""
