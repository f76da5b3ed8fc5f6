"""What Stripe's errors leave open."""

from __future__ import annotations

import stripe
from stripe import PaymentIntent

from boxoffice.gateway.base import Authorization, Declined, Unchargeable
from boxoffice.gateway.stripe import answers

__all__ = ["is_replay", "may_be_done", "refusal_of"]


def may_be_done(error: stripe.StripeError) -> bool:
    """Whether the payment has to be read before anything can be said of it."""
    return isinstance(error, answers.REFUSALS) or answers.leaves_unknown(error) or answers.is_server_error(error)


def refusal_of(error: stripe.StripeError) -> Authorization:
    """A fresh error of an authorisation, in our words."""
    if code := answers.unchargeable_code(error):
        return Unchargeable(code)
    unknown = answers.unknown_of(error)
    if isinstance(error, stripe.InvalidRequestError) and error.http_status == 400 and not unknown.misconfigured:
        return Declined(answers.code_of(error))
    return unknown


def is_replay(intent: PaymentIntent) -> bool:
    """Whether Stripe repeated the first answer to this idempotency key."""
    return intent.last_response is not None and answers.replayed(intent.last_response.headers)
