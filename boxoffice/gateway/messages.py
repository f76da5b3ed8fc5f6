"""Reading what a gateway sent and signed: strict about being readable, indifferent to what it is about.

An event of a kind, a format or an object that we do not know is kept and changes nothing: gateways send more than was asked
for, and new kinds come without notice. Only what nobody can read is refused, in words of its own.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from boxoffice.gateway.webhooks import WebhookMalformed

__all__ = ["event_id", "known_key", "read_event", "reference_of"]

_ID: Final = re.compile(r"[\x21-\x7e]{1,255}")
_KEY: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
"""Payment keys that we ever make are digests: 32 hex digits."""


def read_event(body: bytes) -> dict[str, Any]:
    """The JSON object of a webhook; its `type` is a string. Raises `WebhookMalformed`."""
    try:
        event = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise WebhookMalformed("The webhook's body is not JSON in UTF-8.") from None
    except RecursionError:
        raise WebhookMalformed("The webhook's body is nested too deeply.") from None
    if not isinstance(event, dict):
        raise WebhookMalformed("The webhook's body is no JSON object.")
    if not isinstance(event.get("type"), str):
        raise WebhookMalformed("The webhook does not say its type.")
    return event


def event_id(value: object) -> str:
    """The id under which the message is kept. Raises `WebhookMalformed`."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise WebhookMalformed("The webhook's id is missing, or is not 1 to 255 visible ASCII characters.")
    return value


def known_key(value: object) -> str | None:
    """A payment key, when it can be one: None says that the event is about somebody else's payment."""
    return value if isinstance(value, str) and _KEY.fullmatch(value) else None


def reference_of(thing: object) -> str | None:
    """The id of an object that was named or expanded."""
    value = thing.get("id") if isinstance(thing, dict) else thing
    return value if isinstance(value, str) and _ID.fullmatch(value) else None
