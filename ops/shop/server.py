"""The shop's back end: what an integrator's own would do. README.md beside this tells why, step by step.

The page reads events and what is left of them from the API itself, with a key that everybody may see. What belongs to a
customer goes through here: this process knows whose session it is, holds the secret key, and lets the page name neither.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ops.shop.asking import Api
from ops.shop.guard import Guard, customer_of, with_session
from ops.shop.problems import problem
from ops.shop.terms import Terms

__all__ = ["create_app", "serve"]

PAGE: Final = Path(__file__).with_name("page")

BODY_MAX: Final = 8_192
"""Bytes of a request: a basket and an access code are some hundred."""

_ORDER: Final = re.compile(r"[a-z0-9]{8,32}")
"""A number that the page gives an order. It comes back from the bank in the address, so it is no secret."""

_KEY: Final = re.compile(r"[\x20-\x7e]{8,255}")

_BOOKING: Final = ("items", "access_code", "hold_s", "expected_amount_cents")
"""What the page may say of a booking. Who books, and where the bank sends them back to, is for this process to say."""

_PAYMENT: Final = ("token", "card_name", "expected_amount_cents")


def serve(terms: Terms, host: str, port: int) -> None:
    """Run until SIGINT or SIGTERM. Requests that wait for a booking's end are cut off after a second: they are sent again."""
    app = create_app(terms)
    uvicorn.run(app, host=host, port=port, http="h11", ws="none", access_log=False, server_header=False,
                log_level="warning", timeout_graceful_shutdown=1)  # fmt: skip


def create_app(terms: Terms, client: httpx2.AsyncClient | None = None) -> Starlette:
    """The application. `client` asks the API; by default a new one for `terms.api_url`."""
    shop = _Shop(terms, client)
    return Starlette(
        routes=[
            Route("/", shop.page),
            Route("/healthz", _healthz),
            Route("/shop/config", shop.config),
            Route("/shop/bookings", shop.bookings),
            Route("/shop/bookings", shop.book, methods=["POST"]),
            Route("/shop/bookings/{booking}", shop.read),
            Route("/shop/bookings/{booking}/payment", shop.pay, methods=["POST"]),
            Route("/shop/bookings/{booking}/extend", shop.extend, methods=["POST"]),
            Route("/shop/bookings/{booking}/cancel", shop.cancel, methods=["POST"]),
            Route("/shop/bookings/{booking}/refunds", shop.refund, methods=["POST"]),
            Mount("/assets", StaticFiles(directory=PAGE)),
        ],
        middleware=[Middleware(Guard, terms=terms)],
        exception_handlers={HTTPException: _unserved, _Refused: _refused, ClientDisconnect: _gone},
        lifespan=shop.lifespan,
    )


class _Refused(Exception):
    """A request that does not get as far as the API."""

    def __init__(self, answer: Response) -> None:
        self.answer = answer


class _Shop:
    def __init__(self, terms: Terms, client: httpx2.AsyncClient | None) -> None:
        self._terms = terms
        self._api = Api(terms, client)

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        yield
        await self._api.aclose()

    async def page(self, request: Request) -> Response:
        """The page, and with it a session."""
        return with_session(request, FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"}))

    async def config(self, request: Request) -> Response:
        """Where the page finds the API, and with which key it may read there. The secret key is nowhere in it."""
        return with_session(request, JSONResponse({"api": self._terms.api_url, "key": self._terms.browse_key}))

    async def bookings(self, request: Request) -> Response:
        """The customer's own, newest first. A hold that nobody has tried to pay is not among them: its page knows its id."""
        return await self._api.ask("GET", "/v1/bookings", params={"customer_id": _customer(request), "limit": "50"})

    async def book(self, request: Request) -> Response:
        """Hold tickets, or book what is free. The customer is who has the session, whatever the page says."""
        customer, wishes = _customer(request), await _body(request)
        order = wishes.get("order")
        if not isinstance(order, str) or not _ORDER.fullmatch(order):
            raise _Refused(
                problem(400, "malformed-request", "An order has a number of 8 to 32 small letters and digits.")
            )
        wanted = {name: wishes[name] for name in _BOOKING if wishes.get(name) is not None}
        body = {"customer_id": customer, "reference": order, "return_url": self._return_url(request, order), **wanted}
        answer = await self._api.ask("POST", "/v1/bookings", body=body, headers=_passed_in(request))
        self._api.remember(answer)
        return answer

    async def read(self, request: Request) -> Response:
        """One of the customer's bookings; with `Prefer: wait=10` once it is final."""
        return await self._of_booking(request, "GET", "")

    async def pay(self, request: Request) -> Response:
        """With a token, as a payment provider's own form would give the page. No card number comes through here."""
        wishes = await _body(request)
        body: dict[str, Any] = {name: wishes[name] for name in _PAYMENT if wishes.get(name) is not None}
        return await self._of_booking(
            request, "POST", "/payment", {"method": "card", **body} if body.get("token") else {}
        )

    async def extend(self, request: Request) -> Response:
        """Hold them for longer, once."""
        return await self._of_booking(request, "POST", "/extend", await _body(request))

    async def cancel(self, request: Request) -> Response:
        """Let go of a hold, or give tickets back on the event's terms."""
        return await self._of_booking(request, "POST", "/cancel")

    async def refund(self, request: Request) -> Response:
        """Give some tickets back, at their full price: the API leaves it to the shop, and asks for none of the event's terms.
        So a shop has rules of its own: until when, how many, for whom. This one has only that they are named one by one."""
        items = (await _body(request)).get("items")
        if not isinstance(items, list):
            raise _Refused(problem(400, "malformed-request", "Name the tickets. All of them are cancelled instead."))
        return await self._of_booking(request, "POST", "/refunds", {"items": items, "reason": "asked for in the shop"})

    async def _of_booking(
        self, request: Request, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Response:  # fmt: skip
        """Nothing is shown or done before it is known whose the booking is."""
        booking = request.path_params["booking"]
        if refusal := await self._api.owned(booking, _customer(request)):
            return refusal
        return await self._api.ask(method, f"/v1/bookings/{booking}{path}", body=body, headers=_passed_in(request))

    def _return_url(self, request: Request, order: str) -> str:
        """At the origin from which the order came, where its cookie and its storage are: the guard has looked at it."""
        origin = request.headers.get("origin")
        return f"{origin if origin in self._terms.origins else self._terms.origins[0]}/?order={order}"


def _customer(request: Request) -> str:
    """Raises `_Refused` without a session."""
    if customer := customer_of(request):
        return customer
    raise _Refused(problem(401, "no-session", "There is no session: load the page again. Cookies are needed."))


def _passed_in(request: Request) -> dict[str, str]:
    """Headers of the page that the API is to have: the idempotency key that the page has kept, and how long it will wait."""
    headers = {}
    if (key := request.headers.get("idempotency-key")) is not None:
        if not _KEY.fullmatch(key):
            raise _Refused(problem(400, "malformed-request", "An idempotency key has 8 to 255 printable characters."))
        headers["Idempotency-Key"] = key
    if re.fullmatch(r"wait=([0-9]|10)", request.headers.get("prefer", "")):
        headers["Prefer"] = request.headers["prefer"]
    return headers


async def _body(request: Request) -> dict[str, Any]:
    """A JSON object. Raises `_Refused`."""
    text = b""
    async for chunk in request.stream():
        text += chunk
        if len(text) > BODY_MAX:
            raise _Refused(problem(413, "too-large", f"A request has up to {BODY_MAX} bytes."))
    try:
        wishes = json.loads(text or b"{}")
        json.dumps(
            wishes, ensure_ascii=False, allow_nan=False
        ).encode()  # JSON has no NaN, and UTF-8 no half characters
    except (ValueError, RecursionError):
        wishes = None
    if not isinstance(wishes, dict):
        raise _Refused(problem(400, "malformed-request", "A body is a JSON object."))
    return wishes


async def _healthz(_request: Request) -> Response:
    return Response("ok\n", media_type="text/plain")


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, _Refused)
    return error.answer


async def _unserved(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = problem(
        error.status_code, "not-found" if error.status_code == 404 else "not-served", "Nothing is served here."
    )
    answer.headers.update(error.headers or {})
    return answer


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)
