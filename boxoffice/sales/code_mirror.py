"""Access codes of an event, brought into Redis where admit.lua looks them up.

An event's `codes_version` is its version when its codes were last changed, and Redis has, beside the codes, the one up to
which it has them, and from which PostgreSQL (`stores/lineage.py`): a standby that lost a change and was promoted may give its
number to another. So a change is some few writes, and whoever finds another mark in Redis knows that some are lacking.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from boxoffice.stores import keys
from boxoffice.stores.database import Connection
from boxoffice.stores.shard import Shards

__all__ = ["CODES_MAX", "CodeMirror"]

CODES_MAX: Final = 100_000
"""Access codes of one event, some 10 MB in Redis."""

CHUNK: Final = 5_000
"""Codes written by one call of the script: some milliseconds."""

VERSION: Final = "v"
"""The field that is no code's digest."""

_CHANGED: Final = """
SELECT digest, tickets, tier_id, valid_from, valid_until, revoked_at FROM access_codes
WHERE event_id = $1 AND version > $2 ORDER BY id
"""


class CodeMirror:
    """Writes codes into Redis."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    async def behind(self, shard: int, versions: Mapping[str, int], server: str) -> list[str]:
        """Those of the events (id to `codes_version`) whose codes Redis has not got, or has of another time, or of another
        PostgreSQL than this `server`; also where this one knows of no codes, since it has lost them. Raises Redis's errors."""
        async with self._shards[shard].redis.pipeline(transaction=False) as pipe:
            for event_id in versions:
                pipe.hget(keys.codes(shard, event_id), VERSION)
            there = await pipe.execute() if versions else []
        return [
            event_id
            for (event_id, version), raw in zip(versions.items(), there, strict=True)
            if (version or raw) and raw != _mark(version, server)
        ]

    async def bring(self, connection: Connection, shard: int, event_id: str, server: str) -> None:
        """Write what has changed since Redis was told last; everything, and nothing else, where Redis is ahead of
        PostgreSQL, was told by another than this `server`, or does not say how far. The caller holds the lock of the
        event's row, so nobody brings an older state after a newer one. Raises Redis's errors."""
        version = await connection.fetchval("SELECT codes_version FROM events WHERE id = $1", event_id)
        here, name = self._shards[shard], keys.codes(shard, event_id)
        mark = _mark(version, server)
        raw: bytes = await here.redis.hget(name, VERSION) or b""  # type: ignore[misc]
        if raw == mark or not (version or raw):
            return
        known, _, teller = raw.partition(b"@")
        since = int(known) if known and teller == server.encode() and int(known) < version else 0
        rows = await connection.fetch(_CHANGED, event_id, since)
        changes = [f"{row['digest']}:{_terms(row)}" for row in rows]
        for start in range(0, max(1, len(changes)), CHUNK):
            last, anew = start + CHUNK >= len(changes), since == start == 0
            written = await here.run(
                "codes", codes=name, version=mark if last else 0, anew=int(anew), seen=raw,
                changes=changes[start : start + CHUNK],
            )  # fmt: skip
            if written < 0:
                return  # somebody has brought later ones: the lock is ours no more
            raw = b"" if anew else raw


def _mark(version: int, server: str) -> bytes:
    return f"{version}@{server}".encode()


def _terms(code: Mapping[str, Any]) -> str:
    """As lua/lib/code_terms.lua reads them."""
    if code["revoked_at"] is not None:
        return "x"
    return f"{code['tickets']}|{code['tier_id'] or ''}|{_ms(code['valid_from'])}|{_ms(code['valid_until'])}"


def _ms(moment: datetime | None) -> int:
    return 0 if moment is None else int(moment.timestamp() * 1_000)
