"""Stripe: PaymentIntents captured by hand, confirmed at creation with a payment method that a shop front collected.

The payment key is in each PaymentIntent's metadata and, as `<payment key>:auth`, its idempotency key. Stripe repeats
the first answer to a key for at least 24 hours, also when it was an error, and however the payment went on since
(docs.stripe.com/api/idempotent_requests): so a repeated answer is never believed, the payment is read instead. Search
lags behind by a minute and more (docs.stripe.com/search#data-freshness), so a list is asked before it.

One file because it is one protocol (`PaymentGateway`): how an operation is made safe is read beside the others.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec
import stripe
from stripe import PaymentIntent

from boxoffice import ids
from boxoffice.errors import CardDataRefused, Malformed
from boxoffice.gateway.base import (
    KEYS_MAX,
    Authorization,
    AuthorizeRequest,
    Capture,
    CaptureRequest,
    Done,
    Lookup,
    NotFound,
    Record,
    Refund,
    Refused,
    Reversals,
    Token,
    Unchargeable,
    Unknown,
    Void,
)
from boxoffice.gateway.calls import in_parallel, within
from boxoffice.gateway.stripe import answers as answers
from boxoffice.gateway.stripe.currencies import CURRENCIES, to_stripe
from boxoffice.gateway.stripe.errors import is_replay, may_be_done, refusal_of
from boxoffice.gateway.stripe.finding import LISTED_MAX, PAGE, card_of, find, payment_key_of
from boxoffice.gateway.stripe.http import Transport
from boxoffice.gateway.stripe.reversals import StripeReversals
from boxoffice.gateway.trouble import Trouble
from boxoffice.gateway.webhooks import GatewayEvent
from boxoffice.settings import GatewaySettings

__all__ = ["StripeGateway"]

_T = TypeVar("_T")

_PAYMENT_METHOD: Final = re.compile(r"pm_[A-Za-z0-9_]{1,200}")
_DIGITS: Final = re.compile(r"[0-9]{13,}")


class StripeGateway:
    """A `PaymentGateway` on Stripe, or on whoever speaks its API at `gateway.url`.

    `return_url` is where customers come back to after 3-D Secure, unless their payment says otherwise.
    """

    name = "stripe"
    accepts_cards = False
    captures_apart = True
    signs = True

    def __init__(self, settings: GatewaySettings, return_url: str) -> None:
        self._settings = settings
        self._return_url = return_url
        self._trouble = Trouble()
        self._account = ""
        self._installation = ""
        self._limit = asyncio.Semaphore(settings.concurrency)
        self._transport = Transport(settings.timeout_s, settings.concurrency)
        self._stripe = stripe.StripeClient(
            settings.api_key,
            http_client=self._transport,
            base_addresses={"api": settings.url.rstrip("/")} if settings.url else {},
            max_network_retries=0,
        ).v1
        self._reversals = StripeReversals(self._stripe)

    @property
    def books(self) -> str:
        """Of the mode that the key is for, and of the account once Stripe has named it."""
        mode = "live" if _is_live(self._settings.api_key) else "test"
        return f"stripe/{mode}/{self._account}" if self._account else f"stripe/{mode}"

    def sign_as(self, installation: str) -> None:
        """In the metadata of PaymentIntents."""
        self._installation = installation

    def tokenize(self, card_number: str, card_name: str) -> Token:
        """Never: card numbers go from the customer's browser to Stripe."""
        raise CardDataRefused(pointer="/payment/card_number")

    def check_token(self, token: str) -> Token:
        """The token, when it is the id of a payment method."""
        if _DIGITS.search(token) and _PAYMENT_METHOD.fullmatch(token):
            raise CardDataRefused(pointer="/payment/token")
        if not _PAYMENT_METHOD.fullmatch(token):
            raise Malformed(
                "The id of a Stripe payment method begins with pm_.", pointer="/payment/token", code="token"
            )
        return Token(token, None)

    async def authorize(self, request: AuthorizeRequest) -> Authorization:
        """Create and confirm a PaymentIntent, or see what became of it."""
        return await self._ask(lambda: self._authorize(request))

    async def authorize_batch(
        self, requests: Sequence[AuthorizeRequest]
    ) -> list[Authorization | asyncio.Future[Authorization]]:
        """One task for each: Stripe has no batches."""
        return [*in_parallel(self.authorize, requests, self._limit)]

    async def capture(self, payment_key: str, reference: str, amount_cents: int, currency: str = "") -> Capture:
        """Capture a PaymentIntent."""
        return await self._ask(lambda: self._capture(payment_key, reference, amount_cents, currency))

    async def capture_batch(self, requests: Sequence[CaptureRequest]) -> list[Capture]:
        """Capture many, some at a time."""

        async def one(request: CaptureRequest) -> Capture:
            return await self.capture(request.payment_key, request.reference, request.amount_cents, request.currency)

        return await asyncio.gather(*in_parallel(one, requests, self._limit))

    async def void(self, payment_key: str, reference: str | None) -> Void:
        """Cancel a PaymentIntent."""
        return await self._ask(lambda: self._void(payment_key, reference))

    async def refund(self, refund_key: str, payment_key: str, reference: str, amount_cents: int) -> Refund:
        """Refund a PaymentIntent, all or part of it."""
        return await self._ask(lambda: self._refund(refund_key, payment_key, reference, amount_cents))

    async def reversals(self, payment_key: str, reference: str) -> Reversals | NotFound | Unknown:
        """Refunds and disputes of a PaymentIntent."""
        return await self._ask(lambda: self._reversals.of(reference))

    async def payment_key_of(self, reference: str) -> str | Unknown | None:
        """Read from the PaymentIntent's metadata."""
        return await self._ask(lambda: payment_key_of(self._stripe, reference))

    async def card_of(self, token: str) -> str | Unknown:
        """The fingerprint of the payment method's card."""
        return await self._ask(lambda: card_of(self._stripe, token))

    async def lookup(self, payment_key: str, reference: str | None, since_ms: int | None = None) -> Lookup:
        """Read a PaymentIntent, found by its id, by listing, and last by searching."""
        return await self._ask(lambda: self._lookup(payment_key, reference, since_ms))

    def verify_webhook(self, headers: Mapping[str, str], body: bytes, now_s: float) -> GatewayEvent:
        """The event in one of Stripe's webhooks."""
        settings = self._settings
        return answers.event_of(settings.webhook_secrets, settings.webhook_age_s, headers, body, now_s)

    async def records(self) -> AsyncIterator[Record]:
        """Every PaymentIntent that carries a payment key, newest first; the account may have others."""
        gone_back = await self._reversals.everything()
        intents = await self._stripe.payment_intents.list_async({"limit": PAGE, "expand": ["data.latest_charge"]})
        async for intent in intents.auto_paging_iter():
            if payment_key := answers.noted(intent, "payment_key"):
                booking_id, reversals = answers.noted(intent, "booking_id"), gone_back.get(intent.id, Reversals())
                found = msgspec.structs.replace(answers.found_of(intent), refunded_cents=reversals.given_back_cents)
                whose = answers.noted(intent, "installation")
                yield Record(payment_key, booking_id, intent.created * 1_000, found, reversals, whose)

    async def trouble(self) -> str:
        """Whether Stripe takes our key, and whether its account may charge.

        A restricted key need not be allowed to read the account: then a list of payments says whether it is good.
        """
        looked = await self._ask(self._look_at_the_account)
        if not isinstance(looked, Unknown):
            self._trouble.clear()
        return self._trouble.code

    async def close(self) -> None:
        """Let go of the connections."""
        await self._transport.close_async()

    async def _ask(self, call: Callable[[], Awaitable[_T]]) -> _T | Unknown:
        async def outcome_of_call() -> _T | Unknown:
            outcome: _T | Unknown
            try:
                outcome = await call()
            except stripe.StripeError as error:
                outcome = answers.unknown_of(error)
            if isinstance(outcome, Unchargeable):
                self._trouble.note(outcome.code, of_all=False)
            elif isinstance(outcome, Unknown) and outcome.misconfigured:
                self._trouble.note(outcome.misconfigured, of_all=outcome.misconfigured in answers.OF_ALL)
            return outcome

        return await within(self._settings.timeout_s, outcome_of_call())

    async def _look_at_the_account(self) -> Done | Unknown:
        try:
            account = await self._stripe.accounts.retrieve_current_async()
        except stripe.PermissionError:
            await self._stripe.payment_intents.list_async({"limit": 1})
            return Done("")
        self._account = account.id
        if account.charges_enabled is False and _is_live(self._settings.api_key):
            return Unknown("no charges", "account_not_activated")
        return Done(account.id)

    async def _authorize(self, request: AuthorizeRequest) -> Authorization:
        amount = to_stripe(request.amount_cents, request.currency) if request.currency in CURRENCIES else None
        if amount is None:
            return Unchargeable("invalid_amount" if request.currency in CURRENCIES else "currency_not_supported")
        for number in range(KEYS_MAX):
            try:
                intent = await self._create(request, amount, number)
            except stripe.CardError as error:
                return answers.declined_of(error)
            except stripe.StripeError as error:
                if not answers.leaves_unknown(error):
                    return refusal_of(error)
                # Unchargeable is told of the request, not of the payment: a repeated one is as true as the first.
                if code := answers.unchargeable_code(error):
                    before = await find(self._stripe, request.payment_key, None)
                    return answers.authorization_of(before) if before else Unchargeable(code)
                if (before := await self._made_before(request, error)) is None:
                    continue
                return answers.authorization_of(before)
            if is_replay(intent):
                intent = await self._read(intent.id)
            return answers.authorization_of(intent)
        return Unknown("replayed error")

    async def _create(self, request: AuthorizeRequest, amount: int, number: int) -> PaymentIntent:
        metadata = {"payment_key": request.payment_key, "booking_id": request.booking_id}
        if self._installation:
            metadata["installation"] = self._installation
        return await self._stripe.payment_intents.create_async(
            {
                "amount": amount,
                "currency": request.currency.lower(),
                "payment_method": request.token,
                "allowed_payment_method_types": ["card"],
                "capture_method": "manual",
                "confirm": True,
                "return_url": request.return_url or self._return_url,
                "metadata": metadata,
            },
            {"idempotency_key": answers.numbered(f"{request.payment_key}:auth", number)},
        )

    async def _made_before(self, request: AuthorizeRequest, error: stripe.StripeError) -> PaymentIntent | None:
        """The same key came with another request, or Stripe repeats an error: what is there? None: surely nothing, because
        everything made since the booking was looked through. Raises the error when that would be too much."""
        since_ms = ids.made_ms(request.booking_id)
        params: stripe.params.PaymentIntentListParams = {"limit": PAGE, "expand": ["data.latest_charge"]}
        if since_ms is not None:
            params["created"] = {"gte": since_ms // 1_000 - 60}
        looked_at = 0
        listed = await self._stripe.payment_intents.list_async(params)
        async for intent in listed.auto_paging_iter():
            if answers.noted(intent, "payment_key") == request.payment_key:
                return intent
            looked_at += 1
            if looked_at == LISTED_MAX:
                raise error
        if since_ms is None:
            raise error
        return None

    async def _capture(self, payment_key: str, reference: str, amount_cents: int, currency: str) -> Capture:
        amount = to_stripe(amount_cents, currency or (await self._read(reference)).currency.upper())
        if amount is None:
            return Refused("invalid_amount")
        untouched = False
        for number in range(KEYS_MAX):
            try:
                options: stripe.RequestOptions = {"idempotency_key": answers.numbered(f"{payment_key}:cap", number)}
                intent = await self._stripe.payment_intents.capture_async(
                    reference, {"amount_to_capture": amount}, options
                )
            except stripe.StripeError as error:
                if not may_be_done(error):
                    raise
                # Read once: whatever old errors hide was done before, and only a fresh call does anything.
                if untouched and answers.leaves_unknown(error):
                    continue
                intent = await self._read(reference)
                if intent.status == "requires_capture" and answers.leaves_unknown(error):
                    untouched = True
                    continue
                if intent.status != "succeeded":
                    if isinstance(error, answers.REFUSALS):
                        return Refused(answers.code_of(error))
                    raise
            return answers.captured_of(intent, amount)
        return Unknown("replayed error")

    async def _void(self, payment_key: str, reference: str | None) -> Void:
        if reference is None:
            intent = await find(self._stripe, payment_key, None)
            if intent is None:
                return NotFound()
            reference = intent.id
        untouched = False
        for number in range(KEYS_MAX):
            try:
                options: stripe.RequestOptions = {"idempotency_key": answers.numbered(f"{payment_key}:void", number)}
                return answers.voided_of(await self._stripe.payment_intents.cancel_async(reference, {}, options))
            except stripe.StripeError as error:
                if error.code == "resource_missing":
                    return NotFound()
                if not may_be_done(error):
                    raise
                if untouched and answers.leaves_unknown(error):
                    continue
                outcome = answers.voided_of(await self._read(reference))
                if not (isinstance(outcome, Unknown) and answers.leaves_unknown(error)):
                    return outcome
                untouched = True
        return Unknown("replayed error")

    async def _refund(self, refund_key: str, payment_key: str, reference: str, amount_cents: int) -> Refund:
        amount = to_stripe(amount_cents, (await self._read(reference)).currency.upper())
        if amount is None:
            return Refused("invalid_amount")
        return await self._reversals.refund(refund_key, payment_key, reference, amount)

    async def _lookup(self, payment_key: str, reference: str | None, since_ms: int | None) -> Lookup:
        if reference:
            return answers.found_of(await self._read(reference))
        intent = await find(self._stripe, payment_key, since_ms)
        return answers.found_of(intent) if intent else NotFound()

    async def _read(self, reference: str) -> PaymentIntent:
        return await self._stripe.payment_intents.retrieve_async(reference, {"expand": ["latest_charge"]})


def _is_live(key: str) -> bool:
    return "_live_" in key
