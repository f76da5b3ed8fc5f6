"""Signatures, against the specification's library and against what a shop without one would do."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from boxoffice.webhooks.signing import new_secret, signed

BODY = '{"type":"booking.confirmed","data":{"name":"ü"}}'


def headers(secrets: list[str], at: datetime | None = None) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in signed(secrets, "n_1_a_0", at or datetime.now(UTC), BODY)}


def test_a_secret_has_256_random_bits() -> None:
    first, second = new_secret(), new_secret()
    assert first != second
    assert first.startswith("whsec_") and len(base64.b64decode(first[6:])) == 32


def test_a_signature_is_that_of_the_specification() -> None:
    """As one computes it by hand: HMAC-SHA256 of id, timestamp and body, joined by dots."""
    secret = new_secret()
    at = datetime(2030, 5, 22, 14, 0, 0, 999_000, UTC)
    found = headers([secret], at)
    assert found["webhook-id"] == "n_1_a_0" and found["webhook-timestamp"] == str(int(at.timestamp()))
    text = f"n_1_a_0.{found['webhook-timestamp']}.{BODY}".encode()
    digest = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), text, hashlib.sha256).digest()
    assert found["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


def test_two_secrets_sign_while_one_is_replaced_and_no_third() -> None:
    old, new, older = new_secret(), new_secret(), new_secret()
    found = headers([new, old, older])
    assert len(found["webhook-signature"].split(" ")) == 2
    for secret in (old, new):
        assert Webhook(secret).verify(BODY, found)["type"] == "booking.confirmed"
    with pytest.raises(WebhookVerificationError):
        Webhook(older).verify(BODY, found)


@pytest.mark.parametrize("header", ["webhook-id", "webhook-timestamp"])
def test_what_is_signed_cannot_be_changed(header: str) -> None:
    secret = new_secret()
    found = headers([secret])
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY, found | {header: found[header].replace(found[header][-1], "x", 1)})
