"""Telling Redis what PostgreSQL has decided of a shard's bookings: the last step of a settlement, safe to repeat."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from redis.asyncio import Redis

from boxoffice.bookings.holds import Holds
from boxoffice.books.decisions import Case
from boxoffice.crashpoint import crashpoint
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores.fence import Pair
from boxoffice.stores.gate import once_checked
from boxoffice.stores.record import confirmed, pack_payload
from boxoffice.stores.scripts import Scripts
from boxoffice.stores.shard import Shard

__all__ = ["Mirror"]

CHUNK: Final = 250
"""Bookings settled by one script call: some milliseconds in which Redis runs nothing else."""


CHECK_S: Final = 10.0
"""How long a server that has just started is waited for, to be checked."""


class Mirror:
    """Of one shard. Its scripts move a booking only from P, and only under the payment that was decided."""

    def __init__(self, shard: int, redis: Redis, scripts: Scripts, holds: Holds, settings: Settings) -> None:
        self._shard = shard
        self._redis = redis
        self._here = Shard(redis, scripts, shard)
        self._holds = holds
        self._ttl_s = settings.worker.settled_ttl_s

    async def tell(self, cases: list[Case], pair: Pair | None = None) -> None:
        """What PostgreSQL has decided, a chunk at a time, by the commit of this pair; None when nothing is final. Each case
        is `done` as soon as Redis knows.

        Raises `GateClosed`, for a server that has just started after a while: the guard's check tells it then."""
        sold: list[Case] = []
        others: list[Case] = []
        for case in cases:
            (sold if case.just_sold else others).append(case)
        for say, told in ((self._confirm, sold), (self._settle, others)):
            for start in range(0, len(told), CHUNK):
                chunk = told[start : start + CHUNK]
                say_it = partial(say, chunk, str(pair or ""))
                await once_checked(self._redis, self._shard, say_it, CHECK_S)
                for case in chunk:
                    case.done = True
                crashpoint("chunk_settled")

    async def park(self, booking: str, payment_key: str) -> None:
        """A booking that cannot be read, or kills its workers: out of the way, its stock kept, until an operator decides."""
        booking_keys = [keys.booking(self._shard, booking), keys.idempotency(self._shard, "-")]
        await self._move([], booking_keys, [f"1|D|{payment_key}|0|".encode()], "")

    async def _confirm(self, cases: list[Case], pair: str) -> None:
        """Sold, and their records as they were claimed: then there is nothing to look at. Otherwise each is looked at."""
        sold: dict[str, dict[str, int]] = {}
        booking_keys: list[str] = []
        records: list[bytes] = []
        record_prefix, idempotency_prefix = keys.booking(self._shard, ""), keys.idempotency(self._shard, "")
        for case in cases:
            record = case.record
            tickets = sold.get(record.event)
            if tickets is None:
                tickets = sold[record.event] = {}
            for line in record.body.lines:
                tickets[line.tier] = tickets.get(line.tier, 0) + line.quantity
            booking_keys += (record_prefix + record.id, idempotency_prefix + record.scope)
            records += (case.raw, confirmed(case.raw, case.payload))
        counts = [",".join([f"{tier}:{count}" for tier, count in tickets.items()]) for tickets in sold.values()]
        done = await self._here.run(
            "confirm", keys=[*(keys.event(self._shard, event) for event in sold), *booking_keys],
            ttl_s=self._ttl_s, pair=pair, events=len(sold), more=[*counts, *records],
        )  # fmt: skip
        if not done:
            await self._settle(cases, pair)

    async def _settle(self, cases: list[Case], pair: str) -> None:
        events: dict[str, int] = {}
        sale_keys: list[str] = []
        booking_keys: list[str] = []
        verdicts: list[bytes] = []
        for case in cases:
            record = case.record
            index = events.get(record.event)
            if index is None:
                index = events[record.event] = len(events) + 1
                sale_keys += (keys.event(self._shard, record.event), keys.owners(self._shard, record.event))
            booking_keys += (keys.booking(self._shard, record.id), keys.idempotency(self._shard, record.scope))
            keep = case.verdict == "D" or (case.verdict == "R" and not case.payload.outcome)
            payload = b"" if keep else pack_payload(case.payload)
            verdicts.append(
                b"%d|%s|%s|%d|%s" % (index, case.verdict.encode(), record.payment_key.encode(), case.delay_ms, payload)
            )
        outcomes = await self._move(sale_keys, booking_keys, verdicts, pair)
        for letter in ("E", "X"):
            ended = [
                case.record.id
                for case, outcome in zip(cases, outcomes, strict=True)
                if case.verdict == "H" and outcome == letter.encode()
            ]
            if ended:
                await self._holds.tell_postgres(ended, letter)

    async def _move(self, sale_keys: list[str], booking_keys: list[str], verdicts: list[bytes], pair: str) -> Any:
        """settle.lua. Two keys for each event and for each booking."""
        return await self._here.run(
            "settle", keys=[*sale_keys, *booking_keys], ttl_s=self._ttl_s, pair=pair, events=len(sale_keys) // 2,
            verdicts=verdicts,
        )  # fmt: skip
