"""What arrives signed by the gateway is answered, whatever it is about; what nobody can read is told so."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from stripe import WebhookSignature

from api.app import create_app
from boxoffice.gateway.simulator import signing
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from tests.api.conftest import assert_problem
from tests.support.gateways import with_gateway

NEW, OLD = "whsec_new", "whsec_old"


@pytest.fixture(params=["simulator", "stripe"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def api(clean: None, settings: Settings, kind: str) -> AsyncIterator[httpx2.AsyncClient]:
    """An API whose secret is just being changed."""
    changed = with_gateway(
        settings,
        kind=kind,
        api_key="sk_test_1",
        webhook_secret=NEW,
        webhook_secret_before=OLD,
        url="http://127.0.0.1:9",
    )
    async with open_box_office(changed) as office:
        transport = httpx2.ASGITransport(app=create_app(changed, office=office), raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://boxoffice.test") as client:
            client.office = office  # type: ignore[attr-defined]
            yield client


async def deliver(
    api: httpx2.AsyncClient, kind: str, body: bytes, *, secret: str = NEW, event_id: str = "evt_1"
) -> httpx2.Response:
    if kind == "stripe":
        text = body.decode("latin-1") if not _utf8(body) else body.decode()
        headers = {"stripe-signature": WebhookSignature.generate_signature_header(text, secret)}
    else:
        headers = signing.sign(secret, event_id, body, time.time())
    return await api.post(f"/v1/webhooks/{kind}", content=body, headers=headers)


def _utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def event(**more: Any) -> dict[str, Any]:
    return {"id": "evt_1", "type": "payment_intent.succeeded", **more}


async def kept(api: httpx2.AsyncClient) -> list[tuple[str, str, str | None]]:
    office: BoxOffice = api.office  # type: ignore[attr-defined]
    rows = await (await office.pool()).fetch("SELECT id, kind, payment_key FROM webhook_events")
    return [tuple(row) for row in rows]


DEEP = 50_000

UNREADABLE = [
    pytest.param(b'{"id": "evt_1", "type": "x", "data": "\xff\xfe"}', id="not UTF-8"),
    pytest.param(b"\xff", id="one byte"),
    pytest.param(
        b'{"id": "evt_1", "type": "x", "data": ' + b'{"":' * DEEP + b"1" + b"}" * DEEP + b"}", id="nested objects"
    ),
    pytest.param(b'{"id": "evt_1", "type": "x", "data": ' + b"[" * DEEP + b"]" * DEEP + b"}", id="nested lists"),
    pytest.param(b"[" * DEEP, id="only brackets"),
    pytest.param(b"", id="empty"),
    pytest.param(b"\x00", id="NUL"),
    pytest.param(b"[]", id="a list"),
    pytest.param(b'"text"', id="a text"),
    pytest.param(b"null", id="null"),
    pytest.param(b'{"id": "evt_1"}', id="no type"),
    pytest.param(b'{"id": "evt_1", "type": 7}', id="type is a number"),
]


@pytest.mark.parametrize("body", UNREADABLE)
async def test_what_nobody_can_read_is_told_so(api: httpx2.AsyncClient, kind: str, body: bytes) -> None:
    """It is signed: that its signature does not fit would send somebody looking for the wrong secret."""
    problem = assert_problem(await deliver(api, kind, body), 400, "webhook-malformed")
    assert "signature" not in problem["detail"]
    assert await kept(api) == []


@pytest.mark.parametrize("event_id", ["", "evt 1", "evt\x00", "é", "x" * 256, 1, None, {"a": 1}, ["evt"]])
async def test_an_id_that_cannot_be_kept(api: httpx2.AsyncClient, kind: str, event_id: Any) -> None:
    if kind == "simulator":
        body = json.dumps(event()).encode()
        if not isinstance(event_id, str) or not event_id.isascii() or "\x00" in event_id:
            pytest.skip("no header can say so")
        answer = await deliver(api, kind, body, event_id=event_id)
    else:
        answer = await deliver(api, kind, json.dumps(event() | {"id": event_id}).encode())
    assert_problem(answer, 400, "webhook-malformed")


KEY = "0123456789abcdef0123456789abcdef"

UNFAMILIAR = [
    pytest.param({}, id="nothing but id and type"),
    pytest.param({"object": "v2.core.event", "related_object": {"id": "x", "type": "y"}, "context": None}, id="thin"),
    pytest.param({"data": None}, id="data is null"),
    pytest.param({"data": []}, id="data is a list"),
    pytest.param({"data": {"object": None}}, id="object is null"),
    pytest.param({"data": {"object": {}}}, id="object without id"),
    pytest.param({"data": {"object": {"object": "account"}}}, id="no id in the object"),
    pytest.param({"data": {"object": {"id": 7, "object": 8, "metadata": 9, "payment_intent": 10}}}, id="numbers"),
    pytest.param(
        {"data": {"object": {"id": "ch_1", "object": "charge", "payment_intent": {"id": "pi_1"}}}}, id="expanded"
    ),
    pytest.param({"data": {"object": {"id": "x", "metadata": ["payment_key"]}}}, id="metadata is a list"),
    pytest.param({"data": {"object": {"metadata": {"payment_key": "a\x00b"}}, "payment_key": "a\x00b"}}, id="NUL"),
    pytest.param(
        {"data": {"object": {"metadata": {"payment_key": "x" * 200_000}}, "payment_key": "x" * 9_999}}, id="long"
    ),
    pytest.param({"data": {"object": {"metadata": {"payment_key": {"a": 1}}}, "payment_key": [1]}}, id="no text"),
    pytest.param({"data": {"object": {"metadata": {"payment_key": "\ud800"}}, "payment_key": "é"}}, id="odd letters"),
    pytest.param({"type": "of.tomorrow", "data": {"object": {"id": "x"}}}, id="unknown type"),
]


@pytest.mark.parametrize("more", UNFAMILIAR)
async def test_what_is_not_familiar_is_kept_and_ignored(
    api: httpx2.AsyncClient, kind: str, more: dict[str, Any]
) -> None:
    body = json.dumps(event() | more).encode()
    if "\\ud800" in body.decode():
        body = body.replace(b"\\ud800", b"?")
    for _ in range(2):
        answer = await deliver(api, kind, body)
        assert answer.status_code == 200, answer.text
    assert answer.json() == {"received": True, "repeated": True}
    (row,) = await kept(api)
    assert (row[0], row[2]) == ("evt_1", None)


async def test_a_lone_surrogate_is_no_500(api: httpx2.AsyncClient, kind: str) -> None:
    object_ = b'{"metadata": {"payment_key": "\\\\ud800"}}'
    body = b'{"id": "evt_1", "type": "x", "data": {"payment_key": "\\\\ud800", "object": %b}}' % object_
    assert (await deliver(api, kind, body)).status_code in (200, 400)


@pytest.mark.parametrize("secret", [NEW, OLD])
async def test_two_secrets_are_believed_while_one_is_changed(api: httpx2.AsyncClient, kind: str, secret: str) -> None:
    assert (await deliver(api, kind, json.dumps(event()).encode(), secret=secret)).status_code == 200
    assert_problem(await deliver(api, kind, json.dumps(event()).encode(), secret="whsec_other"), 400, "webhook-refused")


@pytest.mark.parametrize(
    "header", ["t=1,v1=é", "t=é,v1=00", "v1=00", "", "t=99999999999999999999,v1=00", ",,,=", "t=1,v1=\xff"]
)
async def test_odd_signatures_are_refused(api: httpx2.AsyncClient, kind: str, header: str) -> None:
    headers = [
        (b"stripe-signature", header.encode("latin-1")),
        (b"webhook-signature", header.encode("latin-1")),
        (b"webhook-timestamp", header.encode("latin-1")),
        (b"webhook-id", header.encode("latin-1")),
    ]
    answer = await api.post(f"/v1/webhooks/{kind}", content=b"{}", headers=headers)
    assert_problem(answer, 400, "webhook-refused")


@pytest.mark.parametrize("kind", ["simulator"], indirect=True)
@pytest.mark.parametrize("configured", ["simulator", "http", "stripe"])
@pytest.mark.parametrize("path", ["simulator", "http", "stripe", "Stripe"])
async def test_only_the_configured_gateway_is_heard(
    api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, configured: str, path: str
) -> None:
    """A simulator in a process of its own signs as one; at any other path nobody listens."""
    monkeypatch.setattr(type(api.office.gateway), "name", configured)  # type: ignore[attr-defined]
    answer = await api.post(f"/v1/webhooks/{path}", content=b"{}")
    if path == configured or (path, configured) == ("simulator", "http"):
        assert_problem(answer, 400, "webhook-refused")
    else:
        assert_problem(answer, 404, "not-found")
