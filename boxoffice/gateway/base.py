"""What we ask of a payment gateway, and what it may answer.

Money moves in the order authorise, commit, capture. Every call is idempotent by key: asking again is always safe and
tells what happened the first time. A call never raises because of the gateway: a timeout, a lost connection or a server
error is `Unknown`, to be asked again or looked up, never guessed.

Operation keys are derived from the payment key (`:auth`, `:cap`, `:void`); a refund brings its own.

One file because it is one vocabulary: each outcome is read beside those that it is told apart from.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Final, Literal, Protocol, TypeAlias

from msgspec import Struct

from boxoffice.gateway.webhooks import GatewayEvent

__all__ = [
    "KEYS_MAX",
    "AlreadyCaptured",
    "Authorization",
    "AuthorizeRequest",
    "Authorized",
    "Capture",
    "CaptureRequest",
    "Declined",
    "DisputeSeen",
    "Done",
    "Found",
    "Lookup",
    "NotFound",
    "PaymentGateway",
    "PaymentStatus",
    "Pending",
    "Record",
    "Refund",
    "RefundSeen",
    "RefundStatus",
    "Refused",
    "RequiresAction",
    "Reversals",
    "Token",
    "Unchargeable",
    "Unknown",
    "Void",
    "first_key",
    "names_cards",
]

PaymentStatus: TypeAlias = Literal["requires_action", "authorized", "captured", "declined", "voided", "processing"]
"""How a gateway sees a payment. `processing`: it exists and has no outcome yet."""

RefundStatus: TypeAlias = Literal["pending", "succeeded", "failed"]
"""How a gateway sees a refund. None of them is final: one that succeeded may fail days later."""


KEYS_MAX: Final = 8
"""Idempotency keys that one call may use up, one behind the other, where a gateway repeats an error under each. Gateways
forget keys after a day or so, and then the first is as good as new."""


class Token(Struct, frozen=True):
    """What stands for a card from here on, and the four digits a customer knows it by."""

    token: str
    last4: str | None


class AuthorizeRequest(Struct, frozen=True, gc=False):
    """Set money aside for a booking."""

    payment_key: str
    booking_id: str
    amount_cents: int
    currency: str
    """ISO 4217, upper case."""
    method: str
    token: str
    return_url: str | None = None
    """Where the customer comes back to from the bank; None: where all do. The same at every repeat."""


class CaptureRequest(Struct, frozen=True, gc=False):
    """Take money that was set aside."""

    payment_key: str
    reference: str
    amount_cents: int
    currency: str = ""
    """ISO 4217. Empty: the gateway is asked which one it was set aside in."""


class Authorized(Struct, frozen=True, tag=True, gc=False):
    """The money is set aside. The amount is the gateway's: compare it with the booking's before capturing."""

    reference: str
    amount_cents: int
    currency: str


class Declined(Struct, frozen=True, tag=True, gc=False):
    """No money, and this payment key will never bring any."""

    code: str
    reference: str | None = None
    card: str = ""
    """What the gateway calls the card, the same whoever pays with it; empty where it does not say. Nothing of its number."""


class RequiresAction(Struct, frozen=True, tag=True, gc=False):
    """The customer has to go to `url` first (3-D Secure)."""

    url: str
    reference: str


class Unknown(Struct, frozen=True, tag=True, gc=False):
    """Nobody can say whether it happened. `reason` is for people."""

    reason: str
    misconfigured: str = ""
    """Why the gateway refuses us, whatever the card: the key, the account, a permission. Asked again, as somebody may mend
    it meanwhile."""


class Unchargeable(Struct, frozen=True, tag=True, gc=False):
    """The gateway never takes a payment of this amount or currency, whatever the card. Nothing was set aside."""

    code: str


class Done(Struct, frozen=True, tag=True, gc=False):
    """It happened, now or when it was asked before."""

    reference: str


class Pending(Struct, frozen=True, tag=True, gc=False):
    """A refund that the gateway has taken on and not yet made. It may still fail."""

    reference: str
    reason: str | None = None


class Refused(Struct, frozen=True, tag=True, gc=False):
    """It did not happen and never will: asking again is useless."""

    code: str


class AlreadyCaptured(Struct, frozen=True, tag=True, gc=False):
    """Too late to void: the money was taken. Only a refund gives it back."""

    captured_cents: int


class NotFound(Struct, frozen=True, tag=True, gc=False):
    """The gateway knows no such payment now. A request still on its way may yet arrive."""


class Found(Struct, frozen=True, tag=True, gc=False):
    """A payment as the gateway knows it."""

    status: PaymentStatus
    reference: str
    amount_cents: int
    currency: str
    captured_cents: int = 0
    refunded_cents: int = 0
    failure_code: str | None = None
    next_action: str | None = None
    card: str = ""
    """As in `Declined`, when it was."""


def first_key(refund_key: str) -> str:
    """The key of the refund that this is an attempt at."""
    return refund_key.partition("-")[0]


class RefundSeen(Struct, frozen=True, gc=False):
    """A refund as the gateway knows it, whoever asked for it."""

    refund_key: str | None
    """The key under which we asked for it; None when somebody made it at the gateway itself."""
    reference: str
    amount_cents: int
    status: RefundStatus
    code: str | None = None
    """Why it failed, or is pending."""


class DisputeSeen(Struct, frozen=True, gc=False):
    """A dispute as the gateway knows it."""

    reference: str
    amount_cents: int
    status: str
    """The gateway's word: `needs_response`, `under_review`, `won`, `lost`, …"""
    reason: str
    withdrawn: bool
    """Whether the money is gone from the shop's account, for now or for good."""


class Reversals(Struct, frozen=True, tag=True, gc=False):
    """What went back of a captured payment: refunds, oldest first, and disputes."""

    refunds: tuple[RefundSeen, ...] = ()
    disputes: tuple[DisputeSeen, ...] = ()

    @property
    def given_back_cents(self) -> int:
        """Refunded, or on its way back."""
        return sum(refund.amount_cents for refund in self.refunds if refund.status != "failed")


class Record(Struct, frozen=True, tag=True, gc=False):
    """One payment in the gateway's own books, for audits."""

    payment_key: str
    booking_id: str | None
    made_ms: int
    payment: Found
    reversals: Reversals = Reversals()
    installation: str | None = None
    """Whose name it bears; None where nobody signs, or of before anybody did."""


Authorization: TypeAlias = Authorized | Declined | RequiresAction | Unchargeable | Unknown
Capture: TypeAlias = Done | Refused | Unknown
Void: TypeAlias = Done | AlreadyCaptured | NotFound | Refused | Unknown
Refund: TypeAlias = Done | Pending | Refused | Unknown
Lookup: TypeAlias = Found | NotFound | Unknown


class PaymentGateway(Protocol):
    """Whoever authorises, captures, voids and refunds."""

    @property
    def name(self) -> str:
        """Stands in the path of webhooks."""

    @property
    def books(self) -> str:
        """Whose books these are (`accounts.py`). Stands in payment rows. Complete once `trouble` was asked."""

    @property
    def accepts_cards(self) -> bool:
        """Whether `tokenize` takes card numbers. False for everything that meets real cards."""

    @property
    def captures_apart(self) -> bool:
        """Whether authorising and capturing are two steps. A gateway without this is refused at start."""

    @property
    def signs(self) -> bool:
        """Whether payments bear the name of their installation, because its account may serve others, too."""

    def sign_as(self, installation: str) -> None:
        """Let payments that are made from now on bear this name."""

    def tokenize(self, card_number: str, card_name: str) -> Token:
        """The token for a test card. Nothing else of the number is kept.

        Raises `CardDataRefused` where card numbers may not go, `Malformed` for what is no card number.
        """

    def check_token(self, token: str) -> Token:
        """The token, when it can be one of this gateway's. Asks nobody.

        Raises `Malformed` otherwise.
        """

    async def authorize(self, request: AuthorizeRequest) -> Authorization:
        """Set money aside. The same payment key answers as it did before, whatever else the request says."""

    async def authorize_batch(
        self, requests: Sequence[AuthorizeRequest]
    ) -> list[Authorization | asyncio.Future[Authorization]]:
        """Set money aside for many, in their order.

        What is known at once is an outcome; what is slow is a future (a running task, mostly), which never raises: wait
        for it until the cut-off (`asyncio.wait`), then let it go on by itself.
        """

    async def capture(self, payment_key: str, reference: str, amount_cents: int, currency: str = "") -> Capture:
        """Take money that was set aside, all or part of it, once. `currency` as in `CaptureRequest`."""

    async def capture_batch(self, requests: Sequence[CaptureRequest]) -> list[Capture]:
        """Take money for many, in their order."""

    async def void(self, payment_key: str, reference: str | None) -> Void:
        """Let money go that was set aside. Done also when a decline left nothing to let go."""

    async def refund(self, refund_key: str, payment_key: str, reference: str, amount_cents: int) -> Refund:
        """Give captured money back, all or part of it, once for each refund key.

        `Refused`: nothing was given back under this key, and nothing will be. `Unknown`: it may have been, or may yet be;
        asked again, as long as the gateway takes to know, it is given back once. `Pending` and `Done` may still fail: then
        `reversals` tells. `<key>-1`, `<key>-2` are further attempts at `<key>`: while one of them has not failed, no other
        gives anything back, and is answered as that one.
        """

    async def reversals(self, payment_key: str, reference: str) -> Reversals | NotFound | Unknown:
        """Every refund and dispute of a payment, as they are now. Reads only."""

    async def payment_key_of(self, reference: str) -> str | Unknown | None:
        """The payment key of a payment that only its reference is known of; None when it is none of ours."""

    async def lookup(self, payment_key: str, reference: str | None, since_ms: int | None = None) -> Lookup:
        """What became of a payment. `since_ms`: when we first asked for it; without reference, narrows the search.

        Where the outcome of `authorize` is unknown, ask that again first: the same request with the same key is the
        best look-up there is.
        """

    def verify_webhook(self, headers: Mapping[str, str], body: bytes, now_s: float) -> GatewayEvent:
        """The event in a webhook whose raw body was signed by the gateway not long ago. Header names in lower case.

        An event of a kind or format that nobody knows is `other`. Raises `WebhookRefused`, `WebhookMalformed`.
        """

    def records(self) -> AsyncIterator[Record]:
        """Every payment the gateway knows. Raises what it meets: half an audit is none."""

    async def trouble(self) -> str:
        """Why the gateway would refuse us, whatever the card; empty when it would not, or when nobody answers. Asks it."""

    async def close(self) -> None:
        """Let go of files and connections. Calls still under way end as `Unknown`."""


def names_cards(gateway: PaymentGateway) -> Callable[[str], Awaitable[str | Unknown]] | None:
    """How this gateway is asked what it calls the card behind a token, before it is charged: its `card_of`. Empty: it does not
    say. None: it never does."""
    return getattr(gateway, "card_of", None)
