"""How headers show limits: `RateLimit-Policy` and `RateLimit` as the IETF's draft has them
(draft-ietf-httpapi-ratelimit-headers-10), on bookings that are let in and on every refusal for a rate."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from api.transport.reply import Header
from boxoffice.access.rates import Allowance, Spent
from boxoffice.errors import RateLimited

__all__ = ["rate_lines", "refusal_headers"]

_LINES: Final = b'ratelimit-policy: %b\r\nratelimit: "key";r=%d;t=%d\r\n'


@lru_cache(maxsize=64)
def _policies(allowance: Allowance) -> bytes:
    """A list of policies: of quota `q` in a window of `w` seconds."""
    limits = {"key": allowance.key_max, "customer": allowance.customer_max}
    return ", ".join(
        f'"{name}";q={most};w={allowance.window_s}' for name, most in limits.items() if most is not None
    ).encode()


@lru_cache(maxsize=64)
def rate_lines(spent: Spent) -> bytes:
    """Of a booking that is let in: all of its limits, and what is left of the API key's, until its window ends. Bookings of
    one call share them."""
    return _LINES % (_policies(spent.allowance), spent.left, spent.ends_s)


def refusal_headers(error: RateLimited) -> list[Header]:
    """Of the one limit that was reached."""
    details = error.details
    policy = b'"%b"' % error.policy.encode()
    return [
        (b"ratelimit-policy", b"%b;q=%d;w=%d" % (policy, details["limit"], details["window_s"])),
        (b"ratelimit", b"%b;r=0;t=%d" % (policy, details["retry_after_s"])),
    ]
