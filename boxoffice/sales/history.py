"""What was changed of an event: who, when, from what to what. Rows are written by the transaction that changes, once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from boxoffice.clock import iso
from boxoffice.notices.writing import notify_event
from boxoffice.stores.database import Connection, Reader

__all__ = ["differences", "read", "write"]

_WRITE = """
INSERT INTO event_changes (event_id, tier_id, version, changed_by, action, changes)
SELECT id, $2, version, $3, $4, $5::jsonb FROM events WHERE id = $1
"""

_READ = """
SELECT id, tier_id, version, changed_at, changed_by, action, changes FROM event_changes
WHERE event_id = $1 AND ($3::bigint IS NULL OR id < $3) ORDER BY id DESC LIMIT $2
"""


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Field to [before, after] of those that differ."""
    return {name: [before.get(name), value] for name, value in after.items() if before.get(name) != value}


async def write(
    connection: Connection, event_id: str, tier_id: str | None, changed_by: str, action: str, changes: Mapping[str, Any]
) -> None:
    """One row, behind the change itself: it has the version that the event has now. The shops that sell it are told."""
    await connection.execute(_WRITE, event_id, tier_id, changed_by, action, json.dumps(changes, default=_shown))
    await notify_event(connection, event_id, action, tier_id, changes)


async def read(reader: Reader, event_id: str, limit: int, before: int | None) -> list[dict[str, Any]]:
    """Up to `limit` changes, the newest first, older than the one whose id is `before`."""
    return [
        {
            "id": row["id"],
            "version": row["version"],
            "changed_at": iso(row["changed_at"]),
            "changed_by": row["changed_by"],
            "action": row["action"],
            "tier_id": row["tier_id"],
            "changes": {name: {"from": old, "to": new} for name, (old, new) in json.loads(row["changes"]).items()},
        }
        for row in await reader.fetch(_READ, event_id, limit, before)
    ]


def _shown(value: object) -> str:
    assert isinstance(value, datetime), "everything else is JSON by itself"
    return iso(value)
