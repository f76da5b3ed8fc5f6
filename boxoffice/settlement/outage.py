"""Whether PostgreSQL takes what is written, and whose fault it is when it does not.

An error hits everybody (no rights, no room, a table that is missing, a standby) or one booking. Only the latter may be
held against the booking, and never on its own word: a *canary*, a booking with which nothing is wrong, is written in the
same statements and rolled back. While it fails, nobody is to blame, and nothing is claimed.
"""

from __future__ import annotations

from typing import Final

import structlog

from boxoffice import ids
from boxoffice.books import rows
from boxoffice.books.decisions import Claimed, Terms
from boxoffice.clock import CLOCK, Clock
from boxoffice.gateway.base import Authorized
from boxoffice.settlement.deciding import decide
from boxoffice.stores.database import Database
from boxoffice.stores.postgres import AWAY, TRANSIENT, InterfaceError, PostgresError, sqlstate
from boxoffice.stores.record import Body, Charge, Line, Payload, Record, pack_items
from boxoffice.stores.waits import waits_for
from boxoffice.telemetry.seldom import seldom

__all__ = ["Outage", "StoreRefuses", "is_of_the_row"]

log = structlog.get_logger()

PAUSE_MAX_S: Final = 2.0
"""Longest pause before it is tried again whether PostgreSQL takes writes."""

REMIND_S: Final = 60.0
"""So often an outage that goes on is told again."""

_ROW_CLASSES: Final = ("22", "23", "44", "54")
"""SQLSTATE classes by which PostgreSQL speaks of the row itself: a value that it cannot take, a constraint, a view's check,
a row or an index entry that is too large (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""


class StoreRefuses(Exception):
    """PostgreSQL, or the gateway, fails for bookings with which nothing is wrong: for whatever reason, it fails for all."""


REFUSED: Final = (StoreRefuses, *TRANSIENT)
"""Nothing that was being settled is to blame."""


def is_of_the_row(error: BaseException) -> bool:
    """Whether an error may be one booking's own: what PostgreSQL says of a row, or an error of ours while we packed it."""
    if isinstance(error, PostgresError):
        return sqlstate(error)[:2] in _ROW_CLASSES
    return not isinstance(error, REFUSED)


class Outage:
    """Of one shard, as one worker sees it."""

    def __init__(self, shard: int, database: Database, gateway: str, lease_ms: int, clock: Clock = CLOCK) -> None:
        self._shard = shard
        self._database = database
        self._gateway = gateway
        self._lease_ms = lease_ms
        self._clock = clock
        self._takes_writes = False
        self._began: float | None = None
        self._last = float("-inf")
        self._logged_at = 0.0
        self._logged = ""
        self.pause_s = 0.0
        self._settled_at = float("-inf")
        self._answered_at = float("-inf")

    def begin(self, error: BaseException) -> float:
        """PostgreSQL refused, or did not answer. Returns the seconds to pause. One line when it begins, when the reason
        changes, and once a minute."""
        now = self._last = self._clock.now_s()
        self._takes_writes = False
        self.pause_s = min(PAUSE_MAX_S, 2 * self.pause_s or 0.1)
        if self._began is None:
            self._began = now
        cause = error.__cause__ if isinstance(error, StoreRefuses) and error.__cause__ else error
        trouble = f"{type(cause).__name__} {sqlstate(cause)}".strip()
        if trouble != self._logged or now >= self._logged_at + REMIND_S:
            self._logged, self._logged_at = trouble, now
            # What fails for everybody and is no store's is the gateway.
            what = waits_for(cause) or ("gateway" if cause is not error else "")
            log.warning(
                "settlement.paused",
                shard=self._shard,
                waits_for=what,
                error=trouble,
                seconds=round(now - self._began, 1),
            )
        return self.pause_s

    def settled(self) -> None:
        """A batch was settled: whatever was the matter is over."""
        self._settled_at = self._clock.now_s()
        self._takes_writes = True
        self.pause_s = 0.0
        if self._began is not None:
            log.info("settlement.resumed", shard=self._shard, seconds=round(self._settled_at - self._began, 1))
            self._began, self._logged = None, ""

    def answered(self) -> None:
        """The gateway has answered for some booking."""
        self._answered_at = self._clock.now_s()

    def answered_after(self, since: float) -> bool:
        """Whether it has answered for anybody since."""
        return self._answered_at > since

    def within(self, seconds: float) -> bool:
        """Whether there was an outage in the last so many seconds. Leases that lapsed meanwhile say nothing."""
        return self._last > self._clock.now_s() - seconds

    async def over(self) -> float:
        """0 when bookings may be claimed; otherwise the seconds after which to ask again.

        Asked before the first claim and while there is an outage, so that no lease lapses because of it. An error that
        may be the canary's own is no reason to claim nothing: bookings will tell.
        """
        if self._takes_writes:
            return 0.0
        try:
            if self._began is not None:
                # A session may keep for ever what it was told at its start: that it is read-only, or another role's rights.
                await self._database.renew_all()
            await self.try_canary()
        except InterfaceError as error:
            # What asyncpg says of a dead connection, and of how we call it: a bug of the canary's own must stop nobody.
            seldom.warning("canary.refused", shard=self._shard, error=type(error).__name__, code="")
        except AWAY as error:
            return self.begin(error)
        except Exception as error:
            if not isinstance(error, TRANSIENT):
                seldom.warning("canary.refused", shard=self._shard, error=type(error).__name__, code=sqlstate(error))
        self._takes_writes = True
        return 0.0

    async def blames_the_row(self, error: Exception, *, asking: bool, since: float) -> bool:
        """Whether it was this booking's own fault that it failed alone with this error. `asking`: while its payment was
        asked for. `since`: when it failed first; whoever was settled later is a witness that others can be.

        Raises `StoreRefuses`, or one of `postgres.TRANSIENT`, when everybody fails.
        """
        if asking and not isinstance(error, PostgresError):
            # Nobody can ask a gateway for nothing: that it has answered somebody else has to do.
            if not self.answered_after(since):
                raise StoreRefuses from error
            return True
        try:
            await self.try_canary()
        except TRANSIENT:
            raise
        except Exception as refusal:
            if self._settled_at <= since:
                raise StoreRefuses from refusal
        return is_of_the_row(error)

    async def try_canary(self) -> None:
        """Write the canary, and take it back."""
        async with self._database.writer() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                await rows.touch(connection)
                claim = _canary(self._shard, self._clock.epoch_ms())
                record = claim.record
                await rows.known_by_key(connection, [record])
                paid = {record.id: Authorized("canary", 100, "USD")}
                left = {line.tier: line.quantity for line in record.body.lines}
                decisions = decide([claim], {}, paid, left, Terms(0, 1))
                await rows.write(connection, decisions, self._gateway, self._lease_ms)
            finally:
                await transaction.rollback()


def _canary(shard: int, now_ms: int) -> Claimed:
    """A booking of an event that there is not: none of its rows can be in anybody's way."""
    booking = ids.booking_id(shard, now_ms)
    lines = (Line("canary", 1, 100),)
    key = ids.digest(booking)
    record = Record(
        booking, "P", 0, now_ms, 0, key, key, key[:16], "canary", "", pack_items(lines), "",
        Body("canary", "canary", 100, "USD", lines, None), Payload(Charge("card", "canary", "canary", "0000"), key=key),
    )  # fmt: skip
    return Claimed(record, b"", 0)
