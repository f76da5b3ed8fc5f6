"""Identifiers: opaque to everybody else, and never alike."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxoffice import ids


@given(st.integers(0, 4_095), st.integers(0, 2**48 - 1))
def test_a_booking_id_is_a_uuid_that_tells_shard_and_time(shard: int, now_ms: int) -> None:
    """Version 7, RFC 9562."""
    booking = ids.booking_id(shard, now_ms)
    parsed = uuid.UUID(booking)

    assert str(parsed) == booking
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == now_ms
    assert ids.shard_of(booking) == shard
    assert ids.canonical_booking_id(booking.upper()) == booking


def test_ids_made_in_the_same_moment_differ() -> None:
    """62 random bits."""
    assert len({ids.booking_id(0, 1) for _ in range(10_000)}) == 10_000
    assert len({ids.short_id() for _ in range(10_000)}) == 10_000


def test_a_fork_makes_ids_of_its_own() -> None:
    """It does not go on with the random digits of its parent."""
    ids.booking_id(0, 1)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, ids.booking_id(0, 1).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 36).decode() != ids.booking_id(0, 1)
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "0" * 36,
        "01a204e7-b111-4003-954e-2d9695df8875",
        "01a204e7b1117003954e2d9695df8875",
        "01a204e7-b111-7003-154e-2d9695df8875",
        "01a204e7-b111-7003-954e-2d9695df8875\n",
    ],
)
def test_what_no_booking_can_have_is_no_booking_id(text: str) -> None:
    """So nobody looks for it."""
    assert ids.canonical_booking_id(text) is None


def test_digests_keep_their_parts_apart() -> None:
    """Moving a character from one part to the next is another digest."""
    assert ids.digest("ab", "c") != ids.digest("a", "bc")
    assert ids.scope("c", "e", "k") == ids.scope("c", "e", "k") != ids.attempt_key("c", "e", "k2")
    assert len(ids.owner_digest("c", "u")) == 16


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (ids.scope, ("shop", "event", "key")),
        (ids.attempt_key, ("shop", "booking", "key")),
        (ids.fingerprint, ("customer", "GA:2", "card", "4242")),
        (ids.fingerprint, ("customer", "GA:2", "card", "4242", 1_000)),
        (ids.payment_fingerprint, ("card", "4242")),
        (ids.owner_digest, ("shop", "customer")),
        (ids.refund_fingerprint, ({"GA": 1, "VIP": 2}, "rain")),
    ],
)
def test_every_part_of_a_key_counts(make: Callable[..., str], parts: tuple[object, ...]) -> None:
    """The same parts make the same key; another part, whichever, makes another."""
    assert make(*parts) == make(*parts)
    for at in range(len(parts)):
        assert make(*parts[:at], "another" if at or make is not ids.refund_fingerprint else {}, *parts[at + 1 :]) != (
            make(*parts)
        )


def test_a_request_that_expects_no_amount_is_another_than_one_that_expects_nothing() -> None:
    """And the one without is what it was before anybody could expect an amount: a repeat is still known."""
    asked = "customer", "GA:2", "card", "4242"
    assert ids.fingerprint(*asked, None) == ids.fingerprint(*asked) != ids.fingerprint(*asked, 0)
    assert ids.fingerprint(*asked) == hashlib.sha256("\0".join(asked).encode()).hexdigest()[:16]


def test_a_refund_is_known_by_its_tickets_and_its_reason() -> None:
    """Which tiers, how many of each, in any order; all that is left is another request than the same tickets named."""
    asked = ids.refund_fingerprint({"GA": 1, "VIP": 2}, "rain")
    assert ids.refund_fingerprint({"VIP": 2, "GA": 1}, "rain") == asked
    others = [{"GA": 2, "VIP": 1}, {"GA": 1}, {"GA": 1, "VIP": 1}, {"GA": 1, "BOX": 2}, {}, None]
    assert len({ids.refund_fingerprint(other, "rain") for other in others} | {asked}) == 7


def test_an_idempotency_key_is_digested_as_anything_else() -> None:
    assert ids.key_digest("k1 ~") == ids.digest("k1 ~")
