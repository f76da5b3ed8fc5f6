"""The grammar is ours; whatever it takes, two parsers of long standing have to read in the same way."""

from __future__ import annotations

import random
from typing import Any

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.transport.head import Unreadable
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
