"""Bodies as the documentation shows them. Requests are read by `boxoffice.wire.requests`, answers written by `render`.

In a request, a member that may be left out may also be null; its schema names no default, for generated clients take
one that has a default for one that has to be there. In an answer every member is there, null when there is nothing to
say; in a problem, only those that say something.

One file because the document is read as a whole: one class for each body, and bodies share their parts.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from boxoffice.wire.render import FAILURES

__all__ = [
    "Accepted",
    "Answer",
    "Body",
    "Booking",
    "BookingPage",
    "BookingRequest",
    "Health",
    "PaymentRequest",
    "Problem",
    "Received",
    "Refund",
    "RefundList",
    "RefundRequest",
    "RefundRow",
    "Time",
]

BookingStatus = Literal["held", "pending", "confirmed", "failed", "expired", "cancelled"]
RefundStatus = Literal["due", "pending", "succeeded", "owed", "written_off", "dropped"]

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


def _without_defaults(schema: dict[str, Any]) -> None:
    for member in schema["properties"].values():
        member.pop("default", None)


def _absent_not_null(schema: dict[str, Any]) -> None:
    _without_defaults(schema)
    for member in schema["properties"].values():
        if "anyOf" in member:
            (kind,) = (each for each in member.pop("anyOf") if each != {"type": "null"})
            member |= kind


class Body(BaseModel):
    """Every member is there, and no other."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_without_defaults)


class Answer(BaseModel):
    """Members that have nothing to say are left out."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_absent_not_null)


class ItemRequest(Body):
    """One tier and a quantity."""

    tier_id: str = Field(min_length=1, max_length=64)
    quantity: int = Field(ge=1, description="Up to 10 by default.")


class PaymentRequest(Body):
    """How to pay: with a token of the gateway's or, where the gateway is simulated, with the number and name of a test
    card, which are exchanged for a token at once."""

    method: Literal["card"]
    card_name: str | None = Field(None, min_length=1, max_length=200, description="Needed with a number.")
    card_number: str | None = Field(None, description="13 to 19 digits, also with blanks or dashes.")
    token: str | None = Field(None, min_length=1, max_length=255, description="Without a number.")


class BookingRequest(Body):
    """One to ten tiers of one event, all or nothing. Prices come from the server."""

    customer_id: str = Field(min_length=1, max_length=200, description="Your own id of the customer.")
    reference: str | None = Field(None, max_length=200, description="Your own order number.")
    items: list[ItemRequest] = Field(min_length=1, description="Each tier once, up to 10 by default.")
    payment: PaymentRequest | None = Field(
        None, description="Without it the tickets are held. What costs nothing needs none, and ignores one."
    )
    hold_s: int | None = Field(
        None,
        ge=1,
        description="Seconds to hold; at most, and by default, 600. Without it, what costs nothing is confirmed at once.",
    )
    expected_amount_cents: int | None = Field(
        None,
        ge=0,
        description="What your customer has seen that it costs. When it costs another amount by now, it is refused as "
        "`price-changed`, and nothing is taken.",
    )
    return_url: str | None = Field(
        None,
        max_length=500,
        description="Where your customer comes back to from the bank: one of the URLs that your shop is allowed, or below it.",
    )
    metadata: dict[str, str] | None = Field(
        None,
        description="Your own words: up to 20 texts of up to 500 characters, by names of up to 40; 4,096 bytes as JSON.",
        max_length=20,
    )
    access_code: str | None = Field(None, max_length=64, description="Books earlier, or a tier that needs one.")


class RefundRequest(Body):
    """What to refund."""

    items: Annotated[list[ItemRequest], Field(min_length=1)] | Literal["all", "owed"] = Field(
        description="Each tier once; or the word `all`: every ticket that is left; or the word `owed`: no tickets, but "
        "the money that the gateway refused to give back."
    )
    reason: str | None = Field(None, min_length=1, max_length=200, description="For your own books.")


class Refund(Body):
    """Money on its way back."""

    id: str | None
    booking_id: str
    booking_status: Literal["confirmed", "cancelled", "failed", "expired", "held", "pending"]
    amount_cents: int
    currency: str
    status: RefundStatus = Field(
        description="`due`: to be asked for. `pending`: taken on by the gateway. `owed`: refused by it; try again."
    )


class RefundItem(Body):
    """Tickets of one tier that came back with a refund."""

    tier_id: str
    code: str
    quantity: int


class RefundRow(Body):
    """A refund as the books have it."""

    id: str
    booking_id: str
    amount_cents: int
    currency: str
    status: RefundStatus = Field(
        description="`due`: to be asked for. `pending`: taken on by the gateway. `succeeded`: paid, as the gateway says. "
        "`owed`: refused by it; try again. `written_off`: a person has ended it. `dropped`: nothing had been taken."
    )
    items: list[RefundItem] = Field(description="Empty when money came back and no tickets.")
    reason: str
    origin: Literal["shop", "gateway"] = Field(description="`gateway`: somebody made it there, as in its dashboard.")
    failure_code: str | None = Field(description="The gateway's last word on why it is not paid.")
    owed_since: Time | None = Field(description="When the gateway refused it first.")
    created_at: Time
    updated_at: Time


class RefundList(Body):
    """All refunds of a booking, oldest first."""

    data: list[RefundRow]


class RefundState(Body):
    """How the refunds of a booking stand, all together."""

    status: Literal["pending", "succeeded", "owed", "written_off"]
    pending_cents: int = Field(description="Under way; counted in `refunded_cents`.")
    owed_cents: int = Field(description="Refused by the gateway, and not counted in `refunded_cents`.")
    code: str | None = Field(description="Why the gateway refused, if money is owed.")
    since: Time | None = Field(description="Since when money is owed.")


class Item(Body):
    """One tier and a quantity of a booking."""

    tier_id: str
    code: str
    quantity: int
    refunded: int = Field(
        description="Of `quantity`: cancelled or refunded. The others are valid while it is confirmed."
    )
    unit_price_cents: int
    line_total_cents: int


class Payment(Body):
    """How the latest payment went, or goes."""

    status: Literal["pending", "requires_action", "authorized", "captured", "declined", "voided", "failed"]
    method: str
    last4: str | None
    reference: str | None = Field(description="The gateway's id of the payment.")
    failure_code: str | None = Field(description="The gateway's reason, such as `insufficient_funds`.")
    next_action: str | None = Field(description="Where the customer has to go before the payment can go on.")


class Failure(Body):
    """Why a booking was not confirmed, or is no more."""

    code: str = Field(description=f"One of {', '.join(f'`{code}`' for code in FAILURES)}; there may be new ones.")
    message: str


class Booking(Body):
    """One customer's purchase."""

    id: str
    status: BookingStatus
    event_id: str
    customer_id: str
    reference: str | None
    metadata: dict[str, str] = Field(description="Your own words; empty when there are none.")
    return_url: str | None = Field(description="Where the customer comes back to from the bank. Null: where all do.")
    items: list[Item]
    amount_cents: int
    currency: str
    refunded_cents: int = Field(description="Given back so far, or on its way. Never what is owed.")
    refund: RefundState | None = Field(description="Null while nothing was refunded.")
    created_at: Time
    expires_at: Time | None = Field(description="When the hold ends. Null for a booking posted with its payment.")
    expires_in_s: int | None = Field(
        description="Whole seconds until then, for a page whose clock is wrong. Null when nothing is left to wait for."
    )
    payment: Payment | None
    failure: Failure | None


class Left(Body):
    """What is left of a tier."""

    tier_id: str
    code: str
    available: int


class Accepted(Booking):
    """A booking with what is left of its event's tiers."""

    availability: list[Left]


class BookingPage(Body):
    """Some bookings, newest first. `next_cursor` is null on the last page."""

    data: list[Booking]
    next_cursor: str | None
    as_of: Time = Field("", description="With `order=updated`: the list has every change before it, up to this page.")


class Health(Answer):
    """How the process is."""

    status: Literal["alive", "ready"]
    stated: dict[str, str] | None = Field(None, description="What is believed because a setting says so.")


class Received(Answer):
    """A webhook was kept."""

    received: Literal[True]
    repeated: Literal[True] | None = Field(None, description="It was here before.")


class Fault(Answer):
    """Where in a request something is wrong: a JSON pointer into the body, a header or a parameter."""

    pointer: str | None = None
    header: str | None = None
    parameter: str | None = None
    code: str


class Shortfall(Body):
    """A tier of which fewer tickets are left than were asked for."""

    tier_id: str
    code: str
    requested: int
    available: int
    may_return: bool = Field(description="Whether some of its tickets are held, or being paid, and may come back.")


class Problem(Answer):
    """A refusal (RFC 9457), of any type: each has a schema of its own. There may be new ones."""

    type: str = Field(description="Stable: decide by it.")
    title: str
    status: int
    detail: str
    request_id: str | None = Field(None, description="As in `X-Request-Id`: name it when you ask us about this.")
    errors: list[Fault] | None = None
    pointer: str | None = Field(None, description="Into the body: what there is not.")
    shortfall: list[Shortfall] | None = None
    may_return: bool | None = Field(None, description="Whether that is so of every tier that is short.")
    retry_after: int | None = Field(None, description="Seconds, as in the header.")
    scope: str | None = Field(None, description="What the API key is not for.")
    reason: str | None = Field(None, description="Why no sale: `event`, `started`, `tier`, `ended`; else see 403.")
    opens_at: Time | None = Field(None, description="When all that was asked for is on sale.")
    version: int | None = Field(None, description="Of the event now.")
    reasons: dict[str, str] | None = Field(None, description="Which part is not ready.")
    tier_id: str | None = None
    requested: int | None = None
    refundable: int | None = None
    owed_cents: int | None = None
    held: int | None = None
    least: int | None = None
    limit: int | None = None
    may_take: int | None = Field(None, description="Tickets that the customer may still take.")
    code: str | None = Field(None, description="Of the tier.")
    amount_cents: int | None = Field(None, description="What it costs now.")
    unit_price_cents: int | None = Field(None, description="What a ticket of `tier_id` costs now.")
    currency: str | None = None
    left: int | None = Field(None, description="Tickets of the access code.")
    whose: Literal["customer", "client", "key", "event"] | None = None
    window_s: int | None = Field(None, description="Of the limit, which ends with its window.")
    attempts: int | None = None
    booking_id: str | None = None
    booking_status: BookingStatus | None = None
    expires_at: Time | None = None
