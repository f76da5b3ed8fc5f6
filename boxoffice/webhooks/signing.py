"""Signatures by the Standard Webhooks specification: who knows an endpoint's secret sees that a notice is ours, and not old."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from standardwebhooks import Webhook

__all__ = ["ACTIVE_MAX", "new_secret", "signed"]

ACTIVE_MAX: Final = 2
"""Secrets of an endpoint that sign at a time: the latest, and for a while the one before it."""

_BYTES: Final = 32


def new_secret() -> str:
    """`whsec_` and 256 random bits as base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def signed(active: Sequence[str], notice_id: str, at: datetime, body: str) -> list[tuple[bytes, bytes]]:
    """The headers of one delivery, signed at this moment (UTC) by each of these secrets."""
    signatures = [Webhook(secret).sign(notice_id, at, body) for secret in active[:ACTIVE_MAX]]
    return [
        (b"webhook-id", notice_id.encode()),
        (b"webhook-timestamp", b"%d" % int(at.timestamp())),
        (b"webhook-signature", " ".join(signatures).encode()),
    ]
