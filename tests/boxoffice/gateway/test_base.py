"""The words in which we speak of a gateway: what travels of them, what is left out, and that nobody changes them."""

from __future__ import annotations

import asyncio
import inspect
import re
from typing import Any, get_args

import msgspec
import pytest

from boxoffice.gateway import base, messages, trouble
from boxoffice.gateway.base import (
    KEYS_MAX,
    AlreadyCaptured,
    Authorized,
    AuthorizeRequest,
    CaptureRequest,
    Declined,
    DisputeSeen,
    Done,
    Found,
    NotFound,
    Pending,
    Record,
    RefundSeen,
    Refused,
    RequiresAction,
    Reversals,
    Token,
    Unchargeable,
    Unknown,
    first_key,
)
from boxoffice.gateway.calls import in_parallel
from boxoffice.gateway.trouble import Trouble
from boxoffice.gateway.webhooks import GatewayEvent, WebhookMalformed

SEEN = RefundSeen("k", "r", 5, "failed", "why")
LOST = DisputeSeen("d", 7, "lost", "fraudulent", True)
WORDS: list[tuple[Any, str]] = [
    (Token("tok", None), '{"token":"tok","last4":null}'),
    (
        AuthorizeRequest("k", "b", 5, "EUR", "card", "tok"),
        '{"payment_key":"k","booking_id":"b","amount_cents":5,"currency":"EUR","method":"card","token":"tok",'
        '"return_url":null}',
    ),
    (CaptureRequest("k", "r", 5), '{"payment_key":"k","reference":"r","amount_cents":5,"currency":""}'),
    (Authorized("r", 5, "EUR"), '{"type":"Authorized","reference":"r","amount_cents":5,"currency":"EUR"}'),
    (Declined("why"), '{"type":"Declined","code":"why","reference":null,"card":""}'),
    (RequiresAction("url", "r"), '{"type":"RequiresAction","url":"url","reference":"r"}'),
    (Unknown("why"), '{"type":"Unknown","reason":"why","misconfigured":""}'),
    (Unchargeable("why"), '{"type":"Unchargeable","code":"why"}'),
    (Done("r"), '{"type":"Done","reference":"r"}'),
    (Pending("r"), '{"type":"Pending","reference":"r","reason":null}'),
    (Refused("why"), '{"type":"Refused","code":"why"}'),
    (AlreadyCaptured(5), '{"type":"AlreadyCaptured","captured_cents":5}'),
    (NotFound(), '{"type":"NotFound"}'),
    (
        Found("captured", "r", 5, "EUR"),
        '{"type":"Found","status":"captured","reference":"r","amount_cents":5,"currency":"EUR","captured_cents":0,'
        '"refunded_cents":0,"failure_code":null,"next_action":null,"card":""}',
    ),
    (SEEN, '{"refund_key":"k","reference":"r","amount_cents":5,"status":"failed","code":"why"}'),
    (LOST, '{"reference":"d","amount_cents":7,"status":"lost","reason":"fraudulent","withdrawn":true}'),
    (Reversals(), '{"type":"Reversals","refunds":[],"disputes":[]}'),
    (
        Record("k", None, 9, Found("voided", "r", 5, "EUR")),
        '{"type":"Record","payment_key":"k","booking_id":null,"made_ms":9,"payment":{"type":"Found","status":"voided",'
        '"reference":"r","amount_cents":5,"currency":"EUR","captured_cents":0,"refunded_cents":0,"failure_code":null,'
        '"next_action":null,"card":""},"reversals":{"type":"Reversals","refunds":[],"disputes":[]},"installation":null}',
    ),
    (GatewayEvent("e", "other", None, None), '{"id":"e","kind":"other","payment_key":null,"reference":null}'),
]


@pytest.mark.parametrize(("word", "text"), WORDS, ids=lambda value: type(value).__name__)
def test_each_word_as_it_travels(word: Any, text: str) -> None:
    """An older process reads it, and leaves out what it does not know; and it is read back as the same, also when an older one
    said it."""
    assert msgspec.json.encode(word).decode() == text
    assert msgspec.json.decode(text, type=type(word)) == word
    assert msgspec.json.decode(text.replace(',"card":""', ""), type=type(word)) == word


def test_no_word_is_changed_by_whoever_holds_it() -> None:
    """One answer may be given to many."""
    words = [word for _, word in inspect.getmembers(base, inspect.isclass) if issubclass(word, msgspec.Struct)]
    ours = [word for word in words if word is not msgspec.Struct]
    assert {type(word) for word, _ in WORDS} == set(ours)
    for word, _ in WORDS:
        for name in word.__struct_fields__[:1]:
            with pytest.raises(AttributeError, match="immutable"):
                setattr(word, name, None)


def test_what_failed_did_not_go_back_and_whose_attempt_it_is() -> None:
    seen = tuple(RefundSeen("k", "r", n, status) for n, status in ((1, "pending"), (2, "succeeded"), (4, "failed")))  # type: ignore[arg-type]
    assert Reversals(seen, (LOST,)).given_back_cents == 3
    assert [first_key(key) for key in ("k", "k-1", "k-12", "")] == ["k", "k", "k", ""]
    assert KEYS_MAX == 8
    assert set(get_args(base.RefundStatus)) == {"pending", "succeeded", "failed"}


async def test_a_batch_of_single_calls_is_made_so_many_at_a_time() -> None:
    """Each in a task of its own, in their order."""
    at_once: list[int] = []
    working = 0

    async def call(n: int) -> int:
        nonlocal working
        working += 1
        at_once.append(working)
        await asyncio.sleep(0)
        working -= 1
        return 10 * n

    tasks = in_parallel(call, range(5), asyncio.Semaphore(2))
    assert await asyncio.gather(*tasks) == [0, 10, 20, 30, 40]
    assert max(at_once) == 2


# ---------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "is not JSON in UTF-8"), (b"\xff", "is not JSON in UTF-8"), (b'{"a": "\xff"}', "is not JSON in UTF-8"),
        (b"[" * 100_000, "is nested too deeply"), (b"[]", "is no JSON object"), (b'"x"', "is no JSON object"),
        (b"{}", "does not say its type"), (b'{"type": 1}', "does not say its type"),
        (b'{"type": null}', "does not say its type"),
    ],
    ids=range(9),
)  # fmt: skip
def test_what_nobody_can_read_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(WebhookMalformed, match=said):
        messages.read_event(body)
    assert messages.read_event(b'{"type": "x", "a": 1}') == {"type": "x", "a": 1}


@pytest.mark.parametrize("value", [None, 1, "", "a b", "x" * 256, "é", "\x7f", "a\n"])
def test_an_id_is_1_to_255_visible_characters(value: Any) -> None:
    with pytest.raises(WebhookMalformed, match=re.escape("1 to 255 visible ASCII")):
        messages.event_id(value)
    assert messages.reference_of(value) is messages.reference_of({"id": value}) is None
    for good in ("!", "~" * 255, "evt_1"):
        assert messages.event_id(good) == messages.reference_of(good) == messages.reference_of({"id": good}) == good


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("aZ09_.:-", "aZ09_.:-"), ("x" * 128, "x" * 128), ("x" * 129, None), ("", None), ("a b", None), (7, None), (None, None),
        (["a"], None), ("a\n", None),
    ],
    ids=range(9),
)  # fmt: skip
def test_a_key_that_can_be_ours(value: Any, key: str | None) -> None:
    assert messages.known_key(value) == key


# ---------------------------------------------------------------- trouble


def test_trouble_lasts_until_we_are_served(caplog: pytest.LogCaptureFixture) -> None:
    """What hits one payment only is logged, and is no trouble of all."""
    now, ours = [100.0], Trouble(lambda: now[0])
    said: list[tuple[str, str]] = []
    log = trouble.log

    class Log:
        def error(self, event: str, code: str) -> None:
            said.append((event, code))

        warning = error

    trouble.log = Log()
    try:
        ours.note("one", of_all=False)
        assert ours.code == ""
        ours.note("all", of_all=True)
        for at in (159.9, 160.0, 161.0):
            now[0] = at
            ours.note("all", of_all=True)
        assert ours.code == "all"
        ours.clear()
        ours.clear()
        assert ours.code == ""
        ours.note("all", of_all=True)
        ours.note("one", of_all=False)
    finally:
        trouble.log = log
    bad, good = "gateway.misconfigured", "gateway.mended"
    assert said == [(bad, "one"), (bad, "all"), (bad, "all"), (good, "all"), (bad, "all"), (bad, "one")]
