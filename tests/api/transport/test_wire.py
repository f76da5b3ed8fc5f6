"""Bytes on a connection: where a request begins and ends, whatever its client, or somebody between, made of it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Any

import pytest

from api import quiet
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from tests.api.conftest import booking_of
from tests.conftest import KEY, SaleMaker, eventually, settle_all
from tests.support.wire import WAYS, Answer, Door, alike

UPGRADES = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n",
    "list": b"Connection: keep-alive, UPGRADE\r\nUpgrade: TLS/1.0, foo/2\r\n",
    "two lines": b"Connection: keep-alive\r\nConnection: upgrade\r\nUPGRADE: anything\r\n",
    "unannounced": b"Upgrade: h2c\r\n",
    "for nothing": b"Connection: Upgrade\r\n",
    "empty": b"Connection: Upgrade\r\nUpgrade:\r\n",
}


pytestmark = pytest.mark.wire


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Hundreds of connections ask at once, on a machine that may be slow: a crowd is no flood here, and nobody is sent away."""
    return settings.model_copy(update={"api": settings.api.model_copy(update={"wait_ms": 0.0, "burst_s": 60.0})})


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=5_000)


def request_of(target: str, body: bytes | None = None, more: bytes = b"", *, key: str = "", method: str = "") -> bytes:
    method = method or ("GET" if body is None else "POST")
    lines = [f"{method} {target} HTTP/1.1", "Host: shop.example", f"Authorization: Bearer {KEY}"]
    if key:
        lines.append(f"Idempotency-Key: {key}")
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, ""]).encode() + more + b"\r\n" + (body or b"")


def booking(event: EventView, key: str, more: bytes = b"", **changes: Any) -> bytes:
    return request_of("/v1/bookings", json.dumps(booking_of(event, **changes)).encode(), more, key=key)


async def test_every_method_that_takes_a_body_is_given_it(door: Door, event: EventView) -> None:
    """One after the other on a connection: what is left of a body would be read as the next request."""
    change = request_of(f"/v1/events/{event.id}", b'{"name":"Changed"}', method="PATCH")
    answers = await door.answers(change + HEALTH)
    assert statuses(answers) == [200, 200]
    assert json.loads(answers[0].body)["name"] == "Changed"


async def pending(office: BoxOffice) -> int:
    return int(await office.redis.zcard("{s01}:pend"))


def statuses(answers: list[Answer]) -> list[int]:
    return [answer.status for answer in answers]


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

Confirmed = Callable[[], Awaitable[str]]


@pytest.fixture
def confirmed(door: Door, event: EventView, office: BoxOffice) -> Confirmed:
    """A confirmed booking's path, of three tickets."""

    async def confirmed() -> str:
        (answer,) = await door.answers(booking(event, f"confirmed-{await pending(office)}", quantity=3))
        await settle_all(office)
        return str(answer.headers["location"])

    return confirmed


@pytest.mark.parametrize("offer", UPGRADES)
async def test_an_offer_of_another_protocol_is_passed_over(
    door: Door, event: EventView, office: BoxOffice, offer: str
) -> None:
    """The body of such a request is a body, wherever it is cut; what follows is the next request."""
    before, more = await pending(office), UPGRADES[offer]
    whole = booking(event, "k", more)
    assert statuses(await door.answers(whole + HEALTH)) == [202, 200]
    cuts = range(1, len(whole), 3)

    wires = [door.connect().send(whole[:at], whole[at:] + HEALTH) for at in cuts]
    for wire in wires:
        assert statuses((await wire.quiet()).answers()) == [202, 200]
        assert wire.answers()[0].headers["idempotency-replayed"] == "true"
    assert await pending(office) == before + 1


@pytest.mark.parametrize("offer", UPGRADES)
async def test_a_body_is_not_lost_to_an_offer(door: Door, confirmed: Confirmed, event: EventView, offer: str) -> None:
    """One ticket of three is refunded, not three; a request in a body is not carried out."""
    path = await confirmed()
    one = json.dumps({"items": [{"tier_id": event.tiers[0].id, "quantity": 1}]}).encode()
    hidden = request_of(f"{path}/cancel", b"")

    (refund,) = await door.answers(request_of(f"{path}/refunds", one, UPGRADES[offer], key="refund"))
    assert (refund.status, json.loads(refund.body)["amount_cents"]) == (201, 1_000)
    head, body = request_of("/v1/bookings", hidden, UPGRADES[offer]).split(b"\r\n\r\n", 1)
    assert statuses(await door.answers(head + b"\r\n\r\n", body)) == [400]
    assert statuses(await door.answers(head + b"\r\n\r\n" + body)) == [400]
    (read,) = await door.answers(request_of(path))
    assert json.loads(read.body)["status"] == "confirmed"


@pytest.mark.parametrize(
    "verb", ["/v1/bookings", "/cancel", "/extend", "/payment", "/refunds", "/v1/webhooks/simulator"]
)
async def test_a_body_that_does_not_come_is_no_request(
    door: Door, confirmed: Confirmed, office: BoxOffice, event: EventView, verb: str
) -> None:
    """Whether the route needs a body or not: what the head announces has to arrive before anything is done."""
    path = await confirmed()
    target = verb if verb.startswith("/v1") else path + verb
    body = json.dumps(booking_of(event) if verb == "/v1/bookings" else {"items": "all"}).encode()
    before = await pending(office)
    for kept in (0, 1, len(body) - 1):
        for more in (b"", UPGRADES["h2c"]):
            whole = request_of(target, body, more, key="k")
            wire = door.connect().send(whole[: len(whole) - len(body) + kept], end=True)
            (answer,) = (await wire.quiet()).answers()
            assert (answer.status, json.loads(answer.body)["errors"]) == (400, [{"code": "incomplete"}])
            assert wire.over
    await settle_all(office)
    (read,) = await door.answers(request_of(path))
    assert json.loads(read.body)["status"] == "confirmed"
    assert await pending(office) == before


GARBAGE = {
    "nul": b"\0", "nuls": b"\0" * 100, "text": b"garbage", "upper": b"GARBAGE\r\n\r\n", "line": b"foo bar baz\r\n\r\n",
    "high": b"\xff\xfe", "tls": b"\x16\x03\x01\x02\x00\x01", "preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "connect": b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", "half": b"GET /healthz HT\x00", "space": b" GET / ",
    "version": b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", "old": b"GET /\r\n\r\n", "feed": b"\n", "feeds": b"\r\n\r\n",
    "bare": b"GET / HTTP/1.1\nHost: x\n\n", "folded": b"GET / HTTP/1.1\r\nHost: x\r\n X: y\r\n\r\n",
    "colon": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", "header": b"GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n",
}  # fmt: skip


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_requests_in_flight_are_answered_before_what_follows_is_refused(
    door: Door, event: EventView, office: BoxOffice, garbage: str
) -> None:
    """In order, and then the connection ends. In one piece with them, or a moment later, on a new connection or one that
    has booked before."""
    bad = GARBAGE[garbage]
    before = await pending(office)
    for number, requests in enumerate(
        (
            [booking(event, "one")],
            [booking(event, "two"), booking(event, "three")],
            [request_of(f"/v1/events/{event.id}")],
            [HEALTH, request_of("/v1/bookings"), booking(event, "four")],
        )
    ):
        for warm in (0, 6):
            for pieces in ([b"".join(requests) + bad], [b"".join(requests), bad], [*requests, bad]):
                wire = door.connect()
                for again in range(warm):
                    await wire.send(booking(event, f"warm-{again}")).quiet()
                await wire.send(*pieces).quiet()
                answers = wire.answers()[warm:]
                good = [202 if b"POST" in each[:4] else 200 for each in requests]
                assert statuses(answers) == [*good, 400], number
                assert answers[-1].headers["content-type"] == "application/problem+json"
                assert answers[-1].headers["connection"] == "close"
                assert wire.over
    assert await pending(office) == before + 4 + 6


async def test_the_client_may_stop_sending_before_it_is_answered(door: Door, event: EventView) -> None:
    """A FIN after a whole request ends nothing that is under way; half a head before it is refused after that."""
    for tail in (b"", b"GET /hea", b"G", b"POST /v1/bookings HTTP/1.1\r\nHost: x\r\nContent-Le"):
        wire = door.connect().send(booking(event, "a") + booking(event, "b") + tail, end=True)
        await wire.quiet()
        assert statuses(wire.answers()) == ([202, 202, 400] if tail else [202, 202])
        assert wire.over
    silent = door.connect().send(end=True)
    assert not (await silent.quiet()).answers()
    assert silent.over


READ_ALIKE = {
    "chunks": b"Transfer-Encoding: chunked\r\n", "Chunked": b"transfer-encoding:  CHUNKED \r\n",
    "trailers": b"Transfer-Encoding: chunked\r\nTrailer: X\r\n",
}  # fmt: skip


@pytest.mark.parametrize("kind", READ_ALIKE)
async def test_a_body_in_chunks_is_a_body(door: Door, event: EventView, office: BoxOffice, kind: str) -> None:
    """Cut anywhere; with extensions, which are passed over, and trailers, which are dropped."""
    body = json.dumps(booking_of(event)).encode()
    head = request_of("/v1/bookings", None, READ_ALIKE[kind], key="k", method="POST")
    head = head.replace(b"\r\n\r\n", b"\r\nContent-Type: application/json\r\n\r\n")
    tail = b"Authorization: Bearer nobody\r\nHost: y\r\n" if kind == "trailers" else b""
    whole = head + b'5;x="y"\r\n%b\r\n%X;a;b=c\r\n%b\r\n000\r\n%b\r\n' % (body[:5], len(body) - 5, body[5:], tail)
    before = await pending(office)

    assert statuses(await door.answers(whole + HEALTH)) == [202, 200]
    for at in range(1, len(whole), 2):
        assert statuses(await door.answers(whole[:at], whole[at:] + HEALTH)) == [202, 200]
    assert statuses(await door.answers(*(bytes([byte]) for byte in whole + HEALTH))) == [202, 200]
    assert await pending(office) == before + 1


async def test_a_trailer_is_no_header(door: Door, event: EventView) -> None:
    """Nobody is authorised by what stands after the body."""
    body = json.dumps(booking_of(event)).encode()
    for name in (b"Authorization", b"Idempotency-Key"):
        whole = request_of("/v1/bookings", None, b"Transfer-Encoding: chunked\r\n", key="k", method="POST")
        lines = [line for line in whole.split(b"\r\n") if not line.startswith(name)]
        head = b"\r\n".join(lines).replace(b"\r\n\r\n", b"\r\nContent-Type: application/json\r\n\r\n")
        dropped = next(line for line in whole.split(b"\r\n") if line.startswith(name))
        answers = await door.answers(head + b"%x\r\n%b\r\n0\r\n%b\r\n\r\n" % (len(body), body, dropped) + HEALTH)
        assert statuses(answers) == [401 if name == b"Authorization" else 400, 200]


def lines_of(*lines: bytes, first: bytes = b"POST /v1/bookings HTTP/1.1") -> bytes:
    return b"\r\n".join((first, *lines, b"", b"")) + b"{}"


AMBIGUOUS = {
    "no host": (lines_of(b"Content-Length: 2"), "missing", "Host"),
    "two hosts": (lines_of(b"Host: a", b"Content-Length: 2", b"host: a"), "duplicate", "Host"),
    "empty host": (lines_of(b"Host: ", b"Content-Length: 2"), "malformed", "Host"),
    "a list of hosts": (lines_of(b"Host: a, b/c", b"Content-Length: 2"), "malformed", "Host"),
    "a user's host": (lines_of(b"Host: a@b", b"Content-Length: 2"), "malformed", "Host"),
    "two keys": (
        lines_of(b"Host: a", b"Authorization: Bearer x", b"Content-Length: 2", b"AUTHORIZATION: Bearer y"),
        "duplicate", "Authorization",
    ),
    "two types": (lines_of(b"Host: a", b"Content-Type: a/b", b"Content-Type: a/b"), "duplicate", "Content-Type"),
    "two lengths": (lines_of(b"Host: a", b"Content-Length: 2", b"Content-Length: 2"), "duplicate", "Content-Length"),
    "a list of lengths": (lines_of(b"Host: a", b"Content-Length: 2, 2"), "framing", "Content-Length"),
    "a signed length": (lines_of(b"Host: a", b"Content-Length: +2"), "framing", "Content-Length"),
    "a padded length": (lines_of(b"Host: a", b"Content-Length: 02"), "framing", "Content-Length"),
    "a long length": (lines_of(b"Host: a", b"Content-Length: 99999999999999999999"), "framing", "Content-Length"),
    "no length": (lines_of(b"Host: a", b"Content-Length:"), "framing", "Content-Length"),
    "both": (lines_of(b"Host: a", b"Content-Length: 2", b"Transfer-Encoding: chunked"), "framing", "Transfer-Encoding"),
    "codings": (lines_of(b"Host: a", b"Transfer-Encoding: gzip, chunked"), "framing", "Transfer-Encoding"),
    "identity": (lines_of(b"Host: a", b"Transfer-Encoding: identity"), "framing", "Transfer-Encoding"),
    "twice chunked": (lines_of(b"Host: a", b"Transfer-Encoding: chunked, chunked"), "framing", "Transfer-Encoding"),
    "two codings": (
        lines_of(b"Host: a", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        "duplicate", "Transfer-Encoding",
    ),
    "quoted coding": (lines_of(b"Host: a", b'Transfer-Encoding: "chunked"'), "framing", "Transfer-Encoding"),
    "a tab": (lines_of(b"Host: a", b"Transfer-Encoding: chunked\t"), "framing", "Transfer-Encoding"),
    "a tab before": (lines_of(b"Host: a", b"Content-Length:\t2"), "framing", "Content-Length"),
    "vertical tab": (lines_of(b"Host: a", b"Transfer-Encoding:\x0bchunked"), "header", ""),
    "old chunks": (
        lines_of(b"Host: a", b"Transfer-Encoding: chunked", first=b"POST /v1/bookings HTTP/1.0"),
        "framing", "Transfer-Encoding",
    ),
    "absolute": (lines_of(b"Host: a", first=b"POST http://a/v1/bookings HTTP/1.1"), "request_line", ""),
    "fragment": (lines_of(b"Host: a", first=b"POST /v1/bookings#x HTTP/1.1"), "request_line", ""),
    "asterisk": (lines_of(b"Host: a", first=b"OPTIONS * HTTP/1.1"), "request_line", ""),
    "lower": (lines_of(b"Host: a", first=b"post /v1/bookings HTTP/1.1"), "request_line", ""),
    "two spaces": (lines_of(b"Host: a", first=b"POST  /v1/bookings HTTP/1.1"), "request_line", ""),
    "a tab in the first line": (lines_of(b"Host: a", first=b"POST\t/v1/bookings HTTP/1.1"), "request_line", ""),
    "a space at the end": (lines_of(b"Host: a", first=b"POST /v1/bookings HTTP/1.1 "), "request_line", ""),
    "one point two": (lines_of(b"Host: a", first=b"POST /v1/bookings HTTP/1.2"), "http_version", ""),
    "zero point nine": (lines_of(b"Host: a", first=b"POST /v1/bookings"), "http_version", ""),
    "http lower": (lines_of(b"Host: a", first=b"POST /v1/bookings http/1.1"), "request_line", ""),
    "utf-8 target": (lines_of(b"Host: a", first="POST /v1/bookings/é HTTP/1.1".encode()), "request_line", ""),
    "no name": (lines_of(b"Host: a", b": x"), "header", ""),
    "space in a name": (lines_of(b"Host: a", b"Content Length: 2"), "header", ""),
    "space before colon": (lines_of(b"Host: a", b"Content-Length : 2"), "header", ""),
    "nul in a value": (lines_of(b"Host: a", b"X: \0"), "header", ""),
    "bare return": (lines_of(b"Host: a", b"X: a\rY: b"), "header", ""),
    "bare feed": (lines_of(b"Host: a", b"X: a\nContent-Length: 2"), "header", ""),
    "folded": (lines_of(b"Host: a", b"X: a", b"\tContent-Length: 2"), "header", ""),
    "folded length": (lines_of(b"Host: a", b"Content-Length:", b" 2"), "header", ""),
    "ends swapped": (lines_of(b"Host: a").replace(b"\r\nHost", b"\n\rHost"), "request_line", ""),
    "two returns": (lines_of(b"Host: a").replace(b"\r\nHost", b"\r\r\nHost"), "request_line", ""),
    "an empty coding": (lines_of(b"Host: a", b"Transfer-Encoding:", b"Content-Length: 2"), "framing", "Transfer-Encoding"),
    "a coding in a list": (lines_of(b"Host: a", b"Transfer-Encoding: ,chunked"), "framing", "Transfer-Encoding"),
    "a coding's parameter": (lines_of(b"Host: a", b"Transfer-Encoding: chunked;q=1"), "framing", "Transfer-Encoding"),
    "a hard blank": (lines_of(b"Host: a", b"Transfer-Encoding: \xa0chunked"), "framing", "Transfer-Encoding"),
    "minus nothing": (lines_of(b"Host: a", b"Content-Length: -0"), "framing", "Content-Length"),
    "grouped digits": (lines_of(b"Host: a", b"Content-Length: 1_0"), "framing", "Content-Length"),
    "authority": (lines_of(b"Host: a", first=b"POST a:80 HTTP/1.1"), "request_line", ""),
    "nul in the target": (lines_of(b"Host: a", first=b"POST /v1/bookings\0 HTTP/1.1"), "request_line", ""),
    "two expectations": (
        lines_of(b"Host: a", b"Expect: 100-continue", b"expect: 100-continue", b"Content-Length: 2"), "duplicate", "Expect"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_what_somebody_else_might_read_otherwise_is_refused(door: Door, event: EventView, name: str) -> None:
    """Every way, however it is cut, and also after requests that were good."""
    whole, code, header = AMBIGUOUS[name]
    where = {"header": header, "code": code} if header else {"code": code}
    cuts = [[whole], *([whole[:at], whole[at:]] for at in range(1, len(whole)))]
    cuts.append([bytes([byte]) for byte in whole])
    for pieces in cuts:
        wire = await door.connect().send(*pieces).quiet()
        (answer,) = wire.answers()
        assert (answer.status, json.loads(answer.body)["errors"]) == (400, [where]), pieces
        assert wire.over
    wire = await door.connect().send(booking(event, "k") + whole).quiet()
    assert statuses(wire.answers()) == [202, 400]


@pytest.mark.parametrize(
    "target",
    ["/v1%2fbookings", "/v1%2Fbookings", "%2Fv1/bookings", "/v1/x/%2e%2e/bookings", "/v1/x/../bookings", "/v1//bookings",
     "/v1/bookings;x=1", "/v1;x/bookings", "/v1/./bookings", "/v1/bookings%00", "/v1\\bookings",
     "/v1/bookings%20", "//a/v1/bookings"],
)  # fmt: skip
async def test_a_path_means_what_a_proxy_takes_it_for(
    door: Door, event: EventView, office: BoxOffice, target: str
) -> None:
    """Nothing is a slash, or goes up, but what is written so: nobody books by a path that a proxy let by as another."""
    before = await pending(office)
    (answer,) = await door.answers(booking(event, "k").replace(b"/v1/bookings", target.encode(), 1))
    assert answer.status == (404 if target.startswith("/") else 400)
    assert await pending(office) == before


SIZES = [b"+%x", b"-%x", b"0x%x", b"0_%x", b" %x", b"%x ", b"%x\t", b"%x;", b"%x ;a=b", b'%x;a="b', b'%x;a="\\""', b"%x;a=b\n",
         b"0" * 20 + b"%x", b"1%08x", b"%x;a=\x00", b"%x,%x"]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
async def test_a_size_of_a_chunk_is_digits(door: Door, event: EventView, office: BoxOffice, size: bytes) -> None:
    """In one piece or byte by byte: what somebody else might read as another size is refused, and nothing behind it is a
    request."""
    before, body = await pending(office), json.dumps(booking_of(event)).encode()
    head = request_of("/v1/bookings", None, b"Transfer-Encoding: chunked\r\n", key="k", method="POST")
    head = head.replace(b"\r\n\r\n", b"\r\nContent-Type: application/json\r\n\r\n")
    whole = head + size.replace(b"%x", b"%x" % len(body)).replace(b"%08x", b"%08x" % len(body)) + b"\r\n" + body
    whole += b"\r\n0\r\n\r\n" + HEALTH
    for pieces in ([whole], [bytes([byte]) for byte in whole]):
        wire = await door.connect().send(*pieces).quiet()
        (answer,) = wire.answers()
        assert json.loads(answer.body)["errors"] == [{"header": "Transfer-Encoding", "code": "framing"}]
        assert wire.over
    assert await pending(office) == before


async def test_all_ways_answer_alike(settings: Settings, office: BoxOffice, event: EventView) -> None:
    """Also what is unusual and allowed."""
    doors = [Door(way, settings, office) for way in WAYS]
    usual = booking(event, "k")
    for stream in (
        usual, usual + HEALTH, b"\r\n" + usual, usual.replace(b"Host", b"hOST"), usual.replace(b"1.1\r\n", b"1.0\r\n", 1),
        b"GET /healthz HTTP/1.0\r\n\r\n", HEALTH.replace(b"Host", b"X-Utf: \xc3\xa9\r\nHost"), HEALTH * 40,
        booking(event, "c", b"Connection: close\r\n") + HEALTH, booking(event, "e", b"Expect: 100-continue\r\n"),
        usual.replace(b"Authorization", b"X"), usual.replace(b"Idempotency-Key", b"X"), booking(event, "d", b"X:\r\n"),
        request_of("/v1/bookings", b"x" * 20_000, key="k") + HEALTH, request_of("/v1/bookings/x", b"y" * 9, method="GET"),
        usual.replace(b"Bearer ", b"bearer  "), booking(event, "o", b"Origin: https://shop.example\r\n"),
        request_of(f"/v1/events/{event.id}?x=1"), request_of("/v1/events/%00"), request_of("//v1/bookings"),
        request_of("/v1/bookings/../bookings"), b"GET /healthz HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    ):  # fmt: skip
        told = [[alike(answer) for answer in await door.answers(stream)] for door in doors]
        for each in told:
            assert each == told[0], stream


async def test_every_answer_has_a_date_and_no_server(door: Door, event: EventView) -> None:
    """Whoever wrote it: a page with a wrong clock can correct it (RFC 9110, 6.6.1)."""
    for sent in (booking(event, "k"), HEALTH, request_of("/nothing"), b"\0", request_of(f"/v1/events/{event.id}"),
                 request_of("/v1/bookings", b"x" * 20_000)):  # fmt: skip
        (answer,) = await door.answers(sent)
        at = parsedate_to_datetime(answer.headers["date"])
        assert abs((datetime.now(UTC) - at).total_seconds()) < 5
        assert "server" not in answer.headers


async def test_strangers_fill_no_log(
    door: Door, event: EventView, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first refusal of a kind has a line at once, all others of ten seconds have one together, which counts them."""
    monkeypatch.setattr(quiet, "EACH_S", 0.2)
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(
        quiet, "log", SimpleNamespace(info=lambda event, **fields: said.append({"event": event, **fields}))
    )
    stranger = booking(event, "k").replace(KEY.encode(), b"nobody.knows")
    for _ in range(20):
        assert statuses(await door.answers(stranger)) == [401]
        assert statuses(await door.answers(b"\0")) == [400]

    async def counted() -> bool:
        return sum(line.get("requests", 1) for line in said) == 40

    await eventually(counted)
    assert len(said) < 20
