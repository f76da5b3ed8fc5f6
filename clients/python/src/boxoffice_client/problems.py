"""An error for each kind of problem (docs/errors.md): catch the one that you can do something about.

Generated from tests/api/openapi.json: `make clients` writes it anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from boxoffice_client import bodies
from boxoffice_client.errors import ProblemError

__all__ = [
    "AccessCodeInvalid",
    "AccessCodeRequired",
    "AccessCodeUsedUp",
    "AlreadyExtended",
    "BookingLimit",
    "Busy",
    "CardDataNotAccepted",
    "CursorGone",
    "CustomerLimit",
    "DeclinedTooOften",
    "EventCalledOff",
    "EventChanged",
    "Forbidden",
    "GateClosed",
    "HeadTooLarge",
    "HoldEnded",
    "IdempotencyKeyReused",
    "InternalError",
    "MalformedRequest",
    "MethodNotAllowed",
    "NotCancellable",
    "NotDone",
    "NotFound",
    "NotReady",
    "NothingOwed",
    "Overloaded",
    "PaymentInProgress",
    "PriceChanged",
    "RateLimited",
    "RefundOwed",
    "RefundTooLarge",
    "RequestTimeout",
    "SaleClosed",
    "SaleNotOpen",
    "SalePaused",
    "SoldOut",
    "StoreAway",
    "StreamsFull",
    "TooManyAttempts",
    "TooManyChanges",
    "TooManyConnections",
    "TooManyStreams",
    "TooManyWaits",
    "Unauthorized",
    "UnpaidLimit",
    "problem_error",
]


class AccessCodeInvalid(ProblemError):
    """The access code does not let this booking in."""

    type: ClassVar[str] = "/problems/access-code-invalid"
    problem: bodies.AccessCodeInvalidProblem


class AccessCodeRequired(ProblemError):
    """These tickets need an access code."""

    type: ClassVar[str] = "/problems/access-code-required"
    problem: bodies.AccessCodeRequiredProblem


class AccessCodeUsedUp(ProblemError):
    """Too few tickets are left of the access code."""

    type: ClassVar[str] = "/problems/access-code-used-up"
    problem: bodies.AccessCodeUsedUpProblem


class AlreadyExtended(ProblemError):
    """The hold was extended before."""

    type: ClassVar[str] = "/problems/already-extended"
    problem: bodies.AlreadyExtendedProblem


class BookingLimit(ProblemError):
    """A booking may not have so many tickets, or so few."""

    type: ClassVar[str] = "/problems/booking-limit"
    problem: bodies.BookingLimitProblem


class Busy(ProblemError):
    """Too many bookings are waiting."""

    type: ClassVar[str] = "/problems/busy"
    problem: bodies.BusyProblem


class CardDataNotAccepted(ProblemError):
    """A card number stands where none may be."""

    type: ClassVar[str] = "/problems/card-data-not-accepted"
    problem: bodies.CardDataNotAcceptedProblem


class CursorGone(ProblemError):
    """Nothing can be read behind this cursor."""

    type: ClassVar[str] = "/problems/cursor-gone"
    problem: bodies.CursorGoneProblem


class CustomerLimit(ProblemError):
    """The customer may not have so many tickets, or so few."""

    type: ClassVar[str] = "/problems/customer-limit"
    problem: bodies.CustomerLimitProblem


class DeclinedTooOften(ProblemError):
    """Too many payments were declined."""

    type: ClassVar[str] = "/problems/declined-too-often"
    problem: bodies.DeclinedTooOftenProblem


class EventCalledOff(ProblemError):
    """The event is called off."""

    type: ClassVar[str] = "/problems/event-called-off"
    problem: bodies.EventCalledOffProblem


class EventChanged(ProblemError):
    """The event was changed meanwhile."""

    type: ClassVar[str] = "/problems/event-changed"
    problem: bodies.EventChangedProblem


class Forbidden(ProblemError):
    """The API key may not be used for this."""

    type: ClassVar[str] = "/problems/forbidden"
    problem: bodies.ForbiddenProblem


class GateClosed(ProblemError):
    """The sale's counters are being loaded."""

    type: ClassVar[str] = "/problems/gate-closed"
    problem: bodies.GateClosedProblem


class HeadTooLarge(ProblemError):
    """The head of the request is too large."""

    type: ClassVar[str] = "/problems/head-too-large"
    problem: bodies.HeadTooLargeProblem


class HoldEnded(ProblemError):
    """The booking is no longer held."""

    type: ClassVar[str] = "/problems/hold-ended"
    problem: bodies.HoldEndedProblem


class IdempotencyKeyReused(ProblemError):
    """The idempotency key was used for another request."""

    type: ClassVar[str] = "/problems/idempotency-key-reused"
    problem: bodies.IdempotencyKeyReusedProblem


class InternalError(ProblemError):
    """Something went wrong here."""

    type: ClassVar[str] = "/problems/internal-error"
    problem: bodies.InternalErrorProblem


class MalformedRequest(ProblemError):
    """The request is malformed."""

    type: ClassVar[str] = "/problems/malformed-request"
    problem: bodies.MalformedRequestProblem


class MethodNotAllowed(ProblemError):
    """The method is not allowed here."""

    type: ClassVar[str] = "/problems/method-not-allowed"
    problem: bodies.MethodNotAllowedProblem


class NotCancellable(ProblemError):
    """The booking cannot be cancelled."""

    type: ClassVar[str] = "/problems/not-cancellable"
    problem: bodies.NotCancellableProblem


class NotDone(ProblemError):
    """This cannot be done now."""

    type: ClassVar[str] = "/problems/not-done"
    problem: bodies.NotDoneProblem


class NotFound(ProblemError):
    """There is no such thing."""

    type: ClassVar[str] = "/problems/not-found"
    problem: bodies.NotFoundProblem


class NotReady(ProblemError):
    """Not ready to serve."""

    type: ClassVar[str] = "/problems/not-ready"
    problem: bodies.NotReadyProblem


class NothingOwed(ProblemError):
    """No refund was refused."""

    type: ClassVar[str] = "/problems/nothing-owed"
    problem: bodies.NothingOwedProblem


class Overloaded(ProblemError):
    """More is asked for than can be answered."""

    type: ClassVar[str] = "/problems/overloaded"
    problem: bodies.OverloadedProblem


class PaymentInProgress(ProblemError):
    """A payment is under way."""

    type: ClassVar[str] = "/problems/payment-in-progress"
    problem: bodies.PaymentInProgressProblem


class PriceChanged(ProblemError):
    """The price has changed."""

    type: ClassVar[str] = "/problems/price-changed"
    problem: bodies.PriceChangedProblem


class RateLimited(ProblemError):
    """Too many requests."""

    type: ClassVar[str] = "/problems/rate-limited"
    problem: bodies.RateLimitedProblem


class RefundOwed(ProblemError):
    """An earlier refund of these tickets is owed."""

    type: ClassVar[str] = "/problems/refund-owed"
    problem: bodies.RefundOwedProblem


class RefundTooLarge(ProblemError):
    """More than was captured."""

    type: ClassVar[str] = "/problems/refund-too-large"
    problem: bodies.RefundTooLargeProblem


class RequestTimeout(ProblemError):
    """The request did not arrive in time."""

    type: ClassVar[str] = "/problems/request-timeout"
    problem: bodies.RequestTimeoutProblem


class SaleClosed(ProblemError):
    """Not on sale."""

    type: ClassVar[str] = "/problems/sale-closed"
    problem: bodies.SaleClosedProblem


class SaleNotOpen(ProblemError):
    """The sale has not begun."""

    type: ClassVar[str] = "/problems/sale-not-open"
    problem: bodies.SaleNotOpenProblem


class SalePaused(ProblemError):
    """The sale is paused."""

    type: ClassVar[str] = "/problems/sale-paused"
    problem: bodies.SalePausedProblem


class SoldOut(ProblemError):
    """Not enough tickets are left."""

    type: ClassVar[str] = "/problems/sold-out"
    problem: bodies.SoldOutProblem


class StoreAway(ProblemError):
    """A store does not answer."""

    type: ClassVar[str] = "/problems/store-away"
    problem: bodies.StoreAwayProblem


class StreamsFull(ProblemError):
    """No more streams here."""

    type: ClassVar[str] = "/problems/streams-full"
    problem: bodies.StreamsFullProblem


class TooManyAttempts(ProblemError):
    """No payment attempts are left."""

    type: ClassVar[str] = "/problems/too-many-attempts"
    problem: bodies.TooManyAttemptsProblem


class TooManyChanges(ProblemError):
    """No changes are left."""

    type: ClassVar[str] = "/problems/too-many-changes"
    problem: bodies.TooManyChangesProblem


class TooManyConnections(ProblemError):
    """Too many connections are open."""

    type: ClassVar[str] = "/problems/too-many-connections"
    problem: bodies.TooManyConnectionsProblem


class TooManyStreams(ProblemError):
    """Too many streams are open."""

    type: ClassVar[str] = "/problems/too-many-streams"
    problem: bodies.TooManyStreamsProblem


class TooManyWaits(ProblemError):
    """Too many requests wait."""

    type: ClassVar[str] = "/problems/too-many-waits"
    problem: bodies.TooManyWaitsProblem


class Unauthorized(ProblemError):
    """No valid API key."""

    type: ClassVar[str] = "/problems/unauthorized"
    problem: bodies.UnauthorizedProblem


class UnpaidLimit(ProblemError):
    """Too many tickets are held and not paid for."""

    type: ClassVar[str] = "/problems/unpaid-limit"
    problem: bodies.UnpaidLimitProblem


_BY_TYPE: dict[str, type[ProblemError]] = {
    each.type: each
    for each in (
        AccessCodeInvalid,
        AccessCodeRequired,
        AccessCodeUsedUp,
        AlreadyExtended,
        BookingLimit,
        Busy,
        CardDataNotAccepted,
        CursorGone,
        CustomerLimit,
        DeclinedTooOften,
        EventCalledOff,
        EventChanged,
        Forbidden,
        GateClosed,
        HeadTooLarge,
        HoldEnded,
        IdempotencyKeyReused,
        InternalError,
        MalformedRequest,
        MethodNotAllowed,
        NotCancellable,
        NotDone,
        NotFound,
        NotReady,
        NothingOwed,
        Overloaded,
        PaymentInProgress,
        PriceChanged,
        RateLimited,
        RefundOwed,
        RefundTooLarge,
        RequestTimeout,
        SaleClosed,
        SaleNotOpen,
        SalePaused,
        SoldOut,
        StoreAway,
        StreamsFull,
        TooManyAttempts,
        TooManyChanges,
        TooManyConnections,
        TooManyStreams,
        TooManyWaits,
        Unauthorized,
        UnpaidLimit,
    )
}


def problem_error(problem: Mapping[str, Any], status: int, retry_after_s: float | None) -> ProblemError:
    """The error of this body; of a type that is newer than this version, `ProblemError` itself."""
    return _BY_TYPE.get(str(problem.get("type")), ProblemError)(problem, status, retry_after_s)
