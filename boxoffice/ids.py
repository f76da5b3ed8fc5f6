"""Identifiers and digests. Ids are opaque to everyone but this module."""

from __future__ import annotations

import hashlib
import os
import re
import secrets

__all__ = [
    "attempt_key",
    "booking_id",
    "canonical_booking_id",
    "digest",
    "fingerprint",
    "owner_digest",
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


class _Pool:
    """Random digits, drawn from the system a few thousand at a time: one call an id is a twentieth of an admission."""

    def __init__(self) -> None:
        self._digits = ""
        self._at = 0

    def hex16(self) -> str:
        if self._at >= len(self._digits):
            self._digits, self._at = os.urandom(4_096).hex(), 0
        self._at += 16
        return self._digits[self._at - 16 : self._at]

    def empty(self) -> None:
        self._digits = ""


_pool = _Pool()
# A child that went on with its parent's digits would make its parent's ids.
os.register_at_fork(after_in_child=_pool.empty)


def booking_id(shard: int, now_ms: int) -> str:
    """A UUIDv7 (RFC 9562) whose 12 bits after the version are the shard: the id alone tells where its record lives.

    62 random bits remain; ids made in the same millisecond are in no order.
    """
    random = _pool.hex16()
    ms = f"{now_ms:012x}"
    variant = "89ab"[random[0] > "7"]
    return f"{ms[:8]}-{ms[8:]}-7{shard:03x}-{variant}{random[1:4]}-{random[4:]}"


def canonical_booking_id(text: str) -> str | None:
    """The id as we write it, or None when no booking can have it."""
    lower = text.lower()
    return lower if _BOOKING_ID.fullmatch(lower) else None


def shard_of(booking: str) -> int:
    """The shard that a booking id names."""
    return int(booking[15:18], 16)


def digest(*parts: str) -> str:
    """SHA-256 over the parts joined by NUL, its first 128 bits as 32 hex digits. No part may hold a NUL."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def scope(client: str, event: str, key_digest: str) -> str:
    """Where an idempotency key is valid: one client, one event. Also the payment key of a booking posted with payment,
    so a booking admitted twice shares its payment with the first."""
    return digest(client, event, key_digest)


def attempt_key(client: str, booking: str, key_digest: str) -> str:
    """The payment key of one attempt to pay a hold: another card comes with another key, a repeat with the same."""
    return digest(client, booking, key_digest)


def fingerprint(customer: str, items: str, method: str, last4: str) -> str:
    """What a request asks for, to tell a repeat from another request under the same key: 64 bits as 16 hex digits.

    Never the card number, a digest of it, or a token.
    """
    return digest(customer, items, method, last4)[:16]


def owner_digest(client: str, customer: str) -> str:
    """Names a shop's customer in the count of tickets a customer holds: 64 bits as 16 hex digits."""
    return digest(client, customer)[:16]
