"""The feed of each shop: notices get their places here, and are read in their order.

A transaction takes a notice's `id` while it works, and others that began later may commit before it: who follows ids passes
over what commits late. So places are given behind the commit, to every notice that has none, in the order of their ids, by one
at a time, who holds the only row of `notice_head`. Whatever gets its place later gets a higher one. Of one booking the ids
are in the order of its changes: each is taken under the row's lock.

A statement sees what was committed when it began: it begins when the lock is there, and so sees every place that was given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextvars import Context
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from boxoffice.errors import CursorGone
from boxoffice.notices.cursors import ALL_READ, Cursor
from boxoffice.notices.types import BY_NAME
from boxoffice.stores.database import Connection, Database, Row
from boxoffice.stores.postgres import LOCK_NOT_AVAILABLE, PostgresError, sqlstate
from boxoffice.telemetry.seldom import seldom

__all__ = ["NUMBERED_MAX", "Notice", "Notices", "Page", "number"]

NUMBERED_MAX: Final = 5_000
"""Notices that get their places in one transaction: some tens of milliseconds in which no other gets one."""

_NAMED: Final = ("refund", "dispute")
"""Subjects whose keys shops know. Of a payment they know its booking."""

_FRESH: Final = "SELECT EXISTS (SELECT FROM notices WHERE position IS NULL)"

_BRIEFLY: Final = "SET LOCAL lock_timeout = '250ms'"
"""Longer than anybody gives places who is well: he who reads waits for no one that hangs."""

_LOCK: Final = "SELECT position FROM notice_head FOR UPDATE"

_NUMBER: Final = """
WITH fresh AS MATERIALIZED (
  SELECT id, row_number() OVER (ORDER BY id) AS place, (random() * 2147483647)::int AS nonce
  FROM (SELECT id FROM notices WHERE position IS NULL ORDER BY id LIMIT $2) AS first),
given AS (
  UPDATE notices n SET position = $1 + f.place, nonce = f.nonce FROM fresh f WHERE n.id = f.id
  RETURNING n.position, n.nonce),
last AS (SELECT position, nonce FROM given ORDER BY position DESC LIMIT 1)
UPDATE notice_head h SET position = last.position, nonce = last.nonce FROM last RETURNING h.position
"""

_HEAD: Final = "SELECT position, nonce, trimmed, trimmed_nonce FROM notice_head"

_AFTER: Final = """
SELECT h.position AS head, h.nonce AS head_nonce, h.trimmed, h.trimmed_nonce,
       (SELECT s.nonce FROM notices s WHERE s.position = $2) AS seen, n.*
FROM notice_head h LEFT JOIN LATERAL (
  SELECT f.position, f.nonce, f.event_id, f.type, f.at, f.size, f.bookings::text[] AS bookings, f.keys, f.cents, f.details
  FROM (
    SELECT *, sum(size) OVER (ORDER BY position) - size AS before FROM (
      SELECT * FROM notices WHERE client_id = $1 AND position >= $3 AND ($4::text[] IS NULL OR type = ANY($4))
      ORDER BY position LIMIT $5) AS next
  ) AS f WHERE f.before < $5 + $6
) n ON true ORDER BY n.position
"""
"""`$2`: the cursor's position; `$3`: that of the first row to read; `$5`: how many changes at most; `$6`: how many of the first
row were read before."""

_BEYOND: Final = """
SELECT client FROM unnest($1::text[], $2::bigint[]) AS waits (client, position)
WHERE EXISTS (SELECT FROM notices n WHERE n.client_id = waits.client AND n.position > waits.position)
"""

_AT: Final = """
SELECT CASE WHEN h.position = $1 THEN h.nonce WHEN h.trimmed = $1 THEN h.trimmed_nonce
       ELSE (SELECT nonce FROM notices WHERE position = $1) END FROM notice_head h
"""


class Notice(NamedTuple):
    """One change of one thing, as its shop is told."""

    id: str
    """The same whenever it is read, and of no other notice, also after a restore."""
    type: str
    at: datetime
    """When the transaction began that made the change."""
    event_id: str | None
    booking_id: str | None
    data: Mapping[str, Any]
    """Status, codes, amounts in minor units, and ids; nothing personal beside ids."""
    cursor: Cursor
    """For who goes on behind it."""


class Page(NamedTuple):
    """Some notices, in their order. `cursor`: where to go on; without further notices it is the end of the feed, also for a
    shop of which nothing was told for long: who keeps it is never overtaken by the retention. `more`: there are others now."""

    notices: list[Notice]
    cursor: Cursor
    more: bool


class Notices:
    """Reads the feed, and gives places."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._flying: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        """Shared by all who came since the other began: it sees what was committed before they came."""

    async def number(self, *, briefly: bool = False) -> int:
        """Give a place to every committed notice that has none. Returns how many. Without any it takes no lock; `briefly`: it
        waits no longer for another's than a quarter of a second. Raises PostgreSQL's errors."""
        given = 0
        while await self._database.fetchval(_FRESH):
            async with self._database.begin() as connection:
                if briefly:
                    await connection.execute(_BRIEFLY)
                some = await number(connection)
            given += some
            if some < NUMBERED_MAX:
                break
        return given

    async def number_shared(self) -> None:
        """The same for all of a process who read, with one session: each waits for a round that began after it came, and
        shares it. While another holds the lock and hangs, nothing gets a place, and nobody waits for that. Raises
        PostgreSQL's other errors."""
        if self._next is None:
            # In nobody's name: it is for all who come.
            self._next = asyncio.get_running_loop().create_task(self._fly(self._flying), context=Context())
            self._next.add_done_callback(_seen)
        await asyncio.shield(self._next)

    async def _fly(self, before: asyncio.Task[None] | None) -> None:
        if before is not None and not before.done():
            await asyncio.wait([before])
        self._flying, self._next = self._next, None
        try:
            await self.number(briefly=True)
        except PostgresError as error:
            if sqlstate(error) != LOCK_NOT_AVAILABLE:
                raise
            seldom.warning("notices.nobody_numbers", code=LOCK_NOT_AVAILABLE)

    async def after(
        self, client_id: str, cursor: Cursor, *, types: Collection[str] = (), most: int = 500
    ) -> Page:  # fmt: skip
        """The shop's notices behind the cursor that have places, at most so many (1 or more); of these types alone, if there
        are any. Raises `CursorGone`, and PostgreSQL's errors."""
        inside = cursor.within < ALL_READ
        first = cursor.position if inside else cursor.position + 1
        read_before = cursor.within if inside else 0
        rows = await self._database.fetch(
            _AFTER, client_id, cursor.position, first, list(types) or None, most, read_before
        )
        _check(cursor, rows[0])
        notices: list[Notice] = []
        more = False
        for row in rows:
            if row["position"] is None:
                break
            begin = read_before if inside and row["position"] == cursor.position else 0
            end = min(row["size"], begin + most - len(notices))
            notices += (_notice(row, index) for index in range(begin, end))
            if len(notices) >= most:
                more = True
                break
        head = Cursor(rows[0]["head"], rows[0]["head_nonce"])
        return Page(notices, notices[-1].cursor if more else max(head, cursor), more)

    async def head(self) -> Cursor:
        """The end of the feed: behind the last place that was given. Raises PostgreSQL's errors."""
        row = await self._database.fetchrow(_HEAD)
        return Cursor(row["position"], row["nonce"])

    async def start(self, client_id: str | None = None) -> Cursor:
        """Before the oldest notice that is kept: the same for every shop. Raises PostgreSQL's errors."""
        row = await self._database.fetchrow(_HEAD)
        return Cursor(row["trimmed"], row["trimmed_nonce"])

    async def at(self, position: int, within: int = ALL_READ) -> Cursor:
        """A cursor that PostgreSQL itself keeps as its position: a restore takes both back. One that was trimmed is refused by
        `after`. Raises PostgreSQL's errors."""
        nonce = await self._database.fetchval(_AT, position)
        return Cursor(position, nonce or 0, within)

    async def beyond(self, positions: Mapping[str, int]) -> set[str]:
        """Of these shops those that have something behind the position, in one statement. Raises PostgreSQL's errors."""
        rows = await self._database.fetch(_BEYOND, list(positions), list(positions.values()))
        return {row["client"] for row in rows}


async def number(connection: Connection) -> int:
    """Give places to at most `NUMBERED_MAX` notices, in the caller's transaction. Returns how many. Who does so at the same
    time waits: two statements, as the second sees what the one before has committed."""
    last = await connection.fetchval(_LOCK)
    given = await connection.fetchval(_NUMBER, last, NUMBERED_MAX)
    return 0 if given is None else int(given - last)


def _seen(round_: asyncio.Task[None]) -> None:
    if not round_.cancelled():
        round_.exception()  # perhaps nobody waits any more


def _check(cursor: Cursor, row: Row) -> None:
    """Whether nothing between this cursor and the head was trimmed, nor the row in whose middle it is, and its place is of this
    line of history."""
    if cursor.position < row["trimmed"] or (cursor.position == row["trimmed"] and cursor.within < ALL_READ):
        raise CursorGone(reason="trimmed")
    known = {row["trimmed"]: row["trimmed_nonce"], row["head"]: row["head_nonce"]}
    if known.get(cursor.position, row["seen"]) != cursor.nonce:
        raise CursorGone(reason="forgotten")


def _notice(row: Row, index: int) -> Notice:
    position, nonce, name = row["position"], row["nonce"], row["type"]
    kind = BY_NAME.get(name)
    data: dict[str, Any] = msgspec.json.decode(row["details"])
    if kind is not None and kind.status is not None:
        data["status"] = kind.status
    if row["cents"] is not None:
        data["amount_cents"] = row["cents"][index]
    if kind is not None and kind.subject in _NAMED:
        data[f"{kind.subject}_id"] = row["keys"][index]
    last = index + 1 == row["size"]
    return Notice(
        f"n_{position}_{nonce:x}_{index}", name, row["at"], row["event_id"],
        row["bookings"][index] if row["bookings"] is not None else None, data,
        Cursor(position, nonce, ALL_READ if last else index + 1),
    )  # fmt: skip
