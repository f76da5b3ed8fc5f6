"""Allocations: so many of a tier's tickets for one shop, or for one access code, until they are released.

An allocation is a number of tickets. What its holder has of the tier, held or bought, counts as taken from it; the rest is
reserved, and lib/allocations.lua leaves it to nobody else. So there is no second count of what was used: what is given back is
reserved again, and a rebuild knows all of it. Kept as everything of an event is: one transaction under the lock of its row,
then mirrored, in force from the next admission call.

One file because to make, to change and to release one is the same transaction, with another number in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from redis.exceptions import RedisError

from boxoffice import ids
from boxoffice.clock import iso
from boxoffice.crashpoint import crashpoint
from boxoffice.errors import GateClosed, Malformed, NotFound, StoreAway, Unavailable
from boxoffice.sales import history
from boxoffice.sales.checks import COUNT_MAX
from boxoffice.sales.control import TRIES, Actor, Control
from boxoffice.sales.left import reserved
from boxoffice.sales.shop_counts import ShopCounts
from boxoffice.stores import keys
from boxoffice.stores.database import Connection, Database, Reader, Row
from boxoffice.stores.shard import Shards

__all__ = ["ALLOCATIONS_MAX", "Allocations", "Holder"]

ALLOCATIONS_MAX: Final = 100
"""Of one event at a time: each admission call of the event reads all of them, some microseconds each."""

_LIST: Final = """
SELECT a.id, a.event_id, a.tier_id, a.client_id, a.code_id, a.tickets, a.created_at, a.released_at, c.tickets AS code_tickets,
       coalesce('k' || c.digest, '@' || a.client_id) AS holder,
       a.released_at IS NULL AND c.revoked_at IS NULL AND (a.client_id IS NULL OR a.client_id = e.client_id
         OR EXISTS (SELECT FROM event_shares s WHERE s.event_id = e.id AND s.client_id = a.client_id)) AS in_force
FROM allocations a JOIN events e ON e.id = a.event_id LEFT JOIN access_codes c ON c.id = a.code_id
WHERE a.event_id = $1 AND ($2 OR a.released_at IS NULL) ORDER BY a.id
"""

_FIRST: Final = "SELECT shard FROM events WHERE id = $1 AND NOT EXISTS (SELECT FROM allocations WHERE event_id = $1)"

_INSERT: Final = """
INSERT INTO allocations (id, event_id, tier_id, client_id, code_id, tickets) VALUES ($1, $2, $3, $4, $5, $6)
"""

_SELLS: Final = """
SELECT EXISTS (SELECT FROM events e WHERE e.id = $1 AND (e.client_id = $2
  OR EXISTS (SELECT FROM event_shares s WHERE s.event_id = e.id AND s.client_id = $2)))
"""

_COUNT: Final = "UPDATE events SET version = version + 1, updated_at = now() WHERE id = $1"


class Holder(NamedTuple):
    """For whom: one of the two."""

    shop: str | None = None
    """A client that sells the event."""
    code: str | None = None
    """Id of an access code of the event."""


class _Tally(NamedTuple):
    """Of one tier, at one moment."""

    available: int
    has: Mapping[str, int]
    """Tickets held or bought, by holder."""

    def free(self, rows: Sequence[Row]) -> int:
        """What is available and reserved for nobody. Below zero when less is available than is reserved."""
        return self.available - sum(self.left(row) for row in rows if row["in_force"])

    def left(self, row: Row) -> int:
        """What is still reserved of an allocation."""
        return reserved(row["tickets"], self.has[row["holder"]])


class Allocations:
    """Sets tickets aside, and releases them."""

    def __init__(self, database: Database, shards: Shards, control: Control, shop_counts: ShopCounts) -> None:
        self._database = database
        self._shards = shards
        self._control = control
        self._shop_counts = shop_counts

    async def create(
        self, event_id: str, tier_id: str, holder: Holder, tickets: int, by: Actor | None = None, *,
        if_version: int | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Reserve so many tickets of the tier, on top of what the holder has; fewer when fewer are available, and reserved for
        nobody: `reserved` says how many. Returns it as `page` does. Before an event's first one its shops are counted anew:
        processes of an earlier version, which count none, may have sold it. Nothing is counted for what is refused.

        Raises `Malformed`, also when the holder has an allocation of the tier; `NotFound` for a tier or a code that is not the
        event's, and a shop that does not sell it; `GateClosed`; and as `Control.change_event`.
        """
        by, name, grown = by or Actor.operator(), ids.short_id(), 0
        _check(tickets, 1)
        if (holder.shop is None) == (holder.code is None):
            raise Malformed("An allocation is for a shop or for a code: name one.", pointer="/shop", code="holder")

        async def allowed(connection: Connection) -> tuple[Row, str, int | None, list[Row]]:
            event = await self._control.lock(connection, event_id, by, if_version)
            whose, most = await self._holder(connection, event_id, tier_id, holder)
            rows = await connection.fetch(_LIST, event_id, False)
            if len(rows) >= ALLOCATIONS_MAX:
                raise Malformed(f"An event has up to {ALLOCATIONS_MAX} allocations.", code="too_many")
            if any(row["holder"] == whose and row["tier_id"] == tier_id for row in rows):
                raise Malformed("It has an allocation of this tier: change that.", pointer="/shop", code="duplicate")
            _check_code(tickets, most)
            return event, whose, most, rows

        async def work(connection: Connection) -> None:
            nonlocal grown
            event, whose, most, rows = await allowed(connection)
            of_tier = [row for row in rows if row["tier_id"] == tier_id]
            tally = await self._tally(event["shard"], event_id, tier_id, [*of_tier, {"holder": whose}])
            grown = min(tickets, max(0, tally.free(of_tier)))
            size = tally.has[whose] + grown
            _check_code(tally.has[whose] + tickets, most)
            await connection.execute(_INSERT, name, event_id, tier_id, holder.shop, holder.code, size)
            await self._changed(connection, event_id, tier_id, by, "create_allocation", {
                "allocation": [None, name], "shop": [None, holder.shop], "code": [None, holder.code],
                "tickets": [None, size],
            })  # fmt: skip

        async with self._database.answering():
            if (shard := await self._database.fetchval(_FIRST, event_id)) is not None:
                await self._database.transaction(allowed, tries=TRIES)
                await self._shop_counts.make(shard, event_id)
        await self._control.committed(event_id, work)
        return await self._covered(event_id, name, by, grown)

    async def resize(
        self, event_id: str, allocation: str, tickets: int, by: Actor | None = None, *, if_version: int | None = None
    ) -> dict[str, Any]:
        """Let it be of so many tickets: not fewer than its holder has taken of it, and not more than are available. What it
        came to is told. Raises as `create`, and `Malformed` for one that was released."""
        _check(tickets, 0)
        return await self._resize(event_id, allocation, by, if_version, lambda _: tickets, "change_allocation")

    async def release(
        self, event_id: str, allocation: str, tickets: int | None = None, by: Actor | None = None, *,
        if_version: int | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Let everybody have what of it nobody has taken, in one step: all of it, with which it ends, or so many tickets. What
        its holder has stays its own. One that was released before is left alone. Raises as `resize`."""
        if tickets is not None:
            _check(tickets, 1)
            less = tickets
            return await self._resize(
                event_id, allocation, by, if_version, lambda before: max(0, before - less), "release_allocation"
            )  # fmt: skip
        by = by or Actor.operator()

        async def work(connection: Connection) -> None:
            await self._control.lock(connection, event_id, by, if_version)
            _, row = await self._find(connection, event_id, allocation)
            if row["released_at"] is None:
                await connection.execute("UPDATE allocations SET released_at = now() WHERE id = $1", allocation)
                found = {
                    "allocation": [allocation, None], "shop": [_to_hear(row), None], "tickets": [row["tickets"], None]
                }  # fmt: skip
                await self._changed(connection, event_id, row["tier_id"], by, "release_allocation", found)

        await self._control.committed(event_id, work)
        return await self.one(event_id, allocation)

    async def page(self, event_id: str, by: Actor | None = None, *, every: bool = False) -> list[dict[str, Any]]:
        """An event's allocations in the order of their ids, those that were released only when asked for: each with how
        many of its tickets are `used`, and how many still `reserved` (None while Redis does not say). Raises
        `NotFound`, `StoreAway`."""
        await self._control.owned(event_id, by or Actor.operator())
        async with self._database.answering():
            shard = await self._database.fetchval("SELECT shard FROM events WHERE id = $1", event_id)
            rows = await self._database.fetch(_LIST, event_id, every)
        return await self._shown(shard, rows)

    async def one(self, event_id: str, allocation: str, by: Actor | None = None) -> dict[str, Any]:
        """One of them, released or not. Raises as `page`."""
        found = [each for each in await self.page(event_id, by, every=True) if each["id"] == allocation]
        if not found:
            raise NotFound("There is no such allocation.")
        return found[0]

    async def _resize(
        self,
        event_id: str,
        allocation: str,
        by: Actor | None,
        if_version: int | None,
        wanted: Callable[[int], int],
        action: str,
    ) -> dict[str, Any]:
        by, grown = by or Actor.operator(), 0

        async def work(connection: Connection) -> None:
            nonlocal grown
            event = await self._control.lock(connection, event_id, by, if_version)
            rows, row = await self._find(connection, event_id, allocation)
            if row["released_at"] is not None:
                raise Malformed("The allocation was released.", code="released")
            of_tier = [each for each in rows if each["tier_id"] == row["tier_id"]]
            tally = await self._tally(event["shard"], event_id, row["tier_id"], of_tier)
            before, has = row["tickets"], tally.has[row["holder"]]
            size = wanted(before)
            if size > before:
                _check_code(size, row["code_tickets"])
                size = min(size, max(before, has) + max(0, tally.free(of_tier)))
            else:
                size = max(size, min(before, has))
            grown = max(0, size - before)
            await self._set(connection, row, size, by, action)

        await self._control.committed(event_id, work)
        return await self._covered(event_id, allocation, by, grown)

    async def _covered(self, event_id: str, allocation: str, by: Actor, grown: int) -> dict[str, Any]:
        """The allocation, of no more than there are: somebody may have taken tickets between the look at what is available
        and the moment from which they were set aside. No more is cut than it has `grown` by: what it lacks of the rest waits
        for what comes back. So does all of it when whoever made it dies before this."""
        crashpoint("allocation_mirrored")
        found = await self.one(event_id, allocation)
        if grown and found["lacking"]:

            async def work(connection: Connection) -> None:
                event = await self._control.lock(connection, event_id, by)
                rows, row = await self._find(connection, event_id, allocation)
                of_tier = [each for each in rows if each["tier_id"] == row["tier_id"]]
                tally = await self._tally(event["shard"], event_id, row["tier_id"], of_tier)
                short = min(max(0, -tally.free(of_tier)), tally.left(row), grown)
                await self._set(connection, row, row["tickets"] - short, by, "change_allocation")

            await self._control.committed(event_id, work)
            found = await self.one(event_id, allocation)
        return found

    async def _set(self, connection: Connection, row: Row, size: int, by: Actor, action: str) -> None:
        if size != row["tickets"]:
            await connection.execute("UPDATE allocations SET tickets = $2 WHERE id = $1", row["id"], size)
            found = {"allocation": [row["id"]] * 2, "shop": [_to_hear(row)] * 2, "tickets": [row["tickets"], size]}
            await self._changed(connection, row["event_id"], row["tier_id"], by, action, found)

    @staticmethod
    async def _changed(
        connection: Connection, event_id: str, tier_id: str, by: Actor, action: str, found: Mapping[str, Any]
    ) -> None:
        await connection.execute(_COUNT, event_id)
        written = {name: change for name, change in found.items() if change != [None, None]}
        await history.write(connection, event_id, tier_id, by.name, action, written)

    async def _holder(
        self, connection: Connection, event_id: str, tier_id: str, holder: Holder
    ) -> tuple[str, int | None]:
        """As Redis names it, and how many tickets it may have of all tiers."""
        if not await connection.fetchval(
            "SELECT EXISTS (SELECT FROM tiers WHERE id = $1 AND event_id = $2)", tier_id, event_id
        ):
            raise NotFound("There is no such tier.")
        if holder.shop is not None:
            if not await connection.fetchval(_SELLS, event_id, holder.shop):
                raise NotFound("No such shop sells the event.")
            return f"@{holder.shop}", None
        code = await connection.fetchrow(
            "SELECT digest, tier_id, tickets FROM access_codes WHERE id = $1 AND event_id = $2 AND revoked_at IS NULL",
            holder.code, event_id,
        )  # fmt: skip
        if code is None or code["tier_id"] not in (None, tier_id):
            raise NotFound("There is no such access code for this tier.")
        return f"k{code['digest']}", code["tickets"]

    @staticmethod
    async def _find(reader: Reader, event_id: str, allocation: str) -> tuple[list[Row], Row]:
        """All of the event, and this one."""
        rows = await reader.fetch(_LIST, event_id, True)
        for row in rows:
            if row["id"] == allocation:
                return rows, row
        raise NotFound("There is no such allocation.")

    async def _tally(
        self, shard: int, event_id: str, tier_id: str, rows: Sequence[Mapping[str, Any] | Row]
    ) -> _Tally:  # fmt: skip
        """Raises `GateClosed` and `StoreAway`."""
        holders = [*dict.fromkeys(row["holder"] for row in rows)]
        try:
            word, *counts = await self._shards[shard].run(
                "tally", sale=keys.event(shard, event_id), owners=keys.owners(shard, event_id), tier=tier_id,
                holders=holders,
            )  # fmt: skip
        except (RedisError, OSError) as error:
            raise StoreAway from error
        if word != b"counted":
            raise GateClosed("The sale's counters are not loaded.")
        available, *has = map(int, counts)
        return _Tally(available, dict(zip(holders, has, strict=True)))

    async def _shown(self, shard: int, rows: Sequence[Row]) -> list[dict[str, Any]]:
        tallies: dict[str, _Tally | None] = {}
        for tier in dict.fromkeys(row["tier_id"] for row in rows):
            of_tier = [row for row in rows if row["tier_id"] == tier]
            try:
                tallies[tier] = await self._tally(shard, of_tier[0]["event_id"], tier, of_tier)
            except Unavailable:
                tallies[tier] = None
        return [
            _shown(row, tallies[row["tier_id"]], [each for each in rows if each["tier_id"] == row["tier_id"]])
            for row in rows
        ]


def _shown(row: Row, tally: _Tally | None, of_tier: Sequence[Row]) -> dict[str, Any]:
    used = left = lacking = None
    if tally is not None:
        used = min(row["tickets"], tally.has[row["holder"]])
        left = tally.left(row) if row["in_force"] else 0
        lacking = min(left, max(0, -tally.free(of_tier)))
    return {
        "id": row["id"], "tier_id": row["tier_id"], "shop": row["client_id"], "code_id": row["code_id"],
        "tickets": row["tickets"], "used": used, "reserved": left, "lacking": lacking, "in_force": row["in_force"],
        "created_at": iso(row["created_at"]),
        "released_at": None if row["released_at"] is None else iso(row["released_at"]),
    }  # fmt: skip


def _to_hear(row: Row) -> str | None:
    """The shop that has to hear of a change: its holder, as long as it sells the event."""
    return str(row["client_id"]) if row["client_id"] is not None and row["in_force"] else None


def _check(tickets: int, least: int) -> None:
    if not least <= tickets <= COUNT_MAX:
        raise Malformed(
            f"An allocation counts tickets: {least} to {COUNT_MAX}.", pointer="/tickets", code="out_of_range"
        )  # fmt: skip


def _check_code(tickets: int, most: int | None) -> None:
    """No more than the code lets in."""
    if most is not None and tickets > most:
        raise Malformed(f"The code is good for {most} tickets.", pointer="/tickets", code="above_code")
