"""The body of a delivery: small, and without personal data but ids. Whoever wants more reads it by the API."""

from __future__ import annotations

import msgspec

from boxoffice.clock import micros
from boxoffice.notices.reading import Notice

__all__ = ["body_of"]


def body_of(notice: Notice) -> str:
    """As JSON: what happened, when, and to what."""
    body = {
        "id": notice.id, "type": notice.type, "timestamp": micros(notice.at), "event_id": notice.event_id,
        "booking_id": notice.booking_id, "data": notice.data,
    }  # fmt: skip
    return msgspec.json.encode(body).decode()
