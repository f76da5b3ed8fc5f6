"""Webhooks are verified by the Standard Webhooks specification."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from boxoffice_client import WebhookRefused, verify_webhook

# The example of the specification's own libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
HEADERS = {
    "Webhook-Id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "Webhook-Timestamp": "1614265330",
    "Webhook-Signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
NOW_S = 1_614_265_330.0
OTHER = "whsec_" + base64.b64encode(b"another secret of the same shop").decode()


def signed(secret: str, body: bytes = BODY) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{HEADERS['Webhook-Id']}.{HEADERS['Webhook-Timestamp']}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def test_the_example_of_the_specification_is_good() -> None:
    assert verify_webhook(BODY, HEADERS, SECRET, now_s=NOW_S) == {"test": 2432232314}
    assert verify_webhook(BODY.decode(), HEADERS, [OTHER, SECRET], now_s=NOW_S) == {"test": 2432232314}


@pytest.mark.parametrize("secrets", [[SECRET], [OTHER], [SECRET, OTHER]])
def test_while_secrets_are_rotated_either_is_good(secrets: list[str]) -> None:
    both = HEADERS | {"Webhook-Signature": f"v1a,ignored {signed(OTHER)} {signed(SECRET)}"}
    assert verify_webhook(BODY, both, secrets, now_s=NOW_S) == {"test": 2432232314}


@pytest.mark.parametrize(
    ("body", "headers", "now_s"),
    [
        (BODY + b" ", {}, NOW_S),
        (BODY, {"Webhook-Id": "another"}, NOW_S),
        (BODY, {"Webhook-Timestamp": "1614265331"}, NOW_S),
        (BODY, {"Webhook-Timestamp": "soon"}, NOW_S),
        (BODY, {}, NOW_S + 301),
        (BODY, {}, NOW_S - 301),
        (BODY, {"Webhook-Signature": signed(OTHER)}, NOW_S),
        (BODY, {"Webhook-Signature": "v1,nonsense v1"}, NOW_S),
        (BODY, {"Webhook-Signature": signed(SECRET).replace("v1,", "v2,")}, NOW_S),
        (BODY, {"Webhook-Signature": ""}, NOW_S),
        (b"{", {"Webhook-Signature": signed(SECRET, b"{")}, NOW_S),
    ],
)
def test_anything_else_is_refused(body: bytes, headers: dict[str, str], now_s: float) -> None:
    with pytest.raises(WebhookRefused):
        verify_webhook(body, HEADERS | headers, SECRET, now_s=now_s)


@pytest.mark.parametrize("missing", HEADERS)
def test_a_header_that_is_missing_is_named(missing: str) -> None:
    with pytest.raises(WebhookRefused, match=missing.lower()):
        verify_webhook(BODY, {name: value for name, value in HEADERS.items() if name != missing}, SECRET, now_s=NOW_S)


def test_within_the_tolerance_clocks_may_differ() -> None:
    assert verify_webhook(BODY, HEADERS, SECRET, now_s=NOW_S + 299)
    assert verify_webhook(BODY, HEADERS, SECRET, now_s=NOW_S + 3_000, tolerance_s=3_600)
