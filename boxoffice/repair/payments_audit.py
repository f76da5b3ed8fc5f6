"""The gateway's books against ours, payment by payment: money set aside or taken for nothing, sales never paid, amounts
that differ. Mends what can be mended.

Workers go on meanwhile, and after an outage they have much to do: what was read a moment ago may be theirs by now. So
each difference is looked at again before it is told, what workers will do by themselves is left to them, and money is
mended under the row's lock only, when the gateway still says what it said.

One file because what is mended is looked at once more by the reads that found it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final

from boxoffice import ids
from boxoffice.books import payments
from boxoffice.clock import CLOCK, Clock
from boxoffice.currencies import shown
from boxoffice.errors import CannotRun
from boxoffice.gateway.accounts import same_books
from boxoffice.gateway.base import Done, Found, PaymentGateway, Pending, Record, Reversals
from boxoffice.money.owed import attempt_key
from boxoffice.money.refunds import Refunds
from boxoffice.repair.differences import Difference, amount_differs, difference_of, money_differs
from boxoffice.repair.reversal_audit import mend_reversals, open_ends, reversals_differ
from boxoffice.stores import fence, keys
from boxoffice.stores.database import Database
from boxoffice.stores.installation import installation
from boxoffice.stores.postgres import TRANSIENT, WentBack
from boxoffice.stores.record import payment_key_of, unpack
from boxoffice.stores.redis import AWAY
from boxoffice.stores.shard import Shards

__all__ = ["PaymentsAudit"]

CHUNK: Final = 1_000
"""Payments compared at once."""

GRACE_S: Final = 60
"""Money that moved so recently may still be on its way into our rows."""

_OURS = """
SELECT p.payment_key, p.gateway, p.status, p.due, p.reference, p.amount_cents, p.currency, b.id::text AS booking,
       b.status AS booking_status, p.failure_code,
       coalesce(p.due_since, p.updated_at) < now() - $2 * interval '1 second' AS overdue,
       greatest(coalesce(p.due_since, p.updated_at), b.updated_at) < now() - $2 * interval '1 second' AS settled,
       coalesce(p.leased_until > now(), false) AS leased,
       (SELECT coalesce(sum(r.amount_cents) FILTER (WHERE r.status IN ('pending', 'succeeded')), 0)::bigint FROM refunds r
        WHERE r.payment_key = p.payment_key) AS refunded_cents,
       EXISTS (SELECT FROM refunds r WHERE r.payment_key = p.payment_key AND r.amount_cents > 0) AS reversed
FROM payments p JOIN bookings b ON b.id = p.booking_id WHERE p.payment_key = ANY($1::text[])
"""

_MOVED = """
SELECT payment_key, gateway, booking_id::text AS booking, amount_cents, currency FROM payments
WHERE status IN ('authorized', 'captured') AND payment_key > $1 AND created_at < $2::timestamptz - $3 * interval '1 second'
ORDER BY payment_key LIMIT 5000
"""
"""What was made after the gateway began to list its payments may not be on the list."""

_BOOKS = """
SELECT gateway, count(*) AS payments FROM payments WHERE status IN ('authorized', 'captured') GROUP BY gateway
"""


class PaymentsAudit:
    """Compares, and with `fix` mends."""

    def __init__(
        self,
        shards: Shards,
        database: Database,
        gateway: PaymentGateway,
        refunds: Refunds,
        clock: Clock = CLOCK,
    ) -> None:
        self._shards = shards
        self._database = database
        self._gateway = gateway
        self._refunds = refunds
        self._clock = clock
        self.others: dict[str, int] = {}
        """Payments that moved money in other books, by these: the last run did not compare them."""
        self.strangers = 0
        """Payments of other installations that use the same account."""
        self._ours_is = ""

    async def run(self, *, fix: bool, grace_s: int = GRACE_S) -> AsyncIterator[Difference]:
        """Every difference. Raises `CannotRun` when a store or the gateway does not answer, for half an audit is none, and
        when the gateway is not the one at which our payments were made."""
        seen: set[bytes] = set()
        self.others, self.strangers = {}, 0
        try:
            await self.check_gateway()
            self._ours_is = await installation(self._database)
            async with self._database.writer() as connection:
                await fence.check(connection, *self._shards)
                began = await connection.fetchval("SELECT now()")
            if fix:
                await self._check_shards()
            async for records in _chunks(self._gateway.records()):
                seen.update(record.payment_key.encode() for record in records)
                rows = await self.our_rows([record.payment_key for record in records], grace_s)
                for record in records:
                    row = rows.get(record.payment_key)
                    if row is not None and not same_books(row["gateway"], self._gateway.books):
                        continue
                    if row is None and record.installation not in (None, self._ours_is):
                        self.strangers += 1
                        continue
                    async for found in self._compare(record, rows.get(record.payment_key), fix, grace_s):
                        yield found
            async for found in self._unknown(seen, began, grace_s):
                yield found
            for left in await open_ends(self._database, grace_s, began):
                yield Difference(
                    left.what, left.payment_key, left.booking, left.at_gateway, left.ours, None, left.known
                )
        except WentBack as error:
            raise CannotRun(
                "PostgreSQL went back in time: money of bookings that it forgot would be taken for nobody's. "
                "`boxoffice reconcile --fix` writes them again."
            ) from error
        except (*TRANSIENT, *AWAY) as error:
            raise CannotRun(f"The audit could not be finished ({type(error).__name__}).") from error

    async def read_reversals(self) -> int:
        """Write down refunds and disputes that the gateway knows of and we do not, because nobody heard its webhooks.
        Nothing else is mended. Of how many payments. Raises `CannotRun`."""
        mended = 0
        try:
            await self.check_gateway()
            async for records in _chunks(self._gateway.records()):
                rows = await self.our_rows([record.payment_key for record in records], 0)
                for record in records:
                    row = rows.get(record.payment_key)
                    if row is None or not same_books(row["gateway"], self._gateway.books):
                        continue
                    went_back = row["reversed"] or record.reversals != Reversals()
                    if went_back and await reversals_differ(self._database, record, 0):
                        mended += await mend_reversals(self._database, record)
        except (*TRANSIENT, *AWAY) as error:
            raise CannotRun(f"The gateway's books could not be read ({type(error).__name__}).") from error
        return mended

    async def check_gateway(self) -> None:
        """Look whether this gateway is the one at which our payments were made, as far as can be known. Raises `CannotRun`."""
        if trouble := await self._gateway.trouble():
            raise CannotRun(f"The gateway refuses us ({trouble}): look at BOXOFFICE_GATEWAY__API_KEY.")
        books = self._gateway.books
        found = {row["gateway"]: row["payments"] for row in await self._database.fetch(_BOOKS)}
        if found and not any(same_books(name, books) for name in found):
            elsewhere = ", ".join(f"{count} in {name}" for name, count in sorted(found.items()))
            raise CannotRun(
                f"All payments stand in other books ({elsewhere}); the gateway of this shell keeps {books}. Name the right one "
                "with BOXOFFICE_GATEWAY__KIND, __URL and __API_KEY, or with --data-dir the stack that runs with it."
            )
        # Rows of earlier versions say no more than the kind.
        vague = sum(count for name, count in found.items() if same_books(name, books) and name.count("/") < 1)
        if vague and vague == sum(found.values()) and not await self._knows_any():
            raise CannotRun(
                f"The gateway ({books}) knows none of our {vague} payments: it is another account, mode or ledger than they "
                "were made at."
            )

    async def _check_shards(self) -> None:
        """Nothing is mended while an operator has to decide which store is right. Raises `CannotRun`."""
        row = await self._database.fetchrow("SELECT shard, alert FROM shards WHERE alert IS NOT NULL LIMIT 1")
        if row is not None:
            raise CannotRun(f"Shard {row['shard']} is closed ({row['alert']}): decide that first, then mend payments.")

    async def _knows_any(self) -> bool:
        async for records in _chunks(self._gateway.records()):
            if await self.our_rows([record.payment_key for record in records], 0):
                return True
        return False

    async def our_rows(self, payment_keys: list[str], grace_s: int) -> dict[str, Any]:
        """Our rows of these payments, by payment key."""
        rows = await self._database.fetch(_OURS, payment_keys, grace_s)
        return {row["payment_key"]: row for row in rows}

    async def _unknown(self, seen: set[bytes], began: datetime, grace_s: int) -> AsyncIterator[Difference]:
        last = ""
        while rows := await self._database.fetch(_MOVED, last, began, grace_s):
            last = rows[-1]["payment_key"]
            for row in rows:
                if not same_books(row["gateway"], self._gateway.books):
                    self.others[row["gateway"]] = self.others.get(row["gateway"], 0) + 1
                elif row["payment_key"].encode() not in seen:
                    yield Difference("unknown_to_gateway", row["payment_key"], row["booking"], "nothing",
                                     shown(row["amount_cents"], row["currency"]), None)  # fmt: skip

    async def _compare(self, record: Record, row: Any, fix: bool, grace_s: int) -> AsyncIterator[Difference]:
        payment = record.payment
        if row is None:
            if payment.status not in ("authorized", "captured") or await self.under_way(record, grace_s):
                return
            # Whoever settled it meanwhile told PostgreSQL first, and Redis then.
            row = (await self.our_rows([record.payment_key], grace_s)).get(record.payment_key)
        if row is None:
            fix = fix and self._is_ours(record)
            if payment.captured_cents > payment.refunded_cents:
                mended = await self._refund_unknown(record) if fix else None
                yield difference_of("captured_without_booking", record, None, mended)
            elif payment.status == "authorized":
                mended = await self._void(record) if fix else None
                yield difference_of("authorized_without_booking", record, None, mended)
            return
        what = money_differs(record, row)
        if what:
            row = (await self.our_rows([record.payment_key], grace_s))[record.payment_key]
            what = money_differs(record, row)
            if what and not await self.is_on_its_way(record):
                mended = await self.mend(what, record, row, grace_s) if fix else None
                yield difference_of(what, record, row, mended)
        elif payment.status in ("authorized", "captured") and row["status"] in ("authorized", "captured"):
            if amount_differs(record, row):
                yield difference_of("amount_differs", record, row, None)
            went_back = row["reversed"] or record.reversals != Reversals()
            if went_back and await reversals_differ(self._database, record, grace_s):
                mended = await mend_reversals(self._database, record) if fix else None
                yield difference_of("refunded_differs", record, row, mended)

    def _is_ours(self, record: Record) -> bool:
        """Whether this installation made it, as far as it bears a name. What bears none, in an account that others may use,
        a person has to look at."""
        return not self._gateway.signs or record.installation == self._ours_is

    async def under_way(self, record: Record, grace_s: int) -> bool:
        """Whether its booking is about to be written: just made, or still pending in Redis, be it parked."""
        if record.made_ms > self._clock.epoch_ms() - 1_000 * grace_s:
            return True
        booking = ids.canonical_booking_id(record.booking_id or "")
        if booking is None:
            return False
        shard = ids.shard_of(booking)
        async with self._shards[shard].redis.pipeline(transaction=True) as pipe:
            pipe.get(keys.booking(shard, booking))
            pipe.zscore(keys.dead(shard), booking)
            raw, parked = await pipe.execute()
        try:
            ours = unpack(booking, raw or b"")
        except ValueError:
            # Of one that nobody can read an operator decides, and `boxoffice dead fail` lets its money go.
            return parked is not None and payment_key_of(raw or b"") in ("", record.payment_key)
        return ours.state == "P" and ours.payment_key == record.payment_key

    async def is_on_its_way(self, record: Record) -> bool:
        """Whether a worker is about to capture the payment, or the gateway says something else of it than when it listed
        it."""
        if await payments.is_listed(self._database, record.payment_key):
            return True
        found = await self._gateway.lookup(record.payment_key, record.payment.reference)
        shown = record.payment
        return not isinstance(found, Found) or (found.status, found.captured_cents, found.refunded_cents) != (
            shown.status, shown.captured_cents, shown.refunded_cents,
        )  # fmt: skip

    async def _void(self, record: Record) -> bool:
        return isinstance(await self._gateway.void(record.payment_key, record.payment.reference), Done)

    async def _refund_unknown(self, record: Record) -> bool:
        """There is no booking that a row could belong to: the gateway's own books keep this refund."""
        amount = record.payment.captured_cents - record.payment.refunded_cents
        failed = sum(refund.status == "failed" for refund in record.reversals.refunds)
        key = attempt_key(ids.digest(record.payment_key, "audit"), failed)
        outcome = await self._gateway.refund(key, record.payment_key, record.payment.reference, amount)
        return isinstance(outcome, Done | Pending)

    async def mend(self, what: str, record: Record, seen: Any, grace_s: int) -> bool:
        """Under the lock that workers need to claim the payment. False when it is theirs, or has changed since it was
        seen."""
        key, due = record.payment_key, "void" if what == "authorized_not_confirmed" else "capture"
        async with self._database.begin() as connection:
            row = await connection.fetchrow(f"{_OURS} FOR UPDATE OF p", [key], grace_s)
            if row is None or money_differs(record, row) != what or await payments.is_listed(connection, key):
                return False
            if any(row[name] != seen[name] for name in ("status", "due", "booking_status")):
                return False
            if what != "captured_not_confirmed":
                if row["due"] is not None:
                    # A worker does it: when it is overdue, none is running.
                    return bool(row["due"] == due)
                status = None if due == "void" else "authorized"
                await payments.make_due(connection, key, due, status, record.payment.reference)
        if what == "captured_not_confirmed":
            await self._refunds.captured_too_late(key, record.payment.captured_cents)
        return True


async def _chunks(records: AsyncIterator[Record]) -> AsyncIterator[list[Record]]:
    chunk: list[Record] = []
    async for record in records:
        chunk.append(record)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
