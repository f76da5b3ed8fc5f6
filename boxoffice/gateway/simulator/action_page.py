"""The simulated bank's 3-D Secure page, wherever it is served: by `boxoffice gateway`, or by the API of a laptop."""

from __future__ import annotations

import html
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from boxoffice.currencies import shown
from boxoffice.gateway.base import Found

__all__ = ["UNKNOWN", "render", "way_back"]

UNKNOWN: Final = "<p>There is no such payment.</p>"


def render(payment: Found, return_url: str) -> str:
    """HTML that says how the payment stands, with a button while the customer has to act, and then the way back."""
    amount = html.escape(shown(payment.amount_cents, payment.currency))
    if payment.status == "requires_action":
        rest = "<form method=post><button>Yes, that is me</button></form>"
    else:
        rest = f'<p><a href="{html.escape(way_back(payment, return_url))}">Back to the shop</a></p>'
    return (
        "<!doctype html><title>3-D Secure</title><h1>Your simulated bank</h1>"
        f"<p>A payment of {amount}: {payment.status}.</p>{rest}"
    )


def way_back(payment: Found, return_url: str) -> str:
    """`gateway.return_url` with how it went as Stripe tells it: `redirect_status` is `succeeded` or `failed`."""
    went = "succeeded" if payment.status in ("authorized", "captured") else "failed"
    parts = urlsplit(return_url)
    query = f"{parts.query}&redirect_status={went}" if parts.query else f"redirect_status={went}"
    return urlunsplit(parts._replace(query=query))
