"""Webhooks of boxoffice: whether it was boxoffice that sent one, by the Standard Webhooks specification.

Verify the bytes of the body as they came, before anything parses them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from boxoffice_client.errors import WebhookRefused

__all__ = ["TOLERANCE_S", "verify_webhook"]

TOLERANCE_S: Final = 300.0
"""Seconds that a webhook's time may be from ours: an old one that somebody recorded is refused."""


def verify_webhook(
    body: bytes | str,
    headers: Mapping[str, str],
    secrets: str | Sequence[str],
    *,
    tolerance_s: float = TOLERANCE_S,
    now_s: float | None = None,
) -> Any:
    """The notice in the webhook, which is signed with one of `secrets` (`whsec_…`; two while you rotate). Raises
    `WebhookRefused`.

    A webhook may come more than once: its id (the header `webhook-id`) stays the same. `now_s` is the Unix time.
    """
    by_name = {name.lower(): value for name, value in headers.items()}
    try:
        webhook_id, timestamp, signatures = (
            by_name[f"webhook-{name}"] for name in ("id", "timestamp", "signature")
        )  # fmt: skip
    except KeyError as missing:
        raise WebhookRefused(f"the header {missing.args[0]} is missing") from None
    _check_time(timestamp, time.time() if now_s is None else now_s, tolerance_s)
    content = body.encode() if isinstance(body, str) else body
    signed = b".".join((webhook_id.encode(), timestamp.encode(), content))
    keys = [_key(secret) for secret in ([secrets] if isinstance(secrets, str) else secrets)]
    expected = [hmac.new(key, signed, hashlib.sha256).digest() for key in keys]
    # All are compared, each in constant time.
    matches = [hmac.compare_digest(given, each) for given in _given(signatures) for each in expected]
    if not any(matches):
        raise WebhookRefused("none of its signatures is of these secrets")
    try:
        return json.loads(content)
    except ValueError:
        raise WebhookRefused("it is no JSON") from None


def _check_time(timestamp: str, now_s: float, tolerance_s: float) -> None:
    if not (timestamp.isascii() and timestamp.isdecimal()):
        raise WebhookRefused("its time is no number")
    if abs(now_s - int(timestamp)) > tolerance_s:
        raise WebhookRefused("its time is too far from now")


def _key(secret: str) -> bytes:
    """Raises `ValueError` for a secret of the shop's that is none."""
    return base64.b64decode(secret.removeprefix("whsec_"), validate=True)


def _given(signatures: str) -> list[bytes]:
    """Those of version 1; others may stand beside them."""
    found = []
    for each in signatures.split():
        version, _, text = each.partition(",")
        if version == "v1":
            try:
                found.append(base64.b64decode(text, validate=True))
            except binascii.Error:
                continue
    return found
