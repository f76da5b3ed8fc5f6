"""A stand-in for Stripe that speaks the part of its HTTP API which the adapter uses, in memory.

Ours, because answers have to be lost, late, repeated and wrong on demand, which localstripe (PyPI) does not offer.
Behaviour follows docs.stripe.com/api (payment_intents, refunds, idempotent_requests, errors, pagination) and
docs.stripe.com/webhooks. The payment method chooses what happens: `pm_<behaviour>`, with the simulator's behaviours; and
`pm_<behaviour>__<card>` says with which card, whose fingerprint is told.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from stripe import WebhookSignature

from boxoffice.gateway.simulator.cards import DECLINES

Json = dict[str, Any]

OWN_CODES = {"expired_card", "incorrect_cvc", "processing_error"}
"""Declines that Stripe names in `code`; the others are a `card_declined` with a `decline_code`."""


class ApiError(Exception):
    """An error as Stripe answers it."""

    def __init__(self, status: int, kind: str, code: str, **details: Any) -> None:
        super().__init__(code)
        self.status = status
        self.body = {"error": {"type": kind, "code": code, "message": f"({code})", **details}}


class StripeStandIn:
    """`slow_s` and `hang_s` are how long the slow payment methods take; webhooks go to `webhook_url`."""

    def __init__(self, base_url: str, webhook_url: str, secret: str, *, slow_s: float, hang_s: float) -> None:
        self.base_url = base_url
        self.webhook_url = webhook_url
        self.secret = secret
        self.slow_s = slow_s
        self.hang_s = hang_s
        self.api_key = "sk_test_stand_in"
        self.intents: dict[str, Json] = {}
        self.refunds: dict[str, Json] = {}
        self.disputes: dict[str, Json] = {}
        self.answers: dict[str, tuple[str, int, Json]] = {}
        """Idempotency key to the request, and the status and body of the first answer."""
        self.search_knows = False
        """Search lags behind: by default it has seen nothing yet."""
        self.requests: list[str] = []
        self.endpoints: dict[str, Callable[[Json, str], Json]] = {}
        """By name, instead of the method of that name."""
        self.account_id = "acct_stand_in"
        self.charges_enabled = True
        self.restricted = False
        """Whether the key may not read the account."""
        self.refusals: list[ApiError] = []
        """What creating payments is answered while there is any, the last one for ever."""
        self._numbers = itertools.count(1)
        self._met: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def app(self) -> Starlette:
        """The ASGI application."""
        intents = "/v1/payment_intents"
        routes = [
            Route(intents, self._idempotent(self.create), methods=["POST"]),
            Route(intents, self._plain(self.list_intents)),
            Route(f"{intents}/search", self._plain(self.search)),
            Route(f"{intents}/{{id}}", self._plain(self.retrieve)),
            Route(f"{intents}/{{id}}/capture", self._idempotent(self.capture), methods=["POST"]),
            Route(f"{intents}/{{id}}/cancel", self._idempotent(self.cancel), methods=["POST"]),
            Route("/v1/refunds", self._idempotent(self.refund), methods=["POST"]),
            Route("/v1/refunds", self._plain(self.list_refunds)),
            Route("/v1/account", self._plain(self.account)),
            Route("/v1/disputes", self._plain(self.list_disputes)),
            Route("/v1/payment_methods/{id}", self._plain(self.payment_method)),
        ]
        return Starlette(routes=routes)

    def complete(self, payment_key: str) -> None:
        """What the customer's bank does in the end."""
        for intent in self.intents.values():
            if intent["metadata"].get("payment_key") == payment_key and intent["status"] == "requires_action":
                intent["next_action"] = None
                if self._behaviour(intent) == "3ds_fail":
                    error = {"code": "payment_intent_authentication_failure", "decline_code": None,
                             "payment_method": _method(intent["payment_method"])}  # fmt: skip
                    self._move(intent, "requires_payment_method", last_payment_error=error)
                else:
                    self._move(intent, "requires_capture", amount_capturable=intent["amount"])

    def refund_in_dashboard(self, payment_key: str, amount: int, status: str = "succeeded") -> Json:
        """Somebody refunds a payment in Stripe's dashboard: the refund carries nothing of ours."""
        intent = self._intent_of(payment_key)
        refund = self._new_refund(intent, amount, status, {})
        intent["charge"]["amount_refunded"] += amount
        self._tell("refund.created", refund, "ok")
        self._tell("charge.refunded", self._charge(intent), "ok")
        return refund

    def end_refund(self, refund: Json, status: str, reason: str | None = None) -> None:
        """A refund ends, at once or days later: as `succeeded`, `failed` or `canceled`."""
        refund.update(status=status, failure_reason=reason)
        if status != "succeeded":
            self.intents[refund["payment_intent"]]["charge"]["amount_refunded"] -= refund["amount"]
        self._tell("refund.failed" if status == "failed" else "refund.updated", refund, "ok")
        self._tell("charge.refund.updated", refund, "ok")

    def dispute(self, payment_key: str, amount: int) -> Json:
        """The customer disputes a payment at the bank."""
        intent = self._intent_of(payment_key)
        number = next(self._numbers)
        dispute = {
            "id": f"dp_{number}",
            "object": "dispute",
            "amount": amount,
            "currency": intent["currency"],
            "charge": intent["latest_charge"],
            "payment_intent": intent["id"],
            "status": "needs_response",
            "reason": "fraudulent",
            "metadata": {},
            "balance_transactions": [{"id": f"txn_{number}", "object": "balance_transaction", "amount": -amount}],
        }
        self.disputes[dispute["id"]] = dispute
        for kind in ("created", "funds_withdrawn"):
            self._tell(f"charge.dispute.{kind}", dispute, "ok")
        return dispute

    def end_dispute(self, dispute: Json, status: str) -> None:
        """It is `won`, and the money comes back, or `lost`."""
        dispute["status"] = status
        if status == "won":
            dispute["balance_transactions"].append(
                {"id": "txn", "object": "balance_transaction", "amount": dispute["amount"]}
            )
            self._tell("charge.dispute.funds_reinstated", dispute, "ok")
        self._tell("charge.dispute.closed", dispute, "ok")

    # Endpoints

    def account(self, params: Json, _: str) -> Json:
        if self.restricted:
            raise ApiError(403, "invalid_request_error", "permission_error")
        return {"id": self.account_id, "object": "account", "charges_enabled": self.charges_enabled}

    def create(self, params: Json, _: str) -> Json:
        if self.refusals:
            raise self.refusals.pop(0) if len(self.refusals) > 1 else self.refusals[0]
        behaviour = _behaviour(params["payment_method"])
        if behaviour == "error" and params["metadata[payment_key]"] not in self._met:
            self._met.add(params["metadata[payment_key]"])
            raise ApiError(500, "api_error", "server_error")
        if behaviour == "no_such":
            raise ApiError(400, "invalid_request_error", "resource_missing", param="payment_method")
        assert params["capture_method"] == "manual"
        assert params["confirm"] == "true"
        assert params["return_url"]
        intent = self._new_intent(params)
        if behaviour in DECLINES:
            code = behaviour if behaviour in OWN_CODES else "card_declined"
            reason = "generic_decline" if behaviour == "card_declined" else behaviour
            method = {"payment_method": _method(params["payment_method"])}
            error = {"code": code, "decline_code": reason, **method}
            self._move(intent, "requires_payment_method", last_payment_error=error)
            raise ApiError(402, "card_error", code, decline_code=reason, payment_intent=intent, **method)
        if behaviour in ("3ds", "3ds_fail"):
            url = f"{self.base_url}/3ds/{intent['id']}"
            action = {"type": "redirect_to_url", "redirect_to_url": {"url": url, "return_url": params["return_url"]}}
            return self._move(intent, "requires_action", next_action=action)
        amount = intent["amount"] + (behaviour == "wrong_amount")
        return self._move(intent, "requires_capture", amount_capturable=amount)

    def payment_method(self, params: Json, token: str) -> Json:
        if self.restricted:
            raise ApiError(403, "invalid_request_error", "permission_error")
        return _method(token)

    def retrieve(self, params: Json, intent_id: str) -> Json:
        if intent_id not in self.intents:
            raise ApiError(404, "invalid_request_error", "resource_missing", param="intent")
        return self._seen(self.intents[intent_id], params)

    def list_intents(self, params: Json, _: str) -> Json:
        low, high = int(params.get("created[gte]", 0)), int(params.get("created[lte]", 1 << 40))
        found = [intent for intent in reversed(self.intents.values()) if low <= intent["created"] <= high]
        return self._page(found, params, "/v1/payment_intents")

    def search(self, params: Json, _: str) -> Json:
        match = re.fullmatch(r'metadata\["payment_key"\]:"(.*)"', params["query"])
        assert match
        found = [i for i in self.intents.values() if i["metadata"].get("payment_key") == match[1]]
        data = [self._seen(intent, params) for intent in found if self.search_knows]
        return {"object": "search_result", "data": data, "has_more": False, "url": "/v1/payment_intents/search"}

    def capture(self, params: Json, intent_id: str) -> Json:
        intent = self.retrieve({}, intent_id)
        amount = int(params["amount_to_capture"])
        if intent["status"] != "requires_capture":
            raise ApiError(400, "invalid_request_error", "payment_intent_unexpected_state", payment_intent=intent)
        if amount > intent["amount"]:
            raise ApiError(400, "invalid_request_error", "amount_too_large")
        if self._behaviour(intent) == "capture_refused":
            self._move(intent, "canceled", amount_capturable=0)
            raise ApiError(400, "invalid_request_error", "charge_expired_for_capture")
        if self._behaviour(intent) == "capture_error" and intent_id not in self._met:
            self._met.add(intent_id)
            raise ApiError(500, "api_error", "server_error")
        self._move(intent, "succeeded", amount_capturable=0, amount_received=amount)
        payment_key = intent["metadata"].get("payment_key", "")
        if self._behaviour(intent) == "dashboard_refund":
            self._soon(lambda: self.refund_in_dashboard(payment_key, amount // 2))
        if self._behaviour(intent) == "disputed":
            self._soon(lambda: self.dispute(payment_key, amount))
        return intent

    def cancel(self, params: Json, intent_id: str) -> Json:
        intent = self.retrieve({}, intent_id)
        if intent["status"] in ("succeeded", "canceled"):
            raise ApiError(400, "invalid_request_error", "payment_intent_unexpected_state", payment_intent=intent)
        return self._move(intent, "canceled", amount_capturable=0)

    def refund(self, params: Json, _: str) -> Json:
        intent = self.retrieve({}, params["payment_intent"])
        amount = int(params["amount"])
        if intent["status"] != "succeeded":
            raise ApiError(400, "invalid_request_error", "payment_intent_unexpected_state")
        if amount < 1:
            raise ApiError(400, "invalid_request_error", "parameter_invalid_integer", param="amount")
        if amount > intent["amount_received"] - intent["charge"]["amount_refunded"]:
            raise ApiError(400, "invalid_request_error", "charge_already_refunded")
        behaviour = self._behaviour(intent)
        key = params["metadata[refund_key]"]
        if behaviour == "refund_error" and key not in self._met:
            self._met.add(key)
            raise ApiError(500, "api_error", "server_error")
        failed = behaviour == "refund_refused" or (behaviour == "refund_refused_once" and "-" not in key)
        pending = behaviour in ("refund_pending", "refund_pending_fails")
        status = "failed" if failed else "pending" if pending else "succeeded"
        refund = self._new_refund(intent, amount, status, _metadata(params))
        if not failed:
            intent["charge"]["amount_refunded"] += amount
        self._tell("refund.failed" if failed else "refund.created", refund, behaviour)
        if behaviour == "refund_pending":
            self._soon(lambda: self.end_refund(refund, "succeeded"))
        if behaviour in ("refund_pending_fails", "refund_fails_late"):
            self._soon(lambda: self.end_refund(refund, "failed", "lost_or_stolen_card"))
        return refund

    def list_refunds(self, params: Json, _: str) -> Json:
        return self._page(self._about(self.refunds, params), params, "/v1/refunds")

    def list_disputes(self, params: Json, _: str) -> Json:
        return self._page(self._about(self.disputes, params), params, "/v1/disputes")

    @staticmethod
    def _about(things: dict[str, Json], params: Json) -> list[Json]:
        """Newest first, as all of Stripe's lists; of one payment, or of all."""
        intent = params.get("payment_intent")
        return [thing for thing in reversed(things.values()) if intent in (None, thing["payment_intent"])]

    # How Stripe answers

    def _plain(self, endpoint: Callable[[Json, str], Json]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            self.requests.append(f"{request.method} {request.url.path}")
            if request.headers["authorization"] != f"Bearer {self.api_key}":
                return JSONResponse(_wrong_key(), 401)
            try:
                return JSONResponse(endpoint(dict(request.query_params), request.path_params.get("id", "")))
            except ApiError as error:
                return JSONResponse(error.body, error.status)

        return answer

    def _idempotent(self, endpoint: Callable[[Json, str], Json]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            if request.headers["authorization"] != f"Bearer {self.api_key}":
                return JSONResponse(_wrong_key(), 401)
            body = (await request.body()).decode()
            said = f"{request.url.path} {body}"
            key = request.headers["idempotency-key"]
            if key in self.answers:
                first, status, answered = self.answers[key]
                if first != said:
                    return JSONResponse({"error": {"type": "idempotency_error", "message": "Another request."}}, 400)
                return JSONResponse(answered, status, {"Idempotent-Replayed": "true"})
            params = dict(parse_qsl(body))
            status = 200
            try:
                chosen = self.endpoints.get(endpoint.__name__, endpoint)
                answered = chosen(params, request.path_params.get("id", ""))
            except ApiError as error:
                status, answered = error.status, error.body
            # A deep copy: the answer is repeated as it was, whatever becomes of the payment.
            answered = json.loads(json.dumps(answered))
            # Stripe keeps no answer of a request that it refused before it began.
            if status != 503 and not (self.refusals and request.url.path[3:] == "/payment_intents"):
                self.answers[key] = said, status, answered
            await self._linger(request.url.path, params, request.path_params.get("id", ""))
            return JSONResponse(answered, status)

        return answer

    async def _linger(self, path: str, params: Json, intent_id: str) -> None:
        behaviour = _behaviour(params.get("payment_method", ""))
        if behaviour == "late":
            await asyncio.sleep(self.slow_s)
        losing = path.endswith("/capture") and self._behaviour(self.intents[intent_id]) == "capture_timeout"
        if behaviour == "timeout" or losing:
            await asyncio.sleep(self.hang_s)

    def _new_intent(self, params: Json) -> Json:
        number = next(self._numbers)
        intent: Json = {
            "id": f"pi_{number}",
            "object": "payment_intent",
            "amount": int(params["amount"]),
            "amount_capturable": 0,
            "amount_received": 0,
            "currency": params["currency"],
            "created": int(time.time()),
            "metadata": _metadata(params),
            "payment_method": params["payment_method"],
            "status": "requires_confirmation",
            "next_action": None,
            "last_payment_error": None,
            "latest_charge": f"ch_{number}",
            "charge": {"id": f"ch_{number}", "object": "charge", "amount_refunded": 0},
        }
        self.intents[intent["id"]] = intent
        return intent

    def _new_refund(self, intent: Json, amount: int, status: str, metadata: Json) -> Json:
        refund = {
            "id": f"re_{next(self._numbers)}",
            "object": "refund",
            "amount": amount,
            "currency": intent["currency"],
            "status": status,
            "failure_reason": "expired_or_canceled_card" if status == "failed" else None,
            "pending_reason": "processing" if status == "pending" else None,
            "payment_intent": intent["id"],
            "metadata": metadata,
        }
        self.refunds[refund["id"]] = refund
        return refund

    def _intent_of(self, payment_key: str) -> Json:
        return next(each for each in self.intents.values() if each["metadata"].get("payment_key") == payment_key)

    def _charge(self, intent: Json) -> Json:
        """A charge has its PaymentIntent's metadata as they were when it was made."""
        return intent["charge"] | {"payment_intent": intent["id"], "metadata": intent["metadata"]}

    def _soon(self, change: Callable[[], object]) -> None:
        async def later() -> None:
            await asyncio.sleep(self.slow_s)
            change()

        task = asyncio.create_task(later())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _behaviour(self, intent: Json) -> str:
        return _behaviour(str(intent["payment_method"]))

    def _seen(self, intent: Json, params: Json) -> Json:
        expanded = any(name.startswith("expand") and "latest_charge" in value for name, value in params.items())
        return intent | {"latest_charge": intent["charge"]} if expanded else intent

    def _page(self, found: list[Json], params: Json, url: str) -> Json:
        after, limit = params.get("starting_after"), int(params.get("limit", 10))
        start = 1 + [each["id"] for each in found].index(after) if after else 0
        data = [self._seen(each, params) if "charge" in each else each for each in found[start : start + limit]]
        return {"object": "list", "data": data, "has_more": start + limit < len(found), "url": url}

    # Webhooks

    def _move(self, intent: Json, status: str, **changes: Any) -> Json:
        intent.update(changes, status=status)
        kinds = {
            "requires_capture": "amount_capturable_updated",
            "requires_payment_method": "payment_failed",
            "requires_action": "requires_action",
            "succeeded": "succeeded",
            "canceled": "canceled",
        }
        self._tell(f"payment_intent.{kinds[status]}", intent, self._behaviour(intent))
        return intent

    def _tell(self, kind: str, about: Json, behaviour: str) -> None:
        event = {"id": f"evt_{next(self._numbers)}", "object": "event", "type": kind, "data": {"object": about}}
        body = json.dumps(event)
        last = behaviour == "reordered" and kind.endswith("amount_capturable_updated")
        self._start(body, 3 * self.slow_s if last else 0)
        if behaviour == "twice":
            self._start(body, self.slow_s)

    def _start(self, body: str, delay_s: float) -> None:
        async def deliver() -> None:
            await asyncio.sleep(delay_s)
            header = WebhookSignature.generate_signature_header(body, self.secret)
            async with httpx2.AsyncClient() as client:
                await client.post(self.webhook_url, content=body, headers={"stripe-signature": header})

        task = asyncio.create_task(deliver())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop sending webhooks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _behaviour(token: str) -> str:
    return token.removeprefix("pm_").partition("__")[0]


def _method(token: str) -> Json:
    """A payment method; one without a card is of another kind."""
    card = token.partition("__")[2]
    return {"id": token, "object": "payment_method", "card": {"fingerprint": f"fp_{card}"} if card else None}


def _wrong_key() -> Json:
    """Stripe names no code for it."""
    return {"error": {"type": "invalid_request_error", "message": "Invalid API Key provided: sk_test_******"}}


def _metadata(params: Json) -> Json:
    return {name[9:-1]: value for name, value in params.items() if name.startswith("metadata[")}
