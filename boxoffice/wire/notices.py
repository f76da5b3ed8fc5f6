"""Notices as shops read them: the same in the feed and in a webhook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from boxoffice.clock import micros
from boxoffice.notices.reading import Notice

__all__ = ["notice_body", "notice_page"]

_json: Final = msgspec.json.Encoder().encode


def notice_body(notice: Notice) -> bytes:
    """A notice as JSON."""
    return _json(_members(notice))


def notice_page(notices: Sequence[Notice], cursor: str, *, more: bool) -> bytes:
    """A page of the feed as JSON: each notice with the cursor behind it, and the one behind all of them."""
    shown = [_members(notice) | {"cursor": str(notice.cursor)} for notice in notices]
    return _json({"data": shown, "cursor": cursor, "more": more})


def _members(notice: Notice) -> dict[str, Any]:
    return {
        "id": notice.id,
        "type": notice.type,
        "timestamp": micros(notice.at),
        "event_id": notice.event_id,
        "booking_id": notice.booking_id,
        "data": notice.data,
    }
