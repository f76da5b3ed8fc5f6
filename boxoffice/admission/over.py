"""Whom the script has refused for a limit, as this process remembers it until that window ends: whoever is over a limit is
refused without a call of the script, unless it repeats a booking that is in.

Nobody is refused whom the script would let in, but for what may change in a window: the counts are lost (Redis fails over).
So every quarter of a second one booking of each is sent to the script all the same; as soon as one is let in, or a call
fails, nothing is remembered. A limit that was changed is another limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil
from typing import Final

from msgspec import Struct

from boxoffice import ids
from boxoffice.access.rates import Allowance, rate_limited
from boxoffice.admission.forms import Admitted, Form
from boxoffice.admission.outcomes import CREATED
from boxoffice.admission.protocol import Reply
from boxoffice.errors import BoxOfficeError, RateLimited

__all__ = ["CHECKED_EACH_S", "OVER_MAX", "Over"]

OVER_MAX: Final = 10_000
"""API keys, and as many customers, that are remembered to be over a limit, some 300 bytes each. Beyond it all are forgotten at
once."""

CHECKED_EACH_S: Final = 0.25
"""So often the script is asked again of whoever is remembered."""

_NOISE_S: Final = 1e-6
"""Of sums of seconds: a whole number of them is not rounded up to the next."""

Name = tuple[int, str, int | None]
"""Shard, an API key's prefix or a customer's digest, and its limit."""


class _Ends(Struct):
    """When the window ends by this process's clock, in seconds. The script's answer was on its way for a moment, so that there
    is an earliest and a latest time: before the first all are refused, until the other they are told to wait."""

    earliest: float
    latest: float
    checked_at: float
    """When the next booking goes to the script."""


class Over:
    """Of one process, all shards. Seconds are of this process's clock, ms of Redis's."""

    def __init__(self) -> None:
        self._keys: dict[Name, _Ends] = {}
        self._customers: dict[Name, _Ends] = {}
        self._shops: set[str] = set()
        """Clients of these customers: of all others no digest is made."""
        self.until_s = 0.0
        """When the last of them ends; 0 while there is nobody."""

    def refusal(self, shard: int, client: str, customer: str, allowance: Allowance, now: float) -> RateLimited | None:
        """Why a booking is refused if it is no repeat; None when the script is to say. Who is refused alike shares an error,
        which is not to be raised."""
        if now >= self.until_s:
            self.forget()
            return None
        ends = self._keys.get((shard, allowance.api_key, allowance.key_max))
        if ends is not None and now < ends.earliest:
            # Where it is time to ask of the key, its customer is not looked at: this booking is the one that asks.
            return _error("key", allowance.key_max, ends, allowance, now) if _is_over(ends, now) else None
        if allowance.customer_max is None or client not in self._shops:
            return None
        ends = self._customers.get((shard, ids.owner_digest(client, customer), allowance.customer_max))
        if ends is not None and _is_over(ends, now):
            return _error("customer", allowance.customer_max, ends, allowance, now)
        return None

    def has_key(self, shard: int, allowance: Allowance, now: float) -> bool:
        """Whether the API key is over its limit. Asks nobody."""
        ends = self._keys.get((shard, allowance.api_key, allowance.key_max))
        return ends is not None and now < ends.earliest

    def note(
        self, shard: int, forms: Sequence[Form], reply: Reply, answers: Sequence[Admitted | BoxOfficeError | None],
        sent_s: float, answered_s: float,
    ) -> None:  # fmt: skip
        """What the script said of these bookings, which were sent and answered at these times."""
        for form, result, answer in zip(forms, reply.results, answers, strict=True):
            if isinstance(answer, RateLimited):
                left_s = (int(result[3]) - reply.now_ms) / 1_000
                ends = _Ends(sent_s + left_s, answered_s + left_s, answered_s + CHECKED_EACH_S)
                self._add(shard, form, ends, is_key=answer.details["whose"] == "key")
            elif self.until_s and result == CREATED:
                allowance = form.template.allowance
                self._keys.pop((shard, allowance.api_key, allowance.key_max), None)
                if not form.newcomer:
                    self._customers.pop((shard, form.owner, allowance.customer_max), None)

    def forget(self) -> None:
        """Everybody."""
        self._keys.clear()
        self._customers.clear()
        self._shops.clear()
        self.until_s = 0.0

    def _add(self, shard: int, form: Form, ends: _Ends, *, is_key: bool) -> None:
        allowance = form.template.allowance
        if is_key:
            names, name = self._keys, (shard, allowance.api_key, allowance.key_max)
        else:
            names, name = self._customers, (shard, form.owner, allowance.customer_max)
        if len(names) >= OVER_MAX and name not in names:
            self.forget()
        if not is_key:
            self._shops.add(form.template.client)
        names[name] = ends
        self.until_s = max(self.until_s, ends.earliest)


def _is_over(ends: _Ends, now: float) -> bool:
    """Unless it is time to ask the script."""
    if now >= ends.earliest:
        return False
    if now >= ends.checked_at:
        ends.checked_at = now + CHECKED_EACH_S
        return False
    return True


def _error(whose: str, most: int | None, ends: _Ends, allowance: Allowance, now: float) -> RateLimited:
    assert most is not None, "there is a limit, or nobody would be over it"
    left_s = max(1, ceil(ends.latest - now - _NOISE_S))
    return _refused(whose, most, allowance.window_s, left_s, allowance.api_key if whose == "key" else "")


@lru_cache(256)
def _refused(whose: str, limit: int, window_s: int, left_s: int, prefix: str) -> RateLimited:
    return rate_limited(whose, limit, window_s, 1_000 * left_s, prefix)
