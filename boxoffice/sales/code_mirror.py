"""Access codes of an event, brought into Redis where admit.lua looks them up.

An event's `codes_version` is its version when its codes were last changed, and Redis has, beside the codes, the one up to
which it has them. So a change is some few writes, and whoever finds another number in Redis knows that some are lacking.
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

    async def behind(self, shard: int, versions: Mapping[str, int]) -> list[str]:
        """Those of the events (id to `codes_version`) whose codes Redis has not got, or has of another time. Raises Redis's
        errors."""
        events = [event_id for event_id, version in versions.items() if version]
        async with self._shards[shard].redis.pipeline(transaction=False) as pipe:
            for event_id in events:
                pipe.hget(keys.codes(shard, event_id), VERSION)
            there = await pipe.execute() if events else []
        return [event_id for event_id, raw in zip(events, there, strict=True) if int(raw or 0) != versions[event_id]]

    async def bring(self, connection: Connection, shard: int, event_id: str) -> None:
        """Write what has changed since Redis was told last; everything, where Redis is ahead of PostgreSQL. The caller holds
        the lock of the event's row, so nobody brings an older state after a newer one. Raises Redis's errors."""
        version = await connection.fetchval("SELECT codes_version FROM events WHERE id = $1", event_id)
        if not version:
            return
        here, name = self._shards[shard], keys.codes(shard, event_id)
        known = int(await here.redis.hget(name, VERSION) or 0)  # type: ignore[misc]
        if known == version:
            return
        rows = await connection.fetch(_CHANGED, event_id, known if known < version else 0)
        changes = [f"{row['digest']}:{_terms(row)}" for row in rows]
        for start in range(0, max(1, len(changes)), CHUNK):
            last = start + CHUNK >= len(changes)
            await here.run(
                "codes", codes=name, version=version if last else 0, anew=int(known > version and start == 0),
                changes=changes[start : start + CHUNK],
            )  # fmt: skip


def _terms(code: Mapping[str, Any]) -> str:
    """As lua/lib/code_terms.lua reads them."""
    if code["revoked_at"] is not None:
        return "x"
    return f"{code['tickets']}|{code['tier_id'] or ''}|{_ms(code['valid_from'])}|{_ms(code['valid_until'])}"


def _ms(moment: datetime | None) -> int:
    return 0 if moment is None else int(moment.timestamp() * 1_000)
