"""Worlds for the gateways' contract: a gateway, its customers and its webhooks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from boxoffice import ids
from boxoffice.gateway.base import AuthorizeRequest, PaymentGateway
from boxoffice.gateway.factory import open_gateway, open_simulator
from boxoffice.gateway.simulator.kept_files import gateway_token
from boxoffice.settings import Settings
from ops.bank.server import create_app
from tests.conftest import SHARD
from tests.support.asgi import served
from tests.support.stripe_stand_in import StripeStandIn


async def _nowhere(payment_key: str, amount_cents: int) -> None:
    raise AssertionError("this world has no dashboard")


@dataclass
class World:
    """What a contract test may do."""

    gateway: PaymentGateway
    token: Callable[[str], str]
    """The token that makes a behaviour happen."""
    complete: Callable[[str], Awaitable[object]]
    """Go through 3-D Secure for a payment key, as a customer would."""
    refund_there: Callable[[str, int], Awaitable[object]] = _nowhere
    """Refund so much of a payment at the gateway itself, as in its dashboard."""
    webhooks: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    """Headers and raw bodies, as they arrived."""
    stand_in: StripeStandIn | None = None
    """Stripe's, to look behind the curtain."""

    @property
    def hides_refunds(self) -> bool:
        """Whether a refund may have been made behind a server error, and be listed only later."""
        return self.stand_in is not None

    def forget(self) -> None:
        """A day later: what the gateway answered under idempotency keys it has forgotten."""
        if self.stand_in is not None:
            self.stand_in.answers.clear()

    def request(self, behaviour: str, amount_cents: int = 5_000, *, payment_key: str | None = None) -> AuthorizeRequest:
        """A payment that meets this behaviour."""
        return AuthorizeRequest(
            payment_key=payment_key or ids.digest(ids.short_id()),
            booking_id=ids.booking_id(SHARD, self.now_ms()),
            amount_cents=amount_cents,
            currency="USD",
            method="card",
            token=self.token(behaviour),
        )

    def now_ms(self) -> int:
        """This machine's clock."""
        return time.time_ns() // 1_000_000


def simulated_token(behaviour: str) -> str:
    """Of the simulator, in or out of the process."""
    return f"tok_{behaviour}_4242"


@asynccontextmanager
async def simulator_world(settings: Settings) -> AsyncIterator[World]:
    """The simulator inside this process."""
    simulator = open_simulator(settings)
    yield World(simulator, simulated_token, simulator.complete_action, simulator.refund_at_gateway)
    await simulator.close()


@asynccontextmanager
async def webhook_sink(world_webhooks: list[tuple[dict[str, str], bytes]]) -> AsyncIterator[str]:
    """An address that writes down every webhook."""

    async def receive(request: Request) -> Response:
        world_webhooks.append((dict(request.headers), await request.body()))
        return Response(status_code=204)

    async with served(lambda _: Starlette(routes=[Route("/", receive, methods=["POST"])])) as url:
        yield url


def bearer(settings: Settings) -> dict[str, str]:
    """What a `boxoffice gateway` on this data directory wants to be shown."""
    return {"Authorization": f"Bearer {gateway_token(settings)}"}


@asynccontextmanager
async def http_world(settings: Settings) -> AsyncIterator[World]:
    """The simulator behind a port."""
    webhooks: list[tuple[dict[str, str], bytes]] = []
    async with (
        webhook_sink(webhooks) as sink,
        served(lambda base: create_app(settings, base, sink)) as url,
        httpx2.AsyncClient(base_url=url) as customer,
    ):
        gateway = open_gateway(with_gateway(settings, kind="http", url=url))

        async def complete(payment_key: str) -> None:
            page = await customer.get(f"/actions/{payment_key}")
            assert page.status_code == 200
            await customer.post(f"/actions/{payment_key}")

        async def refund_there(payment_key: str, amount_cents: int) -> None:
            path = f"/v1/payments/{payment_key}/dashboard"
            await customer.post(path, json={"amount_cents": amount_cents}, headers=bearer(settings))

        yield World(gateway, simulated_token, complete, refund_there, webhooks)
        await gateway.close()


def with_gateway(settings: Settings, **changes: object) -> Settings:
    """The settings, with another gateway."""
    return settings.model_copy(update={"gateway": settings.gateway.model_copy(update=changes)})


@asynccontextmanager
async def stripe_world(settings: Settings) -> AsyncIterator[World]:
    """Stripe's adapter before a stand-in for Stripe."""
    webhooks: list[tuple[dict[str, str], bytes]] = []
    limits = settings.gateway
    stand_in = StripeStandIn("", "", limits.webhook_secret, slow_s=limits.cutoff_s * 1.5, hang_s=limits.timeout_s * 2)

    def create(url: str) -> Starlette:
        stand_in.base_url = url
        return stand_in.app()

    async with webhook_sink(webhooks) as stand_in.webhook_url, served(create) as url:
        gateway = open_gateway(with_gateway(settings, kind="stripe", url=url, api_key=stand_in.api_key))

        async def complete(payment_key: str) -> None:
            stand_in.complete(payment_key)

        async def refund_there(payment_key: str, amount_cents: int) -> None:
            stand_in.refund_in_dashboard(payment_key, amount_cents)

        yield World(gateway, lambda behaviour: f"pm_{behaviour}", complete, refund_there, webhooks, stand_in)
        await gateway.close()
        await stand_in.close()
