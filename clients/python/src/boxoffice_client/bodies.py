"""Bodies of requests and answers: the JSON itself, typed.

Generated from tests/api/openapi.json: `make clients` writes it anew.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

__all__ = [
    "Accepted",
    "AccessCode",
    "AccessCodeInvalidProblem",
    "AccessCodePage",
    "AccessCodeRequiredProblem",
    "AccessCodeUsedUpProblem",
    "AccessCodesRequest",
    "Alert",
    "Alerts",
    "Allocation",
    "AllocationChangeRequest",
    "AllocationRequest",
    "Allocations",
    "AlreadyExtendedProblem",
    "Booking",
    "BookingLimitProblem",
    "BookingPage",
    "BookingRequest",
    "BusyProblem",
    "CallOff",
    "CallOffRequest",
    "CapacityChange",
    "CardDataNotAcceptedProblem",
    "Change",
    "ChangeRequest",
    "Counters",
    "CursorGoneProblem",
    "CustomerLimitProblem",
    "DeclinedTooOftenProblem",
    "Deed",
    "DeskCancelRequest",
    "DeskItem",
    "DeskRefundRequest",
    "Dossier",
    "EndpointChangeRequest",
    "EndpointRequest",
    "Event",
    "EventCalledOffProblem",
    "EventChangeRequest",
    "EventChangedProblem",
    "EventPage",
    "EventRequest",
    "EventWithCapacity",
    "ExtensionRequest",
    "FailedParked",
    "Failure",
    "Fault",
    "FeedPage",
    "Figures",
    "ForbiddenProblem",
    "FoundBooking",
    "FoundBookings",
    "GateClosedProblem",
    "HeadTooLargeProblem",
    "Health",
    "History",
    "HoldEndedProblem",
    "HoldPaymentRequest",
    "IdempotencyKeyReusedProblem",
    "InternalErrorProblem",
    "Item",
    "ItemRequest",
    "Left",
    "MalformedRequestProblem",
    "ManagedEvent",
    "ManagedTier",
    "MethodNotAllowedProblem",
    "NewAccessCode",
    "NewAccessCodes",
    "NewSecret",
    "NewWebhookEndpoint",
    "NotCancellableProblem",
    "NotDoneProblem",
    "NotFoundProblem",
    "NotReadyProblem",
    "NothingOwedProblem",
    "Notice",
    "OperatorsHistory",
    "OverloadedProblem",
    "ParkedBooking",
    "ParkedList",
    "Payment",
    "PaymentInProgressProblem",
    "PaymentRequest",
    "PostponementRequest",
    "PriceChangedProblem",
    "Problem",
    "RateLimitedProblem",
    "Received",
    "ReconcileRequest",
    "Reconciled",
    "ReconciledTier",
    "Redelivered",
    "RedeliveryRequest",
    "Refund",
    "RefundItem",
    "RefundList",
    "RefundOwedProblem",
    "RefundRequest",
    "RefundRow",
    "RefundState",
    "RefundTooLargeProblem",
    "RefundsOf",
    "RefusedRefund",
    "ReleaseRequest",
    "RequestTimeoutProblem",
    "RetriedParked",
    "Revoked",
    "RotationRequest",
    "SaleClosedProblem",
    "SaleInFigures",
    "SaleNotOpenProblem",
    "SalePausedProblem",
    "Session",
    "Shortfall",
    "SoldOutProblem",
    "SoldTier",
    "Spread",
    "StoreAwayProblem",
    "StreamsFullProblem",
    "TicketCounts",
    "Tier",
    "TierChangeRequest",
    "TierRequest",
    "TooManyAttemptsProblem",
    "TooManyChangesProblem",
    "TooManyConnectionsProblem",
    "TooManyStreamsProblem",
    "TooManyWaitsProblem",
    "UnauthorizedProblem",
    "UnpaidLimitProblem",
    "WatchedMoney",
    "WatchedSale",
    "WatchedServer",
    "WatchedShard",
    "WatchedTier",
    "WatchedWorker",
    "WebhookDeliveries",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEndpoints",
    "WebhookMalformedProblem",
    "WebhookRefusedProblem",
]


class Accepted(TypedDict):
    """A booking with what is left of its event's tiers."""

    amount_cents: int
    availability: list[Left]
    created_at: str
    currency: str
    customer_id: str
    event_id: str
    expires_at: str | None
    """When the hold ends. Null for a booking posted with its payment."""
    expires_in_s: int | None
    """Whole seconds until then, for a page whose clock is wrong. Null when nothing is left to wait for."""
    failure: Failure | None
    id: str
    items: list[Item]
    metadata: dict[str, str]
    """Your own words; empty when there are none."""
    payment: Payment | None
    reference: str | None
    refund: RefundState | None
    """Null while nothing was refunded."""
    refunded_cents: int
    """Given back so far, or on its way. Never what is owed."""
    return_url: str | None
    """Where the customer comes back to from the bank. Null: where all do."""
    status: Literal["held", "pending", "confirmed", "failed", "expired", "cancelled"]


class AccessCode(TypedDict):
    """A code, without what it reads."""

    created_at: str
    id: str
    label: str | None
    revoked_at: str | None
    tickets: int
    tier_id: str | None
    used: int | None
    """Tickets held and bought with it now; null while nobody can say."""
    valid_from: str | None
    valid_until: str | None


class AccessCodeInvalidProblem(TypedDict):
    """The access code does not let this booking in."""

    detail: str
    reason: str
    """Why no sale: `event`, `started`, `tier`, `ended`; else see 403."""
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[403]
    title: str
    type: Literal["/problems/access-code-invalid"]
    """Stable: decide by it."""


class AccessCodePage(TypedDict):
    """Codes of an event by `id`: ask for those after the last one."""

    data: list[AccessCode]


class AccessCodeRequiredProblem(TypedDict):
    """These tickets need an access code."""

    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[403]
    title: str
    type: Literal["/problems/access-code-required"]
    """Stable: decide by it."""


class AccessCodeUsedUpProblem(TypedDict):
    """Too few tickets are left of the access code."""

    detail: str
    left: int
    """Tickets of the access code."""
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[409]
    title: str
    type: Literal["/problems/access-code-used-up"]
    """Stable: decide by it."""


class AccessCodesRequest(TypedDict):
    """Access codes to be made: `count` new ones, or those in `codes`."""

    codes: NotRequired[list[str] | None]
    """12 letters and digits or more, each. Capitals, blanks and dashes make no difference."""
    count: NotRequired[int | None]
    label: NotRequired[str | None]
    """What you call them."""
    tickets: int
    """Held and bought with each of them at a time, at most."""
    tier_id: NotRequired[str | None]
    """The only tier that they are for; null: any, one that needs a code, too."""
    valid_from: NotRequired[str | None]
    """From when they let in, before `on_sale_at`; null: at once."""
    valid_until: NotRequired[str | None]
    """Null: as long as tickets are on sale."""


class Alert(TypedDict):
    """One alert rule. `pending`: true for less than `for_s`. `unknown`: it cannot be told here, or not yet."""

    for_s: int
    name: str
    runbook: str
    """What to do: the heading in the documentation."""
    severity: Literal["page", "ticket"]
    since_ms: int | None
    state: Literal["quiet", "pending", "firing", "unknown"]
    summary: str


class Alerts(TypedDict):
    """Every rule, those that fire first."""

    data: list[Alert]


class Allocation(TypedDict):
    """Tickets of a tier that are set aside for one shop, or for one access code."""

    code_id: str | None
    created_at: str
    id: str
    in_force: bool
    """False when it was released, its code is revoked, or its shop does not sell the event: then nothing is reserved."""
    lacking: int | None
    """So many fewer are available than are reserved of the tier, of these at most."""
    released_at: str | None
    reserved: int | None
    """Of them, what nobody else may take; null while nobody can say."""
    shop: str | None
    tickets: int
    tier_id: str
    used: int | None
    """Of them, what the holder holds or has bought; null while nobody can say."""


class AllocationChangeRequest(TypedDict):
    """Another size of an allocation."""

    tickets: int


class AllocationRequest(TypedDict):
    """Tickets to be set aside, for a shop or for a code."""

    code_id: NotRequired[str | None]
    """The `id` of the access code that they are for."""
    shop: NotRequired[str | None]
    """The shop that they are for: yours, or one that sells the event."""
    tickets: int
    """On top of what the holder holds or has bought of the tier."""
    tier_id: str


class Allocations(TypedDict):
    """What is set aside of an event, by `id`."""

    data: list[Allocation]


class AlreadyExtendedProblem(TypedDict):
    """The hold was extended before."""

    detail: str
    expires_at: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[409]
    title: str
    type: Literal["/problems/already-extended"]
    """Stable: decide by it."""


class Booking(TypedDict):
    """One customer's purchase."""

    amount_cents: int
    created_at: str
    currency: str
    customer_id: str
    event_id: str
    expires_at: str | None
    """When the hold ends. Null for a booking posted with its payment."""
    expires_in_s: int | None
    """Whole seconds until then, for a page whose clock is wrong. Null when nothing is left to wait for."""
    failure: Failure | None
    id: str
    items: list[Item]
    metadata: dict[str, str]
    """Your own words; empty when there are none."""
    payment: Payment | None
    reference: str | None
    refund: RefundState | None
    """Null while nothing was refunded."""
    refunded_cents: int
    """Given back so far, or on its way. Never what is owed."""
    return_url: str | None
    """Where the customer comes back to from the bank. Null: where all do."""
    status: Literal["held", "pending", "confirmed", "failed", "expired", "cancelled"]


class BookingLimitProblem(TypedDict):
    """A booking may not have so many tickets, or so few."""

    code: NotRequired[str]
    """Of the tier."""
    detail: str
    least: NotRequired[int]
    limit: NotRequired[int]
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[409]
    tier_id: NotRequired[str]
    title: str
    type: Literal["/problems/booking-limit"]
    """Stable: decide by it."""


class BookingPage(TypedDict):
    """Some bookings, newest first. `next_cursor` is null on the last page."""

    as_of: NotRequired[str]
    """With `order=updated`: the list has every change before it, up to this page."""
    data: list[Booking]
    next_cursor: str | None


class BookingRequest(TypedDict):
    """One to ten tiers of one event, all or nothing. Prices come from the server."""

    access_code: NotRequired[str | None]
    """Books earlier, or a tier that needs one."""
    customer_id: str
    """Your own id of the customer."""
    expected_amount_cents: NotRequired[int | None]
    """What your customer has seen that it costs. When it costs another amount by now, it is refused as `price-changed`, and
    nothing is taken."""
    hold_s: NotRequired[int | None]
    """Seconds to hold; at most, and by default, 600. Without it, what costs nothing is confirmed at once."""
    items: list[ItemRequest]
    """Each tier once, up to 10 by default."""
    metadata: NotRequired[dict[str, str] | None]
    """Your own words: up to 20 texts of up to 500 characters, by names of up to 40; 4,096 bytes as JSON."""
    payment: NotRequired[PaymentRequest | None]
    """Without it the tickets are held. What costs nothing needs none, and ignores one."""
    reference: NotRequired[str | None]
    """Your own order number."""
    return_url: NotRequired[str | None]
    """Where your customer comes back to from the bank: one of the URLs that your shop is allowed, or below it."""


class BusyProblem(TypedDict):
    """Too many bookings are waiting."""

    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    retry_after: int
    """Seconds, as in the header."""
    status: Literal[503]
    title: str
    type: Literal["/problems/busy"]
    """Stable: decide by it."""


class CallOff(TypedDict):
    """How far a call-off is."""

    bookings: dict[str, int]
    """By status. Holds that nobody tried to pay are not among them."""
    called_off_by: str
    event_id: str
    finished_at: str | None
    reason: str
    refunds: dict[str, RefundsOf]
    """By status, as in `Refund`."""
    refused: list[RefusedRefund]
    """Of your own bookings."""
    started_at: str
    status: Literal["running", "finished"]
    """`finished`: everything is refunded, under way, or owed."""


class CallOffRequest(TypedDict):
    """Why an event is called off."""

    reason: str


class CapacityChange(TypedDict):
    """What a capacity was, what was asked for, and what it came to: more than that if as many were held or sold."""

    after: int
    asked: int
    before: int


class CardDataNotAcceptedProblem(TypedDict):
    """A card number stands where none may be."""

    detail: str
    errors: list[Fault]
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[422]
    title: str
    type: Literal["/problems/card-data-not-accepted"]
    """Stable: decide by it."""


class Change(TypedDict):
    """One change of an event."""

    action: str
    changed_at: str
    changed_by: str
    """`key:` and the prefix of an API key, or `operator:` and a login name."""
    changes: dict[str, dict[str, Any]]
    """Field to `from` and `to`."""
    id: int
    tier_id: str | None
    version: int
    """Of the event, once it was changed."""


class ChangeRequest(TypedDict):
    """What a hold shall have instead of what it has."""

    expected_amount_cents: NotRequired[int | None]
    """What your customer has seen that all of it costs then; as in a booking."""
    items: list[ItemRequest]
    """All of its items, each tier once. A tier that is not named is given up."""


class Counters(TypedDict):
    """Counts that only grow, of all processes together: two looks make a rate. They begin at 0 when Redis is emptied."""

    accept_to_commit: Spread
    admitted: int
    confirmed: int
    failed: int
    refused: dict[str, int]
    """By kind."""
    replayed: int


class CursorGoneProblem(TypedDict):
    """Nothing can be read behind this cursor."""

    detail: str
    reason: str
    """Why no sale: `event`, `started`, `tier`, `ended`; else see 403."""
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[410]
    title: str
    type: Literal["/problems/cursor-gone"]
    """Stable: decide by it."""


class CustomerLimitProblem(TypedDict):
    """The customer may not have so many tickets, or so few."""

    code: NotRequired[str]
    """Of the tier."""
    detail: str
    held: int
    least: NotRequired[int]
    limit: NotRequired[int]
    may_take: NotRequired[int]
    """Tickets that the customer may still take."""
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[409]
    tier_id: NotRequired[str]
    title: str
    type: Literal["/problems/customer-limit"]
    """Stable: decide by it."""


class DeclinedTooOftenProblem(TypedDict):
    """Too many payments were declined."""

    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    retry_after: int
    """Seconds, as in the header."""
    status: Literal[429]
    title: str
    type: Literal["/problems/declined-too-often"]
    """Stable: decide by it."""
    whose: Literal["customer", "client", "key", "event"]


class Deed(TypedDict):
    """Something that somebody did: at a booking, or a change of an event."""

    at: str
    booking_id: str | None
    by: str
    """`key:` and the prefix of an API key, or whoever typed a command."""
    changes: dict[str, dict[str, Any]]
    """Field to `from` and `to`."""
    event_id: str | None
    outcome: str | None
    """Null: it is under way, or was cut off; the booking tells."""
    reason: str | None
    tier_id: str | None
    verb: str


class DeskCancelRequest(TypedDict):
    """Why, if anybody says."""

    reason: NotRequired[str | None]


class DeskItem(TypedDict):
    """Tickets of one tier."""

    quantity: int
    tier_id: str


class DeskRefundRequest(TypedDict):
    """What to refund, at full price whatever the terms say."""

    items: list[DeskItem] | Literal["all"]
    reason: NotRequired[str | None]


class Dossier(TypedDict):
    """What the two stores and the gateway know of one booking, each in its own words."""

    booking_id: str
    gateway: dict[str, dict[str, Any]]
    postgres: dict[str, Any] | None
    redis: dict[str, Any] | None


class EndpointChangeRequest(TypedDict):
    """What is to become of an endpoint: what is left out stays."""

    label: NotRequired[str | None]
    status: NotRequired[Literal["enabled", "disabled"] | None]
    """Once it is enabled it hears of all that happened meanwhile, as far as notices are kept."""
    types: NotRequired[list[str] | None]
    url: NotRequired[str | None]


class EndpointRequest(TypedDict):
    """An endpoint to be made."""

    begin: NotRequired[Literal["now", "start"]]
    """`now`: hear of what happens from now on. `start`: of all that is kept, too."""
    label: NotRequired[str | None]
    """What you call it."""
    types: NotRequired[list[str]]
    """Types of notices, as docs/notices.md lists them; none: all."""
    url: str
    """`https://`, on the internet. Without user, password or fragment."""


class Event(TypedDict):
    """Something people attend, with its active tiers in display order."""

    booking_max: int | None
    """Most tickets of one booking."""
    booking_min: int | None
    """Least tickets of one booking; null: any number."""
    currency: str
    customer_max: int | None
    """Most that a customer may hold or have bought."""
    customer_min: int | None
    """Least that a customer has once a booking is in, all of them together."""
    id: str
    name: str
    off_sale_at: str | None
    """Until when; null: until it starts."""
    on_sale_at: str | None
    """From when it may be booked; null: at once."""
    starts_at: str
    status: Literal["active", "paused", "inactive", "called_off"]
    tiers: list[Tier]
    version: int
    """Grows with every change of the event or its tiers, as its `ETag`."""


class EventCalledOffProblem(TypedDict):
    """The event is called off."""

    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[409]
    title: str
    type: Literal["/problems/event-called-off"]
    """Stable: decide by it."""


class EventChangeRequest(TypedDict):
    """What of an event is to be changed. Null takes away a limit or a time that may be left out."""

    allow: NotRequired[list[Literal["past", "late_cancel"]] | None]
    """What is meant on purpose: a start in the past; cancelling after the start."""
    booking_max: NotRequired[int | None]
    booking_min: NotRequired[int | None]
    cancel_until: NotRequired[str | None]
    customer_max: NotRequired[int | None]
    customer_min: NotRequired[int | None]
    name: NotRequired[str | None]
    off_sale_at: NotRequired[str | None]
    on_sale_at: NotRequired[str | None]
    refund_percent: NotRequired[int | None]
    starts_at: NotRequired[str | None]
    status: NotRequired[Literal["active", "paused", "inactive"] | None]


class EventChangedProblem(TypedDict):
    """The event was changed meanwhile."""

    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[412]
    title: str
    type: Literal["/problems/event-changed"]
    """Stable: decide by it."""
    version: int
    """Of the event now."""


class EventPage(TypedDict):
    """Some events. `next_cursor` is null on the last page."""

    data: list[Event]
    next_cursor: str | None


class EventRequest(TypedDict):
    """An event to be made."""

    allow: NotRequired[list[Literal["past", "late_cancel"]] | None]
    """What is meant on purpose: a start in the past; cancelling after the start."""
    booking_max: NotRequired[int | None]
    booking_min: NotRequired[int | None]
    cancel_until: NotRequired[str | None]
    currency: NotRequired[str | None]
    """ISO 4217. USD if it is left out."""
    customer_max: NotRequired[int | None]
    customer_min: NotRequired[int | None]
    name: str
    off_sale_at: NotRequired[str | None]
    on_sale_at: NotRequired[str | None]
    refund_percent: NotRequired[int | None]
    starts_at: str
    status: NotRequired[Literal["active", "paused", "inactive"] | None]
    tiers: list[TierRequest]


class EventWithCapacity(TypedDict):
    """The event after a change of a tier."""

    booking_max: int | None
    """Most tickets of one booking."""
    booking_min: int | None
    """Least tickets of one booking; null: any number."""
    capacity_change: CapacityChange | None
    currency: str
    customer_max: int | None
    """Most that a customer may hold or have bought."""
    customer_min: int | None
    """Least that a customer has once a booking is in, all of them together."""
    id: str
    name: str
    off_sale_at: str | None
    """Until when; null: until it starts."""
    on_sale_at: str | None
    """From when it may be booked; null: at once."""
    starts_at: str
    status: Literal["active", "paused", "inactive", "called_off"]
    tiers: list[ManagedTier]
    version: int
    """Grows with every change of the event or its tiers, as its `ETag`."""


class ExtensionRequest(TypedDict):
    """How much longer to hold."""

    extra_s: int
    """Seconds; at most the hold's first length."""


class FailedParked(TypedDict):
    """What became of it."""

    booking_id: str
    payment: str
    stock: Literal["record", "recount"]
    """How its tickets came back."""
    written: bool
    """False when not even its event could be read."""


class Failure(TypedDict):
    """Why a booking was not confirmed, or is no more."""

    code: str
    """One of `payment_declined`, `payment_unavailable`, `payment_misconfigured`, `payment_amount_mismatch`,
    `sold_out_at_commit`, `capture_failed`, `paid_too_late`, `idempotency_key_reused`, `cancelled`, `event_called_off`,
    `refunded`, `withdrawn`, `poison`; there may be new ones."""
    message: str


class Fault(TypedDict):
    """Where in a request something is wrong: a JSON pointer into the body, a header or a parameter."""

    code: str
    header: NotRequired[str]
    parameter: NotRequired[str]
    pointer: NotRequired[str]


class FeedPage(TypedDict):
    """Some notices, oldest first."""

    cursor: str
    """To go on behind this page, also when it is empty."""
    data: list[Notice]
    more: bool
    """Others are there already."""


class Figures(TypedDict):
    """How it goes, at one moment of Redis's clock. What a store that is away would say is null."""

    alerts: list[str] | None
    """Shards that wait for an operator."""
    at: str
    at_ms: int
    counters: Counters
    disabled: int | None
    money: list[WatchedMoney] | None
    moves: int | None
    """Tickets' moves that Redis has not heard of."""
    sales: list[WatchedSale] | None
    servers: list[WatchedServer]
    shards: list[WatchedShard]
    sums: dict[str, int]
    """Whatever processes count, by its name; names may come and go."""
    undelivered_s: float | None
    workers: list[WatchedWorker] | None


class ForbiddenProblem(TypedDict):
    """The API key may not be used for this."""

    detail: str
    reason: NotRequired[str]
    """Why no sale: `event`, `started`, `tier`, `ended`; else see 403."""
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    scope: NotRequired[str]
    """What the API key is not for."""
    status: Literal[403]
    title: str
    type: Literal["/problems/forbidden"]
    """Stable: decide by it."""


class FoundBooking(TypedDict):
    """A booking that was found: whose it is, and by what."""

    booking: Booking
    client_id: str
    found_by: str


class FoundBookings(TypedDict):
    """Newest first. `redis_away`: holds that only Redis knows are not among them."""

    data: list[FoundBooking]
    redis_away: bool


class GateClosedProblem(TypedDict):
    """The sale's counters are being loaded."""

    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    retry_after: int
    """Seconds, as in the header."""
    status: Literal[503]
    title: str
    type: Literal["/problems/gate-closed"]
    """Stable: decide by it."""


class HeadTooLargeProblem(TypedDict):
    """The head of the request is too large."""

    detail: str
    errors: list[Fault]
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[431]
    title: str
    type: Literal["/problems/head-too-large"]
    """Stable: decide by it."""


class Health(TypedDict):
    """How the process is."""

    stated: NotRequired[dict[str, str]]
    """What is believed because a setting says so."""
    status: Literal["alive", "ready"]


class History(TypedDict):
    """Changes of an event, the newest first."""

    data: list[Change]


class HoldEndedProblem(TypedDict):
    """The booking is no longer held."""

    booking_status: Literal["held", "pending", "confirmed", "failed", "expired", "cancelled"]
    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[409]
    title: str
    type: Literal["/problems/hold-ended"]
    """Stable: decide by it."""


class HoldPaymentRequest(TypedDict):
    """How to pay a hold. Nothing of it is needed where it costs nothing."""

    card_name: NotRequired[str | None]
    """Needed with a number."""
    card_number: NotRequired[str | None]
    """13 to 19 digits, also with blanks or dashes."""
    expected_amount_cents: NotRequired[int | None]
    """What your customer has seen that it costs; as in a booking. A hold may have been changed."""
    method: NotRequired[Literal["card"] | None]
    """Needed with a card or a token."""
    token: NotRequired[str | None]
    """Without a number."""


class IdempotencyKeyReusedProblem(TypedDict):
    """The idempotency key was used for another request."""

    booking_id: str
    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[422]
    title: str
    type: Literal["/problems/idempotency-key-reused"]
    """Stable: decide by it."""


class InternalErrorProblem(TypedDict):
    """Something went wrong here."""

    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[500]
    title: str
    type: Literal["/problems/internal-error"]
    """Stable: decide by it."""


class Item(TypedDict):
    """One tier and a quantity of a booking."""

    code: str
    line_total_cents: int
    quantity: int
    refunded: int
    """Of `quantity`: cancelled or refunded. The others are valid while it is confirmed."""
    tier_id: str
    unit_price_cents: int


class ItemRequest(TypedDict):
    """One tier and a quantity."""

    quantity: int
    """Up to 10 by default."""
    tier_id: str


class Left(TypedDict):
    """What is left of a tier."""

    available: int
    code: str
    tier_id: str


class MalformedRequestProblem(TypedDict):
    """The request is malformed."""

    detail: str
    errors: list[Fault]
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[400]
    title: str
    type: Literal["/problems/malformed-request"]
    """Stable: decide by it."""


class ManagedEvent(TypedDict):
    """An event, for whoever manages it."""

    booking_max: int | None
    """Most tickets of one booking."""
    booking_min: int | None
    """Least tickets of one booking; null: any number."""
    currency: str
    customer_max: int | None
    """Most that a customer may hold or have bought."""
    customer_min: int | None
    """Least that a customer has once a booking is in, all of them together."""
    id: str
    name: str
    off_sale_at: str | None
    """Until when; null: until it starts."""
    on_sale_at: str | None
    """From when it may be booked; null: at once."""
    starts_at: str
    status: Literal["active", "paused", "inactive", "called_off"]
    tiers: list[ManagedTier]
    version: int
    """Grows with every change of the event or its tiers, as its `ETag`."""


class ManagedTier(TypedDict):
    """A tier, for whoever manages it."""

    access_code_required: bool
    """Sold to holders of an access code alone."""
    available: int | None
    """Null while nobody can say."""
    booking_max: int | None
    booking_min: int | None
    """Tickets of this tier, beside the event's rules, which it has to keep, too."""
    capacity: int
    code: str
    customer_max: int | None
    customer_min: int | None
    id: str
    name: str
    off_sale_at: str | None
    on_sale_at: str | None
    """In place of the event's; null: the event's."""
    price_cents: int


class MethodNotAllowedProblem(TypedDict):
    """The method is not allowed here."""

    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[405]
    title: str
    type: Literal["/problems/method-not-allowed"]
    """Stable: decide by it."""


class NewAccessCode(TypedDict):
    """A code, told once."""

    code: str
    id: str


class NewAccessCodes(TypedDict):
    """Codes that were made."""

    data: list[NewAccessCode]


class NewSecret(TypedDict):
    """The secret that signs from now on."""

    before_until: str | None
    """Until then the one before signs as well; null: it does not."""
    id: str
    secret: str
    """Nobody sees it again."""


class NewWebhookEndpoint(TypedDict):
    """An endpoint that was just made."""

    created_at: str
    delivered_at: str | None
    disabled_at: str | None
    disabled_reason: Literal["asked", "gone", "failing"] | None
    """`gone`: it answered 410. `failing`: it took nothing for days."""
    failing_since: str | None
    """It has taken nothing since; null: it takes what it is sent."""
    id: str
    label: str | None
    paused_until: str | None
    """Nothing is sent before, as it failed or asked for it (`Retry-After`)."""
    secret: str
    """Signs what is sent to it. Nobody sees it again."""
    shop: str
    status: Literal["enabled", "disabled"]
    types: list[str]
    """None: all."""
    url: str
    waiting: int
    """Deliveries that failed and are tried again."""


class NotCancellableProblem(TypedDict):
    """The booking cannot be cancelled."""

    booking_status: Literal["held", "pending", "confirmed", "failed", "expired", "cancelled"]
    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[409]
    title: str
    type: Literal["/problems/not-cancellable"]
    """Stable: decide by it."""


class NotDoneProblem(TypedDict):
    """This cannot be done now."""

    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[409]
    title: str
    type: Literal["/problems/not-done"]
    """Stable: decide by it."""


class NotFoundProblem(TypedDict):
    """There is no such thing."""

    detail: str
    pointer: NotRequired[str]
    """Into the body: what there is not."""
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[404]
    title: str
    type: Literal["/problems/not-found"]
    """Stable: decide by it."""


class NotReadyProblem(TypedDict):
    """Not ready to serve."""

    detail: str
    reasons: dict[str, str]
    """Which part is not ready."""
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    retry_after: int
    """Seconds, as in the header."""
    status: Literal[503]
    title: str
    type: Literal["/problems/not-ready"]
    """Stable: decide by it."""


class NothingOwedProblem(TypedDict):
    """No refund was refused."""

    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[409]
    title: str
    type: Literal["/problems/nothing-owed"]
    """Stable: decide by it."""


class Notice(TypedDict):
    """One change of one thing."""

    booking_id: str | None
    """Null of what is about no booking."""
    cursor: str
    """To go on behind this notice."""
    data: dict[str, Any]
    """Status, codes, amounts in minor units, and ids, by type: docs/notices.md."""
    event_id: str | None
    """Null of what is about no event."""
    id: str
    """Of this notice alone, and the same whenever and however it is told: drop what you have seen."""
    timestamp: str
    """When it happened."""
    type: Literal[
        "booking.pending",
        "booking.held",
        "booking.confirmed",
        "booking.failed",
        "booking.expired",
        "booking.cancelled",
        "booking.changed",
        "booking.refunded",
        "booking.paid_too_late",
        "booking.forgotten",
        "payment.captured",
        "payment.capture_refused",
        "payment.captured_too_late",
        "payment.voided",
        "payment.failed",
        "payment.changed",
        "refund.requested",
        "refund.pending",
        "refund.succeeded",
        "refund.failed",
        "refund.written_off",
        "refund.dropped",
        "dispute.changed",
        "event.created",
        "event.changed",
        "event.paused",
        "event.resumed",
        "event.opened",
        "event.closed",
        "event.postponed",
        "event.called_off",
        "webhook_endpoint.disabled",
    ]


class OperatorsHistory(TypedDict):
    """The newest first."""

    data: list[Deed]


class OverloadedProblem(TypedDict):
    """More is asked for than can be answered."""

    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    retry_after: int
    """Seconds, as in the header."""
    status: Literal[503]
    title: str
    type: Literal["/problems/overloaded"]
    """Stable: decide by it."""


class ParkedBooking(TypedDict):
    """A booking that could not be settled. Null is what cannot be read of it."""

    amount_cents: int | None
    attempts: int
    booking_id: str
    client_id: str | None
    currency: str | None
    error: str
    event_id: str | None
    parked_at: str
    tickets: int | None


class ParkedList(TypedDict):
    """The oldest first."""

    data: list[ParkedBooking]


class Payment(TypedDict):
    """How the latest payment went, or goes."""

    failure_code: str | None
    """The gateway's reason, such as `insufficient_funds`."""
    last4: str | None
    method: str
    next_action: str | None
    """Where the customer has to go before the payment can go on."""
    reference: str | None
    """The gateway's id of the payment."""
    status: Literal["pending", "requires_action", "authorized", "captured", "declined", "voided", "failed"]


class PaymentInProgressProblem(TypedDict):
    """A payment is under way."""

    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    retry_after: int
    """Seconds, as in the header."""
    status: Literal[409]
    title: str
    type: Literal["/problems/payment-in-progress"]
    """Stable: decide by it."""


class PaymentRequest(TypedDict):
    """How to pay: with a token of the gateway's or, where the gateway is simulated, with the number and name of a test
    card, which are exchanged for a token at once."""

    card_name: NotRequired[str | None]
    """Needed with a number."""
    card_number: NotRequired[str | None]
    """13 to 19 digits, also with blanks or dashes."""
    method: Literal["card"]
    token: NotRequired[str | None]
    """Without a number."""


class PostponementRequest(TypedDict):
    """Another start, and until when bookings may be cancelled; null: until it starts."""

    allow: NotRequired[list[Literal["past", "late_cancel"]] | None]
    """What is meant on purpose: a start in the past; cancelling after the start."""
    cancel_until: str | None
    starts_at: str


class PriceChangedProblem(TypedDict):
    """The price has changed."""

    amount_cents: NotRequired[int]
    """What it costs now."""
    currency: str
    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[409]
    tier_id: NotRequired[str]
    title: str
    type: Literal["/problems/price-changed"]
    """Stable: decide by it."""
    unit_price_cents: NotRequired[int]
    """What a ticket of `tier_id` costs now."""


class Problem(TypedDict):
    """A refusal (RFC 9457), of any type: each has a schema of its own. There may be new ones."""

    amount_cents: NotRequired[int]
    """What it costs now."""
    attempts: NotRequired[int]
    booking_id: NotRequired[str]
    booking_status: NotRequired[Literal["held", "pending", "confirmed", "failed", "expired", "cancelled"]]
    code: NotRequired[str]
    """Of the tier."""
    currency: NotRequired[str]
    detail: str
    errors: NotRequired[list[Fault]]
    expires_at: NotRequired[str]
    held: NotRequired[int]
    least: NotRequired[int]
    left: NotRequired[int]
    """Tickets of the access code."""
    limit: NotRequired[int]
    may_return: NotRequired[bool]
    """Whether that is so of every tier that is short."""
    may_take: NotRequired[int]
    """Tickets that the customer may still take."""
    opens_at: NotRequired[str]
    """When all that was asked for is on sale."""
    owed_cents: NotRequired[int]
    pointer: NotRequired[str]
    """Into the body: what there is not."""
    reason: NotRequired[str]
    """Why no sale: `event`, `started`, `tier`, `ended`; else see 403."""
    reasons: NotRequired[dict[str, str]]
    """Which part is not ready."""
    refundable: NotRequired[int]
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    requested: NotRequired[int]
    retry_after: NotRequired[int]
    """Seconds, as in the header."""
    scope: NotRequired[str]
    """What the API key is not for."""
    shortfall: NotRequired[list[Shortfall]]
    status: int
    tier_id: NotRequired[str]
    title: str
    type: str
    """Stable: decide by it."""
    unit_price_cents: NotRequired[int]
    """What a ticket of `tier_id` costs now."""
    version: NotRequired[int]
    """Of the event now."""
    whose: NotRequired[Literal["customer", "client", "key", "event"]]
    window_s: NotRequired[int]
    """Of the limit, which ends with its window."""


class RateLimitedProblem(TypedDict):
    """Too many requests."""

    detail: str
    limit: int
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    retry_after: int
    """Seconds, as in the header."""
    status: Literal[429]
    title: str
    type: Literal["/problems/rate-limited"]
    """Stable: decide by it."""
    whose: Literal["customer", "client", "key", "event"]
    window_s: int
    """Of the limit, which ends with its window."""


class Received(TypedDict):
    """A webhook was kept."""

    received: Literal[True]
    repeated: NotRequired[Literal[True]]
    """It was here before."""


class ReconcileRequest(TypedDict):
    """Whether to mend, or only to compare."""

    fix: bool


class Reconciled(TypedDict):
    """What was found of one event."""

    event_id: str
    moved: int
    oversold: int
    result: Literal["same", "drift", "fixed"]
    settled: int
    """Bookings of which Redis had not heard that PostgreSQL had decided them."""
    tiers: list[ReconciledTier]


class ReconciledTier(TypedDict):
    """Redis's counters as they were found, as they should be, and the difference."""

    code: str
    drift: TicketCounts
    expected: TicketCounts
    found: TicketCounts
    tier_id: str


class Redelivered(TypedDict):
    """How many deliveries are sent anew; of a range the oldest 10,000."""

    redelivered: int


class RedeliveryRequest(TypedDict):
    """Which deliveries are to be sent anew: one, or those first tried in a range of time."""

    notice_id: NotRequired[str | None]
    since: NotRequired[str | None]
    status: NotRequired[Literal["waiting", "delivered", "given_up"] | None]
    """Only what stands so."""
    until: NotRequired[str | None]
    """Not included; left out: now."""


class Refund(TypedDict):
    """Money on its way back."""

    amount_cents: int
    booking_id: str
    booking_status: Literal["confirmed", "cancelled", "failed", "expired", "held", "pending"]
    currency: str
    id: str | None
    status: Literal["due", "pending", "succeeded", "owed", "written_off", "dropped"]
    """`due`: to be asked for. `pending`: taken on by the gateway. `owed`: refused by it; try again."""


class RefundItem(TypedDict):
    """Tickets of one tier that came back with a refund."""

    code: str
    quantity: int
    tier_id: str


class RefundList(TypedDict):
    """All refunds of a booking, oldest first."""

    data: list[RefundRow]


class RefundOwedProblem(TypedDict):
    """An earlier refund of these tickets is owed."""

    detail: str
    owed_cents: int
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[409]
    tier_id: str
    title: str
    type: Literal["/problems/refund-owed"]
    """Stable: decide by it."""


class RefundRequest(TypedDict):
    """What to refund."""

    items: list[ItemRequest] | Literal["all", "owed"]
    """Each tier once; or the word `all`: every ticket that is left; or the word `owed`: no tickets, but the money that the
    gateway refused to give back."""
    reason: NotRequired[str | None]
    """For your own books."""


class RefundRow(TypedDict):
    """A refund as the books have it."""

    amount_cents: int
    booking_id: str
    created_at: str
    currency: str
    failure_code: str | None
    """The gateway's last word on why it is not paid."""
    id: str
    items: list[RefundItem]
    """Empty when money came back and no tickets."""
    origin: Literal["shop", "gateway"]
    """`gateway`: somebody made it there, as in its dashboard."""
    owed_since: str | None
    """When the gateway refused it first."""
    reason: str
    status: Literal["due", "pending", "succeeded", "owed", "written_off", "dropped"]
    """`due`: to be asked for. `pending`: taken on by the gateway. `succeeded`: paid, as the gateway says. `owed`: refused
    by it; try again. `written_off`: a person has ended it. `dropped`: nothing had been taken."""
    updated_at: str


class RefundState(TypedDict):
    """How the refunds of a booking stand, all together."""

    code: str | None
    """Why the gateway refused, if money is owed."""
    owed_cents: int
    """Refused by the gateway, and not counted in `refunded_cents`."""
    pending_cents: int
    """Under way; counted in `refunded_cents`."""
    since: str | None
    """Since when money is owed."""
    status: Literal["pending", "succeeded", "owed", "written_off"]


class RefundTooLargeProblem(TypedDict):
    """More than was captured."""

    detail: str
    refundable: int
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    requested: int
    status: Literal[409]
    tier_id: str
    title: str
    type: Literal["/problems/refund-too-large"]
    """Stable: decide by it."""


class RefundsOf(TypedDict):
    """Refunds of one status."""

    cents: int
    refunds: int


class RefusedRefund(TypedDict):
    """What the gateway refused to give back: it is owed."""

    amount_cents: int
    booking_id: str
    code: str | None
    currency: str


class ReleaseRequest(TypedDict):
    """Tickets of an allocation that everybody may book."""

    tickets: int | None
    """So many; null: all, with which the allocation ends."""


class RequestTimeoutProblem(TypedDict):
    """The request did not arrive in time."""

    detail: str
    errors: list[Fault]
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[408]
    title: str
    type: Literal["/problems/request-timeout"]
    """Stable: decide by it."""


class RetriedParked(TypedDict):
    """A worker tries it again."""

    booking_id: str


class Revoked(TypedDict):
    """How many codes let in until now."""

    revoked: int


class RotationRequest(TypedDict):
    """For how long the secret before goes on signing."""

    overlap_s: NotRequired[int]
    """Seconds; 0: it signs no more."""


class SaleClosedProblem(TypedDict):
    """Not on sale."""

    detail: str
    reason: str
    """Why no sale: `event`, `started`, `tier`, `ended`; else see 403."""
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[409]
    tier_id: NotRequired[str]
    title: str
    type: Literal["/problems/sale-closed"]
    """Stable: decide by it."""


class SaleInFigures(TypedDict):
    """One event in figures: what a change of it would touch."""

    bookings: dict[str, int]
    """By status."""
    busiest_bookings: int
    busiest_minute: str | None
    customers: int
    event_id: str
    tiers: list[SoldTier]


class SaleNotOpenProblem(TypedDict):
    """The sale has not begun."""

    detail: str
    opens_at: str
    """When all that was asked for is on sale."""
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[409]
    title: str
    type: Literal["/problems/sale-not-open"]
    """Stable: decide by it."""


class SalePausedProblem(TypedDict):
    """The sale is paused."""

    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[409]
    title: str
    type: Literal["/problems/sale-paused"]
    """Stable: decide by it."""


class Session(TypedDict):
    """Who calls: an API key, or the key that a session stands for."""

    api_key: str
    """The key's prefix; its secret is never shown."""
    client_id: str
    scopes: list[str]


class Shortfall(TypedDict):
    """A tier of which fewer tickets are left than were asked for."""

    available: int
    code: str
    may_return: bool
    """Whether some of its tickets are held, or being paid, and may come back."""
    requested: int
    tier_id: str


class SoldOutProblem(TypedDict):
    """Not enough tickets are left."""

    detail: str
    may_return: bool
    """Whether that is so of every tier that is short."""
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    retry_after: NotRequired[int]
    """Seconds, as in the header."""
    shortfall: list[Shortfall]
    status: Literal[409]
    title: str
    type: Literal["/problems/sold-out"]
    """Stable: decide by it."""


class SoldTier(TypedDict):
    """One tier's sale. Money is in minor units."""

    available: int | None
    capacity: int
    code: str
    currency: str
    held: int | None
    pending: int | None
    refunded_cents: int
    returned: int
    revenue_cents: int
    sold: int
    tier_id: str


class Spread(TypedDict):
    """How often each bucket was met: one more count than bounds, for what is longer."""

    bounds: list[float]
    """Seconds."""
    counts: list[int]


class StoreAwayProblem(TypedDict):
    """A store does not answer."""

    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    retry_after: int
    """Seconds, as in the header."""
    status: Literal[503]
    title: str
    type: Literal["/problems/store-away"]
    """Stable: decide by it."""


class StreamsFullProblem(TypedDict):
    """No more streams here."""

    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[503]
    title: str
    type: Literal["/problems/streams-full"]
    """Stable: decide by it."""


class TicketCounts(TypedDict):
    """Counters of a tier."""

    available: int
    held: int
    sold: int
    total: int


class Tier(TypedDict):
    """A class of ticket, and what is left of it."""

    access_code_required: bool
    """Sold to holders of an access code alone."""
    available: int
    booking_max: int | None
    booking_min: int | None
    """Tickets of this tier, beside the event's rules, which it has to keep, too."""
    capacity: int
    code: str
    customer_max: int | None
    customer_min: int | None
    id: str
    name: str
    off_sale_at: str | None
    on_sale_at: str | None
    """In place of the event's; null: the event's."""
    price_cents: int


class TierChangeRequest(TypedDict):
    """What of a tier is to be changed."""

    access_code_required: NotRequired[bool | None]
    active: NotRequired[bool | None]
    booking_max: NotRequired[int | None]
    booking_min: NotRequired[int | None]
    capacity: NotRequired[int | None]
    customer_max: NotRequired[int | None]
    customer_min: NotRequired[int | None]
    display_order: NotRequired[int | None]
    name: NotRequired[str | None]
    off_sale_at: NotRequired[str | None]
    on_sale_at: NotRequired[str | None]
    price_cents: NotRequired[int | None]


class TierRequest(TypedDict):
    """A tier to be made. Its own times stand in place of the event's."""

    access_code_required: NotRequired[bool | None]
    booking_max: NotRequired[int | None]
    booking_min: NotRequired[int | None]
    capacity: int
    code: str
    customer_max: NotRequired[int | None]
    customer_min: NotRequired[int | None]
    name: NotRequired[str | None]
    off_sale_at: NotRequired[str | None]
    on_sale_at: NotRequired[str | None]
    price_cents: int


class TooManyAttemptsProblem(TypedDict):
    """No payment attempts are left."""

    attempts: int
    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[409]
    title: str
    type: Literal["/problems/too-many-attempts"]
    """Stable: decide by it."""


class TooManyChangesProblem(TypedDict):
    """No changes are left."""

    detail: str
    limit: int
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[409]
    title: str
    type: Literal["/problems/too-many-changes"]
    """Stable: decide by it."""


class TooManyConnectionsProblem(TypedDict):
    """Too many connections are open."""

    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    retry_after: int
    """Seconds, as in the header."""
    status: Literal[503]
    title: str
    type: Literal["/problems/too-many-connections"]
    """Stable: decide by it."""


class TooManyStreamsProblem(TypedDict):
    """Too many streams are open."""

    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[429]
    title: str
    type: Literal["/problems/too-many-streams"]
    """Stable: decide by it."""


class TooManyWaitsProblem(TypedDict):
    """Too many requests wait."""

    detail: str
    limit: int
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    retry_after: int
    """Seconds, as in the header."""
    status: Literal[429]
    title: str
    type: Literal["/problems/too-many-waits"]
    """Stable: decide by it."""


class UnauthorizedProblem(TypedDict):
    """No valid API key."""

    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[401]
    title: str
    type: Literal["/problems/unauthorized"]
    """Stable: decide by it."""


class UnpaidLimitProblem(TypedDict):
    """Too many tickets are held and not paid for."""

    detail: str
    held: int
    limit: int
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    retry_after: int
    """Seconds, as in the header."""
    status: Literal[429]
    title: str
    type: Literal["/problems/unpaid-limit"]
    """Stable: decide by it."""
    whose: Literal["customer", "client", "key", "event"]


class WatchedMoney(TypedDict):
    """What is due at the gateway. `owed`: refunds that it refused."""

    count: int
    kind: Literal["capture", "void", "refund", "owed"]
    oldest_s: float


class WatchedSale(TypedDict):
    """An event, with what of it is sold."""

    client_id: str
    currency: str
    event_id: str
    name: str
    off_sale_at: str | None
    on_sale: bool
    """A tier of it is in its time, also while it is paused."""
    on_sale_at: str | None
    starts_at: str
    status: Literal["active", "paused", "inactive", "called_off"]
    tiers: list[WatchedTier]
    version: int


class WatchedServer(TypedDict):
    """One Redis."""

    file_ok: bool | None
    """Its append-only file is written."""
    max_bytes: int | None
    redis: int
    used_bytes: int | None


class WatchedShard(TypedDict):
    """One shard. `away`: its Redis does not answer."""

    backlog: int
    """Bookings that wait to be settled."""
    drifted: int | None
    """Events whose counters differed at the last count; null: not counted yet."""
    gate: Literal["open", "closed", "unchecked", "away"]
    holds: int
    oldest_s: float
    """Seconds for which the first of them has been due."""
    parked: int
    shard: int
    workers: int


class WatchedTier(TypedDict):
    """One tier, in tickets: sold, held and available add up to total."""

    available: int | None
    code: str
    held: int | None
    """Null while Redis does not answer."""
    id: str
    is_active: bool
    name: str
    pending: int | None
    """Of those held: a payment is under way. Null: too many holds to say."""
    price_cents: int
    sold: int
    total: int
    unpaid: int | None
    """Of those held: a hold waits for its payment."""


class WatchedWorker(TypedDict):
    """A worker that lives."""

    host: str
    pid: int
    seen_at: str
    started_at: str


class WebhookDeliveries(TypedDict):
    """Deliveries, the latest first. `next_cursor` is null on the last page."""

    data: list[WebhookDelivery]
    next_cursor: str | None


class WebhookDelivery(TypedDict):
    """One notice that was sent to an endpoint."""

    answer: int | None
    """HTTP status of the last try."""
    failure: str | None
    """Why the last try failed."""
    next_at: str | None
    notice_id: str
    """Its `webhook-id`."""
    number: int
    since: str
    status: Literal["waiting", "delivered", "given_up"]
    took_ms: int
    tried_at: str
    tries: int
    type: str


class WebhookEndpoint(TypedDict):
    """A URL of yours that notices are sent to."""

    created_at: str
    delivered_at: str | None
    disabled_at: str | None
    disabled_reason: Literal["asked", "gone", "failing"] | None
    """`gone`: it answered 410. `failing`: it took nothing for days."""
    failing_since: str | None
    """It has taken nothing since; null: it takes what it is sent."""
    id: str
    label: str | None
    paused_until: str | None
    """Nothing is sent before, as it failed or asked for it (`Retry-After`)."""
    shop: str
    status: Literal["enabled", "disabled"]
    types: list[str]
    """None: all."""
    url: str
    waiting: int
    """Deliveries that failed and are tried again."""


class WebhookEndpoints(TypedDict):
    """All endpoints of your shop, oldest first."""

    data: list[WebhookEndpoint]


class WebhookMalformedProblem(TypedDict):
    """The webhook cannot be read."""

    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[400]
    title: str
    type: Literal["/problems/webhook-malformed"]
    """Stable: decide by it."""


class WebhookRefusedProblem(TypedDict):
    """The webhook is not signed by the gateway."""

    detail: str
    request_id: NotRequired[str]
    """As in `X-Request-Id`: name it when you ask us about this."""
    status: Literal[400]
    title: str
    type: Literal["/problems/webhook-refused"]
    """Stable: decide by it."""
