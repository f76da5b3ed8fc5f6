"""Opens the gateway that the settings name."""

from __future__ import annotations

from collections.abc import Callable

from boxoffice.errors import CannotRun
from boxoffice.gateway.base import PaymentGateway
from boxoffice.gateway.simulator.kept_files import gateway_token, webhook_secrets
from boxoffice.gateway.simulator.ledger import Ledger
from boxoffice.gateway.simulator.simulator import Simulator
from boxoffice.gateway.stripe import currencies
from boxoffice.settings import Settings

__all__ = ["open_gateway", "open_simulator", "why_not_chargeable"]


def open_gateway(settings: Settings) -> PaymentGateway:
    """The configured gateway; the caller closes it. Asks nobody yet.

    Raises `CannotRun` for a gateway that cannot authorise and capture apart: money would move before a booking is.
    """
    gateway = _open(settings)
    if not gateway.captures_apart:
        raise CannotRun(f"The gateway {gateway.name} cannot authorise and capture apart.")
    return gateway


def open_simulator(
    settings: Settings, *, actions: str | None = None, changed: Callable[[list[str]], None] | None = None
) -> Simulator:
    """The simulated gateway on the data directory's ledger, which a `boxoffice gateway` may share.

    `actions` is where customers go for 3-D Secure, by default under `gateway.url`, or at the API of this machine,
    which serves the page of a simulator inside it.
    """
    gateway = settings.gateway
    return Simulator(
        Ledger(settings.data_dir / "gateway.ledger"),
        actions=f"{(gateway.url or f'http://127.0.0.1:{settings.port}').rstrip('/')}/actions"
        if actions is None
        else actions,
        slow_s=gateway.cutoff_s * 1.5,
        hang_s=gateway.timeout_s,
        patience_s=gateway.timeout_s,
        webhook_secrets=webhook_secrets(settings),
        webhook_age_s=gateway.webhook_age_s,
        changed=changed,
    )


def why_not_chargeable(settings: Settings, amount_cents: int, currency: str) -> str:
    """Why the configured gateway cannot charge this amount, as far as it is known beforehand; empty when it can."""
    return currencies.why_not(amount_cents, currency) if settings.gateway.kind == "stripe" else ""


def _open(settings: Settings) -> PaymentGateway:
    """Imports what it opens, and no more: Stripe's package takes a quarter of a second."""
    match settings.gateway.kind:
        case "simulator":
            return open_simulator(settings)
        case "http":
            from boxoffice.gateway.simulator.remote import HttpGateway

            return HttpGateway(settings.gateway, gateway_token(settings), webhook_secrets(settings))
        case "stripe":
            from boxoffice.gateway.stripe.stripe import StripeGateway

            if not settings.gateway.api_key:
                raise CannotRun("gateway.kind=stripe needs BOXOFFICE_GATEWAY__API_KEY.")
            return StripeGateway(settings.gateway, settings.gateway.return_url)
