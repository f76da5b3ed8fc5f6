"""What became of one booking of a call, by the words of admit.lua's header. Only here are they read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

__all__ = ["CREATED", "LEFT", "OUTCOMES", "Outcome", "outcome_of"]

CREATED: Final = b"created"
"""The usual result: nothing but the word. The booking is in, since the time of the reply."""

LEFT: Final = b"left"
"""The word of the result to a question whose tickets are there."""


class Created(NamedTuple):
    """It is in, by an earlier sending of this same booking."""

    admitted_ms: int


class Replayed(NamedTuple):
    """Its key was used before, with this request; the record is empty when it is gone."""

    booking_id: str
    record: bytes


class Left(NamedTuple):
    """To a question: no tier is short, so send the booking."""


class Mismatch(NamedTuple):
    """Its key was used before, with another request."""

    booking_id: str


class RateLimited(NamedTuple):
    """It was asked too often, by whom: `key` or `customer`. Until the window ends, nothing more is let in."""

    whose: str
    limit: int
    ends_ms: int


class DeclinedTooOften(NamedTuple):
    """Too many payments were declined, of whom: `customer`, `client` or `event`. It is forgotten in so long."""

    whose: str
    left_ms: int


class Unloaded(NamedTuple):
    """The event's counters are not there."""


class UnknownTier(NamedTuple):
    """The event's counters lack this tier."""

    tier: str


class SaleClosed(NamedTuple):
    """Why: `event`, `started`, or a tier's id."""

    why: str


class Paused(NamedTuple):
    """The event's sale is paused."""


class Ended(NamedTuple):
    """The sale of this tier has ended."""

    tier: str


class NotOpen(NamedTuple):
    """The sale opens then: the last of its tiers."""

    opens_ms: int


class CodeRefused(NamedTuple):
    """Why its access code does not let it in: `unknown`, `revoked`, `expired` or `other_tier`."""

    why: str


class CodeUsedUp(NamedTuple):
    """Fewer tickets than it asks for are left of its access code."""

    left: int


class SoldOut(NamedTuple):
    """Every tier that is short, with what it has for whoever asks, and what of it is held, pending, or set aside for others; a
    counter that is wrong may be below 0."""

    left: dict[str, int]
    held: dict[str, int]
    next_end_ms: int
    """When the next hold of the shard ends; 0 when nothing is held, or nobody looked."""


class BookingLimit(NamedTuple):
    """Too few tickets, or too many, of one booking: of a tier (None: of the event); None for no bound."""

    tier: str | None
    least: int | None
    most: int | None


class CustomerLimit(NamedTuple):
    """Too few tickets, or too many, of one customer: of a tier (None: of the event); None for no bound. `left` is how many
    more the customer may take."""

    tier: str | None
    have: int
    least: int | None
    most: int | None
    left: int | None


class UnpaidLimit(NamedTuple):
    """Too many tickets held and not paid for, of whom: `customer` or `client`."""

    whose: str
    have: int
    limit: int


class PriceChanged(NamedTuple):
    """It costs this amount, which is not what is expected, or `outdated`: one of the prices that we know is another by now,
    though their sum may be the same."""

    amount: int
    outdated: bool


class Busy(NamedTuple):
    """Too many bookings wait for a worker."""


class Malformed(NamedTuple):
    """A quantity that is no count, a tier named twice, or no tickets: no such booking is ever sent."""


class Unexpected(NamedTuple):
    """A word that is not in the script's header."""

    word: str


Outcome = (
    Created | Replayed | Left | Mismatch | RateLimited | Unloaded | UnknownTier | SaleClosed | Paused | Ended | NotOpen
    | DeclinedTooOften | CodeRefused | CodeUsedUp | SoldOut | BookingLimit | CustomerLimit | UnpaidLimit | PriceChanged
    | Busy | Malformed | Unexpected
)  # fmt: skip


def _sold_out(ends_ms: bytes, *short: bytes) -> SoldOut:
    tiers = [tier.decode() for tier in short[::3]]
    left, held = (dict(zip(tiers, map(int, short[at::3]), strict=True)) for at in (1, 2))
    return SoldOut(left, held, int(ends_ms))


def _bound(tickets: Any) -> int | None:
    return int(tickets) or None


OUTCOMES: Final[dict[bytes, Callable[..., Outcome]]] = {
    CREATED: lambda admitted_ms: Created(int(admitted_ms)),
    b"replayed": lambda booking, record: Replayed(booking.decode(), record),
    LEFT: Left,
    b"mismatch": lambda booking: Mismatch(booking.decode()),
    b"rate_limited": lambda whose, limit, ends_ms: RateLimited(whose.decode(), int(limit), int(ends_ms)),
    b"declined_too_often": lambda whose, left_ms: DeclinedTooOften(whose.decode(), int(left_ms)),
    b"unloaded": Unloaded,
    b"unknown_tier": lambda tier: UnknownTier(tier.decode()),
    b"sale_closed": lambda why: SaleClosed(why.decode()),
    b"paused": Paused,
    b"ended": lambda tier: Ended(tier.decode()),
    b"not_open": lambda opens_ms: NotOpen(int(opens_ms)),
    b"code_refused": lambda why: CodeRefused(why.decode()),
    b"code_used_up": lambda left: CodeUsedUp(int(left)),
    b"sold_out": _sold_out,
    b"booking_limit": lambda tier, *bounds: BookingLimit(tier.decode() or None, *map(_bound, bounds)),
    b"customer_limit": lambda tier, have, least, most, left: CustomerLimit(
        tier.decode() or None, int(have), _bound(least), _bound(most), None if left == b"" else int(left)
    ),
    b"unpaid_limit": lambda whose, have, limit: UnpaidLimit(whose.decode(), int(have), int(limit)),
    b"price_changed": lambda amount, outdated: PriceChanged(int(amount), outdated == 1),
    b"busy": Busy,
    b"malformed": Malformed,
}
"""How the details behind each word of the header are read."""


def outcome_of(result: Any) -> Outcome:
    """What became of one booking, unless it is `CREATED`. Raises `ValueError` or `TypeError` when details are missing."""
    word, *details = result
    read = OUTCOMES.get(word)
    return read(*details) if read is not None else Unexpected(word.decode())
