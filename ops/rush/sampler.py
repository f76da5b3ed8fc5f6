"""Looks at the counters while the sale runs: what must be true at every moment, not only at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg

from boxoffice.database_url import read_database_url
from boxoffice.sales.catalogue import EventView
from boxoffice.stores import fence, gate, keys
from boxoffice.stores.shard import Shards
from ops.rush.agreed import Aside, Code
from ops.rush.allocation_checks import check_sides
from ops.rush.away import STORE_AWAY

__all__ = ["Sampler"]

EVERY_S: Final = 0.05
COMPARE_S: Final = 0.5
"""How often the two stores are compared. Redis alone is looked at every 50 ms."""

EVIDENCE_MAX: Final = 20

_SOLD: Final = """
SELECT i.tier_id, i.sold,
       (SELECT count(*) FROM stock_moves m WHERE m.event_id = $1) AS moves,
       (SELECT coalesce(-sum(m.sold_delta), 0) FROM stock_moves m
        WHERE m.event_id = $1 AND m.tier_id = i.tier_id AND m.applied_at IS NULL) AS leaving
FROM inventory i JOIN tiers t ON t.id = i.tier_id WHERE t.event_id = $1
"""


class Sampler:
    """Samples I1 and I14 every 50 ms, I3 and I13 twice a second. A store that is away is looked at later."""

    def __init__(
        self, shards: Shards, database_url: str, events: list[EventView], codes: Sequence[Code] = (),
        aside: Mapping[str, Aside] | None = None,
    ) -> None:  # fmt: skip
        """`codes`: of which no more tickets are counted than they are good for; `aside`, by event: for whom some may be set
        aside."""
        self._aside = aside or {}
        self._sides: dict[str, tuple[object, dict[str, int]]] = {}
        self._codes = {event.id: [code for code in codes if code.event == event.id] for event in events}
        self._shards = shards
        self._database_url = database_url
        self._events = events
        self._connection: asyncpg.Connection[Any] | None = None
        self.counted = 0
        """Samples of Redis alone."""
        self.compared = 0
        self.went_back = 0
        """Comparisons that said nothing, because PostgreSQL lacked a commit that Redis was told of."""
        self.unchecked = 0
        """Comparisons that said nothing, because no guard had looked at Redis since it started: it may have gone back."""
        self.sums_broken: list[str] = []
        """Evidence against I1."""
        self.surplus: list[str] = []
        """Tiers with more held and sold than there are, all counted right: evidence against I1, unless an older Redis brought
        holds back whose tickets had been sold since. Nothing more is sold then, and PostgreSQL refuses the surplus."""
        self.unsold: list[str] = []
        """Tiers with fewer than no tickets sold, all counted right: a booking was confirmed and cancelled in PostgreSQL, and
        Redis was told of the tickets given back before it was told of the sale. Until then they count as held as well."""
        self.stores_broken: list[str] = []
        """Evidence against I3."""
        self.codes_broken: list[str] = []
        """Evidence against I13, unless an older Redis brought holds back."""
        self.sides = 0
        """Pairs of looks at the same allocations."""
        self.sides_broken: list[str] = []
        """Evidence against I14, unless a store went back."""
        self.available: dict[str, int] = {}
        """Tickets left per event when last seen."""
        self.tiers: dict[str, tuple[int, int, int, int]] = {}
        """Per tier what was available, held, sold and there at all when last seen."""

    async def run(self, stop: asyncio.Event) -> None:
        """Sample until told to stop."""
        clock = asyncio.get_running_loop().time
        began = next_s = clock()
        compare_s = began
        while not stop.is_set():
            try:
                for event in self._events:
                    await self.count(event, clock() - began)
                    await self.count_sides(event, clock() - began)
                if clock() >= compare_s:
                    compare_s = clock() + COMPARE_S
                    for event in self._events:
                        await self.count_codes(event, clock() - began)
                        await self.compare(event, clock() - began)
            except STORE_AWAY:
                self.hang_up()
            next_s = max(next_s + EVERY_S, clock())
            await asyncio.sleep(next_s - clock())
        self.hang_up()

    async def count(self, event: EventView, at_s: float) -> None:
        """Per tier: available + held + sold = total, none negative; of one single read."""
        found = await self._shards[event.shard].redis.hgetall(keys.event(event.shard, event.id))  # type: ignore[misc]
        if not found:
            return
        left = 0
        for tier in event.tiers:
            a, h, c, t = (int(found.get(f"{letter}:{tier.id}".encode(), -1)) for letter in "ahct")
            if a + h + c != t or min(a, h, c) < 0:
                is_surplus = a + h + c == t and a < 0 <= h and 0 <= c <= t
                is_unsold = a + h + c == t and c < 0 <= min(a, h + c)
                evidence = self.surplus if is_surplus else self.unsold if is_unsold else self.sums_broken
                _note(evidence, f"after {at_s:.2f} s: tier {tier.id} a={a} h={h} c={c} t={t}")
            left += a
            self.tiers[tier.id] = a, h, c, t
        self.available[event.id] = left
        self.counted += 1

    async def count_codes(self, event: EventView, at_s: float) -> None:
        """Per access code: no more tickets than it is good for, and none of which there are fewer than none."""
        codes = self._codes[event.id]
        if not codes:
            return
        redis, fields = self._shards[event.shard].redis, [f"k{code.digest}" for code in codes]
        raws = await redis.hmget(keys.owners(event.shard, event.id), fields)  # type: ignore[misc]
        for code, raw in zip(codes, raws, strict=True):
            if not 0 <= (tickets := int(raw or 0)) <= code.tickets:
                _note(self.codes_broken, f"after {at_s:.2f} s: code {code.id} has {tickets} of {code.tickets} tickets")

    async def count_sides(self, event: EventView, at_s: float) -> None:
        """Per tier, what is available less what is reserved: read in one step, and compared with the look before, if Redis is
        open all the time and the same is set aside."""
        aside = self._aside.get(event.id)
        if aside is None:
            return
        shard, digest = event.shard, f"k{aside.code.digest}"
        async with self._shards[shard].redis.pipeline(transaction=True) as pipe:
            pipe.get(keys.gate(shard))
            pipe.hgetall(keys.event(shard, event.id))
            pipe.hgetall(keys.shops(shard, event.id))
            pipe.hget(keys.owned_tiers(shard, event.id), digest)
            opened, sale, shops, coded = await pipe.execute()
        terms = sale.get(b"alloc", b"")
        if not opened or not terms:
            self._sides.pop(event.id, None)
            return
        free = {tier.id: int(sale.get(f"a:{tier.id}".encode(), 0)) for tier in event.tiers}
        has = {f"@{name.decode()}": int(tickets) for name, tickets in shops.items()}
        has |= {f"{digest}:{item.rpartition(':')[0]}": int(item.rpartition(":")[2])
                for item in (coded or b"").decode().split(",") if item}  # fmt: skip
        for each in terms.decode().split(","):
            tier, holder, tickets = each.split(":")
            free[tier] -= max(0, int(tickets) - has.get(f"{holder}:{tier}", 0))
        seen, before = self._sides.get(event.id, (None, {}))
        self._sides[event.id] = (opened, terms), free
        if seen == (opened, terms):
            self.sides += 1
            for tier in check_sides(free, before):
                line = f"after {at_s:.2f} s: tier {tier}: {before[tier]} were reserved for nobody, then {free[tier]}"
                _note(self.sides_broken, line)

    async def compare(self, event: EventView, at_s: float) -> None:
        """Read c, then sold, then c and h again: c <= sold <= c + h. Tickets on their way back (PostgreSQL has taken
        them off already) may still be in c; when more of them set out meanwhile, the sample says nothing. Nor does it while
        PostgreSQL lacks a commit that Redis was told of, or Redis is unchecked: that is known, and nothing is decided by it."""
        run = await self._checked(event)
        first = await self.sold(event)
        before = await self._shards[event.shard].redis.hgetall(keys.event(event.shard, event.id))  # type: ignore[misc]
        told = await fence.told(self._shards[event.shard])
        then = await self.sold(event)
        after = await self._shards[event.shard].redis.hgetall(keys.event(event.shard, event.id))  # type: ignore[misc]
        last = await self.sold(event)
        assert self._connection is not None
        if await fence.lost(self._connection, event.shard, told):
            self.went_back += 1
            return
        if not run or run != await self._checked(event):
            self.unchecked += 1
            return
        if not before or not after or any(first[tier]["moves"] != row["moves"] for tier, row in last.items()):
            return
        self.compared += 1
        for tier, row in then.items():
            sold, leaving = int(row["sold"]), int(first[tier]["leaving"])
            low = int(before[f"c:{tier}".encode()])
            high = int(after[f"c:{tier}".encode()]) + int(after[f"h:{tier}".encode()])
            if not low - leaving <= sold <= high:
                _note(self.stores_broken, f"after {at_s:.2f} s: tier {tier} c={low} sold={sold} c+h={high}")

    async def _checked(self, event: EventView) -> str:
        """The run of the server, if a guard has let it decide."""
        sight = await gate.look(self._shards[event.shard])
        return sight.run if sight.word == "open" else ""

    def hang_up(self) -> None:
        """No more of this connection."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def sold(self, event: EventView) -> dict[str, Any]:
        """Rows of the event's tiers, by tier, as PostgreSQL has them. Raises what asyncpg raises."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                read_database_url(self._database_url).dsn, timeout=1, command_timeout=1
            )
        return {row["tier_id"]: row for row in await self._connection.fetch(_SOLD, event.id)}


def _note(evidence: list[str], line: str) -> None:
    if len(evidence) < EVIDENCE_MAX:
        evidence.append(line)
