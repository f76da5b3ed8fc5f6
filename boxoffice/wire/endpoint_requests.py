"""What is asked for of endpoints. As strict as `requests.py`; which URLs there may be, `webhooks/addresses.py` says."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from msgspec import UNSET, Struct, UnsetType

from boxoffice.errors import Malformed
from boxoffice.states import DELIVERY_STATUSES
from boxoffice.wire.parameters import Moment
from boxoffice.wire.strict import read_strictly

__all__ = ["NewEndpoint", "Redelivery", "parse_change", "parse_new", "parse_redelivery", "parse_rotation"]

OVERLAP_S: Final = 86_400
"""Seconds for which two secrets sign unless a shop says otherwise: a day to bring it the new one."""


class NewEndpoint(Struct, forbid_unknown_fields=True):
    """One that is to be made."""

    url: str
    types: tuple[str, ...] = ()
    label: str | None = None
    begin: Literal["now", "start"] = "now"


class _Change(Struct, forbid_unknown_fields=True):
    url: str | UnsetType = UNSET
    types: tuple[str, ...] | UnsetType = UNSET
    label: str | UnsetType | None = UNSET
    status: Literal["enabled", "disabled"] | UnsetType = UNSET


class _Rotation(Struct, forbid_unknown_fields=True):
    overlap_s: int = OVERLAP_S


class _Redelivery(Struct, forbid_unknown_fields=True):
    notice_id: str | None = None
    since: Moment | None = None
    until: Moment | None = None
    status: str | None = None


class Redelivery(NamedTuple):
    """Which deliveries are to be sent anew."""

    notice: str | None
    since: datetime | None
    until: datetime | None
    status: str | None


def parse_new(raw: bytes) -> NewEndpoint:
    """Raises `Malformed`."""
    return read_strictly(raw or b"{}", NewEndpoint)


def parse_change(raw: bytes) -> dict[str, Any]:
    """What is to change, by its name. Raises `Malformed`, also when nothing is."""
    form = read_strictly(raw or b"{}", _Change)
    changes = {name: getattr(form, name) for name in _Change.__struct_fields__}
    changes = {name: value for name, value in changes.items() if value is not UNSET}
    if not changes:
        raise Malformed("Nothing is to be changed.", code="empty")
    return changes


def parse_rotation(raw: bytes) -> int:
    """For how many seconds two secrets sign. Raises `Malformed`."""
    return read_strictly(raw or b"{}", _Rotation).overlap_s


def parse_redelivery(raw: bytes) -> Redelivery:
    """One notice, or a range of time. Raises `Malformed`."""
    form = read_strictly(raw or b"{}", _Redelivery)
    if (form.notice_id is None) == (form.since is None):
        raise Malformed("Say which: notice_id, or since.", code="missing")
    if form.notice_id is not None and (form.until is not None or form.status is not None):
        raise Malformed("With notice_id there is nothing else to say.", code="not_together")
    if form.status is not None and form.status not in DELIVERY_STATUSES:
        raise Malformed(f"A status is one of {', '.join(DELIVERY_STATUSES)}.", pointer="/status", code="unknown")
    return Redelivery(form.notice_id, form.since, form.until, form.status)
