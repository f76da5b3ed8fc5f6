"""What goes back at Stripe: refunds that we ask for, and whatever else was refunded or is disputed.

A refund's `status` is `pending`, `requires_action`, `succeeded`, `failed` or `canceled`, and none of them lasts: one that
succeeded may fail days later (docs.stripe.com/refunds#failed-refunds). Refunds made in the dashboard are in the same
list, without our metadata. Disputes: docs.stripe.com/api/disputes/object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import stripe
from stripe import Dispute

from boxoffice.gateway.base import (
    KEYS_MAX,
    DisputeSeen,
    Done,
    Pending,
    Refund,
    RefundSeen,
    RefundStatus,
    Refused,
    Reversals,
    Unknown,
    first_key,
)
from boxoffice.gateway.stripe import answers as answers
from boxoffice.gateway.stripe.currencies import from_stripe

__all__ = ["StripeReversals"]

_PAGE: Final = 100
"""Objects on one page of a list, the most that Stripe allows."""

_STATUS: Final[dict[str | None, RefundStatus]] = {"succeeded": "succeeded", "failed": "failed", "canceled": "failed"}
"""Whatever else it says, now or in times to come, is not done yet."""


class StripeReversals:
    """Refunds and disputes. Raises `stripe.StripeError` where Stripe does not say."""

    def __init__(self, client: Any) -> None:
        self._stripe = client

    async def refund(self, refund_key: str, payment_key: str, reference: str, amount: int) -> Refund:
        """Refund a PaymentIntent once for this key, in Stripe's units.

        Its list is read first: Stripe forgets idempotency keys after a day, and would then give the money back again.
        A refusal that is only repeated did nothing: another key is used. A server error that is repeated may have made a
        refund that is not in the list yet: no other key is used, or it might be paid twice. Stripe repeats an error for a
        day; then the same key asks anew, and what the error hid has long been in the list.
        """
        if (made := await self._made(reference, refund_key)) is not None:
            return _refunded(made) if made.amount == amount else Refused("already_refunded")
        for number in range(KEYS_MAX):
            try:
                return _refunded(await self._create(refund_key, payment_key, reference, amount, number))
            except stripe.StripeError as error:
                if error.code == "resource_missing":
                    raise
                if answers.leaves_unknown(error):
                    if answers.did_nothing(error):
                        continue
                    return Unknown("replayed error")
                if isinstance(error, answers.REFUSALS):
                    return Refused(answers.code_of(error))
                if answers.is_server_error(error) and (made := await self._made(reference, refund_key)) is not None:
                    return _refunded(made)
                raise
        return Unknown("replayed error")

    async def of(self, reference: str) -> Reversals:
        """Everything of one PaymentIntent."""
        refunds, disputes = await asyncio.gather(
            self._all(self._stripe.refunds, {"payment_intent": reference, "limit": _PAGE}),
            self._all(self._stripe.disputes, {"payment_intent": reference, "limit": _PAGE}),
        )
        return _reversals(refunds, disputes)

    async def everything(self) -> dict[str, Reversals]:
        """Of every PaymentIntent that has any, by its id. Two lists, whatever the number of payments."""
        found: dict[str, tuple[list[stripe.Refund], list[Dispute]]] = {}
        for place, service in enumerate((self._stripe.refunds, self._stripe.disputes)):
            for each in await self._all(service, {"limit": _PAGE}):
                if intent := answers.id_of(each.payment_intent):
                    found.setdefault(intent, ([], []))[place].append(each)
        return {intent: _reversals(*both) for intent, both in found.items()}

    async def _made(self, reference: str, refund_key: str) -> stripe.Refund | None:
        """What came of this refund: an attempt at it that did not fail, whichever; or this very one, failed."""
        params = {"payment_intent": reference, "limit": _PAGE}
        listed: list[stripe.Refund] = await self._all(self._stripe.refunds, params)
        for refund in listed:
            key = answers.noted(refund, "refund_key")
            if key and first_key(key) == first_key(refund_key) and _STATUS.get(refund.status) != "failed":
                return refund
        return next((refund for refund in listed if answers.noted(refund, "refund_key") == refund_key), None)

    async def _create(
        self, refund_key: str, payment_key: str, reference: str, amount: int, number: int
    ) -> stripe.Refund:
        made: stripe.Refund = await self._stripe.refunds.create_async(
            {
                "payment_intent": reference,
                "amount": amount,
                "metadata": {"payment_key": payment_key, "refund_key": refund_key},
            },
            {"idempotency_key": answers.numbered(refund_key, number)},
        )
        return made

    async def _all(self, service: Any, params: dict[str, Any]) -> list[Any]:
        """Oldest first."""
        listed = await service.list_async(params)
        return [each async for each in listed.auto_paging_iter()][::-1]


def _refunded(refund: stripe.Refund) -> Refund:
    match _STATUS.get(refund.status, "pending"):
        case "succeeded":
            return Done(refund.id)
        case "failed":
            return Refused(_why(refund) or "refund_failed")
        case _:
            return Pending(refund.id, _why(refund))


def _why(refund: stripe.Refund) -> str | None:
    if _STATUS.get(refund.status) == "failed":
        return refund.failure_reason or refund.status
    return getattr(refund, "pending_reason", None) or refund.status


def _reversals(refunds: Iterable[stripe.Refund], disputes: Iterable[Dispute]) -> Reversals:
    return Reversals(tuple(map(_seen, refunds)), tuple(map(_disputed, disputes)))


def _seen(refund: stripe.Refund) -> RefundSeen:
    status = _STATUS.get(refund.status, "pending")
    return RefundSeen(
        answers.noted(refund, "refund_key"), refund.id, from_stripe(refund.amount, refund.currency.upper()), status,
        None if status == "succeeded" else _why(refund),
    )  # fmt: skip


def _disputed(dispute: Dispute) -> DisputeSeen:
    moved = sum(transaction.amount for transaction in getattr(dispute, "balance_transactions", None) or ())
    amount = from_stripe(dispute.amount, dispute.currency.upper())
    return DisputeSeen(dispute.id, amount, dispute.status, dispute.reason, withdrawn=moved < 0)
