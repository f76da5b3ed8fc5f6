"""What is asked for of tickets that are set aside. As strict as `requests.py`; how many may be, `sales/allocations.py` says."""

from __future__ import annotations

from msgspec import Struct

from boxoffice.sales.allocations import Holder
from boxoffice.wire.requests import ID_MAX, check_text
from boxoffice.wire.strict import read_strictly

__all__ = ["parse_allocation", "parse_release", "parse_size"]


class _Allocation(Struct, forbid_unknown_fields=True):
    tier_id: str
    tickets: int
    shop: str | None = None
    code_id: str | None = None


class _Size(Struct, forbid_unknown_fields=True):
    tickets: int


class _Release(Struct, forbid_unknown_fields=True):
    tickets: int | None


def parse_allocation(raw: bytes) -> tuple[str, Holder, int]:
    """Of which tier, for whom, and how many tickets. Raises `Malformed`."""
    form = read_strictly(raw or b"{}", _Allocation)
    for name in ("tier_id", "shop", "code_id"):
        if (text := getattr(form, name)) is not None:
            check_text(text, f"/{name}", ID_MAX)
    return form.tier_id, Holder(form.shop, form.code_id), form.tickets


def parse_size(raw: bytes) -> int:
    """How many tickets it shall be of. Raises `Malformed`."""
    return read_strictly(raw or b"{}", _Size).tickets


def parse_release(raw: bytes) -> int | None:
    """How many tickets go on sale for everybody, None for all. It has to be said: a body that was lost must not release. Raises
    `Malformed`."""
    return read_strictly(raw or b"{}", _Release).tickets
