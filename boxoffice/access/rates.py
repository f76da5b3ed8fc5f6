"""How often an API key and a customer may ask for a booking: what an API key may spend in each window of Redis's clock.

The counts are in Redis, one hash a shard, and admit.lua counts there in the call that admits: so a limit holds over all
processes, costs no round trip, and nothing is taken of whoever is refused. A customer is counted there from the second booking
on that one process sees in a window: nearly all of a rush come once.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, structs

from boxoffice.errors import RateLimited
from boxoffice.rate_settings import DeclineSettings, RateSettings

__all__ = ["FREE", "RATE_MAX", "Allowance", "Spent", "allowance_of", "decline_terms", "rate_limited"]

READS_EACH: Final = 10
"""Reads that a key with a limit of its own may send for each booking."""

RATE_MAX: Final = 100_000_000
"""The most that a limit may be."""


class Allowance(Struct, frozen=True, gc=False):
    """Bookings that one API key may ask for in a window: by itself, and for each customer. None: any number."""

    api_key: str = ""
    """Its prefix."""
    key_max: int | None = None
    customer_max: int | None = None
    window_s: int = 10
    declines: str = ""
    """From how many declined payments on no other is let in, as lua/lib/declines.lua reads it; empty: any number."""
    changes_max: int | None = None
    reads_max: int | None = None
    """Other requests in a window: those that change something, and those that only read, which each process counts alone."""

    @property
    def text(self) -> str:
        """As admit.lua reads it; empty when nothing is counted."""
        rates = ""
        if self.key_max is not None or self.customer_max is not None:
            limits = ":".join("" if most is None else str(most) for most in (self.key_max, self.customer_max))
            rates = f"{self.api_key}:{limits}:{1_000 * self.window_s}"
        return f"{rates}|{self.declines}" if self.declines else rates

    @property
    def first(self) -> Allowance:
        """What the script is told of a customer's first booking in a window, as far as this process knows: nobody counts it."""
        return structs.replace(self, customer_max=None)

    @property
    def again(self) -> Allowance:
        """What it is told of the others: the first took one of those that the customer may ask for."""
        return self if self.customer_max is None else structs.replace(self, customer_max=self.customer_max - 1)


FREE: Final = Allowance()
"""Of whoever calls from within: a test, a benchmark."""


class Spent(Struct, frozen=True, eq=False, gc=False):
    """How a limit stands, for the headers of an answer. Bookings of one call have the same one: it is known by itself."""

    allowance: Allowance
    left: int
    """Bookings that the API key may still ask for in this window."""
    ends_s: int
    """Until the window ends, rounded up."""


def decline_terms(settings: DeclineSettings) -> str:
    """As lua/lib/declines.lua reads them."""
    if not (settings.customer_max or settings.least):
        return ""
    return f"{settings.customer_max or ''}:{settings.least or ''}:{settings.share}:{1_000 * settings.window_s}"


def allowance_of(rates: RateSettings, declines: DeclineSettings, prefix: str, own_max: int | None) -> Allowance:
    """Of an API key; `own_max` is what was said of it alone, in place of what is said of all keys."""
    key_max = own_max or rates.key_max or None
    return Allowance(
        prefix, key_max, rates.customer_max or None, rates.window_s, decline_terms(declines),
        changes_max=own_max or rates.changes_max or None,
        reads_max=READS_EACH * own_max if own_max else rates.reads_max or None,
    )  # fmt: skip


def rate_limited(whose: str, limit: int, window_s: int, left_ms: int, key_prefix: str, policy: str = "") -> RateLimited:
    """Nothing more is let in until the window ends: of an API key, or of one of its customers. `policy` says of what, when
    it is no booking."""
    by = "The API key" if whose == "key" else "The customer"
    error = RateLimited(
        f"{by} has asked {limit} times in {window_s} s, and may not ask again before the next window.",
        whose=whose, limit=limit, window_s=window_s, retry_after_s=max(1, -(-left_ms // 1_000)),
    )  # fmt: skip
    error.policy = policy or whose
    if whose == "key":
        error.key_prefix = key_prefix
    return error
