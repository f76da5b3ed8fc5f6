"""Bodies about what is on sale, as the documentation shows them; see `api/schemas.py`, which has those about bookings.

Those about access codes and allocations stand in `api/holder_schemas.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.schemas import Body, Time

__all__ = [
    "CallOff",
    "CallOffRequest",
    "Event",
    "EventChangeRequest",
    "EventPage",
    "EventRequest",
    "EventWithCapacity",
    "History",
    "ManagedEvent",
    "PostponementRequest",
    "TierChangeRequest",
    "TierRequest",
]


class Tier(Body):
    """A class of ticket, and what is left of it."""

    id: str
    code: str
    name: str
    price_cents: int
    capacity: int
    on_sale_at: Time | None = Field(description="In place of the event's; null: the event's.")
    off_sale_at: Time | None
    booking_min: int | None = Field(
        description="Tickets of this tier, beside the event's rules, which it has to keep, too."
    )
    booking_max: int | None
    customer_min: int | None
    customer_max: int | None
    access_code_required: bool = Field(description="Sold to holders of an access code alone.")
    available: int


class ManagedTier(Tier):
    """A tier, for whoever manages it."""

    available: int | None = Field(description="Null while nobody can say.")  # type: ignore[assignment]


class Event(Body):
    """Something people attend, with its active tiers in display order."""

    id: str
    name: str
    starts_at: Time
    status: Literal["active", "paused", "inactive", "called_off"]
    currency: str
    on_sale_at: Time | None = Field(description="From when it may be booked; null: at once.")
    off_sale_at: Time | None = Field(description="Until when; null: until it starts.")
    version: int = Field(description="Grows with every change of the event or its tiers, as its `ETag`.")
    booking_min: int | None = Field(description="Least tickets of one booking; null: any number.")
    booking_max: int | None = Field(description="Most tickets of one booking.")
    customer_min: int | None = Field(
        description="Least that a customer has once a booking is in, all of them together."
    )
    customer_max: int | None = Field(description="Most that a customer may hold or have bought.")
    tiers: list[Tier]


class ManagedEvent(Event):
    """An event, for whoever manages it."""

    tiers: list[ManagedTier]  # type: ignore[assignment]


class CapacityChange(Body):
    """What a capacity was, what was asked for, and what it came to: more than that if as many were held or sold."""

    before: int
    asked: int
    after: int


class EventWithCapacity(ManagedEvent):
    """The event after a change of a tier."""

    capacity_change: CapacityChange | None


class Change(Body):
    """One change of an event."""

    id: int
    version: int = Field(description="Of the event, once it was changed.")
    changed_at: Time
    changed_by: str = Field(description="`key:` and the prefix of an API key, or `operator:` and a login name.")
    action: str
    tier_id: str | None
    changes: dict[str, dict[str, Any]] = Field(description="Field to `from` and `to`.")


class History(Body):
    """Changes of an event, the newest first."""

    data: list[Change]


_Allow = Annotated[
    list[Literal["past", "late_cancel"]] | None,
    Field(description="What is meant on purpose: a start in the past; cancelling after the start."),
]


class TierRequest(Body):
    """A tier to be made. Its own times stand in place of the event's."""

    code: str
    price_cents: int
    capacity: int
    name: str | None = None
    on_sale_at: Time | None = None
    off_sale_at: Time | None = None
    booking_min: int | None = None
    booking_max: int | None = None
    customer_min: int | None = None
    customer_max: int | None = None
    access_code_required: bool | None = None


class _EventOptions(Body):
    """What may be left out of an event, when it is made and when it is changed. Fields of a class that is named later among
    another's bases come first."""

    status: Literal["active", "paused", "inactive"] | None = None
    booking_min: int | None = None
    booking_max: int | None = None
    customer_min: int | None = None
    customer_max: int | None = None
    cancel_until: Time | None = None
    refund_percent: int | None = None
    on_sale_at: Time | None = None
    off_sale_at: Time | None = None
    allow: _Allow = None


class _NewEvent(Body):
    name: str
    starts_at: Time
    tiers: list[TierRequest]
    currency: str | None = Field(None, description="ISO 4217. USD if it is left out.")


class EventRequest(_EventOptions, _NewEvent):
    """An event to be made."""


class _KnownEvent(Body):
    name: str | None = None
    starts_at: Time | None = None


class EventChangeRequest(_EventOptions, _KnownEvent):
    """What of an event is to be changed. Null takes away a limit or a time that may be left out."""


class TierChangeRequest(Body):
    """What of a tier is to be changed."""

    name: str | None = None
    price_cents: int | None = None
    capacity: int | None = None
    display_order: int | None = None
    active: bool | None = None
    access_code_required: bool | None = None
    on_sale_at: Time | None = None
    off_sale_at: Time | None = None
    booking_min: int | None = None
    booking_max: int | None = None
    customer_min: int | None = None
    customer_max: int | None = None


class PostponementRequest(Body):
    """Another start, and until when bookings may be cancelled; null: until it starts."""

    starts_at: Time
    cancel_until: Time | None
    allow: _Allow = None


class CallOffRequest(Body):
    """Why an event is called off."""

    reason: str


class RefundsOf(Body):
    """Refunds of one status."""

    refunds: int
    cents: int


class RefusedRefund(Body):
    """What the gateway refused to give back: it is owed."""

    booking_id: str
    amount_cents: int
    currency: str
    code: str | None


class CallOff(Body):
    """How far a call-off is."""

    event_id: str
    status: Literal["running", "finished"] = Field(
        description="`finished`: everything is refunded, under way, or owed."
    )
    reason: str
    called_off_by: str
    started_at: Time
    finished_at: Time | None
    bookings: dict[str, int] = Field(description="By status. Holds that nobody tried to pay are not among them.")
    refunds: dict[str, RefundsOf] = Field(description="By status, as in `Refund`.")
    refused: list[RefusedRefund] = Field(description="Of your own bookings.")


class EventPage(Body):
    """Some events. `next_cursor` is null on the last page."""

    data: list[Event]
    next_cursor: str | None
