"""A booking's record in Redis: one string of three lines, packed and unpacked here and nowhere else in Python.

    head      state|sequence|admitted_ms|deadline_ms|payment_key|scope|fingerprint|event|owner|items|tries
    body      JSON that changes only with the items of a hold: client, customer, currency, price of one ticket per item,
              reference, metadata, return_url, and the digest of its access code in brackets of its own, which tell it from a
              text (`lua/lib/access_code.lua`)
    payload   JSON: what settling needs while the booking is undecided, how it went afterwards

`payment_key` is `=` when it is the scope, as in every booking posted with its payment. `tries` is the number of payment
attempts and flags: `e` extended, `x` cancel requested, `r` revived by late success, `b` given back by a stock move before
it was settled here, `g` some of its tickets were given back, `c` changed: its items are others than it was posted with.
`owner`, whose count of tickets the booking is in, is empty once it is final, unless late success may still revive it: whoever
cancels it then knows the owner from PostgreSQL. The scripts read the head only. One string instead of a hash of ten fields
halves the memory of a booking; nothing stands in it twice: tests/boxoffice/stores/test_record.py counts the bytes.

One file because a format is written and read in one place: each field is packed beside where it is unpacked.
"""

from __future__ import annotations

import sys
from binascii import a2b_base64, b2a_base64
from functools import lru_cache
from typing import Final

import msgspec

from boxoffice.states import FINAL

__all__ = [
    "SAME", "Attempt", "Body", "Charge", "Line", "Outcome", "Payload", "Record", "confirmed", "earlier_after", "ended",
    "items_of", "key_after", "metadata_from", "pack_items", "pack_rest", "payment_key_of", "traced", "unpack",
]  # fmt: skip


class Line(msgspec.Struct, array_like=True, frozen=True):
    """One booking item: a tier, how many tickets, and the price of one in minor units."""

    tier: str
    quantity: int
    unit_price_cents: int


class Body(msgspec.Struct, frozen=True):
    """What was booked, by whom."""

    client: str
    customer: str
    amount_cents: int
    currency: str
    lines: tuple[Line, ...]
    reference: str | None = None
    metadata: dict[str, str] | None = None
    """The shop's own words, in the order of their keys; None when there are none."""
    return_url: str | None = None
    """Where its customer comes back to from the bank; None: where all do."""
    access_code: str | None = None
    """Digest of the code that it was made with."""


class _PackedBody(msgspec.Struct, array_like=True, frozen=True):
    """A body as it is packed: tiers and quantities stand in the head, and the amount is their sum."""

    client: str
    customer: str
    currency: str
    prices: tuple[int, ...]
    reference: str | None = None
    metadata: dict[str, str] | None = None
    return_url: str | None = None
    access_code: tuple[str] | None = None


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
    """How a payment went, or goes. The defaults are the commonest: they take no memory."""

    status: str = "authorized"
    method: str = "card"
    last4: str | None = None
    reference: str | None = None
    failure_code: str | None = None
    next_action: str | None = None


class Attempt(msgspec.Struct, array_like=True, frozen=True):
    """An earlier payment of a hold: its payment key, the fingerprint of its request ("" when nobody remembers), and how
    it went."""

    payment_key: str
    fingerprint: str
    outcome: Outcome


class Payload(msgspec.Struct, frozen=True, omit_defaults=True, rename={
    "charge": "p", "outcome": "o", "failure": "f", "key": "k", "fingerprint": "h", "earlier": "e", "owner": "w",
    "trace": "t",
}):  # fmt: skip
    """The changing part. `failure` is why a final booking is not confirmed; `key` the digest of its idempotency key, shorter
    once it has ended: see `key_after`. Of a hold that was paid, `fingerprint` is that of its latest payment's request,
    and `earlier` are the attempts before it, until PostgreSQL is the one to ask. `owner`: of a customer who was forgotten, by
    what its tickets count. `trace`: of a booking that is traced, the `traceparent` of the request that it came with."""

    charge: Charge | None = None
    outcome: Outcome | None = None
    failure: str | None = None
    key: str = ""
    fingerprint: str = ""
    earlier: tuple[Attempt, ...] = ()
    owner: str = ""
    trace: str = ""


SAME: Final = "="
"""Packed in place of a payment key that is the scope."""

_body = msgspec.json.Decoder(_PackedBody)
_payload = msgspec.json.Decoder(Payload)
_encode = msgspec.json.Encoder().encode


class Record(msgspec.Struct):
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
        return int(self.tries.rstrip("exrbgc") or 0)

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
    def given_back(self) -> bool:
        """Whether a stock move brings its tickets back before it was settled here."""
        return "b" in self.tries

    @property
    def refunded(self) -> bool:
        """Whether some of its tickets were given back. PostgreSQL knows how many."""
        return "g" in self.tries

    @property
    def changed(self) -> bool:
        """Whether its items were changed while it was held: PostgreSQL may know it with others."""
        return "c" in self.tries

    def with_lines(self, lines: tuple[Line, ...]) -> Record:
        """The same booking of other items, which are by tier."""
        amount_cents = sum(line.quantity * line.unit_price_cents for line in lines)
        return msgspec.structs.replace(
            self, items=pack_items(lines), tries=self.tries if self.changed else self.tries + "c",
            body=msgspec.structs.replace(self.body, lines=lines, amount_cents=amount_cents),
        )  # fmt: skip

    @property
    def at_bank(self) -> bool:
        """Whether its customer had to go through 3-D Secure when it was last looked at."""
        outcome = self.payload.outcome
        return outcome is not None and outcome.status == "requires_action"

    def pack(self) -> bytes:
        """The record as Redis keeps it."""
        place = f"{self.state}|{self.sequence}|{self.admitted_ms}|{self.deadline_ms}|"
        payload = msgspec.structs.replace(self.payload, key=key_after(self.state, self.payload.key))
        return place.encode() + pack_rest(
            payment_key=self.payment_key, scope=self.scope, fingerprint=self.fingerprint, event=self.event,
            owner="" if _over(self.state) else self.owner, items=self.items, body=self.body, payload=payload,
            tries=self.tries,
        )  # fmt: skip


def pack_items(lines: tuple[Line, ...]) -> str:
    """`tier:quantity,…` in the order of the lines, which is by tier."""
    return ",".join([f"{line.tier}:{line.quantity}" for line in lines])


def pack_rest(
    *, payment_key: str, scope: str, fingerprint: str, event: str, owner: str, items: str, body: Body,
    payload: Payload, tries: str | None = None,
) -> bytes:  # fmt: skip
    """A record behind its deadline; of a new one (no `tries`) admit.lua writes what comes before."""
    if tries is None:
        tries = "1" if payment_key else "0"
    paid_as = SAME if payment_key == scope else payment_key
    head = f"{paid_as}|{scope}|{fingerprint}|{event}|{owner}|{items}|{tries}"
    prices = [line.unit_price_cents for line in body.lines]
    packed: tuple[object, ...] = (body.client, body.customer, body.currency, prices)
    if body.metadata is not None or body.return_url is not None or body.access_code is not None:
        packed += (body.reference, body.metadata, body.return_url)
    elif body.reference is not None:
        packed += (body.reference,)
    if body.access_code is not None:
        packed += ((body.access_code,),)
    return b"\n".join((head.encode(), _encode(packed), _encode(payload)))


def metadata_from(text: str | None) -> dict[str, str] | None:
    """Metadata as PostgreSQL has it, which orders names by their lengths. None for none."""
    return dict(sorted(msgspec.json.decode(text).items())) if text else None


def key_after(state: str, key: str) -> str:
    """How a record of this state keeps its idempotency key's digest: shorter once it has ended. Then it is asked for only
    when PostgreSQL has forgotten the booking, and it is written again."""
    return _short(key) if _over(state) else key


def _short(key: str) -> str:
    return b2a_base64(bytes.fromhex(key), newline=False)[:_SHORT].decode() if len(key) == 32 else key


_SHORT: Final = 22
"""Characters of a digest in base 64, without what fills it up; in hex it has 32."""


def _over(state: str) -> bool:
    """Whether nobody counts its tickets or settles it any more. An expired hold may be revived by late success."""
    return state in FINAL and state != "E"


def earlier_after(state: str, earlier: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """What a record of this state keeps of earlier attempts: nothing, once it cannot be paid or settled any more."""
    return () if state in FINAL and state != "E" else earlier


def ended(payload: Payload, status: str, outcome: Outcome | None, failure: str | None) -> Payload:
    """What a record says once its booking has ended so: nothing that only settling needs. An expired hold may be revived
    by late success."""
    if status == "expired":
        return Payload(None, outcome, failure, payload.key, payload.fingerprint, payload.earlier, trace=payload.trace)
    return Payload(None, outcome, failure, _short(payload.key), payload.fingerprint)


def pack_payload(payload: Payload) -> bytes:
    """The last line alone."""
    return _encode(payload)


def traced(rest: str, traceparent: str) -> str:
    """What `pack_rest` has packed of a new booking, with its trace in the payload; which is not empty, for it has the key."""
    return f'{rest[:-1]},"t":"{traceparent}"}}'


def confirmed(raw: bytes, payload: Payload) -> bytes:
    """The record of a pending booking once it is sold, as settle.lua leaves it: without its owner, whose count it was is
    asked no more."""
    head, packed, _ = raw.split(b"\n", 2)
    begin, _, items, tries = head.rsplit(b"|", 3)
    return b"C%b||%b|%b\n%b\n%b" % (begin[1:], items, tries, packed, _encode(payload))


def unpack(booking_id: str, raw: bytes) -> Record:
    """Read a record.

    Raises ValueError (msgspec's errors are ValueErrors too) when it is no record: such a booking is parked.
    """
    head, packed, payload = raw.split(b"\n", 2)
    (state, sequence, admitted_ms, deadline_ms, payment_key, scope, fingerprint, event, owner, items, tries) = (
        head.decode().split("|")
    )
    body, payment = _body.decode(packed), _payload.decode(payload)
    if payment.charge is not None:
        # A default is left out when it is the very same string, and one that was read is another.
        msgspec.structs.force_setattr(payment.charge, "method", sys.intern(payment.charge.method))
    if len(payment.key) == _SHORT:
        msgspec.structs.force_setattr(payment, "key", a2b_base64(payment.key + "==").hex())
    lines, amount_cents = _lines(items, body.prices)
    return Record(
        booking_id, state, int(sequence), int(admitted_ms), int(deadline_ms),
        scope if payment_key == SAME else payment_key, scope, fingerprint, event, owner, items, tries,
        Body(
            body.client, body.customer, amount_cents, body.currency, lines, body.reference, body.metadata, body.return_url,
            body.access_code[0] if body.access_code else None,
        ), payment,
    )  # fmt: skip


@lru_cache(4_096)
def _lines(items: str, prices: tuple[int, ...]) -> tuple[tuple[Line, ...], int]:
    """The lines and what they cost. Most bookings of a sale ask for what others asked for."""
    lines, amount_cents = [], 0
    for item, price in zip(items.split(","), prices, strict=True):
        tier, _, quantity = item.partition(":")
        lines.append(Line(tier, int(quantity), price))
        amount_cents += int(quantity) * price
    return tuple(lines), amount_cents


def payment_key_of(raw: bytes) -> str:
    """The payment key of a record whose other lines may be unreadable; empty when its head is, too."""
    head = raw.partition(b"\n")[0].decode(errors="replace").split("|")
    if len(head) < 6:
        return ""
    return head[5] if head[4] == SAME else head[4]


def items_of(raw: bytes) -> str:
    """The items of a record whose other lines may be unreadable; empty when its head is, too."""
    return b"".join(raw.partition(b"\n")[0].split(b"|")[9:10]).decode(errors="replace")
