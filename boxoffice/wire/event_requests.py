"""What is asked for of an event or a tier: to make it, to change it. As strict as `requests.py`; which values may be, the rules
of `sales/checks.py` say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple

from msgspec import UNSET, Meta, Struct, UnsetType

from boxoffice.errors import Malformed
from boxoffice.sales.checks import ALLOWED, NewTier
from boxoffice.sales.codes import CodeTerms
from boxoffice.sales.rules import Rules
from boxoffice.wire.parameters import bad_header
from boxoffice.wire.requests import ID_MAX, check_text
from boxoffice.wire.strict import read_strictly

__all__ = [
    "CodesRequest",
    "EventForm",
    "parse_call_off",
    "parse_change",
    "parse_codes",
    "parse_event",
    "parse_if_match",
    "parse_postponement",
    "parse_tier",
    "parse_tier_change",
]

_ETAG: Final = re.compile(r'"([0-9]{1,18})(?:\.[0-9a-f]{1,64})?"')
"""Its version, and behind a point the digest of what was shown of it."""

Moment = Annotated[datetime, Meta(tz=True)]


class TierForm(Struct, forbid_unknown_fields=True):
    """A tier to be made."""

    code: str
    price_cents: int
    capacity: int
    name: str | None = None
    on_sale_at: Moment | None = None
    off_sale_at: Moment | None = None
    booking_min: int | None = None
    booking_max: int | None = None
    customer_min: int | None = None
    customer_max: int | None = None
    access_code_required: bool = False

    def tier(self) -> NewTier:
        """As the box office takes it."""
        name = self.code if self.name is None else self.name
        if self.name == "":
            raise Malformed("The text at /name must not be empty.", pointer="/name", code="empty")
        return NewTier(
            self.code, self.price_cents, self.capacity, name, self.on_sale_at, self.off_sale_at, _rules_of(self),
            self.access_code_required,
        )  # fmt: skip


class EventForm(Struct, forbid_unknown_fields=True):
    """An event to be made."""

    name: str
    starts_at: Moment
    tiers: list[TierForm]
    currency: str = "USD"
    status: str = "active"
    booking_min: int | None = None
    booking_max: int | None = None
    customer_min: int | None = None
    customer_max: int | None = None
    cancel_until: Moment | None = None
    refund_percent: int = 100
    on_sale_at: Moment | None = None
    off_sale_at: Moment | None = None
    allow: list[str] = []

    @property
    def rules(self) -> Rules:
        """Least and most tickets."""
        return _rules_of(self)


class _Change(Struct, forbid_unknown_fields=True):
    name: str | UnsetType = UNSET
    starts_at: Moment | UnsetType = UNSET
    status: str | UnsetType = UNSET
    booking_min: int | UnsetType | None = UNSET
    booking_max: int | UnsetType | None = UNSET
    customer_min: int | UnsetType | None = UNSET
    customer_max: int | UnsetType | None = UNSET
    cancel_until: Moment | UnsetType | None = UNSET
    refund_percent: int | UnsetType = UNSET
    on_sale_at: Moment | UnsetType | None = UNSET
    off_sale_at: Moment | UnsetType | None = UNSET
    allow: list[str] = []


class _TierChange(Struct, forbid_unknown_fields=True):
    name: str | UnsetType = UNSET
    price_cents: int | UnsetType = UNSET
    capacity: int | UnsetType = UNSET
    display_order: int | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    access_code_required: bool | UnsetType = UNSET
    on_sale_at: Moment | UnsetType | None = UNSET
    off_sale_at: Moment | UnsetType | None = UNSET
    booking_min: int | UnsetType | None = UNSET
    booking_max: int | UnsetType | None = UNSET
    customer_min: int | UnsetType | None = UNSET
    customer_max: int | UnsetType | None = UNSET


class _Codes(Struct, forbid_unknown_fields=True):
    tickets: int
    count: int | UnsetType = UNSET
    codes: list[str] | UnsetType = UNSET
    tier_id: str | None = None
    valid_from: Moment | None = None
    valid_until: Moment | None = None
    label: str | None = None


class _CallOff(Struct, forbid_unknown_fields=True):
    reason: str


class _Postponement(Struct, forbid_unknown_fields=True):
    starts_at: Moment
    cancel_until: Moment | None
    allow: list[str] = []


def parse_event(raw: bytes) -> EventForm:
    """Read an event to be made. Raises `Malformed`."""
    form = read_strictly(raw, EventForm)
    _check_allowed(form.allow)
    return form


def parse_change(raw: bytes) -> tuple[dict[str, Any], list[str]]:
    """What of an event is to be changed, by its columns, and what is meant on purpose. Raises `Malformed`."""
    form = read_strictly(raw, _Change)
    _check_allowed(form.allow)
    changes = _given(form)
    changes.pop("allow")
    return changes, form.allow


def parse_tier(raw: bytes) -> NewTier:
    """Read a tier to be made. Raises `Malformed`."""
    return read_strictly(raw, TierForm).tier()


def parse_tier_change(raw: bytes) -> dict[str, Any]:
    """What of a tier is to be changed, by its columns; `capacity` among them. Raises `Malformed`."""
    changes = _given(read_strictly(raw, _TierChange))
    if "active" in changes:
        changes["is_active"] = changes.pop("active")
    if "access_code_required" in changes:
        changes["code_only"] = changes.pop("access_code_required")
    if not 0 <= changes.get("display_order", 0) < ORDER_MAX:
        raise Malformed(f"An order is 0 to {ORDER_MAX - 1}.", pointer="/display_order", code="out_of_range")
    return changes


ORDER_MAX: Final = 10_000


class CodesRequest(NamedTuple):
    """Access codes to be made: so many, or those that are given."""

    terms: CodeTerms
    how_many: int
    given: list[str]


def parse_codes(raw: bytes) -> CodesRequest:
    """Read what codes are to be made, and how many or which. Raises `Malformed`."""
    form = read_strictly(raw, _Codes)
    if (form.count is UNSET) == (form.codes is UNSET):
        raise Malformed("Say how many codes, or which.", pointer="/count", code="ambiguous")
    if form.tier_id is not None:
        check_text(form.tier_id, "/tier_id", ID_MAX)
    given = [] if form.codes is UNSET else form.codes
    if form.codes is not UNSET and not given:
        raise Malformed("There is no code.", pointer="/codes", code="empty")
    terms = CodeTerms(form.tickets, form.tier_id, form.valid_from, form.valid_until, form.label)
    return CodesRequest(terms, 1 if form.count is UNSET else form.count, given)


def parse_call_off(raw: bytes) -> str:
    """Why an event is called off. It has to be said: a body that was lost must not do it. Raises `Malformed`."""
    return read_strictly(raw or b"{}", _CallOff).reason


def parse_postponement(raw: bytes) -> tuple[datetime, datetime | None, list[str]]:
    """The new start, until when bookings may be cancelled (null: until then), and what is meant on purpose. Both times have
    to be said. Raises `Malformed`."""
    form = read_strictly(raw or b"{}", _Postponement)
    _check_allowed(form.allow)
    return form.starts_at, form.cancel_until, form.allow


def parse_if_match(values: Sequence[bytes]) -> int | None:
    """The version that a change is meant for: the number with which an `ETag` begins, `"7"` as a change answered it or
    `"7.1f0c…"` as the event was read. None when any will do: no header, or `*`.

    Raises `Malformed`.
    """
    if not values:
        return None
    text = values[0].decode("latin-1").strip(" \t").removeprefix("W/")
    if len(values) == 1 and text == "*":
        return None
    found = _ETAG.fullmatch(text)
    if len(values) > 1 or found is None:
        bad_header('If-Match is one ETag of an event, such as "7".', "If-Match", "malformed")
    return int(found[1])


def _rules_of(form: TierForm | EventForm) -> Rules:
    return Rules(form.booking_min, form.booking_max, form.customer_min, form.customer_max)


def _given(form: Struct) -> dict[str, Any]:
    values = ((name, getattr(form, name)) for name in form.__struct_fields__)
    return {name: value for name, value in values if value is not UNSET}


def _check_allowed(allow: Sequence[str]) -> None:
    for at, word in enumerate(allow):
        if word not in ALLOWED:
            raise Malformed(
                f"What may be allowed is {', '.join(ALLOWED)}.", pointer=f"/allow/{at}", code="unknown_word"
            )
