"""The grammar is ours; whatever it takes, two parsers of long standing have to read in the same way."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.transport.head import Head, Unreadable, check_begun, read_head
from api.transport.reader import Reader, Request, TooLong

HEADS = (
    b"GET /v1/events/x?a=b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /v1/bookings HTTP/1.1\r\nHost: shop.example:80\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
    b"POST /x HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nX: y\r\n\r\n",
    b"POST /x HTTP/1.0\r\nContent-Length: 2\r\nConnection: keep-alive, x\r\n\r\n{}",
    b"\r\nPOST /x HTTP/1.1\r\nhost:x\r\nConnection: close\r\nContent-Length: 0\r\nEmpty:\r\n\r\n",
)
BITS = (
    b"\r\n", b"\r", b"\n", b" ", b"\t", b":", b"\0", b"\x7f", b"\xff", b"0", b"9", b"A", b";", b",", b"chunked", b"x\r\n",
    b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: y\r\n", b"HTTP/1.1", b"Connection: close\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
)  # fmt: skip


def read(*pieces: bytes) -> list[Any]:
    """What our reader makes of it: requests, and the reason why there is no more."""
    reader, found = Reader(4_096, 64), []
    for piece in pieces:
        reader.feed(piece)
        try:
            while (request := reader.next()) is not None:
                found.append(request)
                if not request.head.stays:
                    return [*found, "last"]
        except Unreadable as error:
            return [*found, (error.code, error.header)]
        except TooLong:
            return [*found, "too long"]
    return [*found, "more" if reader.begun else "end"]


class Parsed:
    """What httptools tells of the same."""

    def __init__(self, data: bytes) -> None:
        self.requests: list[Any] = []
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            pass

    def on_message_begin(self) -> None:
        self.url, self.headers, self.body, self.headed = b"", [], b"", False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.headed:
            self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.headed = True
        self.first = self.parser.get_method(), self.url, self.parser.get_http_version()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.requests.append((*self.first, self.headers, self.body))


def read_by_h11(data: bytes) -> list[Any]:
    """What h11 tells of the first request."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    first, body = None, b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                version = event.http_version.decode()
                first = event.method, event.target, version, [(bytes(n), bytes(v)) for n, v in event.headers]
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert first is not None
                return [*first, body]
            else:
                return []
    except h11.RemoteProtocolError:
        return []


def shown(request: Request) -> tuple[Any, ...]:
    head = request.head
    # A body that nobody will look at is not kept.
    return head.method, head.target, head.version, head.headers, request.body if head.method == b"POST" else b""


def compare(data: bytes) -> int:
    """All agree on what we took. Returns how many requests that were."""
    ours = [shown(request) for request in read(data) if isinstance(request, Request)]
    theirs = [(*each[:4], each[4] if each[0] == b"POST" else b"") for each in Parsed(data).requests]
    assert ours == theirs[: len(ours)], data
    if ours:
        # It does not know of the empty line that may stand before a request.
        first = read_by_h11(data.removeprefix(b"\r\n"))
        assert list(ours[0][:3]) == first[:3] and ours[0][4] in (first[4], b""), data
        assert ours[0][3] == first[3], data
    return len(ours)


def mangled(chance: random.Random) -> bytes:
    data = bytearray(b"".join(chance.choice(HEADS) for _ in range(chance.randint(1, 3))))
    for _ in range(chance.randint(0, 4)):
        at = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[at:at] = chance.choice(BITS)
            case 1:
                del data[at : at + chance.randint(1, 4)]
            case 2:
                data[at] = chance.randrange(256)
            case 3:
                end = min(len(data), at + chance.randint(1, 30))
                data[at:at] = data[at:end]
    return bytes(data)


def try_many(count: int, seed: int) -> int:
    chance, taken = random.Random(seed), 0
    for _ in range(count):
        data = mangled(chance)
        taken += compare(data)
        whole = read(data)
        cuts = sorted(chance.randrange(len(data) + 1) for _ in range(3))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]
        assert read(*pieces) == whole, (pieces, data)
        assert read(*(bytes([byte]) for byte in data)) == whole, data
    return taken


def test_what_we_take_is_read_alike_by_others() -> None:
    """And in whatever pieces it comes."""
    assert try_many(6_000, 1) > 2_000


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_much_that_we_take_is_read_alike_by_others() -> None:
    for seed in range(10):
        try_many(10_000, 100 + seed)


@given(st.binary(max_size=200), st.integers(0, 4))
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_read_or_refused(data: bytes, at: int) -> None:
    """And nothing else is raised."""
    for stream in (data, HEADS[at] + data, HEADS[at][:40] + data):
        read(stream)
        compare(stream)


def test_time_is_linear() -> None:
    """A large head in many small pieces is looked at once, not once for each piece."""
    for data, most in (
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 60_000, 65_536),
        (b"GET /" + b"y" * 8_000, 65_536),
    ):
        reader = Reader(most, 64)
        for byte in data:
            reader.feed(bytes([byte]))
            assert reader.next() is None


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"x" * 2_000, "request_line"), (b"GET / HTTP/1.1\r\na: " + b"x" * 2_000, "too_large")],
)
@pytest.mark.parametrize("cut", [1, 30, 900, 1_500, 2_000])
def test_what_is_wrong_is_the_same_in_however_many_pieces_it_comes(data: bytes, code: str, cut: int) -> None:
    """Bytes that begin no request are told so, and not that there are too many of them."""
    reader = Reader(1_000, 1_000)
    with pytest.raises(Unreadable) as wrong:
        for piece in (data[:cut], data[cut:]):
            reader.feed(piece)
            assert reader.next() is None
    assert wrong.value.code == code


LINE = b"POST /x HTTP/1.1\r\n"
HOST = b"Host: x\r\n"
ONCE = (
    "Authorization", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host", "Origin", "Transfer-Encoding",
)  # fmt: skip


def head_of(*more: bytes, first: bytes = LINE, host: bytes = HOST) -> Head:
    return read_head(first + host + b"".join(line + b"\r\n" for line in more) + b"\r\n")


def refusal(work: Callable[[], object]) -> tuple[str, str, int]:
    with pytest.raises(Unreadable) as refused:
        work()
    assert str(refused.value) == refused.value.code
    return refused.value.code, refused.value.header, refused.value.status


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("minor", ["0", "1"])
def test_what_a_head_says(method: str, minor: str) -> None:
    first = f"{method} /a?b=c HTTP/1.{minor}\r\n".encode()
    found = head_of(b"X-A: \t b c \t", b"x-a:d", b"Empty:", first=first)
    headers = [(b"host", b"x"), (b"x-a", b"b c"), (b"x-a", b"d"), (b"empty", b"")]
    said = {b"host": b"x", b"x-a": b"d", b"empty": b""}
    assert found == Head(method.encode(), b"/a?b=c", f"1.{minor}", headers, said, 0, minor == "1", False)
    for at in range(len(first)):
        assert check_begun(first[:at], 0, 0) == 0, "a method that has only begun may still be one"
    assert check_begun(first, 0, 0) == len(first)


@pytest.mark.parametrize("name", ONCE)
def test_of_some_headers_there_may_be_one(name: str) -> None:
    """Two readers would take another for the one. It is named as it is written in documents, however it came."""
    value = {"Host": "x", "Content-Length": "1", "Transfer-Encoding": "chunked"}.get(name, "v")
    lines = [f"{spelt}: {value}".encode() for spelt in (name.upper(), "X-Other", name.lower())]
    host = b"" if name == "Host" else HOST
    assert refusal(lambda: head_of(*lines, host=host)) == ("duplicate", name, 400)
    head_of(*lines[:2], host=host)
    head_of(b"Idempotency-Key: a", b"Idempotency-Key: b", b"X-Other: a", b"X-Other: a")


@pytest.mark.parametrize(
    ("more", "length"),
    [
        ([], 0), ([b"Content-Length: 0"], 0), ([b"Content-Length: 10"], 10), ([b"Content-Length: 999999999999999"], 10**15 - 1),
        ([b"Transfer-Encoding: chunked"], -1), ([b"Transfer-Encoding: CHUNKED"], -1),
    ],
)  # fmt: skip
def test_where_a_body_ends(more: list[bytes], length: int) -> None:
    assert head_of(*more).length == length


@pytest.mark.parametrize(
    ("more", "header"),
    [
        ([b"Content-Length: 1000000000000000"], "Content-Length"), ([b"Content-Length: 01"], "Content-Length"),
        ([b"Content-Length: +1"], "Content-Length"), ([b"Content-Length: 1, 1"], "Content-Length"),
        ([b"Content-Length: "], "Content-Length"), ([b"Content-Length: 1\t"], "Content-Length"),
        ([b"content-length:\t1"], "Content-Length"), ([b"Transfer-Encoding: chunked\t"], "Transfer-Encoding"),
        ([b"Transfer-Encoding: gzip, chunked"], "Transfer-Encoding"), ([b"Transfer-Encoding: identity"], "Transfer-Encoding"),
        ([b"Transfer-Encoding: chunked", b"Content-Length: 0"], "Transfer-Encoding"),
        ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], "Transfer-Encoding"),
    ],
)  # fmt: skip
def test_an_end_that_is_said_in_two_ways_is_refused(more: list[bytes], header: str) -> None:
    assert refusal(lambda: head_of(*more)) == ("framing", header, 400)
    assert head_of(b"X-A: 1\t").by_name[b"x-a"] == b"1", "a tab elsewhere is a blank"


def test_an_old_client_has_no_chunks_and_need_not_name_a_host() -> None:
    old = b"POST /x HTTP/1.0\r\n"
    assert refusal(lambda: head_of(b"Transfer-Encoding: chunked", first=old)) == ("framing", "Transfer-Encoding", 400)
    assert head_of(b"Content-Length: 3", first=old, host=b"").length == 3
    assert refusal(lambda: head_of(host=b"")) == ("missing", "Host", 400)
    assert refusal(lambda: head_of(first=old, host=b"Host: a b\r\n")) == ("malformed", "Host", 400)


@pytest.mark.parametrize(
    ("host", "good"),
    [
        (b"x", True), (b"shop.example:80", True), (b"x:65535", True), (b"[::1]", True), (b"[fe80::1.2]:8", True),
        (b"a%20-_~", True),
        (b"", False), (b"x:", False), (b"x:123456", False), (b"x:8a", False), (b"[::1", False), (b"[::g]", False),
        (b"a b", False), (b"a/b", False), (b"a@b", False), (b"x,y", False), (b"\xe9", False),
    ],
)  # fmt: skip
def test_what_a_host_is(host: bytes, good: bool) -> None:
    if good:
        assert head_of(host=b"Host: " + host + b"\r\n").by_name[b"host"] == host
    else:
        assert refusal(lambda: head_of(host=b"Host: " + host + b"\r\n")) == ("malformed", "Host", 400)


@pytest.mark.parametrize(
    ("more", "stays"),
    [
        ([], True), ([b"Connection: close"], False), ([b"Connection: Keep-Alive, \tCLOSE "], False),
        ([b"Connection: close", b"Connection: x"], False), ([b"Connection: x", b"Connection: close"], False),
        ([b"Connection: closed"], True), ([b"Connection: keep-alive"], True), ([b"X: close"], True),
        ([b"Connection:"], True), ([b"X: close", b"Connection: upgrade"], True),
    ],
)  # fmt: skip
def test_whether_a_connection_goes_on(more: list[bytes], stays: bool) -> None:
    assert head_of(*more).stays is stays
    assert head_of(*more, first=b"GET / HTTP/1.0\r\n").stays is False


@pytest.mark.parametrize(
    ("value", "expects"), [(b"100-continue", True), (b"100-Continue", True), (b"200-ok", False), (b"", False)]
)
def test_who_waits_to_be_told_to_send(value: bytes, expects: bool) -> None:
    assert head_of(b"Expect: " + value).expects is expects
    assert head_of(b"Expect: " + value, first=b"POST / HTTP/1.0\r\n").expects is False
    assert head_of().expects is False


@pytest.mark.parametrize("over", [0, 1])
def test_how_much_a_head_may_be(over: int) -> None:
    """Bytes of the target, and lines."""
    target = b"/" + b"t" * (8_191 + over)
    lines = [b"a: b"] * (99 + over)
    calls = (lambda: head_of(first=b"GET " + target + b" HTTP/1.1\r\n"), lambda: head_of(*lines))
    for call in calls:
        if over:
            assert refusal(call) == ("too_large", "", 431)
        else:
            call()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"GET  / HTTP/1.1\r\n\r\n", "request_line"), (b"GET x HTTP/1.1\r\n\r\n", "request_line"),
        (b"CONNECT x:1 HTTP/1.1\r\n\r\n", "request_line"), (b"get / HTTP/1.1\r\n\r\n", "request_line"),
        (b"GET /\xe9 HTTP/1.1\r\n\r\n", "request_line"), (b"GET /\x7f HTTP/1.1\r\n\r\n", "request_line"),
        (b"GET / HTTP/1.1 \r\n\r\n", "request_line"), (b"GET / http/1.1\r\n\r\n", "request_line"),
        (b"GET /\r\n\r\n", "http_version"), (b"GET / HTTP/2.0\r\n\r\n", "http_version"),
        (b"GET / HTTP/1.2\r\n\r\n", "http_version"), (b"GET / HTTP/9\r\n\r\n", "http_version"),
        (b"GET / HTTP/123456789\r\n\r\n", "request_line"), (b"GET / HTTP/\r\n\r\n", "request_line"),
        (LINE + b"Host : x\r\n\r\n", "header"), (LINE + b"\r\n x\r\n\r\n", "header"), (LINE + b"Ho st: x\r\n\r\n", "header"),
        (LINE + b": x\r\n\r\n", "header"), (LINE + b"Host\r\n\r\n", "header"), (LINE + b"Host: x\x00\r\n\r\n", "header"),
        (LINE + b"Host: x\x7f\r\n\r\n", "header"), (LINE + b"Host: x\n\r\n", "header"), (LINE + b"H\xe9: x\r\n\r\n", "header"),
    ],
)  # fmt: skip
def test_what_is_no_head_is_told_by_where_it_goes_wrong(raw: bytes, code: str) -> None:
    assert refusal(lambda: read_head(raw)) == (code, "", 400)


def begun(raw: bytes, known: int = 0, scanned: int = 0) -> Any:
    try:
        return check_begun(raw, known, scanned)
    except Unreadable as error:
        return error.code, error.status


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"", 0), (b"POST", 0), (b"POST ", 0), (b"POST /x HTTP/1.1\r", 0), (LINE, 18), (LINE + b"Host: x\r", 18),
        (LINE + HOST, 27), (LINE + HOST + b"Content", 27), (LINE + b"A:\t\xff\r\n", 24), (b"POSTS", ("request_line", 400)),
        (b"POST x", ("request_line", 400)), (b"OPTIONS x", ("request_line", 400)),
        (b"GET / HTTP/3\r\n", ("http_version", 400)), (b"GET /\0", ("request_line", 400)),
        (b"GET /\x1f", ("request_line", 400)), (b"GET /\x0b", ("request_line", 400)), (b"GET /\x0e", ("request_line", 400)),
        (b"GET /\x7f", ("request_line", 400)),
        (b"GET /\rx", ("request_line", 400)), (b"GET /\n", ("request_line", 400)), (LINE + b"A: b\0", ("header", 400)),
        (LINE + b"A: b\n", ("header", 400)), (LINE + b"A: b\rc", ("header", 400)), (LINE + b"A b\r\n", ("header", 400)),
        (LINE + HOST + b" folded\r\n", ("header", 400)), (b"GET /\t", 0),
    ],
)  # fmt: skip
def test_what_has_begun_is_refused_as_soon_as_it_cannot_become_a_head(raw: bytes, found: Any) -> None:
    assert begun(raw) == found


def test_a_first_line_without_an_end_has_a_length() -> None:
    assert begun(b"GET /" + b"t" * 8_219) == 0
    assert begun(b"GET /" + b"t" * 8_220) == ("too_large", 431)


def test_what_was_looked_at_is_not_looked_at_again() -> None:
    """But for the last byte, which may be one half of a line's end."""
    assert begun(LINE + b"\0: x\r\n" + HOST, 24, 24) == 33
    assert begun(LINE + b"A: b\r", 18, 22) == 18
    assert begun(LINE + b"A: b\rc", 18, 23) == ("header", 400)
    assert begun(LINE + b"A: \0b", 18, 22) == ("header", 400)
    assert begun(LINE + b"A: \0b", 18, 23) == 18
    assert begun(LINE + HOST + b"B: c\r\n", 27, 27) == 33
