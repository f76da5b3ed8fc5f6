"""The simulated gateway's smaller parts: its webhooks, its page, its files, and how the settings open it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from boxoffice.errors import CannotRun
from boxoffice.gateway import accounts, factory
from boxoffice.gateway.base import Found
from boxoffice.gateway.simulator import action_page, deliveries, kept_files, signing
from boxoffice.gateway.simulator.deliveries import Deliveries
from boxoffice.gateway.simulator.scenario import State, reference_of
from boxoffice.gateway.webhooks import GatewayEvent, WebhookMalformed, WebhookRefused
from boxoffice.ids import digest
from boxoffice.settings import GatewaySettings, Settings

KEY = "0123456789abcdefghijKLMNOP"


def word(status: str, refunds: str = "", behaviour: str = "ok") -> str:
    return State(status, 1_050, "USD", 1_000, 0, refunds, f"tok_{behaviour}_4242").word


# ---------------------------------------------------------------- webhooks


@pytest.mark.parametrize(
    ("known", "kind"),
    [
        (word("T"), None), (word("R"), "requires_action"), (word("A"), "authorized"), (word("C"), "captured"),
        (word("D"), "declined"), (word("V"), "voided"), (word("C", "r=1"), "refunded"), (word("C", "r=1f"), "refund_failed"),
        (word("C", "!dispute=1o"), "disputed"), (word("C", "dash=1t~9"), None), (word("C", "r"), None),
        (word("C", "capture"), "captured"), (word("A", "capture"), None),
    ],
)  # fmt: skip
def test_what_is_told_of_a_change(known: str, kind: str | None) -> None:
    """Under one id for each state, whoever tells."""
    event = signing.event_of(KEY, known)
    if kind is None:
        assert event is None
    else:
        assert event == GatewayEvent("evt_" + digest(KEY, known), kind, KEY, reference_of(KEY))  # type: ignore[arg-type]
        data = f'{{"payment_key":"{KEY}","reference":"{reference_of(KEY)}"}}'
        body = f'{{"id":"{event.id}","type":"payment.{kind}","data":{data}}}'
        assert signing.event_body(event).decode() == body
    assert signing.event_body(GatewayEvent("e", "other", None, None)).endswith(
        b'"data":{"payment_key":"","reference":""}}'
    )


BODY = b'{"type":"payment.captured","data":{"payment_key":"k","reference":"r"}}'
EVENT = GatewayEvent("evt_1", "captured", "k", "r")


def test_a_signed_webhook() -> None:
    headers = signing.sign("secret", "evt_1", BODY, 1_000.9)
    assert headers | {"webhook-signature": ""} == {
        "content-type": "application/json", "webhook-id": "evt_1", "webhook-timestamp": "1000", "webhook-signature": "",
    }  # fmt: skip
    mac = hmac.new(b"secret", b"evt_1.1000." + BODY, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(mac).decode()


@pytest.mark.parametrize(
    ("secrets", "age_s", "now_s", "changes", "refused"),
    [
        (["a"], 300, 1_000, {}, None),
        (["b", "a"], 300, 1_000, {}, None),
        (["a", "b"], 300, 1_000, {}, None),
        (["a"], 300, 1_300, {}, None),
        (["a"], 300, 700, {}, None),
        (["a"], 300, 1_300.5, {}, "too old"),
        (["a"], 300, 699.5, {}, "ahead of our clock"),
        (["b"], 300, 1_000, {}, "does not fit"),
        ([], 300, 1_000, {}, "does not fit"),
        (["a"], 300, 1_000, {"webhook-id": "evt_2"}, "does not fit"),
        (["a"], 300, 1_000, {"webhook-timestamp": "1001"}, "does not fit"),
        (["a"], 300, 1_000, {"webhook-signature": ""}, "does not fit"),
    ],
    ids=range(12),
)
def test_which_signature_is_believed(
    secrets: list[str], age_s: int, now_s: float, changes: dict[str, str], refused: str | None
) -> None:
    """With any of the secrets, and any of the signatures, so long before and after."""
    headers = signing.sign("a", "evt_1", BODY, 1_000) | changes
    if refused is None:
        assert signing.verify(secrets, age_s, headers, BODY, now_s) == EVENT
        headers["webhook-signature"] = f"v1,other {headers['webhook-signature']} v1,another"
        assert signing.verify(secrets, age_s, headers, BODY, now_s) == EVENT
    else:
        with pytest.raises(WebhookRefused, match=refused):
            signing.verify(secrets, age_s, headers, BODY, now_s)


@pytest.mark.parametrize(
    ("body", "event"),
    [
        (b'{"type":"payment.strange"}', GatewayEvent("evt_1", "other", None, None)),
        (b'{"type":"other","data":[]}', GatewayEvent("evt_1", "other", None, None)),
        (b'{"type":"voided","data":{"payment_key":7,"reference":""}}', GatewayEvent("evt_1", "voided", None, None)),
    ],
)
def test_what_we_do_not_know_is_kept(body: bytes, event: GatewayEvent) -> None:
    assert signing.verify(["a"], 300, signing.sign("a", "evt_1", body, 1_000), body, 1_000) == event
    with pytest.raises(WebhookMalformed):
        signing.verify(["a"], 300, signing.sign("a", "", body, 1_000), body, 1_000)
    with pytest.raises(WebhookRefused, match="too old"):
        headers = {"webhook-id": "e", "webhook-timestamp": "1e3"}
        headers["webhook-signature"] = signing.signature_of("a", "e", "1e3", body)
        signing.verify(["a"], 300, headers, body, 1_000)


class Shop:
    """Whoever webhooks are sent to: the status of each answer, and the time that passes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *statuses: int) -> None:
        self.statuses, self.slept, self.posted = list(statuses), list[float](), list[tuple[str, Any, Any]]()
        self.deliveries = Deliveries("http://shop", "secret", 7.0)
        self.deliveries.client = SimpleNamespace(post=self._post, aclose=self._nothing)  # type: ignore[assignment]
        sleep = asyncio.sleep

        async def pass_time(seconds: float) -> None:
            self.slept.append(seconds)
            await sleep(0)

        monkeypatch.setattr(deliveries.asyncio, "sleep", pass_time)

    async def _nothing(self) -> None: ...

    async def _post(self, url: str, *, content: bytes, headers: dict[str, str]) -> Any:
        self.posted.append((url, content, headers["webhook-id"]))
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 0:
            raise httpx2.ConnectError("away")
        return SimpleNamespace(is_success=200 <= status < 300)

    async def told(self, *lines: str) -> Any:
        self.deliveries.changed([f"{KEY} {line} b 9\n" for line in lines])
        while self.deliveries.tasks:
            await asyncio.wait(self.deliveries.tasks)
        tally = self.deliveries.tally
        return tally.events, tally.heard, tally.repeats, tally.given_up, tally.waiting


async def test_a_webhook_is_sent_until_it_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(monkeypatch, 500, 0, 404, 200)
    assert await shop.told(word("A")) == (1, 1, 0, 0, 0)
    assert shop.slept == [0, 0.5, 1.0, 2.0]
    event = signing.event_of(KEY, word("A"))
    assert event is not None
    assert set(shop.posted) == {("http://shop", signing.event_body(event), event.id)}
    assert await shop.told(word("T")) == (1, 1, 0, 0, 0), "nobody hears of an error"


async def test_a_webhook_that_nobody_hears_is_given_up_after_six_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(monkeypatch, *[500] * 6)
    assert await shop.told(word("A")) == (1, 0, 0, 1, 0)
    assert shop.slept == [0, 0.5, 1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("lines", "delays", "tally"),
    [
        ([word("A", behaviour="twice")], [0, 7.0], (1, 1, 1, 0, 0)),
        ([word("A", behaviour="reordered"), word("C", behaviour="reordered")], [7.0, 0], (2, 2, 0, 0, 0)),
        ([word("A"), word("C")], [0, 0], (2, 2, 0, 0, 0)),
    ],
    ids=["twice", "reordered", "plain"],
)
async def test_webhooks_that_come_twice_or_late(
    monkeypatch: pytest.MonkeyPatch, lines: list[str], delays: list[float], tally: Any
) -> None:
    shop = Shop(monkeypatch)
    assert await shop.told(*lines) == tally
    assert shop.slept == delays
    await shop.deliveries.close()


async def test_who_stops_sends_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(monkeypatch, *[500] * 9)
    shop.deliveries.changed([f"{KEY} {word('A')} b 9\n"])
    assert shop.deliveries.tally.waiting == 1
    await shop.deliveries.close()
    assert shop.deliveries.tally.waiting == 0
    assert len(shop.posted) == 0


# ---------------------------------------------------------------- page, files, settings


@pytest.mark.parametrize(
    ("status", "went"),
    [
        ("authorized", "succeeded"),
        ("captured", "succeeded"),
        ("declined", "failed"),
        ("voided", "failed"),
        ("processing", "failed"),
    ],
)
def test_the_way_back_to_the_shop(status: Any, went: str) -> None:
    payment = Found(status, "r", 1_050, "USD")
    assert action_page.way_back(payment, "https://shop/paid") == f"https://shop/paid?redirect_status={went}"
    assert action_page.way_back(payment, "https://shop/paid?a=1#b") == f"https://shop/paid?a=1&redirect_status={went}#b"
    page = action_page.render(payment, 'https://shop/"paid?a=1')
    assert f'<a href="https://shop/&quot;paid?a=1&amp;redirect_status={went}">Back to the shop</a>' in page
    assert f"<p>A payment of 10.50 USD: {status}.</p>" in page
    assert "<button>" not in page


def test_a_customer_who_has_to_act_gets_a_button() -> None:
    page = action_page.render(Found("requires_action", "r", 5, "JPY"), "https://shop/paid")
    assert "5 JPY: requires_action" in page and "<form method=post><button>" in page and "shop" not in page


def test_a_file_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.token"
    assert kept_files.made_once(path, "one") == "one"
    assert kept_files.made_once(path, "two") == "one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["a.token"]
    path.write_text(" three\n")
    assert kept_files.made_once(path, "two") == "three"


def test_who_comes_second_takes_what_the_first_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when both looked at the same moment, and nothing half-made is left."""
    path = tmp_path / "a.token"

    def first(_draft: Any, target: Any) -> None:
        target.write_text("first")
        raise FileExistsError

    monkeypatch.setattr(kept_files.os, "link", first)
    assert kept_files.made_once(path, "second") == "first"
    assert [each.name for each in tmp_path.iterdir()] == ["a.token"]


@pytest.mark.parametrize(
    ("kind", "key", "shown"), [("http", "k", "k"), ("simulator", "k", "k"), ("stripe", "sk_1", None)]
)
def test_whose_token_a_gateway_is_shown(tmp_path: Path, kind: Any, key: str, shown: str | None) -> None:
    """Stripe's key is shown to Stripe alone."""
    gateway = GatewaySettings.model_construct(kind=kind, api_key=key)
    settings = Settings.model_construct(gateway=gateway, data_dir=tmp_path)
    token = kept_files.gateway_token(settings)
    assert token == shown or (shown is None and token != key and len(token) >= 40)
    assert (tmp_path / "gateway.token").exists() is (shown is None)


@pytest.mark.parametrize(
    ("url", "actions", "where"),
    [
        ("", None, "http://127.0.0.1:8123/actions"), ("http://bank/", None, "http://bank/actions"),
        ("http://bank/", "http://other", "http://other"),
    ],
)  # fmt: skip
async def test_how_the_settings_open_a_simulator(tmp_path: Path, url: str, actions: str | None, where: str) -> None:
    settings = Settings.model_validate({
        "data_dir": tmp_path, "PORT": 8123,
        "gateway": {"url": url, "cutoff_s": 2, "timeout_s": 9, "webhook_age_s": 77, "webhook_secret": "s"},
    })  # fmt: skip
    told: list[Any] = []
    simulator = factory.open_simulator(settings, actions=actions, changed=told.append)
    found = (simulator.actions, simulator.slow_s, simulator.later_ms, simulator.hang_s, simulator.patience_s)
    assert found == (where, 3.0, 3_000, 9, 9)
    assert (simulator.webhook_secrets, simulator.webhook_age_s, simulator.changed) == (("s",), 77, told.append)
    await simulator.close()


def test_what_cannot_be_charged_is_known_of_stripe_only() -> None:
    for kind, said in (("simulator", ""), ("http", ""), ("stripe", "Stripe charges 0.50 USD or more.")):
        settings = Settings.model_construct(gateway=GatewaySettings.model_construct(kind=kind))
        assert factory.why_not_chargeable(settings, 49, "USD") == said
        assert factory.why_not_chargeable(settings, 50, "USD") == ""
    keyless = Settings.model_construct(gateway=GatewaySettings.model_construct(kind="stripe", api_key=""))
    with pytest.raises(CannotRun, match="API_KEY"):
        factory.open_gateway(keyless)


@pytest.mark.parametrize(
    ("row", "ours", "same"),
    [
        ("simulator", "simulator/a", True),
        ("http", "simulator/a", True),
        ("simulator/a", "simulator/a", True),
        ("simulator/b", "simulator/a", False),
        ("stripe", "simulator/a", False),
        ("stripe/live/x", "stripe", True),
        ("stripe/live/x", "stripe/live", True),
        ("stripe/test/x", "stripe/live", False),
        ("stripe/live/x", "stripe/live/y", False),
        ("simulator/a", "http/a", True),
    ],
)
def test_whose_books_a_payment_stands_in(row: str, ours: str, same: bool) -> None:
    assert accounts.same_books(row, ours) is same
    names, prefix = accounts.written_in(ours)
    begins = [*dict.fromkeys("/".join(ours.split("/")[:n]) for n in range(1, ours.count("/") + 2))]
    assert names == ([*begins, "http"] if ours.startswith("simulator") else begins)
    assert prefix == f"{ours}/"
