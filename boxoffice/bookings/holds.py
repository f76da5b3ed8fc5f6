"""Holds: tickets set aside until they are paid, cancelled, or their time is up. Redis alone decides these.

What happens once a payment is under way is settlement's to say; once a booking is confirmed, `refunds.py`'s.

One file because each verb is a script call whose refusals are told apart from the others'.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, NamedTuple

import structlog
from redis.exceptions import RedisError

from boxoffice import ids
from boxoffice.access.rates import decline_terms
from boxoffice.bookings.records import Reading
from boxoffice.books.bookings import end_holds, extend_hold
from boxoffice.clock import timestamp
from boxoffice.errors import (
    AlreadyExtended,
    Busy,
    EventCalledOff,
    GateClosed,
    HoldEnded,
    KeyReused,
    Malformed,
    NotFound,
    PaymentInProgress,
    PriceChanged,
    SaleClosed,
    StoreAway,
    TooManyAttempts,
)
from boxoffice.sales.refusals import declined_too_often
from boxoffice.settings import Settings
from boxoffice.states import TOO_MANY_DECLINED, WORDS
from boxoffice.stores import keys
from boxoffice.stores.database import Database
from boxoffice.stores.gate import once_checked
from boxoffice.stores.postgres import TRANSIENT
from boxoffice.stores.record import Attempt, Charge, Outcome, Payload, Record, pack_payload, unpack
from boxoffice.stores.redis import AWAY
from boxoffice.stores.refusals import refusal
from boxoffice.stores.rewind import rewind
from boxoffice.stores.scripts import Slot
from boxoffice.stores.shard import Shards
from boxoffice.telemetry.seldom import seldom
from boxoffice.telemetry.traces import joined, linked

__all__ = ["READ_AGAIN", "Holds", "Paid", "fingerprint_of", "refusal_of"]

log = structlog.get_logger()

EXPIRE_CHUNK: Final = 200
"""Holds ended by one script call."""

BRIEF_S: Final = 30
"""How long a hold that ended unpaid is remembered when its client has ended very many of them."""

STEP_MS: Final = 1_000
"""A clock that went back by less has done no harm that anybody notices."""

READ_AGAIN: Final = 20
"""Times that a record is read again because somebody wrote it meanwhile: each time somebody got on."""


class Paid(NamedTuple):
    """A booking after its payment was asked for."""

    record: Record
    replayed: bool
    """Whether this attempt was made before."""
    earlier: Outcome | None = None
    """How it went, when it is not the booking's latest."""


class Holds:
    """What a shop may do with a hold, and what time does."""

    def __init__(self, shards: Shards, database: Database, settings: Settings) -> None:
        self._reading = Reading(shards, settings)
        self._database = database
        self._shards = shards
        self.settings = settings
        self.unpaid_lives = {
            "unpaid_ttl_s": settings.holds.ended_ttl_s,
            "unpaid_max": settings.holds.ended_max,
            "brief_ttl_s": min(BRIEF_S, settings.holds.ended_ttl_s),
        }

    async def find(self, client: str, booking: str) -> Record | None:
        """The client's booking as Redis has it, or None when Redis has nothing that can be read.

        Raises `NotFound` for another client's, `StoreAway` when Redis does not answer, `GateClosed` when it may not be
        believed.
        """
        return (await self.read(client, booking))[0]

    async def read(self, client: str, booking: str) -> tuple[Record | None, bytes]:
        """The record, and the same as Redis has it. Raises as `find`."""
        try:
            (seen,) = await self._reading.read(ids.shard_of(booking), [booking])
        except RedisError as error:
            raise StoreAway from error
        if seen.shut:
            raise GateClosed
        raw = seen.raw or b""
        try:
            record = unpack(booking, raw)
        except ValueError:
            return None, raw
        if record.body.client != client:
            raise NotFound("There is no such booking.")
        return record, raw

    async def pay(
        self, client: str, booking: str, charge: Charge | None, key_digest: str, expected: int | None = None
    ) -> Paid:
        """Put a payment of a hold on its way. One that costs nothing needs no charge, and ignores one. `expected`: the amount
        in minor units that the shop thinks it pays.

        Raises `NotFound`, `Malformed` (no charge), `PaymentInProgress`, `HoldEnded` (Redis may
        have forgotten an attempt), `SaleClosed` (see `holds.payable_until`), `EventCalledOff`, `PriceChanged` (it costs
        another amount than `expected`), `TooManyAttempts`, `DeclinedTooOften`, `KeyReused` (the key came with another card
        before), `Busy`, `GateClosed`, `StoreAway`.
        """
        payment_key, fingerprint = ids.attempt_key(client, booking, key_digest), fingerprint_of(charge)
        for _ in range(READ_AGAIN):
            held, seen = await self.read(client, booking)
            if held is None:
                raise NotFound("There is no such booking.")
            costs = held.body.amount_cents
            if charge is None and costs and expected in (None, costs):
                raise Malformed("A payment needs its method.", pointer="/method", code="missing")
            for attempt in held.payload.earlier:
                if attempt.payment_key == payment_key:
                    _check_same(booking, attempt.fingerprint, fingerprint)
                    return Paid(held, True, attempt.outcome)
            outcome, record = await self._try_to_pay(
                held, seen, payment_key, charge, fingerprint, as_expected=expected in (None, costs)
            )
            match outcome:
                case "paid":
                    linked(record.payload.trace)
                    return Paid(record, False)
                case "replayed":
                    _check_same(booking, record.payload.fingerprint or fingerprint_before(record), fingerprint)
                    return Paid(record, True)
                case "changed":
                    continue
                case "in_progress":
                    raise PaymentInProgress(retry_after_s=2)
                case "called_off":
                    raise EventCalledOff
                case "over_event" | "over_started" | "over_tier" | "over_ended":
                    raise SaleClosed("What was held cannot be paid any more: its sale is over.", reason=outcome[5:])
                case "price_changed":
                    raise PriceChanged(amount_cents=costs, currency=held.body.currency)
                case "too_many":
                    raise TooManyAttempts(attempts=record.attempts - self._unasked(record))
                case "busy":
                    raise Busy(retry_after_s=2)
                case _:
                    raise refusal_of(outcome, record)
        raise PaymentInProgress(retry_after_s=2)

    async def _try_to_pay(
        self, held: Record, seen: bytes, payment_key: str, charge: Charge | None, fingerprint: str, *, as_expected: bool
    ) -> tuple[str, Record]:
        """pay.lua, which pays nothing but the record that was seen: an attempt made meanwhile may be this very one."""
        booking, shard, before = held.id, ids.shard_of(held.id), held.payload
        earlier = before.earlier
        if held.payment_key:
            earlier += (
                Attempt(
                    held.payment_key,
                    before.fingerprint or fingerprint_before(held),
                    before.outcome or Outcome("failed"),
                ),
            )
        payload = Payload(
            charge if held.body.amount_cents else None, None, None, before.key, fingerprint, earlier,
            trace=joined(before.trace),
        )  # fmt: skip
        word, *more = await self.call(
            "pay", shard, record=keys.booking(shard, booking), sale=keys.event(shard, held.event),
            until_closing=int(self.settings.holds.payable_until == "closing"), payment_key=payment_key,
            payload=pack_payload(payload), attempts_max=self.settings.holds.attempts_max + self._unasked(held),
            pending_max=self.settings.limits.pending_max, seen=seen, as_expected=int(as_expected),
            declines=decline_terms(self.settings.declines) if held.body.amount_cents else "", client=held.body.client,
        )  # fmt: skip
        if word == b"declined_too_often":
            raise declined_too_often(more[1].decode(), int(more[2]))
        raw = more[0] if more else b""
        return word.decode(), unpack(booking, raw) if raw else held

    def _unasked(self, held: Record) -> int:
        """Attempts that no gateway heard of, as too many payments of the customer had been declined: they use up none of the
        hold's, up to as many again."""
        outcomes = [held.payload.outcome, *(attempt.outcome for attempt in held.payload.earlier)]
        unasked = sum(each is not None and each.failure_code == TOO_MANY_DECLINED for each in outcomes)
        return min(unasked, self.settings.holds.attempts_max)

    async def extend(self, client: str, booking: str, extra_s: int | None) -> Record:
        """Let a hold last longer, once, by at most its first length.

        Raises `NotFound`, `PaymentInProgress`, `HoldEnded`, `AlreadyExtended`, `GateClosed`, `StoreAway`.
        """
        held = await self.find(client, booking)
        if held is None:
            raise NotFound("There is no such booking.")
        shard = ids.shard_of(booking)
        outcome, raw = await self.run(
            "extend", shard, record=keys.booking(shard, booking), extra_ms=1_000 * (extra_s or 0)
        )
        record = unpack(booking, raw) if raw else held
        match outcome:
            case "extended":
                if record.attempts:
                    await self.write_deadline(record.id, record.deadline_ms)
                return record
            case "extended_before":
                raise AlreadyExtended(expires_at=timestamp(record.deadline_ms))
            case "in_progress":
                raise PaymentInProgress(retry_after_s=2)
            case _:
                raise refusal_of(outcome, record)

    async def cancel(self, record: Record) -> tuple[str, Record]:
        """Give a hold back, or ask for a payment under way to be let go.

        Returns `cancelled`, `requested` or `ended` with the booking as it is now. Raises `GateClosed`, `StoreAway`.
        """
        booking, shard = record.id, ids.shard_of(record.id)
        outcome, raw = await self.run(
            "cancel", shard, record=keys.booking(shard, booking), idempotency=keys.idempotency(shard, record.scope),
            sale=keys.event(shard, record.event), owners=keys.owners(shard, record.event),
            ttl_s=self.settings.worker.settled_ttl_s, **self.unpaid_lives,
        )  # fmt: skip
        if outcome == "missing":
            raise NotFound("There is no such booking.")
        now = unpack(booking, raw)
        if outcome == "cancelled" and now.attempts:
            await self.write_state([booking], "X")
        return outcome, now

    async def expire(self, shard: int) -> int:
        """End what is past its deadline, in bounded steps. Returns how many holds ended.

        Raises Redis's errors, and `GateClosed`: a Redis that nobody has checked may lack a hold's payment.
        """
        ended = 0
        while True:
            seen, expired, attempted, back_ms = await self._shards[shard].run(
                "expire", limit=EXPIRE_CHUNK, ttl_s=self.settings.worker.settled_ttl_s, **self.unpaid_lives
            )
            ended += int(expired)
            if attempted:
                await self.write_state([booking.decode() for booking in attempted], "E")
            if int(seen) < EXPIRE_CHUNK:
                break
        if ended:
            log.info("holds.expired", shard=shard, holds=ended)
        if int(back_ms) > STEP_MS:
            await self._rewind(shard, int(back_ms))
        return ended

    async def _rewind(self, shard: int, back_ms: int) -> None:
        lease_ms = self.settings.worker.lease_ms
        for booking, deadline_ms in await rewind(self._shards[shard], lease_ms, back_ms):
            await self.write_deadline(booking, deadline_ms)

    async def write_state(self, bookings: list[str], letter: str) -> None:
        """Holds that a payment was tried for have rows: say there how they ended. If PostgreSQL is away, `mend` does."""
        try:
            async with self._database.writer() as connection:
                await end_holds(connection, bookings, WORDS[letter])
        except TRANSIENT as error:
            await self._database.renew(error)
            seldom.warning("holds.told_later", holds=len(bookings), error=type(error).__name__)

    async def write_deadline(self, booking: str, deadline_ms: int) -> None:
        """A hold that a payment was tried for has a row, from which it may have to be put back. If PostgreSQL is away,
        the next attempt's settlement does it."""
        try:
            async with self._database.writer() as connection:
                await extend_hold(connection, booking, deadline_ms)
        except TRANSIENT as error:
            await self._database.renew(error)
            seldom.warning("holds.told_later", holds=1, error=type(error).__name__)

    async def run(self, name: str, shard: int, **slots: Slot) -> tuple[str, bytes]:
        """Call a script of the shard: its word, and the record. Raises `StoreAway`, `GateClosed`."""
        reply = await self.call(name, shard, **slots)
        return reply[0].decode(), reply[1] if len(reply) > 1 else b""

    async def call(self, name: str, shard: int, **slots: Slot) -> list[Any]:
        """The same: its whole reply, of which the first is its word."""
        here = self._shards[shard]
        try:
            reply: list[Any] = await once_checked(here, partial(here.run, name, **slots), self.settings.api.retry_s)
        except AWAY as error:
            raise StoreAway from error
        except RedisError as error:
            # Full, without a disk, without its replicas: it refused before the first write.
            seldom.error("hold.refused", shard=shard, script=name, reply=refusal(error))
            raise StoreAway("Redis takes no writes now; nothing was done.") from error
        return reply


def fingerprint_of(charge: Charge | None) -> str:
    """Of a hold's payment: method, and the card's last four, or the token where the gateway tells no digits."""
    return (
        ids.payment_fingerprint(charge.method, charge.last4 or charge.token)
        if charge
        else ids.payment_fingerprint("", "")
    )


def fingerprint_before(record: Record) -> str:
    """The fingerprint of the latest attempt, as far as its record tells: a repaired one lacks it. "" for nobody knows."""
    card = record.payload.charge or record.payload.outcome
    return ids.payment_fingerprint(card.method, card.last4) if card and card.last4 else ""


def _check_same(booking: str, before: str, now: str) -> None:
    if before and before != now:
        raise KeyReused(booking_id=booking)


def refusal_of(outcome: str, record: Record) -> Exception:
    """What is missing is not found; any other is held no more."""
    if outcome == "missing":
        return NotFound("There is no such booking.")
    status = "expired" if record.state == "H" else WORDS[record.state]
    return HoldEnded(f"The booking is {status}.", booking_status=status)
