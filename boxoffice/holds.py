"""Holds: tickets set aside until they are paid, cancelled, or their time is up. Redis alone decides these.

What happens once a payment is under way is settlement's to say; once a booking is confirmed, `refunds.py`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import asyncpg
import structlog
from redis.asyncio import Redis

from boxoffice import ids, keys
from boxoffice.clock import timestamp
from boxoffice.errors import (
    AlreadyExtended,
    Busy,
    HoldEnded,
    KeyReused,
    NotFound,
    PaymentInProgress,
    StoreAway,
    TooManyAttempts,
)
from boxoffice.gate import once_checked
from boxoffice.jobs import BELL_TTL_MS, job_prefix, pack_ring
from boxoffice.postgres import TRANSIENT
from boxoffice.record import Charge, Payload, Record, pack_payload, unpack
from boxoffice.redis import AWAY
from boxoffice.scripts import Scripts
from boxoffice.settings import Settings
from boxoffice.states import WORDS

__all__ = ["Holds"]

log = structlog.get_logger()

EXPIRE_CHUNK: Final = 200
"""Holds ended by one script call."""

_TELL_POSTGRES = """
UPDATE bookings SET status = $2, updated_at = now() WHERE id = ANY($1::uuid[]) AND status = 'held'
"""


class Holds:
    """What a shop may do with a hold, and what time does."""

    def __init__(
        self, redis: Redis, pool: Callable[[], Awaitable[asyncpg.Pool[Any]]], scripts: Scripts, settings: Settings
    ) -> None:
        self._redis = redis
        self._pool = pool
        self._scripts = scripts
        self._settings = settings

    async def find(self, client: str, booking: str) -> Record | None:
        """The client's booking as Redis has it, or None when Redis has nothing that can be read.

        Raises `NotFound` for another client's, `StoreAway` when Redis does not answer.
        """
        try:
            raw = await self._redis.get(keys.booking(ids.shard_of(booking), booking))
        except AWAY as error:
            raise StoreAway from error
        try:
            record = unpack(booking, raw or b"")
        except ValueError:
            return None
        if record.body.client != client:
            raise NotFound("There is no such booking.")
        return record

    async def pay(self, client: str, booking: str, charge: Charge, key_digest: str) -> tuple[Record, bool]:
        """Put a payment of a hold on its way. Returns the booking, and whether this attempt was made before.

        Raises `NotFound`, `PaymentInProgress`, `HoldEnded`, `TooManyAttempts`, `KeyReused` (the key came with another
        card before), `Busy`, `GateClosed`, `StoreAway`.
        """
        held = await self.find(client, booking)
        if held is None:
            raise NotFound("There is no such booking.")
        shard = ids.shard_of(booking)
        payment_key = ids.attempt_key(client, booking, key_digest)
        outcome, raw = await self._run(
            "pay", shard,
            [keys.gate(shard), keys.booking(shard, booking), keys.pending(shard), keys.deadlines(shard),
             keys.bell(shard), keys.rings(shard), keys.arq_queue(shard)],
            [payment_key, pack_payload(Payload(charge, key=held.payload.key)), self._settings.holds.attempts_max,
             self._settings.limits.pending_max, BELL_TTL_MS, pack_ring(shard), job_prefix(shard)],
        )  # fmt: skip
        record = unpack(booking, raw) if raw else held
        match outcome:
            case "paid":
                return record, False
            case "replayed":
                if _card(record) not in (None, (charge.method, charge.last4)):
                    raise KeyReused(booking_id=booking)
                return record, True
            case "in_progress":
                raise PaymentInProgress(retry_after_s=2)
            case "too_many":
                raise TooManyAttempts(attempts=record.attempts)
            case "busy":
                raise Busy(retry_after_s=2)
            case _:
                raise _refusal(outcome, record)

    async def extend(self, client: str, booking: str, extra_s: int | None) -> Record:
        """Let a hold last longer, once, by at most its first length.

        Raises `NotFound`, `PaymentInProgress`, `HoldEnded`, `AlreadyExtended`, `GateClosed`, `StoreAway`.
        """
        held = await self.find(client, booking)
        if held is None:
            raise NotFound("There is no such booking.")
        shard = ids.shard_of(booking)
        outcome, raw = await self._run(
            "extend",
            shard,
            [keys.gate(shard), keys.booking(shard, booking), keys.deadlines(shard)],
            [1_000 * (extra_s or 0)],
        )
        record = unpack(booking, raw) if raw else held
        match outcome:
            case "extended":
                return record
            case "extended_before":
                raise AlreadyExtended(expires_at=timestamp(record.deadline_ms))
            case "in_progress":
                raise PaymentInProgress(retry_after_s=2)
            case _:
                raise _refusal(outcome, record)

    async def cancel(self, record: Record) -> tuple[str, Record]:
        """Give a hold back, or ask for a payment under way to be let go.

        Returns `cancelled`, `requested` or `ended` with the booking as it is now. Raises `GateClosed`, `StoreAway`.
        """
        booking, shard = record.id, ids.shard_of(record.id)
        outcome, raw = await self._run(
            "cancel", shard,
            [keys.gate(shard), keys.booking(shard, booking), keys.idempotency(shard, record.scope),
             keys.event(shard, record.event), keys.owners(shard, record.event), keys.pending(shard),
             keys.deadlines(shard), keys.bell(shard), keys.rings(shard), keys.arq_queue(shard)],
            [self._settings.worker.settled_ttl_s, BELL_TTL_MS, pack_ring(shard), job_prefix(shard)],
        )  # fmt: skip
        if outcome == "missing":
            raise NotFound("There is no such booking.")
        now = unpack(booking, raw)
        if outcome == "cancelled" and now.attempts:
            await self.tell_postgres([booking], "X")
        return outcome, now

    async def expire(self, shard: int) -> int:
        """End what is past its deadline, in bounded steps. Returns how many holds ended.

        Raises Redis's errors, and `GateClosed`: a Redis that nobody has checked may lack a hold's payment.
        """
        ended = 0
        while True:
            seen, expired, attempted = await self._scripts.expire(
                self._redis,
                [keys.gate(shard), keys.deadlines(shard)],
                [EXPIRE_CHUNK, self._settings.worker.settled_ttl_s, keys.shard_tag(shard)],
            )
            ended += int(expired)
            if attempted:
                await self.tell_postgres([booking.decode() for booking in attempted], "E")
            if int(seen) < EXPIRE_CHUNK:
                break
        if ended:
            log.info("holds.expired", shard=shard, holds=ended)
        return ended

    async def tell_postgres(self, bookings: list[str], letter: str) -> None:
        """Holds that a payment was tried for have rows: say there how they ended. If PostgreSQL is away, `mend` does."""
        try:
            async with (await self._pool()).acquire() as connection:
                await connection.execute(_TELL_POSTGRES, bookings, WORDS[letter])
        except TRANSIENT as error:
            log.warning("holds.told_later", holds=len(bookings), error=type(error).__name__)

    async def _run(self, name: str, shard: int, script_keys: list[str], args: list[Any]) -> tuple[str, bytes]:
        script = getattr(self._scripts, name)
        try:
            reply = await once_checked(
                self._redis, shard, partial(script, self._redis, script_keys, args), self._settings.api.retry_s
            )
        except AWAY as error:
            raise StoreAway from error
        return reply[0].decode(), reply[1] if len(reply) > 1 else b""


def _card(record: Record) -> tuple[str, str | None] | None:
    """Method and last four of the last attempt."""
    said = record.payload.charge or record.payload.outcome
    return (said.method, said.last4) if said else None


def _refusal(outcome: str, record: Record) -> Exception:
    if outcome == "missing":
        return NotFound("There is no such booking.")
    status = "expired" if record.state == "H" else WORDS[record.state]
    return HoldEnded(f"The booking is {status}.", booking_status=status)
