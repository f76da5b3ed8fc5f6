"""Whatever is sent, the answer is a problem with a 4xx, nothing of it is repeated, and nothing of it is logged."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from api.problems import OF_A_CLIENT
from boxoffice.errors import Malformed
from boxoffice.office import BoxOffice
from boxoffice.sales.store import NewTier
from tests.api.bad_bodies import BODIES, CARD, GOOD, MARK, body_with, item, payment
from tests.api.conftest import assert_problem, booking_of
from tests.conftest import KEY, SaleMaker


async def send(
    api: httpx2.AsyncClient, content: bytes | AsyncIterator[bytes], headers: dict[str, Any] | None = None
) -> httpx2.Response:
    good = {"Content-Type": "application/json", "Idempotency-Key": "k"}
    return await api.post("/v1/bookings", content=content, headers=good | (headers or {}))


async def test_a_bad_body_is_refused(api: httpx2.AsyncClient, capfd: pytest.CaptureFixture[str]) -> None:
    """With 400, where and why; and nothing of it stands in the answer or in a log."""
    for name, (body, pointer, code) in BODIES.items():
        answer = await send(api, body)
        problem = assert_problem(answer, 400, "malformed-request")
        assert problem["errors"] == [{"pointer": pointer, "code": code}], name
        assert MARK not in answer.text and CARD not in answer.text, name
    said = "".join(capfd.readouterr())
    assert MARK not in said
    assert CARD not in said
    assert said.count("request.refused") == min(len(BODIES), OF_A_CLIENT), "one line per refusal, up to so many"


CARD_TEXTS = (
    CARD, "4242 4242 4242 4242", "4242-4242-4242-4242", "4242.4242.4242.4242", "378282246310005", "6011000990139424",
    "paid with 4242 4242 4242 4242!", "card 4242424242424242", "\uff14\uff12" * 8, "4222222222222", "3782-822463-10005",
)  # fmt: skip


async def test_card_numbers_go_nowhere_but_into_their_field(
    api: httpx2.AsyncClient, capfd: pytest.CaptureFixture[str]
) -> None:
    for text in CARD_TEXTS:
        for body, pointer in (
            (body_with(customer_id=text), "/customer_id"),
            (body_with(reference=text), "/reference"),
            (item(tier_id=text), "/items/0/tier_id"),
            (payment(method="card", card_name=text, card_number=CARD), "/payment/card_name"),
            (payment(method="card", card_name=text, token="tok_ok"), "/payment/card_name"),
            (payment(method="card", token=text), "/payment/token"),
        ):
            answer = await send(api, body)
            problem = assert_problem(answer, 422, "card-data-not-accepted")
            assert problem["errors"] == [{"pointer": pointer, "code": "card_data"}], text
            assert text not in answer.text
        for parameter in ("customer_id", "event_id", "reference"):
            answer = await api.get("/v1/bookings", params={parameter: text})
            problem = assert_problem(answer, 422, "card-data-not-accepted")
            assert problem["errors"] == [{"parameter": parameter, "code": "card_data"}], text
    assert (await api.get("/v1/bookings", params={"event_id": "e", "idempotency_key": CARD})).status_code == 200
    # Of an idempotency key only a digest is kept: an honest one is never refused.
    assert_problem(await send(api, GOOD, {"Idempotency-Key": CARD}), 404, "not-found")
    said = "".join(capfd.readouterr())
    assert not [text for text in CARD_TEXTS if text in said]


@pytest.mark.parametrize("number", ["1748503543012", "820982911946154508", "4242424242424241", "order-1748503543020"])
async def test_long_numbers_of_orders_are_taken(api: httpx2.AsyncClient, open_sale: SaleMaker, number: str) -> None:
    """Epoch milliseconds, snowflakes, and what has no check digit."""
    event = await open_sale(GA=10)
    body = json.dumps(booking_of(event, customer_id=number, reference=number)).encode()
    assert (await send(api, body, {"Idempotency-Key": number})).status_code == 202


INVISIBLE = [
    "\u200b",
    "\u3164",
    "\u00a0",
    "\u2060\u200d",
    "\u115f",
    "\u2800",
    "\u3000 \u200c",
    "\ufeff",
    "\u0301",
    "\ue000",
]


@pytest.mark.parametrize("text", INVISIBLE, ids=lambda text: " ".join(f"U+{ord(each):04X}" for each in text))
async def test_a_text_that_nobody_sees_is_none(api: httpx2.AsyncClient, text: str) -> None:
    for body, pointer in (
        (body_with(customer_id=text), "/customer_id"),
        (body_with(reference=text), "/reference"),
        (payment(method="card", card_name=text, card_number=CARD), "/payment/card_name"),
    ):
        problem = assert_problem(await send(api, body), 400, "malformed-request")
        assert problem["errors"][0]["pointer"] == pointer
        assert problem["errors"][0]["code"] in ("invisible", "empty")


@pytest.mark.parametrize(
    "text",
    ["a\x07b", "a\x00", "a\u0085", "a\u2028b", "a\ufffe", "\U0001fffftext"],
    ids=lambda text: text.encode("unicode_escape").decode(),
)
async def test_a_refusal_names_the_field_and_the_character(api: httpx2.AsyncClient, text: str) -> None:
    """By its number: nothing of the text is repeated."""
    problem = assert_problem(await send(api, body_with(customer_id=text)), 400, "malformed-request")
    assert problem["errors"] == [{"pointer": "/customer_id", "code": "control_character"}]
    odd = next(each for each in text if each not in "abtext")
    assert f"U+{ord(odd):04X}" in problem["detail"]
    assert "/customer_id" in problem["detail"]
    assert odd not in problem["detail"]


NAMES = [
    "Soirée : l\u2019été",
    "Prix\u00a0: 10\u00a0€",
    "می\u200cخواهم",
    "श्री\u200dमान",
    "क्\u200dष",
    "שָׁלוֹם",
    "\u200fשלום\u200e 2030",
    "ဗမာ\u200bစာ",
    "👨\u200d👩\u200d👧 day",
    "한글",
    "Łódź",
    "O\u2019Brien",
    "soft\u00adhyphen",
    "e\u0301t\u0301e",
]


@pytest.mark.parametrize("name", NAMES)
async def test_names_of_any_script_are_taken(
    api: httpx2.AsyncClient, office: BoxOffice, open_sale: SaleMaker, name: str
) -> None:
    """Blanks that do not break, joiners, marks, directions: of customers and of events."""
    event = await open_sale(GA=10)
    await office.control.change_event(event.id, name=name)
    body = json.dumps(booking_of(event, customer_id=name, reference=name)).encode()
    assert (await send(api, body, {"Idempotency-Key": "k"})).status_code == 202
    made = await office.store.create_event("shop00000000", name, datetime.now(UTC) + timedelta(days=9), "EUR",
                                           [NewTier(name, 1_000, 5, name)])  # fmt: skip
    assert made.name == name


@pytest.mark.parametrize(
    ("name", "said"), [("a\u0007", "U+0007"), ("\u200b", "U+200B"), ("", "empty"), ("x" * 201, "200")]
)
async def test_an_event_that_is_refused_says_where_and_why(office: BoxOffice, name: str, said: str) -> None:
    for event, code, pointer in ((name, "GA", "/name"), ("Opera", name, "/tiers/0/code")):
        with pytest.raises(Malformed) as refused:
            await office.store.create_event("shop00000000", event, datetime.now(UTC) + timedelta(days=9), "EUR",
                                            [NewTier(code, 1_000, 5)])  # fmt: skip
        assert refused.value.pointer == pointer
        assert said in refused.value.detail
        assert pointer in refused.value.detail


@pytest.mark.parametrize(
    "reference",
    [
        "order 7", "0193e2a0-1234-7abc-8def-0123456789ab", "12345678-1234-4234-8234-123456789012", "ORD-1763840000000",
        "Zoë Ünïcødé 🎟️", "a:b:c", 'say "hi"', "back\\slash", "4242424242424241", "tab-free",
    ],
)  # fmt: skip
async def test_a_good_reference_is_taken_as_it_is(
    api: httpx2.AsyncClient, open_sale: SaleMaker, reference: str
) -> None:
    """UUIDs, numbers of orders, colons, quotes and any script, written plainly or escaped."""
    event = await open_sale(GA=10)
    for number, ascii_only in enumerate((True, False)):
        body = json.dumps(booking_of(event, reference=reference), ensure_ascii=ascii_only).encode()
        answer = await send(api, body, {"Idempotency-Key": f"k{number}"})
        assert answer.status_code == 202, answer.text
        assert answer.json()["reference"] == reference


async def test_a_card_number_is_refused_where_only_tokens_are_taken(
    api: httpx2.AsyncClient, office: BoxOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(office.gateway), "accepts_cards", False)

    answer = await send(api, payment(method="card", card_name="Ada", card_number=CARD))

    problem = assert_problem(answer, 422, "card-data-not-accepted")
    assert problem["errors"] == [{"pointer": "/payment/card_number", "code": "card_data"}]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8",
        'application/json; charset="utf-8"', "application/json; charset=utf8", "application/json;charset='utf-8'",
        "application/json ; charset = us-ascii", "application/json; charset=utf-8; x=1", "application/json;",
    ],
)  # fmt: skip
async def test_a_body_is_json_by_its_content_type(
    api: httpx2.AsyncClient, open_sale: SaleMaker, content_type: str
) -> None:
    event = await open_sale(GA=10)
    answer = await send(api, json.dumps(booking_of(event)).encode(), {"Content-Type": content_type})
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize(
    ("headers", "header", "code"),
    [
        ({"Content-Type": "text/plain"}, "Content-Type", "content_type"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "Content-Type", "content_type"),
        ({"Content-Type": "application/jsonx"}, "Content-Type", "content_type"),
        ({"Content-Type": "multipart/form-data"}, "Content-Type", "content_type"),
        ({"Content-Type": ""}, "Content-Type", "content_type"),
        ({"Content-Type": None}, "Content-Type", "content_type"),
        ({"Content-Type": "application/json, application/json"}, "Content-Type", "content_type"),
        ({"Content-Type": "application/json; charset=utf-16"}, "Content-Type", "charset"),
        ({"Content-Type": "application/json; charset=iso-8859-1"}, "Content-Type", "charset"),
        ({"Content-Type": "application/json; charset=utf-8; charset=utf-7"}, "Content-Type", "charset"),
        ({"Content-Type": "application/json; charset"}, "Content-Type", "charset"),
        ({"Content-Encoding": "gzip"}, "Content-Encoding", "content_encoding"),
        ({"Content-Encoding": "br"}, "Content-Encoding", "content_encoding"),
        ({"Content-Encoding": "identity, gzip"}, "Content-Encoding", "content_encoding"),
    ],
)  # fmt: skip
async def test_a_body_of_another_kind_is_refused(
    api: httpx2.AsyncClient, open_sale: SaleMaker, headers: dict[str, str | None], header: str, code: str
) -> None:
    """Booking and paying alike, and the answer says which header is to blame."""
    event = await open_sale(GA=10)
    body = json.dumps(booking_of(event)).encode()
    sent = {"Content-Type": "application/json", "Idempotency-Key": "k"} | headers
    for path in ("/v1/bookings", "/v1/bookings/01a2289d-1441-7000-936f-ca3c86615eea/payment"):
        answer = await api.post(
            path, content=body, headers={name: value for name, value in sent.items() if value is not None}
        )
        problem = assert_problem(answer, 400, "malformed-request")
        assert problem["errors"] == [{"header": header, "code": code}]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (gzip.compress(GOOD), "compressed"), (zlib.compress(GOOD), "compressed"),
        (GOOD.decode().encode("utf-16"), "UTF-16"), (GOOD.decode().encode("utf-16-be"), "UTF-16"),
        (GOOD.decode().encode("utf-32"), "UTF-16 or UTF-32"), (b"", "empty"), (b" \n", "empty"),
        (GOOD[:-1] + b",}", f"byte {len(GOOD)}"),
    ],
)  # fmt: skip
async def test_a_body_that_is_no_json_is_told_why(api: httpx2.AsyncClient, body: bytes, said: str) -> None:
    problem = assert_problem(await send(api, body), 400, "malformed-request")
    assert said in problem["detail"]


async def test_an_uncompressed_body_may_say_so(api: httpx2.AsyncClient, open_sale: SaleMaker) -> None:
    event = await open_sale(GA=10)
    body = b"\xef\xbb\xbf" + json.dumps(booking_of(event)).encode()
    assert (await send(api, body, {"Content-Encoding": "identity"})).status_code == 202, "with a byte order mark, too"


@pytest.mark.parametrize(
    "number",
    ["4242 4242 4242 4242", "4242-4242-4242-4242", " 4242\u00a04242\u202f42424242 ", "4242\u20134242 42424242"],
)
async def test_a_card_number_may_be_written_as_people_do(
    api: httpx2.AsyncClient, open_sale: SaleMaker, number: str
) -> None:
    """And is the same number: a repeat without blanks is a replay."""
    event = await open_sale(GA=10)
    bodies = [payment(method="card", card_name="Ada", card_number=each) for each in (number, CARD)]
    answers = [await send(api, body.replace(b"0123456789ab", event.tiers[0].id.encode())) for body in bodies]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert answers[0].json()["payment"]["last4"] == "4242"


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ([], "missing"), ([b""], "empty"), ([b"  "], "empty"), ([b'""'], "empty"), ([b"a", b"a"], "duplicate"),
        ([b"x" * 256], "too_long"), ([b"x" * 70_000], "too_long"), ([b'"' + b"x" * 256 + b'"'], "too_long"),
        ([b"\xe9"], "not_printable"), (["ключ".encode()], "not_printable"), ([b"a\tb"], "not_printable"),
        ([b"a\x7fb"], "not_printable"), ([b"a\nb"], "not_printable"), ([b'"a'], "malformed"), ([b'"a"b"'], "malformed"),
        ([b'"a";p=1'], "malformed"), ([b'"a\\n"'], "malformed"),
    ],
)  # fmt: skip
async def test_a_bad_idempotency_key_is_refused(
    api: httpx2.AsyncClient, open_sale: SaleMaker, values: list[bytes], code: str
) -> None:
    event = await open_sale(GA=10)
    headers = [(b"content-type", b"application/json"), *((b"idempotency-key", value) for value in values)]

    answer = await api.post("/v1/bookings", content=json.dumps(booking_of(event)), headers=headers)

    problem = assert_problem(answer, 400, "malformed-request")
    assert problem["errors"] == [{"header": "Idempotency-Key", "code": code}]
    assert (await api.get(f"/v1/events/{event.id}")).json()["tiers"][0]["available"] == 10


@pytest.mark.parametrize("name", ["customer_id", "event_id", "status", "reference", "cursor", "idempotency_key"])
@pytest.mark.parametrize(("value", "code"), [("a\x00b", "control_character"), ("", "length"), ("x" * 256, "length")])
async def test_a_parameter_that_no_store_can_take_is_refused(
    api: httpx2.AsyncClient, name: str, value: str, code: str
) -> None:
    """In the same words, whichever it is, before a store is asked."""
    answer = await api.get("/v1/bookings", params={"event_id": "e", name: value})
    problem = assert_problem(answer, 400, "malformed-request")
    assert problem["errors"] == [{"parameter": name, "code": code}]


async def test_a_quoted_key_is_the_same_as_a_bare_one(api: httpx2.AsyncClient, open_sale: SaleMaker) -> None:
    event = await open_sale(GA=10)
    body = json.dumps(booking_of(event)).encode()
    answers = [await send(api, body, {"Idempotency-Key": key}) for key in ("a b", '"a b"', " a b ")]
    quoted = [await send(api, body, {"Idempotency-Key": key}) for key in (r'"a\"\\"', 'a"\\', "x" * 255)]

    assert len({answer.json()["id"] for answer in answers}) == 1
    assert quoted[0].json()["id"] == quoted[1].json()["id"] != quoted[2].json()["id"]


async def test_a_body_is_counted_as_it_arrives(api: httpx2.AsyncClient) -> None:
    """20 MB are refused, whether their length was announced or not, and without reading them all."""
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(20_000):
            sent += 1_000
            yield b" " * 1_000

    for content in (b" " * 20_000_000, chunks()):
        problem = assert_problem(await send(api, content), 400, "malformed-request")
        assert problem["errors"] == [{"pointer": "", "code": "body_too_large"}]


async def test_a_body_in_chunks_is_as_good(api: httpx2.AsyncClient, open_sale: SaleMaker) -> None:
    event = await open_sale(GA=10)

    async def chunks() -> AsyncIterator[bytes]:
        for byte in json.dumps(booking_of(event)).encode():
            yield bytes([byte])

    assert (await send(api, chunks())).status_code == 202


async def test_who_may_not_book_learns_nothing_of_the_body(api: httpx2.AsyncClient) -> None:
    answer = await send(api, b"[", {"Authorization": "Bearer shop.wrong"})

    assert_problem(answer, 401, "unauthorized")
    assert KEY not in answer.text
