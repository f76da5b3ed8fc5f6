"""The simulator's signed webhooks, after Standard Webhooks 1.0 (standardwebhooks.com).

Headers `webhook-id`, `webhook-timestamp` (epoch seconds) and `webhook-signature`, which is `v1,` and the base64 of
HMAC-SHA256 over `<id>.<timestamp>.<raw body>`; several, separated by spaces, while a secret is being changed. One
liberty: the key is the secret as it is written, not what its base64 would decode to.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Final, get_args

import msgspec

from boxoffice.gateway import messages
from boxoffice.gateway.simulator.givings import took_back
from boxoffice.gateway.simulator.scenario import read, reference_of
from boxoffice.gateway.webhooks import EventKind, GatewayEvent, WebhookRefused
from boxoffice.ids import digest

__all__ = ["event_body", "event_of", "sign", "verify"]

_SECONDS: Final = re.compile(r"[0-9]{1,12}")

_KIND: Final[dict[str, EventKind]] = {
    "R": "requires_action",
    "A": "authorized",
    "C": "captured",
    "D": "declined",
    "V": "voided",
}


class _Data(msgspec.Struct):
    payment_key: str
    reference: str


class _Body(msgspec.Struct):
    id: str
    type: str
    data: _Data


_encode = msgspec.json.Encoder().encode


def event_of(payment_key: str, word: str) -> GatewayEvent | None:
    """The event of a payment's change to a state, with one id whoever makes it; None for what nobody hears of."""
    if word[0] == "T":
        return None
    kind = _KIND[word[0]]
    state = read(word)
    if state.refunds:
        went_back = took_back(state) if word[0] == "C" else None
        # The capture of one whose first capture met an error is news as any other.
        if went_back is None and not (word[0] == "C" and state.refunds == "capture"):
            return None
        kind = went_back or kind
    return GatewayEvent("evt_" + digest(payment_key, word), kind, payment_key, reference_of(payment_key))


def event_body(event: GatewayEvent) -> bytes:
    """The JSON of a webhook: thin, because by the time it arrives only a look-up tells the truth."""
    return _encode(_Body(event.id, f"payment.{event.kind}", _Data(event.payment_key or "", event.reference or "")))


def sign(secret: str, event_id: str, body: bytes, now_s: float) -> dict[str, str]:
    """The headers that make a webhook believable."""
    timestamp = str(int(now_s))
    return {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature_of(secret, event_id, timestamp, body),
    }


def verify(secrets: Sequence[str], age_s: int, headers: Mapping[str, str], body: bytes, now_s: float) -> GatewayEvent:
    """The event that a webhook carries.

    Raises `WebhookRefused` unless it was signed with one of the secrets, not more than `age_s` ago or ahead, and
    `WebhookMalformed` when nobody can read it.
    """
    event_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    wanted = [signature_of(secret, event_id, timestamp, body).encode() for secret in secrets]
    signatures = headers.get("webhook-signature", "").encode("utf-8", "replace").split(b" ")
    if not any([hmac.compare_digest(ours, signature) for ours in wanted for signature in signatures]):
        raise WebhookRefused("The webhook's signature does not fit.")
    if not _SECONDS.fullmatch(timestamp) or abs(now_s - int(timestamp)) > age_s:
        raise WebhookRefused("The webhook's signature is too old, or ahead of our clock.")
    message = messages.read_event(body)
    kind, data = message["type"].removeprefix("payment."), message.get("data")
    known: EventKind = next((each for each in get_args(EventKind) if each == kind), "other")
    data = data if isinstance(data, dict) else {}
    payment_key = messages.known_key(data.get("payment_key"))
    return GatewayEvent(messages.event_id(event_id), known, payment_key, messages.reference_of(data.get("reference")))


def signature_of(secret: str, event_id: str, timestamp: str, body: bytes) -> str:
    content = f"{event_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret.encode(), content, hashlib.sha256)).decode()
