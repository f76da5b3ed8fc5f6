"""What can go wrong when selling tickets. The docstring is the message; details are attributes.

BoxOfficeError
├── BadRequest              the request can never succeed as it is
│   ├── Malformed           a field, or the whole body
│   └── CardDataRefused     a card number where none may be
├── Unauthorized            no known API key
├── Forbidden               a key that may not do this
├── NotFound                no such thing, or not yours
├── Refused                 a sale says no
│   ├── SoldOut
│   ├── SaleClosed
│   ├── SaleNotOpen
│   ├── SalePaused
│   ├── BookingLimit
│   ├── CustomerLimit
│   ├── UnpaidLimit
│   ├── RateLimited
│   ├── TooManyStreams
│   ├── TooManyWaits
│   ├── DeclinedTooOften
│   ├── PriceChanged
│   │   └── PriceOutdated
│   ├── KeyReused
│   ├── PaymentInProgress
│   ├── HoldEnded
│   ├── TooManyAttempts
│   ├── AlreadyExtended
│   ├── TooManyChanges
│   ├── NotCancellable
│   ├── NothingOwed
│   ├── RefundOwed
│   ├── RefundTooLarge
│   ├── CursorGone
│   ├── EventChanged
│   ├── EventCalledOff
│   └── NotDone
├── Unavailable             nobody can say now; ask again
│   ├── GateClosed
│   │   └── RunUnchecked
│   ├── StoreAway
│   ├── Overloaded
│   ├── StreamsFull
│   └── Busy
└── CannotRun               an operator's command cannot do its work
    └── DriftUnexplained

`api/problems.py` gives each a status and a type; `docs/errors.md` has a heading for each.

One file because it is the list of all that can go wrong, one class each.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AccessCodeInvalid",
    "AccessCodeRequired",
    "AccessCodeUsedUp",
    "AlreadyExtended",
    "BadRequest",
    "BookingLimit",
    "BoxOfficeError",
    "Busy",
    "CannotRun",
    "CardDataRefused",
    "CursorGone",
    "CustomerLimit",
    "DeclinedTooOften",
    "DriftUnexplained",
    "EventCalledOff",
    "EventChanged",
    "Forbidden",
    "GateClosed",
    "HoldEnded",
    "KeyReused",
    "Malformed",
    "NotCancellable",
    "NotDone",
    "NotFound",
    "NothingOwed",
    "Overloaded",
    "PaymentInProgress",
    "PriceChanged",
    "PriceOutdated",
    "RateLimited",
    "RefundOwed",
    "RefundTooLarge",
    "Refused",
    "RunUnchecked",
    "SaleClosed",
    "SaleNotOpen",
    "SalePaused",
    "SoldOut",
    "StoreAway",
    "StreamsFull",
    "TooManyAttempts",
    "TooManyChanges",
    "TooManyStreams",
    "TooManyWaits",
    "Unauthorized",
    "Unavailable",
    "UnpaidLimit",
]


class BoxOfficeError(Exception):
    """Something about selling tickets went wrong."""

    def __init__(self, detail: str | None = None, **details: Any) -> None:
        self.detail = detail or (type(self).__doc__ or "").split("\n\n")[0].replace("\n    ", " ")
        self.details = details
        super().__init__(self.detail)


class BadRequest(BoxOfficeError):
    """The request can never succeed as it is."""


class Malformed(BadRequest):
    """A part of the request is missing or malformed."""

    def __init__(self, detail: str | None = None, *, pointer: str = "", code: str = "malformed") -> None:
        super().__init__(detail, errors=[{"pointer": pointer, "code": code}])
        self.pointer = pointer
        self.code = code


class CardDataRefused(BadRequest):
    """A card number stands where none may be."""

    def __init__(self, *, pointer: str = "", parameter: str = "") -> None:
        """Where it stands: in the body, or in a parameter of the query."""
        where = {"parameter": parameter} if parameter else {"pointer": pointer}
        super().__init__(errors=[{**where, "code": "card_data"}])
        self.pointer = pointer


class Unauthorized(BoxOfficeError):
    """The API key is missing, unknown, revoked or expired."""


class Forbidden(BoxOfficeError):
    """The API key may not be used for this."""


class NotFound(BoxOfficeError):
    """There is no such thing, or it is not yours."""


class Refused(BoxOfficeError):
    """The sale says no."""


class SoldOut(Refused):
    """Fewer tickets are left than the booking asks for."""


class SaleClosed(Refused):
    """The event or the tier is not on sale."""


class SaleNotOpen(Refused):
    """The sale has not begun."""


class SalePaused(Refused):
    """The sale is paused for a moment."""


class BookingLimit(Refused):
    """A booking of this sale has more tickets than that, or fewer."""


class AccessCodeInvalid(Refused):
    """The access code does not let this booking in."""


class AccessCodeUsedUp(Refused):
    """Fewer tickets are left of the access code than the booking asks for."""


class AccessCodeRequired(Refused):
    """These tickets are sold to holders of an access code alone."""


class CustomerLimit(Refused):
    """The customer would hold more tickets than one customer may, or fewer."""


class UnpaidLimit(Refused):
    """Too many tickets are held and not paid for."""


class RateLimited(Refused):
    """Too many requests in too short a time."""

    policy: str = "key"
    """The limit that was reached: `key` or `customer` of bookings, `changes` or `reads` of an API key's other requests."""

    key_prefix: str = ""
    """Of the API key that is over its limit, where it is a key's: for our log, and not told in an answer."""


class TooManyStreams(Refused):
    """As many streams of this API key, or from this address, are open here as may be."""


class TooManyWaits(Refused):
    """As many requests of this shop wait as may."""


class DeclinedTooOften(Refused):
    """Too many payments were declined lately: no other is tried for now."""


class PriceChanged(Refused):
    """It costs another amount by now than was expected."""


class PriceOutdated(PriceChanged):
    """A price changed while the booking was on its way."""


class KeyReused(Refused):
    """The idempotency key was used before with another request."""


class PaymentInProgress(Refused):
    """A payment of this booking is under way."""


class HoldEnded(Refused):
    """The booking is no longer held."""


class TooManyAttempts(Refused):
    """The hold has used up its payment attempts."""


class AlreadyExtended(Refused):
    """The hold was extended before."""


class TooManyChanges(Refused):
    """The hold was changed as often as a hold may be."""


class NotCancellable(Refused):
    """The booking cannot be cancelled any more."""


class RefundTooLarge(Refused):
    """The refund exceeds what was captured and not yet refunded."""


class RefundOwed(Refused):
    """The gateway refused an earlier refund of these tickets: that comes first."""


class CursorGone(Refused):
    """Notices behind this cursor are kept no longer, or it is of a history that PostgreSQL has lost."""


class EventChanged(Refused):
    """The event was changed since it was read."""


class EventCalledOff(Refused):
    """The event is called off."""


class NothingOwed(Refused):
    """No refund of this booking was refused by the gateway."""


class NotDone(Refused):
    """What an operator wants done cannot be done now."""


class Unavailable(BoxOfficeError):
    """Nobody can say now. Ask again."""


class GateClosed(Unavailable):
    """The sale's counters are being loaded or repaired."""


class RunUnchecked(GateClosed):
    """Redis has just started, and is being compared with PostgreSQL."""


class StoreAway(Unavailable):
    """Redis or PostgreSQL does not answer."""


class Overloaded(Unavailable):
    """More is asked for than can be answered in time."""


class StreamsFull(Unavailable):
    """As many streams are open here as may be."""


class Busy(Unavailable):
    """Too many bookings wait to be settled."""


class CannotRun(BoxOfficeError):
    """The command cannot do its work now."""


class DriftUnexplained(CannotRun):
    """The stores disagree in a way that only an operator may decide."""
