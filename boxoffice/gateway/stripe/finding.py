"""Finding a PaymentIntent of which only the payment key is known, the key of one, and the card behind a payment method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import stripe
from stripe import PaymentIntent

from boxoffice.gateway.stripe import answers

if TYPE_CHECKING:
    from stripe._v1_services import V1Services

__all__ = ["LISTED_MAX", "PAGE", "card_of", "find", "payment_key_of"]

PAGE: Final = 100
"""PaymentIntents on one page of a list, the most that Stripe allows."""

LISTED_MAX: Final = 1_000
"""PaymentIntents looked through for one payment key, newest first, before the search is asked: ten requests."""

_WINDOW_S: Final = 3_600
"""How long after we first asked a PaymentIntent may have been made."""


async def find(client: V1Services, payment_key: str, since_ms: int | None) -> PaymentIntent | None:
    """The payment intent that bears this payment key. `since_ms`: when it was first asked for, if anybody knows. Raises
    `StripeError`."""
    params: stripe.params.PaymentIntentListParams = {"limit": PAGE, "expand": ["data.latest_charge"]}
    if since_ms is not None:
        params["created"] = {"gte": since_ms // 1_000 - 60, "lte": since_ms // 1_000 + _WINDOW_S}
    looked_at = 0
    listed = await client.payment_intents.list_async(params)
    async for intent in listed.auto_paging_iter():
        if answers.noted(intent, "payment_key") == payment_key:
            return intent
        looked_at += 1
        if looked_at == LISTED_MAX and since_ms is None:
            break
    searched = await client.payment_intents.search_async(
        {"query": f'metadata["payment_key"]:"{payment_key}"', "expand": ["data.latest_charge"]}
    )
    return searched.data[0] if searched.data else None


async def payment_key_of(client: V1Services, reference: str) -> str | None:
    """The payment key of a payment intent; None when it is none of ours. Raises `StripeError`."""
    try:
        return answers.noted(await client.payment_intents.retrieve_async(reference), "payment_key")
    except stripe.InvalidRequestError as error:
        if error.code == "resource_missing":
            return None
        raise


async def card_of(client: V1Services, token: str) -> str:
    """The fingerprint of the card behind a payment method; empty when Stripe does not say: of another kind of method, or to a
    restricted key that may read none."""
    try:
        return answers.fingerprint_of(await client.payment_methods.retrieve_async(token))
    except stripe.StripeError:
        return ""
