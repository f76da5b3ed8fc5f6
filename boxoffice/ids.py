"""Identifiers and digests. Ids are opaque to everyone but this module."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterable
from typing import Final

__all__ = [
    "attempt_key",
    "booking_id",
    "canonical_booking_id",
    "change_fingerprint",
    "code_digest",
    "digest",
    "fingerprint",
    "key_digest",
    "made_ms",
    "owner_digest",
    "owners_of",
    "payment_fingerprint",
    "refund_fingerprint",
    "scope",
    "shard_of",
    "short_id",
]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32 in lower case: no letter that can be taken for a digit."""

_BOOKING_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def short_id() -> str:
    """An id for a client, an event or a tier: 12 characters, 60 random bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(12))


class _Maker:
    """Makes booking ids. What a millisecond's ids have in common is written once, and chance is drawn from the system a
    few thousand digits at a time: one call an id would be a twentieth of an admission."""

    def __init__(self) -> None:
        self._tails: list[str] = []
        self._head = ""
        self._made_for: tuple[int, int] | None = None

    def make(self, shard: int, now_ms: int) -> str:
        if self._made_for != (shard, now_ms):
            ms = f"{now_ms:012x}"
            self._head, self._made_for = f"{ms[:8]}-{ms[8:]}-7{shard:03x}-", (shard, now_ms)
        if not self._tails:
            digits = os.urandom(4_096).hex()
            self._tails = [
                f"{'89ab'[digits[at] > '7']}{digits[at + 1 : at + 4]}-{digits[at + 4 : at + 16]}"
                for at in range(0, len(digits), 16)
            ]
        return self._head + self._tails.pop()

    def forget(self) -> None:
        """Draw anew."""
        self._tails = []


_maker = _Maker()
# A child that went on with its parent's digits would make its parent's ids.
os.register_at_fork(after_in_child=_maker.forget)


def booking_id(shard: int, now_ms: int) -> str:
    """A UUIDv7 (RFC 9562) whose 12 bits after the version are the shard: the id alone tells where its record lives.

    62 random bits remain; ids made in the same millisecond are in no order.
    """
    return _maker.make(shard, now_ms)


def canonical_booking_id(text: str) -> str | None:
    """The id as we write it, or None when no booking can have it."""
    lower = text.lower()
    return lower if _BOOKING_ID.fullmatch(lower) else None


def shard_of(booking: str) -> int:
    """The shard that a booking id names."""
    return int(booking[15:18], 16)


_sha256 = hashlib.sha256


def digest(*parts: str) -> str:
    """SHA-256 over the parts joined by NUL, its first 128 bits as 32 hex digits. No part may hold a NUL."""
    return _sha256("\0".join(parts).encode()).hexdigest()[:32]


def key_digest(key: str) -> str:
    """`digest` of an idempotency key, as every booking asks for it."""
    return _sha256(key.encode()).hexdigest()[:32]


def scope(client: str, event: str, key_digest: str) -> str:
    """Where an idempotency key is valid: one client, one event. Also the payment key of a booking posted with payment,
    so a booking admitted twice shares its payment with the first."""
    return _sha256(f"{client}\0{event}\0{key_digest}".encode()).hexdigest()[:32]


def attempt_key(client: str, booking: str, key_digest: str) -> str:
    """The payment key of one attempt to pay a hold: another card comes with another key, a repeat with the same."""
    return digest(client, booking, key_digest)


def fingerprint(
    customer: str,
    items: str,
    method: str,
    last4: str,
    expected_cents: int | None = None,
    metadata: str | None = None,
    access_code: str = "",
) -> str:
    """What a request asks for, to tell a repeat from another request under the same key: 64 bits as 16 hex digits.

    Never the card number or a digest of it. `last4` is the gateway's token where the gateway tells no digits;
    `expected_cents` is None when the request expects no amount. `metadata` is JSON, None when there is none. `access_code` is a
    code's digest.
    """
    parts = f"{customer}\0{items}\0{method}\0{last4}"
    if expected_cents is not None:
        parts += f"\0{expected_cents}"
    if metadata is not None:
        parts += f"\0{metadata}"
    if access_code:
        parts += f"\0k{access_code}"
    return _sha256(parts.encode()).hexdigest()[:16]


def payment_fingerprint(method: str, last4: str) -> str:
    """The same of a hold's payment. Both are empty for a booking that costs nothing and was confirmed without a card."""
    return digest(method, last4)[:16]


def made_ms(booking_id: str) -> int | None:
    """When a booking id was made, in ms; None when it is none of ours."""
    booking = canonical_booking_id(booking_id)
    return int(booking[:8] + booking[9:13], 16) if booking else None


def refund_fingerprint(items: dict[str, int] | None, reason: str) -> str:
    """What a refund asks for, as `fingerprint` for a booking: tickets by tier in any order (None: all that is left), and
    the reason."""
    lines = sorted((items or {}).items())
    return digest("all" if items is None else ",".join(f"{tier}:{count}" for tier, count in lines), reason)[:16]


def change_fingerprint(lines: Iterable[tuple[str, int]], expected_cents: int | None) -> str:
    """What a change of a hold asks for, as `fingerprint` for a booking: tickets by tier in any order, and the amount that is
    expected; None for none."""
    items = ",".join(f"{tier}:{count}" for tier, count in sorted(lines))
    return digest(items, "" if expected_cents is None else str(expected_cents))[:16]


def owner_digest(client: str, customer: str) -> str:
    """Names a shop's customer in the count of tickets a customer holds: 64 bits as 16 hex digits."""
    return _sha256(f"{client}\0{customer}".encode()).hexdigest()[:16]


def owners_of(owner: str, access_code: str | None, client: str) -> str:
    """Everybody in whose count of tickets a booking is, as stock moves name them (`lua/lib/whose.lua`): its customer and its
    access code, both by their digests, and its shop."""
    return f"{owner}k{access_code}@{client}" if access_code else f"{owner}@{client}"


_LOOK_ALIKE: Final = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None})


def code_digest(code: str) -> str:
    """What is kept of an access code: 128 bits as 32 hex digits. However it is typed: capitals, dashes, blanks, and the letters
    that look like digits make no difference."""
    return digest(code.upper().translate(_LOOK_ALIKE))
