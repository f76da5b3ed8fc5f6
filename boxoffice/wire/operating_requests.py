"""What operators ask for at their page. As strict as `requests.py`."""

from __future__ import annotations

from msgspec import Struct

from boxoffice.errors import Malformed
from boxoffice.settings import Settings
from boxoffice.wire.hold_requests import RefundRequest, parse_refund
from boxoffice.wire.requests import check_text
from boxoffice.wire.strict import read_strictly

__all__ = ["parse_desk_cancel", "parse_desk_refund", "parse_reconcile"]


class _Cancel(Struct, forbid_unknown_fields=True):
    reason: str | None = None


class _Reconcile(Struct, forbid_unknown_fields=True):
    fix: bool


def parse_desk_cancel(raw: bytes, settings: Settings) -> str:
    """Why a booking is cancelled, empty when nobody says. Raises `Malformed`, `CardDataRefused`."""
    reason = read_strictly(raw or b"{}", _Cancel).reason or ""
    if reason:
        check_text(reason, "/reason", settings.limits.text_max)
    return reason


def parse_desk_refund(raw: bytes, settings: Settings) -> RefundRequest:
    """What is to be refunded: items, or the word `all`. Raises as `parse_refund`."""
    wanted = parse_refund(raw, settings)
    if wanted.owed:
        raise Malformed(
            "Say which items, or all: what is owed is tried again with all.", pointer="/items", code="malformed"
        )
    return wanted


def parse_reconcile(raw: bytes) -> bool:
    """Whether counters are to be mended, or only compared. It has to be said. Raises `Malformed`."""
    return read_strictly(raw or b"{}", _Reconcile).fix
