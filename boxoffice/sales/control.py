"""What is changed of a sale while it goes on: the same functions for the API and for operators.

A change is one transaction under the lock of the event's row: what is new, the event's next version, and a row of its history.
Then it is mirrored in Redis, in force from the next admission call. Whoever dies between the two leaves an event whose
`mirrored` is below its `version`: a worker's sweep brings it there.

One file because every change is the same transaction, with another statement in it.
"""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from typing import Any, Final, NamedTuple

from boxoffice import ids
from boxoffice.crashpoint import crashpoint
from boxoffice.errors import EventCalledOff, EventChanged, Malformed, NotFound
from boxoffice.sales import history
from boxoffice.sales.capacity import Capacity, CapacityChange
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.checks import TIERS_MAX, Checks, NewTier, Terms, check_window
from boxoffice.sales.loading import Loader
from boxoffice.sales.rules import RULES, Rules
from boxoffice.settings import Settings
from boxoffice.stores.database import Connection, Database, Row
from boxoffice.stores.shard import Shard, Shards

__all__ = ["Actor", "Changed", "Control"]

TRIES: Final = 5
"""Of one transaction, when PostgreSQL itself says that the next may succeed."""

_LOCK = """
SELECT id, client_id, shard, currency, version, now() AS now,
       name, starts_at, status, customer_max, cancel_until, refund_percent, on_sale_at, off_sale_at,
       booking_min, booking_max, customer_min
FROM events WHERE id = $1 FOR NO KEY UPDATE
"""

_TIERS = "SELECT * FROM tiers WHERE event_id = $1 ORDER BY display_order, code"

_CHANGE = """
UPDATE events SET name = $2, starts_at = $3, status = $4, customer_max = $5, cancel_until = $6, refund_percent = $7,
       on_sale_at = $8, off_sale_at = $9, booking_min = $10, booking_max = $11, customer_min = $12,
       version = version + 1, updated_at = now()
WHERE id = $1
"""

_CHANGE_TIER = """
UPDATE tiers SET name = $2, price_cents = $3, display_order = $4, is_active = $5, on_sale_at = $6, off_sale_at = $7,
       booking_min = $8, booking_max = $9, customer_min = $10, customer_max = $11, code_only = $12, updated_at = now()
WHERE id = $1
"""

_COUNT = "UPDATE events SET version = version + 1, updated_at = now() WHERE id = $1"

_CALL_OFF = "UPDATE events SET status = 'called_off', version = version + 1, updated_at = now() WHERE id = $1"

_ADD_TIER = """
WITH tier AS (
  INSERT INTO tiers (id, event_id, code, name, price_cents, on_sale_at, off_sale_at, booking_min, booking_max, customer_min,
                     customer_max, code_only, display_order)
  SELECT $1, $2, $3, $4, $5, $6, $7, $9, $10, $11, $12, $13, coalesce(max(display_order) + 1, 0)
  FROM tiers WHERE event_id = $2
)
INSERT INTO inventory (tier_id, total) VALUES ($1, $8)
"""

_TIER_COLUMNS: Final = (
    "name", "price_cents", "display_order", "is_active", "on_sale_at", "off_sale_at", *RULES, "code_only",
)  # fmt: skip


class Actor(NamedTuple):
    """Who changes something."""

    name: str
    """As the history tells it: `key:` and an API key's prefix, or `operator:` and a login name."""
    client: str | None = None
    """The shop whose events these may be; None: anybody's."""

    @classmethod
    def operator(cls) -> Actor:
        """Whoever sits at this terminal."""
        try:
            return cls(f"operator:{getpass.getuser()}")
        except (KeyError, OSError):  # an account without a name
            return cls("operator")


class Changed(NamedTuple):
    """An event after a change, and what became of a tier's capacity, if that was asked for."""

    event: EventView
    capacity: CapacityChange | None = None


class Control:
    """Changes events and their tiers."""

    def __init__(
        self, database: Database, shards: Shards, settings: Settings, apply_moves: Callable[[Shard], Awaitable[object]],
        published: Callable[[EventView], object] = lambda _: None,
    ) -> None:  # fmt: skip
        """`apply_moves` mirrors a shard's open stock moves; `published` is handed an event once Redis has its change."""
        self._database = database
        self.loader = Loader(database, shards)
        self._checks = Checks(settings)
        self.capacity = Capacity(database, shards, apply_moves)
        self._published = published

    async def owned(self, event_id: str, by: Actor) -> None:
        """Whether they may manage the event. The one place that says so. Raises `NotFound`."""
        async with self._database.answering():
            owner = await self._database.fetchval("SELECT client_id FROM events WHERE id = $1", event_id)
        if owner is None or by.client not in (None, owner):
            raise NotFound("There is no such event.")

    async def change_event(
        self, event_id: str, by: Actor | None = None, *, if_version: int | None = None, allow: Collection[str] = (),
        action: str = "edit", **changes: Any,
    ) -> EventView:  # fmt: skip
        """Change fields of `Terms`. `allow` has what is meant on purpose, of `checks.ALLOWED`.

        Raises `NotFound`, `Malformed`, `EventChanged` (it is of another version than `if_version`), `EventCalledOff`, and
        `StoreAway`: then the change may be there, and may be asked for once more.
        """
        by = by or Actor.operator()

        async def work(connection: Connection) -> None:
            event = await self.lock(connection, event_id, by, if_version)
            before = Terms(*(event[column] for column in Terms._fields))
            after = before._replace(**changes)
            self._checks.event(after, event["now"], allow, before)
            tiers = await connection.fetch(_TIERS, event_id)
            for at, tier in enumerate(tiers):
                window = tier["on_sale_at"] or after.on_sale_at, tier["off_sale_at"] or after.off_sale_at
                check_window(*window, f"/tiers/{at}/off_sale_at")
                if after.rules != before.rules:
                    self._checks.tier_rules(Rules.of(tier), after.rules, f"/tiers/{at}")
                if after.status == "active" != before.status:
                    self._checks.price(tier["price_cents"], event["currency"], "/tiers")
            if found := history.differences(before._asdict(), after._asdict()):
                await connection.execute(_CHANGE, event_id, *after)
                await history.write(connection, event_id, None, by.name, action, found)

        return await self.committed(event_id, work)

    async def pause(self, event_id: str, by: Actor | None = None, *, if_version: int | None = None) -> EventView:
        """Let nothing of it in, from the next admission call on. What is held may be paid. Raises as `change_event`, and
        `Malformed` for an event that is off sale."""
        return await self._switch(event_id, by, if_version, "active", "paused", "pause")

    async def resume(self, event_id: str, by: Actor | None = None, *, if_version: int | None = None) -> EventView:
        """Undo a pause. Raises as `pause`."""
        return await self._switch(event_id, by, if_version, "paused", "active", "resume")

    async def _switch(
        self, event_id: str, by: Actor | None, if_version: int | None, source: str, target: str, action: str
    ) -> EventView:
        by = by or Actor.operator()

        async def work(connection: Connection) -> None:
            event = await self.lock(connection, event_id, by, if_version)
            if event["status"] not in (source, target):
                raise Malformed(f"The event is {event['status']}, not {source}.", pointer="/status", code="status")
            if event["status"] == source:
                await connection.execute(
                    "UPDATE events SET status = $2, version = version + 1, updated_at = now() WHERE id = $1",
                    event_id, target,
                )  # fmt: skip
                await history.write(connection, event_id, None, by.name, action, {"status": [source, target]})

        return await self.committed(event_id, work)

    async def add_tier(
        self, event_id: str, tier: NewTier, by: Actor | None = None, *, if_version: int | None = None
    ) -> EventView:
        """One more tier, behind the others. Raises as `change_event`."""
        by, tier_id = by or Actor.operator(), ids.short_id()

        async def work(connection: Connection) -> None:
            event = await self.lock(connection, event_id, by, if_version)
            self._checks.tier(tier, event["currency"], event["on_sale_at"], event["off_sale_at"], "")
            self._checks.tier_rules(tier.rules, Rules.of(event), "")
            codes = {row["code"] for row in await connection.fetch(_TIERS, event_id)}
            if tier.code in codes:
                raise Malformed("Two tiers have the same code.", pointer="/code", code="duplicate_code")
            if len(codes) >= TIERS_MAX:
                raise Malformed(f"An event has 1 to {TIERS_MAX} tiers.", code="too_many")
            await connection.execute(
                _ADD_TIER, tier_id, event_id, tier.code, tier.name or tier.code, tier.price_cents, tier.on_sale_at,
                tier.off_sale_at, tier.capacity, *tier.rules, tier.code_only,
            )  # fmt: skip
            await connection.execute(_COUNT, event_id)
            made = {"code": tier.code, "price_cents": tier.price_cents, "capacity": tier.capacity}
            made |= tier.rules.given
            await history.write(
                connection, event_id, tier_id, by.name, "add_tier", history.differences({}, made)
            )  # fmt: skip

        return await self.committed(event_id, work)

    async def change_tier(
        self, tier_id: str, by: Actor | None = None, *, event_id: str | None = None, if_version: int | None = None,
        capacity: int | None = None, **changes: Any,
    ) -> Changed:  # fmt: skip
        """Change `name`, `price_cents`, `display_order`, `is_active`, `on_sale_at`, `off_sale_at`, `code_only` or a rule of a
        tier; and its capacity, which grows at once, and shrinks as far as tickets are neither held nor sold: the answer says
        how far.

        Raises as `change_event`; `GateClosed` while nobody can say what is left of a tier that is to shrink.
        """
        by = by or Actor.operator()
        event_id = event_id or await self._event_of(tier_id)
        if capacity is not None:
            self._checks.capacity(capacity)
            await self.owned(event_id, by)
            await self._mirrored(event_id)
        moved: list[CapacityChange] = []

        async def work(connection: Connection) -> None:
            moved.clear()
            event = await self.lock(connection, event_id, by, if_version)
            found = await self._change_tier(connection, event, tier_id, changes)
            if capacity is not None:
                # Last: what it takes in Redis stays taken there should this transaction end without its commit.
                change = await self.capacity.change(connection, event, tier_id, capacity)
                moved.append(change)
                if change.after != change.before:
                    found["capacity"] = [change.before, change.after]
            if found:
                await connection.execute(_COUNT, event_id)
                await history.write(connection, event_id, tier_id, by.name, "edit_tier", found)

        view = await self.committed(event_id, work)
        if moved:
            await self.capacity.mirror(view.shard, moved[0])
            self._published(view)  # once more: there are other counts
        return Changed(view, moved[0] if moved else None)

    async def _change_tier(
        self, connection: Connection, event: Row, tier_id: str, changes: dict[str, Any]
    ) -> dict[str, Any]:
        row = await connection.fetchrow("SELECT * FROM tiers WHERE id = $1 AND event_id = $2", tier_id, event["id"])
        if row is None:
            raise NotFound("There is no such tier.")
        before = {column: row[column] for column in _TIER_COLUMNS}
        after = before | changes
        self._checks.text(after["name"], "/name")
        currency = event["currency"] if after["price_cents"] != before["price_cents"] else None
        self._checks.tier(
            NewTier(row["code"], after["price_cents"], 0, after["name"], after["on_sale_at"], after["off_sale_at"]),
            currency, event["on_sale_at"], event["off_sale_at"], "",
        )  # fmt: skip
        if Rules.of(after) != Rules.of(before):
            self._checks.tier_rules(Rules.of(after), Rules.of(event), "")
        found = history.differences(before, after)
        if found:
            await connection.execute(_CHANGE_TIER, tier_id, *after.values())
        return found

    async def _event_of(self, tier_id: str) -> str:
        async with self._database.answering():
            event_id = await self._database.fetchval("SELECT event_id FROM tiers WHERE id = $1", tier_id)
        if event_id is None:
            raise NotFound("There is no such tier.")
        return str(event_id)

    async def _mirrored(self, event_id: str) -> None:
        """A tier that Redis has not got yet would be loaded with its new total, and then be moved by the difference."""
        async with self._database.answering():
            behind = await self._database.fetchval(
                "SELECT true FROM events WHERE id = $1 AND mirrored < version", event_id
            )
        if behind:
            await self.loader.publish(event_id)

    async def lock(
        self, connection: Connection, event_id: str, by: Actor, if_version: int | None = None
    ) -> Row:  # fmt: skip
        """The event's row, until the transaction ends. Raises as `change_event`."""
        event: Row | None = await connection.fetchrow(_LOCK, event_id)
        if event is None or by.client not in (None, event["client_id"]):
            raise NotFound("There is no such event.")
        if event["status"] == "called_off":
            raise EventCalledOff
        if if_version is not None and event["version"] != if_version:
            raise EventChanged(version=event["version"])
        return event

    async def call_off(
        self, event_id: str, reason: str, by: Actor, if_version: int | None,
        begin: Callable[[Connection, str, list[str], str, str], Awaitable[None]],
    ) -> None:  # fmt: skip
        """Stop all sales of an event, for good; `begin` writes what is left to be done. Nothing, if it was called off before.
        Raises as `change_event`."""
        self._checks.text(reason, "/reason")

        async def work(connection: Connection) -> None:
            try:
                event = await self.lock(connection, event_id, by, if_version)
            except EventCalledOff:
                return
            tiers = [row["id"] for row in await connection.fetch(_TIERS, event_id)]
            await begin(connection, event_id, tiers, reason, by.name)
            await connection.execute(_CALL_OFF, event_id)
            changes = {"status": [event["status"], "called_off"], "reason": [None, reason]}
            await history.write(connection, event_id, None, by.name, "call_off", changes)

        await self.committed(event_id, work)

    async def committed(self, event_id: str, work: Callable[[Connection], Awaitable[None]]) -> EventView:
        """The event after this work, in a transaction, committed and mirrored. Raises as `change_event`."""
        async with self._database.answering():
            await self._database.transaction(work, tries=TRIES)
        crashpoint("change_committed")
        view = await self.loader.publish(event_id)
        self._published(view)
        return view

    async def history(self, event_id: str, *, limit: int = 100, before: int | None = None) -> list[dict[str, Any]]:
        """What was changed of an event, the newest first. Raises `StoreAway`."""
        async with self._database.answering():
            return await history.read(self._database, event_id, limit, before)

    async def postpone(
        self, event_id: str, starts_at: datetime, cancel_until: datetime | None, by: Actor | None = None, *,
        if_version: int | None = None, allow: Collection[str] = (),
    ) -> EventView:  # fmt: skip
        """Another start, and until when bookings may be cancelled (None: until then). Raises as `change_event`."""
        return await self.change_event(
            event_id, by, if_version=if_version, allow=allow, action="postpone", starts_at=starts_at,
            cancel_until=cancel_until,
        )  # fmt: skip
