"""The audit's walk through Redis: every key is declared, every record agrees with PostgreSQL (I4, I5, I7, I9)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from boxoffice.states import FINAL, KEY_REUSED, WORDS
from boxoffice.stores import keys
from boxoffice.stores.record import Record, unpack
from boxoffice.stores.shard import Shards
from ops.rush.findings import Findings
from ops.rush.rest import rings_waiting
from ops.rush.stock_checks import OpenBookings, Pool

__all__ = ["Walk", "walk"]

CHUNK: Final = 2_000
"""Keys looked at in one call, some 3 ms of Redis."""

LASTING: Final = re.compile(
    r"\{s\d\d\}:"
    r"(ev:\w+|own:\w+|owntiers:\w+|shops:\w+|codes:\w+|unpaid:\w+|pend|deadlines|dead|seq|told|sound|clock|gate|rings|catalogue"
    r"|api_keys|workers|sums|arq:queue|arq:abort)"
)
"""Keys that live without a TTL (see `boxoffice/stores/keys.py`). All others must end by themselves."""

OURS: Final = re.compile(r"(arq:[\w-]+:)?\{s\d\d\}:")

EXPIRING_MS: Final = 5_000
"""A record with less to live than this may lose its idempotency key while we look."""

_VALUES: Final = """
local found = {}
for at, key in ipairs(KEYS) do
  found[2 * at - 1], found[2 * at] = redis.call('GET', key), redis.call('PTTL', key)
end
return found
"""
"""Value and TTL of each key, in one answer: as two commands a key they cost the audit more than all else together."""

_OTHERWISE: Final = """
SELECT r.id::text AS id, b.status FROM unnest($1::uuid[], $2::text[]) AS r(id, status)
LEFT JOIN bookings b ON b.id = r.id WHERE b.status IS DISTINCT FROM r.status
"""
"""Of bookings as Redis has them, those that PostgreSQL has otherwise, or not at all."""


@dataclass(slots=True)
class Walk:
    """What was learnt on the way."""

    opened: OpenBookings
    unpaid: dict[str, str]
    """Bookings that ended without a payment attempt, which PostgreSQL never heard of: id to status."""
    refused: set[str]
    """Digests of the keys that must not appear."""
    records: int = 0
    others: int = 0


@dataclass(slots=True)
class _Sets:
    """Who stands where, read once: at rest these are small."""

    pending: set[str]
    deadlines: dict[str, int]
    dead: set[str]
    rings: set[str]
    """Jobs in arq's queue, whose keys may live as long."""
    now_ms: int

    def where(self, booking: str) -> list[str]:
        """Names of the sets in which a booking waits."""
        named = (("pend", self.pending), ("deadlines", self.deadlines), ("dead", self.dead))
        return [name for name, members in named if booking in members]


async def walk(shards: Shards, pool: Pool, refused: set[str], findings: Findings) -> Walk:
    """Read every key of every shard."""
    found = Walk(OpenBookings(), {}, refused)
    for here in shards:
        redis, shard = here.redis, here.number
        sets = await _read_sets(redis, shard)
        findings.parked += sorted(sets.dead)
        if stuck := sets.pending - findings.undecided:
            findings["I9"].blame(f"{len(stuck)} pending in shard {shard}, such as {_some(stuck)}")
        if rings := await rings_waiting(redis, shard):
            findings["I9"].blame(f"{len(rings)} rings wait in shard {shard}")
        prefix = keys.booking(shard, "")
        missing = sets.pending | sets.dead | set(sets.deadlines)
        async for names in _scan(redis, shard):
            bookings = [name[len(prefix) :] for name in names if name.startswith(prefix)]
            missing.difference_update(bookings)
            await _check_records(redis, pool, shard, bookings, sets, found, findings)
            others = [name for name in names if not name.startswith(prefix)]
            found.others += len(others)
            await _check_lasting(redis, [name for name in others if name not in sets.rings], findings)
        for booking in missing:
            findings["I4"].blame(f"booking {booking}: waits in shard {shard}, and has no record")
    findings["I4"].looked_at.append(f"{found.records} records in Redis")
    findings["I9"].looked_at.append(f"{found.records + found.others} keys in Redis")
    return found


async def _read_sets(redis: Redis, shard: int) -> _Sets:
    pending = {member.decode() for member in await redis.zrange(keys.pending(shard), 0, -1)}
    dead = {member.decode() for member in await redis.zrange(keys.dead(shard), 0, -1)}
    held = await redis.zrange(keys.deadlines(shard), 0, -1, withscores=True)
    rings = {keys.arq_job(job.decode()) for job in await redis.zrange(keys.arq_queue(shard), 0, -1)}
    seconds, micros = await redis.time()
    now_ms = seconds * 1_000 + micros // 1_000
    return _Sets(pending, {member.decode(): int(score) for member, score in held}, dead, rings, now_ms)


async def _scan(redis: Redis, shard: int) -> AsyncIterator[list[str]]:
    """Names of all keys that bear the shard's tag, each once, in chunks."""
    seen: set[str] = set()
    chunk: list[str] = []
    async for name in redis.scan_iter(match=f"*{keys.shard_tag(shard)}*", count=CHUNK):
        text = name.decode()
        if OURS.match(text) and text not in seen:
            seen.add(text)
            chunk.append(text)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    yield chunk


async def _check_lasting(redis: Redis, names: list[str], findings: Findings) -> None:
    """Whatever is not declared to last must end by itself. Idempotency keys are looked at with their records."""
    doubtful = [name for name in names if not LASTING.fullmatch(name) and ":idem:" not in name]
    async with redis.pipeline(transaction=False) as pipe:
        for name in doubtful:
            pipe.pttl(name)
        for name, left_ms in zip(doubtful, await pipe.execute() if doubtful else [], strict=True):
            if left_ms == -1:
                findings["I9"].blame(f"key {name} has no TTL and is not declared to last")


async def _check_records(
    redis: Redis, pool: Pool, shard: int, bookings: list[str], sets: _Sets, found: Walk, findings: Findings
) -> None:
    if not bookings:
        return
    records: list[tuple[Record, int]] = []
    values = await _values(redis, [keys.booking(shard, booking) for booking in bookings])
    for booking, (raw, left_ms) in zip(bookings, values, strict=True):
        if raw is None:
            continue
        try:
            records.append((unpack(booking, raw), left_ms))
        except ValueError as error:
            findings["I4"].blame(f"booking {booking}: its record cannot be read ({type(error).__name__})")
    found.records += len(records)
    for record, left_ms in records:
        _check_place(record, left_ms, sets, found, findings)
    statuses = [WORDS[record.state] for record, _ in records]
    rows = await pool.fetch(_OTHERWISE, [record.id for record, _ in records], statuses)
    if rows:
        otherwise = {row["id"]: row["status"] for row in rows}
        for record, _ in records:
            if record.id in otherwise:
                _check_decision(record, otherwise[record.id], sets, found, findings)
    await _check_keys(redis, shard, records, findings)


async def _values(redis: Redis, names: list[str]) -> Iterator[tuple[bytes | None, int]]:
    """What stands under each key, and its TTL in ms."""
    answers = await redis.eval_ro(_VALUES, len(names), *names) if names else []  # type: ignore[misc]
    return zip(answers[::2], answers[1::2], strict=True)


def _check_place(record: Record, left_ms: int, sets: _Sets, found: Walk, findings: Findings) -> None:
    """A booking that holds stock waits somewhere and cannot vanish; one that does not, waits nowhere and will."""
    booking, state = record.id, record.state
    waits = sets.where(booking)
    if record.payload.key in found.refused:
        findings["I5"].blame(f"booking {booking}: its key was refused, and yet it is {WORDS[state]}")
    if state in FINAL:
        if waits:
            findings["I7"].blame(f"booking {booking}: {WORDS[state]}, and still in {', '.join(waits)}")
        if left_ms == -1:
            findings["I9"].blame(f"booking {booking}: {WORDS[state]}, and its record has no TTL")
        return
    found.opened.add(record)
    if not waits:
        findings["I4"].blame(f"booking {booking}: {WORDS[state]}, and nobody will ever look at it")
    if left_ms >= 0:
        findings["I4"].blame(f"booking {booking}: {WORDS[state]}, and its record ends in {left_ms} ms")
    if state == "P" and booking not in sets.dead and booking not in findings.undecided:
        findings["I4"].blame(f"booking {booking}: still pending, admitted {sets.now_ms - record.admitted_ms} ms ago")
    if state == "H" and sets.deadlines.get(booking, sets.now_ms) < sets.now_ms:
        findings["I4"].blame(f"booking {booking}: still held, its deadline passed")


def _check_decision(record: Record, written: str | None, sets: _Sets, found: Walk, findings: Findings) -> None:
    """Redis mirrors what PostgreSQL decided, and here it does not. `written`: its status there, if it is known there."""
    status = WORDS[record.state]
    if record.state == "C" and written != "cancelled":
        findings["I11"].blame(
            f"booking {record.id}: Redis tells that it is confirmed, PostgreSQL {written or 'nothing'}"
        )
    if written is not None:
        if not (record.id in sets.dead and written in ("pending", "held")):
            findings["I4"].blame(f"booking {record.id}: {status} in Redis, {written} in PostgreSQL")
        return
    if record.state in "EX" and not record.attempts:
        found.unpaid[record.id] = status
    elif record.state in FINAL:
        findings["I4"].blame(f"booking {record.id}: {status} in Redis, unknown to PostgreSQL")


async def _check_keys(redis: Redis, shard: int, records: list[tuple[Record, int]], findings: Findings) -> None:
    """A key's entry lives as long as the booking's record, and names it."""
    values = await _values(redis, [keys.idempotency(shard, record.scope) for record, _ in records])
    for (record, left_ms), (named, key_left_ms) in zip(records, values, strict=True):
        final = record.state in FINAL
        duplicate = (record.payload.failure or "").startswith(("duplicate", KEY_REUSED))
        if 0 <= left_ms < EXPIRING_MS or duplicate:
            continue
        if named is None or named.decode() != record.id:
            findings["I5"].blame(f"booking {record.id}: its key names {named.decode() if named else 'nothing'}")
        elif (key_left_ms == -1) == final:
            findings["I9"].blame(f"booking {record.id}: {WORDS[record.state]}, TTL of its key {key_left_ms} ms")


def _some(bookings: set[str]) -> str:
    return ", ".join(sorted(bookings)[:3])
