"""The shop at the scripts of a shard and nothing else: no PostgreSQL, no gateway, no worker. For tests of scripts and model."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from boxoffice import ids
from boxoffice.admission.forms import NOBODY
from boxoffice.admission.protocol import Call, Codec, Kind, Reply, booking_kind, decode, question, question_kind
from boxoffice.stores import keys
from boxoffice.stores.gate import Gate
from boxoffice.stores.jobs import BELL_TTL_MS, job_prefix, pack_ring
from boxoffice.stores.record import (
    Body,
    Line,
    Outcome,
    Payload,
    Record,
    confirmed,
    pack_items,
    pack_rest,
    unpack,
)
from boxoffice.stores.redis import run_id
from boxoffice.stores.scripts import Scripts
from boxoffice.stores.shard import Shard
from tests.support.shop.orders import CLIENT, card
from tests.support.waiting import eventually

__all__ = [
    "EVENT",
    "FAR",
    "OTHER_EVENT",
    "Desk",
    "Form",
    "Verdict",
    "counts_of_unpaid",
    "shift_owned",
    "tickets_by_tier",
]

EVENT = "concert00000"
OTHER_EVENT = "theatre00000"
FAR = 4_000_000_000_000
"""An event's start in ms, far ahead."""


def tickets_by_tier(items: bytes | None) -> dict[str, int]:
    """What a customer has, as Redis counts it: `tier:tickets,...`."""
    pairs = (item.partition(":") for item in (items or b"").decode().split(",") if item)
    return {tier: int(tickets) for tier, _, tickets in pairs}


async def shift_owned(redis: Redis, shard: int, event: str, owner: str, **tiers: int) -> None:
    """So many tickets more, or less, are counted against a customer of `CLIENT`: in all, by tier, and for the shop."""
    if await redis.hincrby(keys.owners(shard, event), owner, sum(tiers.values())) <= 0:  # type: ignore[misc]
        await redis.hdel(keys.owners(shard, event), owner)  # type: ignore[misc]
    for tier, tickets in tiers.items():
        if await redis.hincrby(keys.shops(shard, event), f"{CLIENT}:{tier}", tickets) <= 0:  # type: ignore[misc]
            await redis.hdel(keys.shops(shard, event), f"{CLIENT}:{tier}")  # type: ignore[misc]
    name = keys.owned_tiers(shard, event)
    has = Counter(tickets_by_tier(await redis.hget(name, owner)))  # type: ignore[misc]
    has.update(tiers)
    if items := ",".join(f"{tier}:{tickets}" for tier, tickets in sorted(has.items()) if tickets > 0):
        await redis.hset(name, owner, items)  # type: ignore[misc]
    else:
        await redis.hdel(name, owner)  # type: ignore[misc]


def counts_of_unpaid(found: dict[bytes, bytes]) -> dict[str, int]:
    """Those fields of `unpaid` that count tickets of today: whatever adds up to what is held."""
    return {who.decode(): int(tickets) for who, tickets in found.items() if not who.startswith(b"g:")}


@dataclass
class Form:
    """A booking as the API would hand it to admit.lua."""

    id: str
    event: str
    letter: str
    items: str
    prices: tuple[int, ...]
    scope: str
    payment_key: str
    packed: bytes
    hold_ms: int = 0
    owner: str = ""
    unpaid_max: tuple[int, ...] = ()
    """Tickets that the customer, and those that the client may have held and not paid for, and those that a client gives up
    before it may have fewer."""
    expected: int | None = None
    """What the shop has seen that it costs."""
    access_code: str | None = None
    client: str = CLIENT
    rate: str = ""
    """What its API key may spend, as `Allowance.text` says it."""


@dataclass
class _Member:
    """The same as the codec takes it."""

    kind: Kind
    packed: str
    record_key: str
    idempotency_key: str
    access_code: str


@dataclass
class Verdict:
    """What settle.lua is told of one booking."""

    form: Form
    letter: str
    payment_key: str | None = None
    delay_ms: int = 0
    payload: bytes = b'{"f":"told"}'

    def packed(self, index: int) -> bytes:
        """As settle.lua reads it."""
        key = self.form.payment_key if self.payment_key is None else self.payment_key
        return b"%d|%s|%s|%d|%s" % (index, self.letter.encode(), key.encode(), self.delay_ms, self.payload)


@dataclass
class Desk:
    """One shard of one server."""

    redis: Redis
    scripts: Scripts
    shard: int
    prices: dict[str, int] = field(default_factory=dict)

    async def open_gate(self) -> None:
        """Let bookings in."""
        await self.redis.set(keys.gate(self.shard), Gate("first", await run_id(self.redis)).pack())

    async def open_sale(
        self,
        event: str = EVENT,
        *,
        on: str = "1",
        starts_ms: int = FAR,
        limit: int = 0,
        rules: str = "",
        inactive: str = "",
        **tiers: int,
    ) -> None:
        """Put an event on sale: `open_sale(floor=5, balcony=1)`. Prices are 100, 200, … in the order given."""
        sale: dict[str, Any] = {"on": on, "starts": starts_ms, "cur": "USD", "lim": limit, "rules": rules}
        for at, (tier, capacity) in enumerate(tiers.items(), 1):
            self.prices[tier] = 100 * at
            price = f"-{100 * at}" if tier == inactive else f"{100 * at}"
            sale |= {f"a:{tier}": capacity, f"h:{tier}": 0, f"c:{tier}": 0, f"t:{tier}": capacity, f"p:{tier}": price}
        await self.redis.hset(keys.event(self.shard, event), mapping=sale)

    async def load(self, *tiers: str, **slots: Any) -> Any:
        """What load.lua answers to an event that is on sale; each tier is `id|price|total|sold`. `slots` differ."""
        usual = {
            "event": EVENT, "view": "{}", "on": "1", "starts_ms": FAR, "currency": "USD", "customer_max": 0, "windows": "",
            "rules": "", "allocated": "", "careful": 0,
        }  # fmt: skip
        return await Shard(self.redis, self.scripts, self.shard).run(
            "load", sale=keys.event(self.shard, EVENT), catalogue=keys.catalogue(self.shard),
            owners=keys.owners(self.shard, EVENT), tiers=tiers, **usual | slots,
        )  # fmt: skip

    def form(
        self,
        event: str = EVENT,
        *,
        key: str | None = None,
        customer: str = "ann",
        hold_ms: int = 0,
        prices: tuple[int, ...] | None = None,
        items: str | None = None,
        reference: str | None = None,
        access_code: str | None = None,
        metadata: dict[str, str] | None = None,
        client: str = CLIENT,
        rate: str = "",
        **tiers: int,
    ) -> Form:
        """A booking of these tiers, paid at once unless `hold_ms` is given; `access_code` is a digest."""
        lines = tuple(Line(tier, quantity, self.prices.get(tier, 0)) for tier, quantity in sorted(tiers.items()))
        items = pack_items(lines) if items is None else items
        amount = sum(line.quantity * line.unit_price_cents for line in lines)
        prices = tuple(line.unit_price_cents for line in lines) if prices is None else prices
        key_digest = ids.digest(key or ids.short_id())
        scope = ids.scope(client, event, key_digest)
        letter, payment_key = ("H", "") if hold_ms else ("P", scope)
        charge = None if hold_ms else card()
        owner = ids.owner_digest(client, customer)
        rest = pack_rest(
            payment_key=payment_key, scope=scope, event=event,
            fingerprint=ids.fingerprint(customer, items, "card", "4242", None, None, access_code or ""),
            owner=owner, items=items,
            body=Body(client, customer, amount, "USD", lines, reference, metadata, access_code=access_code),
            payload=Payload(charge, key=key_digest),
        )  # fmt: skip
        booking = ids.booking_id(self.shard, time.time_ns() // 1_000_000)
        return Form(
            booking, event, letter, items, prices, scope, payment_key, rest, hold_ms, owner, access_code=access_code,
            client=client, rate=rate,
        )  # fmt: skip

    def question(self, **wanted: Any) -> Form:
        """Whether there is anything left for such a booking, as the API asks in a sold-out rush."""
        form = self.form(**wanted)
        fingerprint = ids.fingerprint(wanted.get("customer", "ann"), form.items, "card", "4242")
        form.id, form.letter = NOBODY, "Q"
        form.packed = question(fingerprint, form.items, form.owner).encode()
        return form

    async def admit(self, *forms: Form, pending_max: int = 1_000) -> Reply:
        """The script's whole reply."""
        tiers = {event: ",".join(await self.tiers(event)) for event in dict.fromkeys(form.event for form in forms)}
        codec = Codec(Shard(self.redis, self.scripts, self.shard), pending_max)
        request = codec.encode(Call(tiers, [self._member(form) for form in forms]))
        return decode(await codec.script(self.redis, request.keys, request.args))

    def _member(self, form: Form) -> _Member:
        if form.letter == "Q":
            kind = question_kind(form.event, form.items, form.client, form.rate)
        else:
            kind = booking_kind(
                form.event, client=form.client, hold_ms=form.hold_ms, prices=form.prices, items=form.items,
                unpaid_max=form.unpaid_max, expected=form.expected, coded=form.access_code is not None, rate=form.rate,
            )  # fmt: skip
        return _Member(
            kind, form.packed.decode(), keys.booking(self.shard, form.id), keys.idempotency(self.shard, form.scope),
            "" if form.letter == "Q" else form.access_code or "",
        )  # fmt: skip

    async def book(self, *forms: Form, pending_max: int = 1_000) -> list[Any]:
        """What the script says of each form."""
        return (await self.admit(*forms, pending_max=pending_max)).results

    @staticmethod
    def word(result: Any) -> bytes:
        """What a result comes to; the usual one is nothing but its word."""
        word = result if isinstance(result, bytes) else result[0]
        assert isinstance(word, bytes)
        return word

    async def claim(
        self, *, limit: int = 500, lease_ms: int = 60_000, ring: bool = True
    ) -> list[tuple[str, int, bytes]]:
        """Id, lapses and record of each claimed booking."""
        reply = await self.scripts.claim(
            self.redis,
            [keys.gate(self.shard), keys.pending(self.shard), keys.bell(self.shard), keys.rings(self.shard),
             keys.arq_queue(self.shard), keys.told(self.shard)],
            [limit, lease_ms, keys.booking(self.shard, ""), int(ring), BELL_TTL_MS, pack_ring(self.shard),
             job_prefix(self.shard)],
        )  # fmt: skip
        assert not reply or int(reply[1]) == (len(reply) - 3) // 3
        return [(reply[at].decode(), int(reply[at + 1]), reply[at + 2]) for at in range(3, len(reply), 3)]

    async def settle(self, *verdicts: Verdict, ttl_s: int = 60, pair: str = "7:7") -> list[str]:
        """The script's word for each."""
        events = list(dict.fromkeys(verdict.form.event for verdict in verdicts))
        sale_keys = [key for event in events for key in (keys.event(self.shard, event), keys.owners(self.shard, event))]
        booking_keys = [
            key
            for verdict in verdicts
            for key in (keys.booking(self.shard, verdict.form.id), keys.idempotency(self.shard, verdict.form.scope))
        ]
        reply = await self.scripts.settle(
            self.redis,
            [
                keys.gate(self.shard),
                keys.pending(self.shard),
                keys.dead(self.shard),
                keys.deadlines(self.shard),
                keys.told(self.shard),
                *sale_keys,
                *booking_keys,
            ],
            [ttl_s, pair, len(events), *(verdict.packed(events.index(verdict.form.event) + 1) for verdict in verdicts)],
        )
        return [word.decode() for word in reply]

    async def confirm(
        self, *forms: Form, expected: list[bytes] | None = None, payload: Payload | None = None, ttl_s: int = 60
    ) -> bool:
        """Whether confirm.lua sold them all; `expected` are their records as they were claimed, otherwise as they are."""
        events = list(dict.fromkeys(form.event for form in forms))
        sold: dict[str, Counter[str]] = {event: Counter() for event in events}
        booking_keys, records = [], []
        for at, form in enumerate(forms):
            for item in form.items.split(","):
                tier, _, quantity = item.partition(":")
                sold[form.event][tier] += int(quantity)
            name = keys.booking(self.shard, form.id)
            raw = expected[at] if expected else await self.redis.get(name)
            booking_keys += [name, keys.idempotency(self.shard, form.scope)]
            records += [raw, confirmed(raw, payload or Payload(None, Outcome()))]
        done = await self.scripts.confirm(
            self.redis,
            [keys.gate(self.shard), keys.pending(self.shard), keys.dead(self.shard), keys.told(self.shard),
             *(keys.event(self.shard, event) for event in events), *booking_keys],
            [ttl_s, "7:7", len(events),
             *(",".join(f"{tier}:{count}" for tier, count in sold[event].items()) for event in events),
             *records],
        )  # fmt: skip
        return bool(done)

    async def settle_confirmed(self, *forms: Form) -> list[str]:
        """All of them sold."""
        return await self.settle(*(Verdict(form, "C") for form in forms))

    async def settle_failed(self, *forms: Form) -> list[str]:
        """All of them failed."""
        return await self.settle(*(Verdict(form, "F") for form in forms))

    # ------------------------------------------------------------------ looking

    async def tiers(self, event: str = EVENT) -> list[str]:
        """Tiers that have counters, by name."""
        fields = await self.redis.hkeys(keys.event(self.shard, event))
        return sorted(field[2:].decode() for field in fields if field.startswith(b"t:"))

    async def counts(self, tier: str, event: str = EVENT) -> tuple[int, int, int]:
        """Available, held and sold of a tier. They add up to its total, whatever happened."""
        sale = await self.redis.hgetall(keys.event(self.shard, event))
        available, held, sold, total = (int(sale[f"{letter}:{tier}".encode()]) for letter in "ahct")
        assert available + held + sold == total, "I1: nothing appears, nothing vanishes"
        assert min(available, held, sold) >= 0
        return available, held, sold

    async def record(self, form: Form) -> Record | None:
        """The booking's record."""
        raw = await self.redis.get(keys.booking(self.shard, form.id))
        return unpack(form.id, raw) if raw is not None else None

    async def has(self, form: Form, state: str) -> bool:
        """Whether the booking is in this state."""
        record = await self.record(form)
        return record is not None and record.state == state

    async def members(self, key: str) -> list[str]:
        """Of a zset."""
        return [member.decode() for member in await self.redis.zrange(key, 0, -1)]

    async def pending(self) -> list[str]:
        """Ids that wait for a worker or are with one."""
        return await self.members(keys.pending(self.shard))

    async def owned(self, form: Form) -> int:
        """Tickets counted against the form's customer: as many as it has of the tiers together."""
        in_all = int(await self.redis.hget(keys.owners(self.shard, form.event), form.owner) or 0)  # type: ignore[misc]
        assert in_all == sum((await self.owned_tiers(form)).values())
        return in_all

    async def owned_tiers(self, form: Form) -> dict[str, int]:
        """The same by tier."""
        name = keys.owned_tiers(self.shard, form.event)
        return tickets_by_tier(await self.redis.hget(name, form.owner))  # type: ignore[misc]

    async def set_code(self, access_code: str, terms: str, event: str = EVENT) -> None:
        """A code, by its digest, and what it is good for, as codes.lua writes it."""
        await self.redis.hset(keys.codes(self.shard, event), access_code, terms)  # type: ignore[misc]

    async def got_with(self, access_code: str, event: str = EVENT) -> int:
        """Tickets counted against a code."""
        return int(await self.redis.hget(keys.owners(self.shard, event), f"k{access_code}") or 0)  # type: ignore[misc]

    async def got_by_tier(self, access_code: str, event: str = EVENT) -> dict[str, int]:
        """The same by tier."""
        name = keys.owned_tiers(self.shard, event)
        return tickets_by_tier(await self.redis.hget(name, f"k{access_code}"))  # type: ignore[misc]

    async def set_aside(self, *allocations: str, event: str = EVENT) -> None:
        """Allocations, as load.lua writes them: `tier:holder:tickets`, the holder `@` and a client, or `k` and a code's
        digest."""
        await self.redis.hset(keys.event(self.shard, event), "alloc", ",".join(allocations))  # type: ignore[misc]

    async def sold_by(self, client: str = CLIENT, tier: str = "floor", event: str = EVENT) -> int:
        """Tickets of a tier that are counted for a shop."""
        return int(await self.redis.hget(keys.shops(self.shard, event), f"{client}:{tier}") or 0)  # type: ignore[misc]

    async def unpaid(self, event: str = EVENT) -> dict[str, int]:
        """Tickets held and not paid for: `o:` and a customer's digest, `c:` and a client."""
        found = await self.redis.hgetall(keys.unpaid(self.shard, event))  # type: ignore[misc]
        return counts_of_unpaid(found)

    async def given_up(self, tier: str = "floor", event: str = EVENT) -> int:
        """Tickets of a tier that the client gave up, less ten for each that it paid for."""
        found = await self.redis.hget(keys.unpaid(self.shard, event), f"g:{CLIENT}:{tier}")  # type: ignore[misc]
        return int(found.split(b":")[0]) if found else 0

    async def now_ms(self) -> int:
        """Redis's clock."""
        seconds, micros = await self.redis.time()
        return int(seconds) * 1_000 + int(micros) // 1_000

    async def snapshot(self) -> dict[bytes, object]:
        """Everything in Redis, to see that nothing was written. Leaves out what expires by itself."""
        found: dict[bytes, object] = {}
        for key in sorted(await self.redis.keys("*")):
            kind = await self.redis.type(key)
            match kind:
                case b"string":
                    found[key] = await self.redis.get(key)
                case b"hash":
                    found[key] = await self.redis.hgetall(key)
                case b"zset":
                    found[key] = await self.redis.zrange(key, 0, -1, withscores=True)
                case _:
                    found[key] = kind
        return found

    async def wait_ms(self, ms: float) -> None:
        """Let this much of Redis's time pass. fakeredis and real servers both run on the wall clock."""
        end = await self.now_ms() + ms

        async def passed() -> bool:
            return await self.now_ms() > end

        await eventually(passed)


def known_keys(shards: Sequence[int]) -> str:
    """A pattern that every key in Redis matches: functions of keys.py, or arq's own."""
    import re

    marks = {"event": "[0-9a-z]{12}", "booking": "[0-9a-f-]{36}", "scope": "[0-9a-f]{32}", "move": r"\d+-\d+",
             "digest": "[0-9a-f]{64}"}  # fmt: skip
    patterns = []
    for shard in shards:
        named = [
            keys.event(shard, "<event>"), keys.booking(shard, "<booking>"), keys.idempotency(shard, "<scope>"),
            keys.pending(shard), keys.deadlines(shard), keys.dead(shard), keys.owners(shard, "<event>"),
            keys.moved(shard, "<move>"), keys.sequence(shard), keys.told(shard), keys.sound(shard),
            keys.owned_tiers(shard, "<event>"), keys.shops(shard, "<event>"),
            keys.unpaid(shard, "<event>"), keys.codes(shard, "<event>"),
            keys.ended(shard, "<event>"), keys.changes(shard, "<booking>"),
            keys.gate(shard), keys.bell(shard), keys.unchecked(shard), keys.lacking(shard), keys.probe(shard),
            keys.clock(shard),
            keys.rates(shard), keys.declines(shard), keys.sums(shard), keys.session(shard, "<digest>"),
            keys.rings(shard), keys.catalogue(shard), keys.api_keys(shard), keys.workers(shard), keys.arq_queue(shard),
            f"{keys.arq_queue(shard)}:health-check",
        ]  # fmt: skip
        for name in named:
            pattern = re.escape(name)
            for mark, form in marks.items():
                pattern = pattern.replace(f"<{mark}>", form)
            patterns.append(pattern)
        patterns.append(rf"arq:(job|in-progress|retry):\{{s{shard:02d}\}}:ring:\d+")
    return "|".join(patterns)
