"""Notices that are about no booking: of events, and of a shop's own settings. Those of bookings and money the books write.

Each is written by the transaction that makes the change, behind it: the row that changed is locked by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from boxoffice.notices.types import BY_NAME, OF_EVENT
from boxoffice.stores.database import Writer

__all__ = ["notify_event", "write"]

_WRITE: Final = "INSERT INTO notices (client_id, event_id, type, details) VALUES ($1, $2, $3, $4::jsonb)"

_EVENT: Final = """
INSERT INTO notices (client_id, event_id, type, details)
SELECT shop.id, e.id, CASE WHEN $3::text = 'share' AND shop.id = $7 THEN 'event.created' ELSE $2 END,
       jsonb_strip_nulls(jsonb_build_object(
         'status', e.status, 'version', e.version, 'action', $3::text, 'tier_id', $4::text, 'fields', $5::text::jsonb))
FROM events e CROSS JOIN LATERAL (
  SELECT e.client_id AS id UNION SELECT client_id FROM event_shares WHERE event_id = e.id AND NOT $6
  UNION SELECT $7::text WHERE $7 IS NOT NULL) AS shop
WHERE e.id = $1 ORDER BY shop.id
"""

_OWNERS_OWN: Final = ("share", "unshare", "code", "allocation")
"""Parts of the actions that are no other shop's business, but for the one that they name."""


async def write(
    writer: Writer, client_id: str, type_: str, data: Mapping[str, Any], event_id: str | None = None
) -> None:  # fmt: skip
    """One notice for one shop, of a type of `NOTICE_TYPES`; `data` has nothing personal beside ids."""
    assert type_ in BY_NAME, "a type that nobody can choose"
    await writer.execute(_WRITE, client_id, event_id, type_, msgspec.json.encode(data).decode())


async def notify_event(
    writer: Writer, event_id: str, action: str, tier_id: str | None, changes: Mapping[str, Any]
) -> None:  # fmt: skip
    """What was done to an event, to the shop that owns it, and to those that it is shared with if it is their business.
    To one that it is shared with from now on it is new.
    `changes`: field to [before, after], as its history has it. The caller has locked its row, and made the change."""
    own = any(part in action for part in _OWNERS_OWN)
    partner = next((shop for shop in changes.get("shop", ()) if shop), None)
    await writer.execute(
        _EVENT, event_id, _type_of(action, changes), action, tier_id,
        msgspec.json.encode(sorted(changes)).decode() if not own else None, own, partner,
    )  # fmt: skip


def _type_of(action: str, changes: Mapping[str, Any]) -> str:
    if action in OF_EVENT:
        return OF_EVENT[action]
    before, after = changes.get("status", (None, None))
    if before != after:
        return {"active": "event.opened", "inactive": "event.closed", "paused": "event.paused"}[str(after)]
    return "event.changed"
