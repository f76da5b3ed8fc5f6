"""Card testing, as settlement sees it: counts the payments that were declined, and asks the gateway for no more than it
should of a customer who has too many.

What was counted, admit.lua and pay.lua look at before they let another payment in. Those that came in before the first were
declined are in one claim or a few: of each customer only so many are asked for at once, and the rest waits to see.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from redis.exceptions import RedisError

from boxoffice.books.decisions import DECIDED, Claimed, Decision, Known
from boxoffice.clock import Clock
from boxoffice.errors import GateClosed
from boxoffice.settings import Settings
from boxoffice.settlement.deciding import never_asked
from boxoffice.stores import keys
from boxoffice.stores.shard import Shard
from boxoffice.telemetry.seldom import seldom

__all__ = ["TOO_MANY", "WAIT_S", "Declines", "Sifted"]

TOO_MANY: Final = "too_many_declined"
"""Failure code of a payment that no gateway was asked for."""

WAIT_S: Final = 0.1
"""So long a booking waits until others of its customer are known to be good or not."""

FORGET_S: Final = 60.0
"""What is remembered of a customer is forgotten after so long: the gateway has answered by then, or never will."""

REMEMBERED_MAX: Final = 10_000
"""Customers with several payments at once that this worker remembers."""


class Sifted(NamedTuple):
    """Bookings whose payments are to be asked for, of whom too many were declined, and that are to wait."""

    ask: list[Claimed]
    refused: list[Claimed]
    later: list[Claimed]


class _Customer:
    """Payments of a customer who has several at once, in this worker."""

    __slots__ = ("good", "since", "under_way")

    def __init__(self, since: float) -> None:
        self.since = since
        self.good = 0
        self.under_way: set[str] = set()


class Declines:
    """Of one shard, in one worker."""

    def __init__(self, here: Shard, settings: Settings, clock: Clock) -> None:
        self._here = here
        self._most = settings.declines.customer_max
        self._counts = bool(settings.declines.customer_max or settings.declines.least)
        self._window_ms = 1_000 * settings.declines.window_s
        self._clock = clock
        self._customers: dict[str, _Customer] = {}

    async def sift(self, claims: list[Claimed], known: Mapping[str, Known], now_ms: int) -> Sifted:
        """Whom to ask the gateway for, at `now_ms` of Redis's clock. A customer who has one payment, and had no others just
        before, is not looked at: whoever has too many was refused when it came in. One that may have been asked for before
        is asked for again, whosever it is."""
        owners = {claim.record.owner for claim in claims}
        if not self._most or (len(owners) == len(claims) and self._customers.keys().isdisjoint(owners)):
            return Sifted(claims, [], [])
        times = Counter(claim.record.owner for claim in claims)
        several = [owner for owner, count in times.items() if count > 1 or owner in self._customers]
        declined = await self._declined(several, now_ms)
        sifted = Sifted([], [], [])
        for claim in claims:
            owner = claim.record.owner
            if owner not in declined or not never_asked(claim, known.get(claim.record.id), asked=False):
                sifted.ask.append(claim)
            elif declined[owner] >= self._most:
                sifted.refused.append(claim)
            elif self._begin(claim, self._most - declined[owner]):
                sifted.ask.append(claim)
            else:
                sifted.later.append(claim)
        return sifted

    async def count(self, decisions: Iterable[Decision]) -> None:
        """Count what the gateway answered. What fails here, or dies before, is not counted."""
        answered: dict[tuple[str, str], int] = {}
        declined: Counter[str] = Counter()
        for decision in decisions:
            record, payment = decision.claim.record, decision.payment
            if payment is None:
                continue
            good = payment.status == "authorized"
            if self._customers and (customer := self._customers.get(record.owner)) is not None:
                customer.under_way.discard(record.payment_key)
                customer.good += good
            bad = payment.status == "declined" and payment.failure_code != TOO_MANY
            if (good or bad) and decision.standing is not DECIDED:
                whose = record.body.client, record.event
                answered[whose] = answered.get(whose, 0) + 1
                if bad:
                    declined.update((f"o:{record.owner}", f"c:{record.body.client}", f"e:{record.event}"))
        if answered and self._counts:
            await self._tell(answered, declined)

    async def _tell(self, answered: Mapping[tuple[str, str], int], fields: Counter[str]) -> None:
        for (client, event), payments in answered.items():
            fields[f"C:{client}"] += payments
            fields[f"E:{event}"] += payments
        counts = [part for field, count in fields.items() for part in (field, count)]
        try:
            await self._here.run(
                "decline", declines=keys.declines(self._here.number), window_ms=self._window_ms, counts=counts
            )
        except (RedisError, OSError) as error:
            seldom.warning("declines.uncounted", shard=self._here.number, error=type(error).__name__)

    async def _declined(self, owners: list[str], now_ms: int) -> dict[str, int]:
        """Declined payments of these customers in the present window; none where nobody can say."""
        try:
            fields = ["at", *(f"o:{owner}" for owner in owners)]
            began, *counts = await self._here.redis.hmget(keys.declines(self._here.number), fields)  # type: ignore[misc]
        except (RedisError, OSError, GateClosed):
            began, counts = None, [None] * len(owners)
        current = began is not None and int(began) == now_ms - now_ms % self._window_ms
        return {owner: int(count or 0) if current else 0 for owner, count in zip(owners, counts, strict=True)}

    def _begin(self, claim: Claimed, most: int) -> bool:
        """Whether one more of its customer may be asked for now: no more may be under way than may still be declined, and
        one more for each that was good."""
        owner, now = claim.record.owner, self._clock.now_s()
        customer = self._customers.get(owner)
        if customer is None or now - customer.since > FORGET_S:
            if len(self._customers) >= REMEMBERED_MAX:
                self._customers.clear()
            customer = self._customers[owner] = _Customer(now)
        if claim.record.payment_key not in customer.under_way and len(customer.under_way) >= most + customer.good:
            return False
        customer.under_way.add(claim.record.payment_key)
        return True
