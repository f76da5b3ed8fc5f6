"""What a gateway tells us by itself."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from boxoffice.errors import BadRequest

__all__ = ["EventKind", "GatewayEvent", "WebhookMalformed", "WebhookRefused"]

EventKind: TypeAlias = Literal[
    "authorized", "requires_action", "captured", "declined", "voided", "refunded", "refund_failed", "disputed", "other"
]


class GatewayEvent(Struct, frozen=True):
    """What a webhook says happened. It may come twice, late or out of order: look up before acting on it."""

    id: str
    kind: EventKind
    payment_key: str | None
    reference: str | None


class WebhookRefused(BadRequest):
    """The webhook is not signed by the gateway, or its signature is too old."""


class WebhookMalformed(WebhookRefused):
    """The webhook cannot be read."""
