"""The simulated gateway as a process of its own (`boxoffice gateway`), for integrators and for the worst cases.

`http.py` is its client. Outcomes travel as JSON with a `type`; `Unknown` is what it looks like in real life: an answer
of 5xx, or none in time. It shares the ledger of its data directory with simulators inside other processes, so its 3-D
Secure pages also serve payments that were begun there.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias, TypeVar

import msgspec
import uvicorn
from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from boxoffice.errors import Malformed
from boxoffice.gateway.base import AuthorizeRequest, Found, NotFound, Unknown
from boxoffice.gateway.factory import open_simulator
from boxoffice.gateway.simulator import action_page, cards, scenario
from boxoffice.gateway.simulator.deliveries import Deliveries
from boxoffice.gateway.simulator.kept_files import gateway_token, webhook_secrets
from boxoffice.gateway.simulator.simulator import Simulator
from boxoffice.settings import Settings
from boxoffice.telemetry.seldom import seldom
from ops.bank.pages import Pages

__all__ = ["Amount", "RefundBody", "create_app", "serve"]

_WORDS: Final = re.compile(r"[A-Za-z0-9_.-]{1,128} [A-Z]{3}")

_RIPEN_S: Final = 0.25
"""How often what is to happen by itself is seen to: pending refunds that end, disputes. Webhooks tell of it."""

_encode = msgspec.json.Encoder().encode

_T = TypeVar("_T")
_Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class Amount(Struct):
    """How much to capture."""

    amount_cents: int


class RefundBody(Struct):
    """How much to give back."""

    refund_key: str
    amount_cents: int


def serve(settings: Settings, host: str, port: int, webhook_url: str = "") -> None:
    """Run until SIGINT or SIGTERM. Signed webhooks go to `webhook_url`, if any."""
    app = create_app(settings, f"http://{host}:{port}", webhook_url)
    # h11, because httptools loses bodies to an offered upgrade (MagicStack/httptools#124).
    log = settings.log_level
    uvicorn.run(app, host=host, port=port, http="h11", ws="none", access_log=False, server_header=False, log_level=log)


def create_app(settings: Settings, base_url: str, webhook_url: str = "") -> Starlette:
    """The application. `base_url` is where customers reach it."""
    return _Server(settings, base_url, webhook_url).app()


class _Server:
    def __init__(self, settings: Settings, base_url: str, webhook_url: str) -> None:
        self._settings = settings
        self._base_url = base_url
        self._webhook_url = webhook_url
        self._signs_with = next(iter(webhook_secrets(settings)), "")
        self._authorization = f"Bearer {gateway_token(settings)}".encode()
        self._pages = Pages(settings.gateway.return_url)
        self._simulator: Simulator
        self._deliveries: Deliveries

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/payments", self._with_token(self.authorize), methods=["POST"]),
                Route("/v1/payments/{key}", self._with_token(self.lookup)),
                Route("/v1/payments/{key}/capture", self._with_token(self.capture), methods=["POST"]),
                Route("/v1/payments/{key}/void", self._with_token(self.void), methods=["POST"]),
                Route("/v1/payments/{key}/refunds", self._with_token(self.refund), methods=["POST"]),
                Route("/v1/payments/{key}/reversals", self._with_token(self.reversals)),
                Route("/v1/payments/{key}/dashboard", self._with_token(self.dashboard), methods=["POST"]),
                Route("/v1/records", self._with_token(self.records)),
                Route("/v1/books", self._with_token(self.books)),
                Route("/v1/deliveries", self._with_token(self.deliveries)),
                Route("/actions/{key}", self.action),
                Route("/actions/{key}", self.act, methods=["POST"]),
                Route("/healthz", self.healthz),
            ],
            exception_handlers={
                msgspec.DecodeError: _malformed,
                ValueError: _malformed,
                Malformed: _malformed,
                ClientDisconnect: _gone,
            },
            lifespan=self._lifespan,
        )

    def _with_token(self, endpoint: _Endpoint) -> _Endpoint:
        """Money moves for whoever knows the token, also on loopback: any page in a browser there could ask."""

        async def answer(request: Request) -> Response:
            shown = request.headers.get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(shown, self._authorization):
                return Response("The gateway's token is needed.\n", 401, {"www-authenticate": "Bearer"}, "text/plain")
            return await endpoint(request)

        return answer

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        gateway = self._settings.gateway
        deliveries = self._deliveries = Deliveries(self._webhook_url, self._signs_with, 3 * gateway.cutoff_s)
        changed = deliveries.changed if self._webhook_url else None
        self._simulator = open_simulator(self._settings, actions=f"{self._base_url}/actions", changed=changed)
        ripening = asyncio.create_task(self._ripen())
        yield
        ripening.cancel()
        await asyncio.wait([ripening])
        await deliveries.close()
        await self._simulator.close()

    async def _ripen(self) -> None:
        while True:
            await asyncio.sleep(_RIPEN_S)
            try:
                await self._simulator.ripen()
            except OSError:
                continue
            except Exception as error:
                seldom.exception("ripening.failed", error)

    async def authorize(self, request: Request) -> Response:
        """POST an AuthorizeRequest."""
        body = await _body(request, AuthorizeRequest)
        cards.check_token(body.token)
        if not _WORDS.fullmatch(f"{body.booking_id} {body.currency}"):
            raise ValueError("would break a line of the ledger")
        if body.return_url is not None:
            self._pages.keep(body.payment_key, body.return_url)
        return _answer(await self._simulator.authorize(body))

    async def capture(self, request: Request) -> Response:
        """POST an Amount."""
        key, amount = request.path_params["key"], await _body(request, Amount)
        return _answer(await self._simulator.capture_once(key, amount.amount_cents, _number(request)))

    async def void(self, request: Request) -> Response:
        """POST nothing."""
        return _answer(await self._simulator.void(request.path_params["key"], None))

    async def refund(self, request: Request) -> Response:
        """POST a RefundBody."""
        body = await _body(request, RefundBody)
        key = request.path_params["key"]
        return _answer(await self._simulator.refund_once(body.refund_key, key, body.amount_cents, _number(request)))

    async def reversals(self, request: Request) -> Response:
        """What went back of one payment."""
        return _answer(await self._simulator.reversals(request.path_params["key"], ""))

    async def dashboard(self, request: Request) -> Response:
        """POST an Amount: refund it as a person at the gateway itself would, past whoever asked for the payment."""
        amount = await _body(request, Amount)
        return _answer(await self._simulator.refund_at_gateway(request.path_params["key"], amount.amount_cents))

    async def lookup(self, request: Request) -> Response:
        """One payment."""
        return _answer(await self._simulator.lookup(request.path_params["key"], None))

    async def records(self, request: Request) -> Response:
        """Every payment, one JSON a line."""

        async def lines() -> AsyncIterator[bytes]:
            async for record in self._simulator.records():
                yield _encode(record) + b"\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    async def books(self, request: Request) -> Response:
        """Which ledger it keeps."""
        return Response(_encode(self._simulator.books), media_type="application/json")

    async def deliveries(self, request: Request) -> Response:
        """How many webhooks were sent, and how it goes."""
        return Response(_encode(self._deliveries.tally), media_type="application/json")

    async def action(self, request: Request) -> Response:
        """Where a customer is sent for 3-D Secure."""
        payment = await self._simulator.lookup(request.path_params["key"], None)
        if not isinstance(payment, Found):
            return HTMLResponse(action_page.UNKNOWN, 404)
        return HTMLResponse(action_page.render(payment, self._shop(request)))

    async def act(self, request: Request) -> Response:
        """The customer has pressed the button, and goes back to the shop."""
        payment = await self._simulator.complete_action(request.path_params["key"])
        if not isinstance(payment, Found):
            return HTMLResponse(action_page.UNKNOWN, 404)
        shop = self._shop(request)
        back = {"Location": action_page.way_back(payment, shop)}
        return HTMLResponse(action_page.render(payment, shop), 303, headers=back)

    def _shop(self, request: Request) -> str:
        return self._pages.of(request.path_params["key"])

    async def healthz(self, request: Request) -> Response:
        """Alive."""
        return Response("ok\n", media_type="text/plain")


def _answer(outcome: Struct) -> Response:
    status = 200
    if isinstance(outcome, NotFound):
        status = 404
    if isinstance(outcome, Unknown):
        status = 504 if outcome.reason == "timeout" else 500
    headers = {"idempotent-replayed": "true"} if outcome == scenario.REPLAYED else None
    return Response(_encode(outcome), status, headers, "application/json")


def _number(request: Request) -> int:
    """How many idempotency keys the call had before this one: they end in it."""
    key = request.headers.get("idempotency-key", "")
    return int(key.rpartition(":")[2]) if re.fullmatch(r".*:[0-9]{1,3}", key) else 0


async def _body(request: Request, kind: type[_T]) -> _T:
    return msgspec.json.decode(await request.body(), type=kind)


async def _malformed(request: Request, error: Exception) -> Response:
    return Response("The request is malformed.\n", 400, media_type="text/plain")


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)
