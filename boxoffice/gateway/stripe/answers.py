"""What Stripe's objects and errors mean in our words. No I/O.

Sources: docs.stripe.com/payments/paymentintents/lifecycle (statuses), docs.stripe.com/error-codes and
docs.stripe.com/declines/codes (codes), docs.stripe.com/api/events/types (webhooks), docs.stripe.com/webhooks/signature.

One file because it is one dictionary: a translation for each thing that Stripe says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import stripe
from stripe import Charge, PaymentIntent, WebhookSignature

from boxoffice.gateway import messages
from boxoffice.gateway.base import (
    AlreadyCaptured,
    Authorization,
    Authorized,
    Capture,
    Declined,
    Done,
    Found,
    PaymentStatus,
    Refused,
    RequiresAction,
    Unknown,
    Void,
)
from boxoffice.gateway.stripe.currencies import from_stripe
from boxoffice.gateway.webhooks import EventKind, GatewayEvent, WebhookMalformed, WebhookRefused

__all__ = [
    "OF_ALL",
    "REFUSALS",
    "authorization_of",
    "captured_of",
    "code_of",
    "declined_of",
    "did_nothing",
    "event_of",
    "fingerprint_of",
    "found_of",
    "id_of",
    "is_server_error",
    "leaves_unknown",
    "misconfigured_code",
    "noted",
    "numbered",
    "replayed",
    "unchargeable_code",
    "unknown_of",
    "voided_of",
]

REFUSALS: Final = (stripe.CardError, stripe.InvalidRequestError, stripe.IdempotencyError)
"""Answers that say no. Others (a rate limit, a wrong API key, a server error) say nothing about the payment."""

_STATUS: Final[dict[str, PaymentStatus]] = {
    "requires_payment_method": "declined",
    "requires_action": "requires_action",
    "requires_capture": "authorized",
    "succeeded": "captured",
    "canceled": "voided",
    "processing": "processing",
    "requires_confirmation": "processing",
}
"""`requires_payment_method` after a confirmation is a decline: nobody will confirm that payment again."""

_CODES: Final = {
    "generic_decline": "card_declined",
    "payment_intent_authentication_failure": "authentication_failed",
    "charge_expired_for_capture": "authorization_expired",
}
"""Codes that the simulator and we call otherwise."""

_KINDS: Final[dict[str, EventKind]] = {
    "payment_intent.amount_capturable_updated": "authorized",
    "payment_intent.requires_action": "requires_action",
    "payment_intent.succeeded": "captured",
    "payment_intent.payment_failed": "declined",
    "payment_intent.canceled": "voided",
    "refund.created": "refunded",
    "refund.updated": "refunded",
    "refund.failed": "refund_failed",
    "charge.refunded": "refunded",
    "charge.refund.updated": "refunded",
    "charge.dispute.created": "disputed",
    "charge.dispute.updated": "disputed",
    "charge.dispute.closed": "disputed",
    "charge.dispute.funds_withdrawn": "disputed",
    "charge.dispute.funds_reinstated": "disputed",
}
"""What was refunded in the dashboard, and every dispute, comes without our metadata: it is known by its PaymentIntent."""

INVALID_KEY: Final = "invalid_api_key"
OF_ALL: Final = frozenset({INVALID_KEY, "account_not_activated"})
"""Refusals that every payment meets."""

_UNCHARGEABLE: Final = frozenset(
    {"amount_too_small", "amount_too_large", "invalid_charge_amount", "invalid_charge_amount_no_decimal_compatible"}
)
_OURS: Final = frozenset({"payment_method_unactivated", "payment_method_types_unactivated", "livemode_mismatch"})
_CARDS: Final = (
    "payment_method_", "card_", "incorrect_", "expired_", "invalid_number", "invalid_cvc", "invalid_expiry", "token_",
    "payment_intent_incompatible_payment_method", "payment_intent_payment_attempt", "payment_intent_unexpected_state",
    "payment_intent_authentication", "setup_", "authentication_required", "resource_already_exists", "processing_error",
)  # fmt: skip
"""Codes that speak of the card or the payment, though they come with 400."""

CARD_MAX: Final = 64
"""Characters of a card's fingerprint. Stripe's have 16."""

_TIMESTAMP: Final = re.compile(r"t=([0-9]{1,12})")


def authorization_of(intent: PaymentIntent) -> Authorization:
    """What a PaymentIntent says about its authorisation."""
    match intent.status:
        case "requires_capture":
            return Authorized(intent.id, _ours(intent.amount_capturable, intent), intent.currency.upper())
        case "succeeded":
            return Authorized(intent.id, _ours(intent.amount, intent), intent.currency.upper())
        case "requires_action":
            return RequiresAction(_action_of(intent) or "", intent.id)
        case "requires_payment_method" | "canceled":
            return Declined(_failure_of(intent) or "card_declined", intent.id, _card_of(intent))
        case _:
            return Unknown(intent.status)


def found_of(intent: PaymentIntent) -> Found:
    """A PaymentIntent as look-ups and audits see it. Refunds are known when `latest_charge` was expanded."""
    charge = intent.latest_charge
    return Found(
        status=_STATUS.get(intent.status, "processing"),
        reference=intent.id,
        amount_cents=_ours(intent.amount, intent),
        currency=intent.currency.upper(),
        captured_cents=_ours(intent.amount_received, intent),
        refunded_cents=_ours(charge.amount_refunded, intent) if isinstance(charge, Charge) else 0,
        failure_code=_failure_of(intent),
        next_action=_action_of(intent),
        card=_card_of(intent),
    )


def voided_of(intent: PaymentIntent) -> Void:
    """Whether a PaymentIntent's money is let go."""
    match intent.status:
        case "canceled":
            return Done(intent.id)
        case "succeeded":
            return AlreadyCaptured(_ours(intent.amount_received, intent))
        case _:
            return Unknown(intent.status)


def captured_of(intent: PaymentIntent, amount: int) -> Capture:
    """Whether this much of a PaymentIntent is captured."""
    if intent.status != "succeeded":
        return Unknown(intent.status)
    return Done(intent.id) if intent.amount_received == amount else Refused("already_captured")


def noted(thing: PaymentIntent | stripe.Refund, name: str) -> str | None:
    """What we wrote into its metadata when we made it; others wrote there too."""
    metadata = thing.metadata
    return str(metadata[name]) if metadata and name in metadata else None


def declined_of(error: stripe.CardError) -> Declined:
    """A decline, with the payment it belongs to."""
    failed = error.error.payment_intent if error.error else None
    card = fingerprint_of(error.error.payment_method if error.error else None)
    return Declined(code_of(error), failed.id if failed else None, card or (_card_of(failed) if failed else ""))


def code_of(error: stripe.StripeError) -> str:
    """Why, in a word: the bank's reason where there is one."""
    reason = error.error.decline_code if error.error else None
    return _code(reason or error.code or "invalid_request")


def unknown_of(error: stripe.StripeError) -> Unknown:
    """An error that says nothing about what happened."""
    if isinstance(error, stripe.APIConnectionError):
        return Unknown("unreachable")
    return Unknown(f"status {error.http_status}", misconfigured_code(error))


def misconfigured_code(error: stripe.StripeError) -> str:
    """Why Stripe refuses us and not the card or the payment; empty when it is not about us.

    With 400 everything is about us but what names the payment method: a booking brings nothing else that Stripe could
    refuse, besides its amount. Sources: docs.stripe.com/api/errors, docs.stripe.com/error-codes.
    """
    if isinstance(error, stripe.AuthenticationError):
        return INVALID_KEY
    if isinstance(error, stripe.PermissionError):
        return error.code or "permission"
    if "a similar object exists in" in (error.user_message or "").lower():
        return "livemode_mismatch"
    if not isinstance(error, stripe.InvalidRequestError) or error.http_status != 400:
        return ""
    code = error.code or ""
    if unchargeable_code(error) or _of_the_card(error, code):
        return ""
    return code or "invalid_request"


def unchargeable_code(error: stripe.StripeError) -> str:
    """Why Stripe cannot charge this amount or currency, ever; empty when it is about something else."""
    if not isinstance(error, stripe.InvalidRequestError):
        return ""
    if error.code in _UNCHARGEABLE:
        return str(error.code)
    if error.param == "currency":
        return "currency_not_supported"
    return str(error.code or "invalid_amount") if error.param == "amount" else ""


def _of_the_card(error: stripe.InvalidRequestError, code: str) -> bool:
    if code in _OURS:
        return False
    return (error.param or "").startswith("payment_method") or code.startswith(_CARDS)


def replayed(headers: Mapping[str, str] | None) -> bool:
    """Whether Stripe repeated an old answer, of up to 24 hours ago (docs.stripe.com/api/idempotent_requests)."""
    return any(name.lower() == "idempotent-replayed" for name in headers or ())


def is_server_error(error: stripe.StripeError) -> bool:
    """Whether it is Stripe's own: what was asked for may have been done."""
    return (error.http_status or 0) >= 500


def leaves_unknown(error: stripe.StripeError) -> bool:
    """Whether the error is an old one, repeated for its key, or only says that the key was used for something else. A
    409 says that the first request is still at work."""
    if error.http_status == 409:
        return False
    return isinstance(error, stripe.IdempotencyError) or replayed(error.headers)


def did_nothing(error: stripe.StripeError) -> bool:
    """Whether an error that is repeated is a refusal, so that nothing came of its request. Of a server error, and of a key
    that was used for something else, nobody can say."""
    return isinstance(error, REFUSALS) and not isinstance(error, stripe.IdempotencyError)


def numbered(key: str, number: int) -> str:
    """The idempotency key to use when so many before it are spent on errors that are repeated."""
    return f"{key}:{number}" if number else key


def id_of(thing: str | stripe.StripeObject | None) -> str | None:
    """The id of an object that may have been expanded."""
    return thing if thing is None or isinstance(thing, str) else str(thing["id"])


def event_of(secrets: Sequence[str], age_s: int, headers: Mapping[str, str], body: bytes, now_s: float) -> GatewayEvent:
    """The event in a webhook that Stripe signed with one of the secrets.

    Raises `WebhookRefused`, `WebhookMalformed`. The package checks the signature; its age we check ourselves, by the clock
    handed in.
    """
    header = headers.get("stripe-signature", "")
    if not _is_utf8(body):
        raise WebhookMalformed("The webhook's body is not JSON in UTF-8.")
    if not header.isascii() or not any([_signed(body, header, secret) for secret in secrets]):
        raise WebhookRefused("The webhook's signature does not fit.")
    if abs(now_s - _signed_at(header)) > age_s:
        raise WebhookRefused("The webhook's signature is too old, or ahead of our clock.")
    event = messages.read_event(body)
    data = event.get("data")
    about = data.get("object") if isinstance(data, dict) else None
    about = about if isinstance(about, dict) else {}
    metadata = about.get("metadata")
    payment_key = messages.known_key(metadata.get("payment_key")) if isinstance(metadata, dict) else None
    intent = about if about.get("object") == "payment_intent" else about.get("payment_intent")
    known = _KINDS.get(event["type"], "other")
    return GatewayEvent(messages.event_id(event.get("id")), known, payment_key, messages.reference_of(intent))


def _signed(body: bytes, header: str, secret: str) -> bool:
    try:
        return bool(WebhookSignature.verify_header(body, header, secret))
    except stripe.SignatureVerificationError:
        return False


def _signed_at(header: str) -> int:
    """The one time in it, in seconds. The package reads the first of several, also with signs around it that we would not
    take for a number: then a second one would make an old webhook fresh."""
    times = [item for item in header.split(",") if item.partition("=")[0].strip() == "t"]
    found = _TIMESTAMP.fullmatch(times[0]) if len(times) == 1 else None
    if found is None:
        raise WebhookRefused("The webhook's signature does not have one time, t=….")
    return int(found[1])


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _ours(amount: int, intent: PaymentIntent) -> int:
    return from_stripe(amount, intent.currency.upper())


def _code(code: str) -> str:
    return _CODES.get(code, code)


def _failure_of(intent: PaymentIntent) -> str | None:
    if intent.status == "canceled":
        return "voided"
    error = intent.last_payment_error
    if intent.status != "requires_payment_method" or error is None:
        return None
    return _code(error.decline_code or error.code or "card_declined")


def fingerprint_of(method: object) -> str:
    """What Stripe calls the card of a payment method, in this account; empty where it does not say. It is no digest: nobody can
    find the number by it."""
    return str(getattr(getattr(method, "card", None), "fingerprint", None) or "")[:CARD_MAX]


def _card_of(intent: PaymentIntent) -> str:
    """Of the payment that failed last."""
    return fingerprint_of(getattr(getattr(intent, "last_payment_error", None), "payment_method", None))


def _action_of(intent: PaymentIntent) -> str | None:
    if intent.status != "requires_action" or intent.next_action is None:
        return None
    redirect = intent.next_action.redirect_to_url
    return redirect.url if redirect else None
