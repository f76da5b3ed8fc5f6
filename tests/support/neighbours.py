"""Bookings that are alike in all but one thing: whose they are, of which event, or under which key.

`mine` is the first; its neighbours are another shop's for the same event under the same key, the same shop's for another
event under the same key, its second one for the same event, and one in another shard. All have the same customer. What is
done to one leaves every trace of the others as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from boxoffice import ids
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.stores import keys
from tests.conftest import settle_all
from tests.support.shop.office import Till, book
from tests.support.shop.orders import CLIENT, OTHER, card

__all__ = ["KEY", "OTHERS", "Street"]

KEY = "one-key"
"""The idempotency key of each but the second of the same event."""

OTHERS = ("of another shop", "of another event", "under another key", "of another shard")

_TABLES = {
    "bookings": "t.id = ANY($1::uuid[])",
    "booking_items": "t.booking_id = ANY($1::uuid[])",
    "payments": "t.booking_id = ANY($1::uuid[])",
    "refunds": "t.booking_id = ANY($1::uuid[])",
    "stock_moves": "t.booking_id = ANY($1::uuid[])",
    "dead_letters": "t.booking_id = ANY($1::uuid[])",
    "booking_traces": "t.booking_id = ANY($1::uuid[])",
    "looks": "t.payment_key IN (SELECT payment_key FROM payments WHERE booking_id = ANY($1::uuid[]))",
    "disputes": "t.payment_key IN (SELECT payment_key FROM payments WHERE booking_id = ANY($1::uuid[]))",
    "webhook_events": "t.payment_key IN (SELECT payment_key FROM payments WHERE booking_id = ANY($1::uuid[]))",
    "captures": "t.payment_keys && ARRAY(SELECT payment_key FROM payments WHERE booking_id = ANY($1::uuid[]))",
}
_OF_EVENTS = {
    "events": "t.id = ANY($1::text[])",
    "tiers": "t.event_id = ANY($1::text[])",
    "inventory": "t.tier_id IN (SELECT id FROM tiers WHERE event_id = ANY($1::text[]))",
}


@dataclass
class Street:
    """The bookings `mine` and its neighbours, by name."""

    office: BoxOffice
    events: dict[str, EventView]
    """`mine`, `other` in the same shard, and `far` in another."""
    bookings: dict[str, str] = field(default_factory=dict)

    @property
    def till(self) -> Till:
        """The shop's, at the event of `mine`."""
        return Till(self.office, self.events["mine"])

    @property
    def mine(self) -> str:
        """The id."""
        return self.bookings["mine"]

    @property
    def others(self) -> list[str]:
        """The ids of its neighbours."""
        return [booking for name, booking in self.bookings.items() if name != "mine"]

    def client(self, name: str) -> str:
        """Whose it is."""
        return OTHER if name == "of another shop" else CLIENT

    def event(self, name: str) -> EventView:
        """What it is for."""
        return self.events[{"of another event": "other", "of another shard": "far"}.get(name, "mine")]

    async def book(
        self, *, token: str | None = "tok_ok", reference: str | None = None,
        names: Iterable[str] = ("mine", *OTHERS),
    ) -> None:  # fmt: skip
        """All of them, two tickets each; held without a token."""
        for name in names:
            key, event = "another-key" if name == "under another key" else KEY, self.event(name)
            admitted = await book(
                self.office,
                event,
                token,
                key=key,
                client=self.client(name),
                reference=reference,
                **{event.tiers[0].code: 2},
            )
            assert not admitted.replayed, name
            self.bookings[name] = admitted.booking_id

    async def pay(self, token: str, *, names: Iterable[str] = ("mine", *OTHERS), key: str = KEY) -> None:
        """The holds, each under the same key."""
        for name in names:
            await self.office.holds.pay(self.client(name), self.bookings[name], card(token), ids.digest(key))

    async def settle(self) -> None:
        """Until nothing is pending; captured, too."""
        await settle_all(self.office)

    async def leave_alone(self) -> None:
        """What is due for the others is due in an hour: whoever works now works for `mine`."""
        pool = await self.office.pool()
        later = "now() + interval '1 hour'"
        others = "(SELECT payment_key FROM payments WHERE booking_id = ANY($1::uuid[]))"
        await pool.execute(
            f"UPDATE payments SET due_at = {later} WHERE due_at IS NOT NULL AND payment_key IN {others}", self.others
        )
        await pool.execute(f"UPDATE looks SET due_at = {later} WHERE payment_key IN {others}", self.others)
        await pool.execute(
            f"UPDATE refunds SET due_at = {later} WHERE status = 'due' AND booking_id = ANY($1::uuid[])", self.others
        )
        await pool.execute(
            "UPDATE payments SET due_at = now(), leased_until = NULL WHERE due_at IS NOT NULL AND booking_id = $1::uuid",
            self.mine,
        )
        await pool.execute(
            "UPDATE refunds SET due_at = now(), leased_until = NULL WHERE status = 'due' AND booking_id = $1::uuid",
            self.mine,
        )

    async def key_of(self, name: str) -> str:
        """The payment key of its latest payment."""
        (row,) = await self.till.fetch(
            "SELECT payment_key FROM payments WHERE booking_id = $1 ORDER BY created_at DESC LIMIT 1",
            self.bookings[name],
        )
        return str(row["payment_key"])

    async def words(self) -> dict[str, str]:
        """The state of each in both stores."""
        return {name: await self.till.state(booking) for name, booking in self.bookings.items()}

    async def traces(self) -> dict[str, Any]:
        """Everything that either store has of the neighbours, and of the events that are not `mine`'s."""
        pool = await self.office.pool()
        found: dict[str, Any] = {}
        events = [event.id for name, event in self.events.items() if name != "mine"]
        for tables, names in ((_TABLES, self.others), (_OF_EVENTS, events)):
            for table, condition in tables.items():
                rows = await pool.fetch(f"SELECT to_jsonb(t)::text AS row FROM {table} t WHERE {condition}", names)
                found[table] = sorted(row["row"] for row in rows)
        redis = self.office.redis
        for booking in self.others:
            shard = ids.shard_of(booking)
            raw = await redis.get(keys.booking(shard, booking))
            scope = raw.split(b"|")[5].decode() if raw else ""
            sets = (keys.pending(shard), keys.deadlines(shard), keys.dead(shard))
            found[booking] = (
                raw,
                await redis.ttl(keys.booking(shard, booking)) == -1,
                await redis.get(keys.idempotency(shard, scope)),
                [await redis.zscore(name, booking) for name in sets],
            )
        for name, event in self.events.items():
            if name != "mine":
                found[f"redis {name}"] = [
                    await redis.hgetall(key)  # type: ignore[misc]
                    for key in (
                        keys.event(event.shard, event.id),
                        keys.owners(event.shard, event.id),
                        keys.owned_tiers(event.shard, event.id),
                        keys.shops(event.shard, event.id),
                        keys.unpaid(event.shard, event.id),
                    )
                ]
        return found
