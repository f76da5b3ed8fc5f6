"""The simulated bank's 3-D Secure page, wherever it is served: by `boxoffice gateway`, or by the API of a laptop."""

from __future__ import annotations

import html
from typing import Final

from boxoffice.currencies import shown

from .base import Found

__all__ = ["UNKNOWN", "render"]

UNKNOWN: Final = "<p>There is no such payment.</p>"


def render(payment: Found) -> str:
    """HTML that says how the payment stands, with a button while the customer has to act."""
    amount = html.escape(shown(payment.amount_cents, payment.currency))
    button = "<button>Yes, that is me</button>" if payment.status == "requires_action" else ""
    return (
        "<!doctype html><title>3-D Secure</title><h1>Your simulated bank</h1>"
        f"<p>A payment of {amount}: {payment.status}.</p><form method=post>{button}</form>"
    )
