"""Card testing, as settlement sees it: counts the payments that were declined, and asks the gateway for no more than it
should of a customer who has too many.

What was counted, admit.lua and pay.lua look at before they let another payment in. A good payment takes one declined payment
off its customer's count: some shops have one customer id for everybody. Those that came in before the first were declined are
in some claims of this worker: of each customer only so many are asked for at once, and the rest waits to see.

Where the gateway names cards, those that it declined are counted, too. Whose card a payment is with, nobody but the gateway can
say, and it says so of a payment only in its answer: so it is asked for the card first, but only while one has been declined
too often.

One file because what is under way, what was counted and who waits are looked at together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import inf
from operator import attrgetter
from typing import Final, NamedTuple

from redis.exceptions import RedisError

from boxoffice.books.decisions import DECIDED, Claimed, Decision, Known
from boxoffice.clock import Clock
from boxoffice.errors import GateClosed
from boxoffice.settings import Settings
from boxoffice.settlement.deciding import never_tried
from boxoffice.states import TOO_MANY_DECLINED
from boxoffice.stores import keys
from boxoffice.stores.record import Record
from boxoffice.stores.shard import Shard
from boxoffice.telemetry.seldom import seldom

__all__ = ["WAIT_S", "Declines", "Sifted"]

WAIT_S: Final = 0.1
"""So long a booking waits until others of its customer are known to be good or not."""

FORGET_S: Final = 60.0
"""A payment under way is forgotten after so long: the gateway has answered by then, or never will."""

REMEMBERED_MAX: Final = 10_000
"""Customers with payments under way that this worker remembers; of more, the oldest are forgotten."""


class Sifted(NamedTuple):
    """Bookings whose payments are to be asked for, of whom too many were declined, and that are to wait."""

    ask: list[Claimed]
    refused: list[Claimed]
    later: list[Claimed]


class Declines:
    """Of one shard, in one worker."""

    def __init__(self, here: Shard, settings: Settings, clock: Clock) -> None:
        self._here = here
        self._most = settings.declines.customer_max
        self._card_max = settings.declines.card_max
        self._counts = bool(settings.declines.customer_max or settings.declines.least or self._card_max)
        self._window_ms = 1_000 * settings.declines.window_s
        self._clock = clock
        self._under_way: dict[str, dict[str, float]] = {}
        """By customer: payment key -> second in which it was let through."""
        self._told = 0
        """Batches whose answers are counted."""
        self._good: dict[str, tuple[float, int]] = {}
        """By customer of several at once: until when, and how many of their payments were good."""
        self._put_off: dict[str, float] = {}
        """By customer some of whose payments wait: since when. They may be claimed again one by one."""

    async def sift(
        self, claims: list[Claimed], known: Mapping[str, Known], now_ms: int, tried: Collection[str]
    ) -> Sifted:
        """Whom to ask the gateway for, at `now_ms` of Redis's clock. Of a customer with one payment under way nothing is
        read: whoever has too many was refused when it came in. One that may have been asked for before is asked for again,
        whosever it is: in an earlier claim, or in this one (`tried`, booking ids), whose members are asked for apart."""
        if not self._most:
            return Sifted(claims, [], [])
        several = self._several(claims, known, tried)
        if not several:
            return Sifted(claims, [], [])
        while True:  # counts that were read before others were told would miss those that are under way no more
            told = self._told
            declined = await self._declined(several, now_ms)
            if told == self._told:
                break
        sifted = Sifted([], [], [])
        for claim in claims:
            owner = claim.record.owner
            if owner not in declined or not _is_fresh(claim, known, tried):
                sifted.ask.append(claim)
            elif declined[owner] >= self._most:
                sifted.refused.append(claim)
            elif self._begin(claim, self._room(owner, declined[owner])):
                sifted.ask.append(claim)
            else:
                sifted.later.append(claim)
        self._note_put_off({claim.record.owner for claim in sifted.later})
        return sifted

    async def count(self, decisions: Sequence[Decision]) -> None:
        """Count what the gateway answered. What fails here, or dies before, is not counted."""
        declined = await self._tell(decisions) if self._counts else Counter[str]()
        self._told += 1
        # Last: whoever is sifted meanwhile finds each of them under way, or counted.
        for decision in decisions:
            payment, record = decision.payment, decision.claim.record
            if payment is not None and (under_way := self._under_way.get(record.owner)) is not None:
                if payment.status == "authorized" and (len(under_way) > 1 or record.owner in self._good):
                    self._note_good(record.owner)
                under_way.pop(record.payment_key, None)
                if not under_way:
                    del self._under_way[record.owner]
                    if self._put_off and not declined[f"o:{record.owner}"]:
                        self._put_off.pop(record.owner, None)

    async def _tell(self, decisions: Sequence[Decision]) -> Counter[str]:
        """Good payments are told one by one only when some customer has declined ones, off which they take: rarely. Returns by
        field what was declined and not made up for in the same batch."""
        good, bad, fields = list[Record](), list[Record](), Counter[str]()
        for decision in decisions:
            payment = decision.payment
            if payment is not None and decision.standing is not DECIDED:
                if payment.status == "authorized":
                    good.append(decision.claim.record)
                elif payment.status == "declined" and payment.failure_code != TOO_MANY_DECLINED:
                    bad.append(decision.claim.record)
                    if payment.card and self._card_max:
                        fields[f"f:{payment.card}"] += 1
        if not (good or bad):
            return fields
        for record in bad:
            fields.update((f"o:{record.owner}", f"c:{record.body.client}", f"e:{record.event}"))
        good_ones = _set_off(good, fields) if bad else None
        for (client, event), payments in Counter(map(_whose, good + bad)).items():
            fields[f"C:{client}"] += payments
            fields[f"E:{event}"] += payments
        if await self._run(fields, "") and good:
            if good_ones is None:
                good_ones = _set_off(good, fields)
            await self._run({}, ",".join([f"{owner}:{count}" for owner, count in good_ones.items()]))
        return fields

    async def _run(self, fields: Mapping[str, int], good: str) -> bool:
        """Whether any customer may have declined payments."""
        counts = [part for field, count in fields.items() if count for part in (field, count)]
        if not (counts or good):
            return False
        try:
            most = await self._here.run(
                "decline",
                declines=keys.declines(self._here.number),
                window_ms=self._window_ms,
                card_max=self._card_max,
                good=good,
                counts=counts,
            )
        except (RedisError, OSError) as error:
            seldom.warning("declines.uncounted", shard=self._here.number, error=type(error).__name__)
            return False
        return bool(most)

    async def looks_at_cards(self, now_ms: int) -> bool:
        """Whether a card has been declined too often in the present window: then others may be the same."""
        return bool(self._card_max and (await self._counted(["F"], now_ms))[0])

    async def is_spent(self, card: str, now_ms: int) -> bool:
        """Whether this is such a card. Empty: nobody knows which it is."""
        return bool(card) and (await self._counted([f"f:{card}"], now_ms))[0] >= self._card_max

    async def _declined(self, owners: list[str], now_ms: int) -> dict[str, int]:
        """Declined payments of these customers in the present window."""
        counts = await self._counted([f"o:{owner}" for owner in owners], now_ms)
        return dict(zip(owners, counts, strict=True))

    async def _counted(self, fields: list[str], now_ms: int) -> list[int]:
        """What these are in the present window; 0 where nobody can say."""
        try:
            began, *counts = await self._here.redis.hmget(keys.declines(self._here.number), ["at", *fields])  # type: ignore[misc]
        except (RedisError, OSError, GateClosed):
            return [0] * len(fields)
        current = began is not None and int(began) == now_ms - now_ms % self._window_ms
        return [int(count or 0) if current else 0 for count in counts]

    def _several(self, claims: list[Claimed], known: Mapping[str, Known], tried: Collection[str]) -> list[str]:
        """Customers of these with another payment under way. All of them are under way from now on."""
        now, under_way = self._clock.now_s(), self._under_way
        several: dict[str, None] = {}
        for claim in claims:
            record = claim.record
            if (known or tried or claim.lapses or record.payload.outcome) and not _is_fresh(claim, known, tried):
                continue
            owner = record.owner
            if owner not in under_way and owner not in self._put_off and len(under_way) < REMEMBERED_MAX:
                under_way[owner] = {record.payment_key: now}  # as nearly all of them
            elif not self._alone(claim):
                several[owner] = None
        return [*several]

    def _alone(self, claim: Claimed) -> bool:
        """Whether nothing else of its customer is under way. Then it is, from now on."""
        if self._clock.now_s() - self._put_off.get(claim.record.owner, -inf) <= FORGET_S:
            return False
        under_way = self._of(claim.record.owner)
        if not under_way:
            under_way[claim.record.payment_key] = self._clock.now_s()
        return len(under_way) == 1 and claim.record.payment_key in under_way

    def _note_put_off(self, owners: Iterable[str]) -> None:
        for owner in owners:
            if owner not in self._put_off and len(self._put_off) >= REMEMBERED_MAX:
                del self._put_off[next(iter(self._put_off))]
            self._put_off[owner] = self._clock.now_s()

    def _begin(self, claim: Claimed, most: int) -> bool:
        """Whether it may be asked for now: no more of its customer may be under way than may still be declined."""
        under_way = self._of(claim.record.owner)
        if claim.record.payment_key not in under_way and len(under_way) >= most:
            return False
        under_way.setdefault(claim.record.payment_key, self._clock.now_s())
        return True

    def _room(self, owner: str, declined: int) -> int:
        """How many payments of a customer may be under way: as many as may still be declined. Of whom none is counted, one more
        for each that was good: with some declined, Redis has taken the good ones into account."""
        until_s, good = self._good.get(owner, (0.0, 0))
        return self._most - declined + (good if not declined and self._clock.now_s() <= until_s else 0)

    def _note_good(self, owner: str) -> None:
        now = self._clock.now_s()
        until_s, good = self._good.get(owner, (0.0, 0))
        if now > until_s:
            until_s, good = now + FORGET_S, 0
        if owner not in self._good and len(self._good) >= REMEMBERED_MAX:
            del self._good[next(iter(self._good))]
        self._good[owner] = until_s, good + 1

    def _of(self, owner: str) -> dict[str, float]:
        """What is under way of a customer, without what is to be forgotten."""
        under_way = self._under_way.get(owner)
        if under_way is None:
            if len(self._under_way) >= REMEMBERED_MAX:
                del self._under_way[next(iter(self._under_way))]
            return self._under_way.setdefault(owner, {})
        now = self._clock.now_s()
        for payment_key in [name for name, since in under_way.items() if now - since > FORGET_S]:
            del under_way[payment_key]
        return under_way


_whose: Final = attrgetter("body.client", "event")


def _is_fresh(claim: Claimed, known: Mapping[str, Known], tried: Collection[str]) -> bool:
    booking = claim.record.id
    return never_tried(claim, known.get(booking), tried=booking in tried)


def _set_off(good: Iterable[Record], fields: Counter[str]) -> Counter[str]:
    """By customer, good payments that are left when those that were declined in the same batch, in `fields`, are held against
    them; these are fewer then."""
    left: Counter[str] = Counter()
    for owner, count in Counter([record.owner for record in good]).items():
        even = min(count, fields[f"o:{owner}"])
        if even:
            fields[f"o:{owner}"] -= even
        if count > even:
            left[owner] = count - even
    return left
