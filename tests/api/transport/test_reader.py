"""Bytes of one connection cut into whole requests, in however many pieces they come."""

from __future__ import annotations

from typing import Any

import pytest

from api.transport import reader
from api.transport.head import Unreadable
from api.transport.reader import Reader, TooLong

HEAD_MAX, BODY_MAX = 300, 20


def head(method: str = "POST", target: str = "/v1/bookings", *more: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", *more, "", ""]).encode()


def post(body: bytes, target: str = "/v1/bookings", *more: str) -> bytes:
    return head("POST", target, f"Content-Length: {len(body)}", *more) + body


def chunked(*pieces: bytes, target: str = "/v1/bookings", method: str = "POST") -> bytes:
    return head(method, target, "Transfer-Encoding: chunked") + b"".join(pieces)


def read(data: bytes, size: int) -> list[Any]:
    """Bodies of what was read, `too long` and codes of what was not, in their order."""
    ours, found = Reader(HEAD_MAX, BODY_MAX), []
    for at in range(0, len(data), size):
        ours.feed(data[at : at + size])
        while True:
            try:
                request = ours.next()
            except TooLong as error:
                found.append(f"more than {error.most}")
                continue
            except Unreadable as error:
                return [*found, (error.status, error.code)]
            if request is None:
                break
            found.append(request.body)
    return [*found, "begun"] if ours.begun else found


LAST = b"0\r\n\r\n"
FRAMING = (400, "framing")
CASES: dict[str, tuple[bytes, list[Any]]] = {
    "no body": (head("GET"), [b""]),
    "two requests": (post(b"abc") + head("GET"), [b"abc", b""]),
    "an empty line before": (b"\r\n" + post(b"abc"), [b"abc"]),
    "two empty lines before": (b"\r\n\r\n" + post(b"abc"), [(400, "request_line")]),
    "an empty line before each": (b"\r\n" + post(b"a") + b"\r\n" + post(b"b"), [b"a", b"b"]),
    "an empty line alone": (b"\r\n", []),
    "a body of the most": (post(b"x" * 20) + head("GET"), [b"x" * 20, b""]),
    "a body of one more": (post(b"x" * 21) + head("GET"), ["more than 20", b""]),
    "a body that is missing": (post(b"abc")[:-1], ["begun"]),
    "a head that is missing": (head("GET")[:-1], ["begun"]),
    "a webhook's body": (post(b"x" * 21, "/v1/webhooks/stripe"), [b"x" * 21]),
    "a change's body": (
        head("PATCH", "/v1/events/e", "Content-Length: 20") + b"x" * 20 + head("GET"), [b"x" * 20, b""],
    ),
    "a change's body of one more": (head("PATCH", "/v1/events/e", "Content-Length: 21") + b"x" * 21, ["more than 20"]),
    "a body that nobody reads": (head("GET", "/", "Content-Length: 30") + b"x" * 30 + head("GET"), [b"", b""]),
    "a head of the most": (head("GET", "/", "A: " + "x" * (HEAD_MAX - len(head("GET", "/", "A: ")))), [b""]),
    "a head of one more": (
        head("GET", "/", "A: " + "x" * (HEAD_MAX + 1 - len(head("GET", "/", "A: ")))), [(431, "too_large")],
    ),
    "a head without end": (b"GET / HTTP/1.1\r\nA: " + b"x" * HEAD_MAX, [(431, "too_large")]),
    "chunks": (chunked(b"3\r\nabc\r\n", b"0a\r\n0123456789\r\n", LAST) + head("GET"), [b"abc0123456789", b""]),
    "chunks of the most": (chunked(b"14\r\n" + b"x" * 20 + b"\r\n", LAST), [b"x" * 20]),
    "chunks of one more": (chunked(b"15\r\n" + b"x" * 21 + b"\r\n", LAST) + head("GET"), ["more than 20", b""]),
    "chunks of one more in two": (
        chunked(b"14\r\n" + b"x" * 20 + b"\r\n", b"1\r\nx\r\n", LAST) + head("GET"), ["more than 20", b""],
    ),
    "chunks that nobody reads": (chunked(b"1e\r\n" + b"x" * 30 + b"\r\n", LAST, method="GET"), [b""]),
    "a chunk's extension": (chunked(b'1;a=b;c="d e"\r\nx\r\n', LAST), [b"x"]),
    "a size that is none": (chunked(b"g\r\n"), [FRAMING]),
    "a size of nine digits": (chunked(b"000000001\r\nx\r\n"), [FRAMING]),
    "a size with a bare line feed": (chunked(b"1\nx\r\n"), [FRAMING]),
    "a chunk that is longer than said": (chunked(b"1\r\nxy\r\n"), [FRAMING]),
    "a chunk whose end is half there": (chunked(b"1\r\nx\r"), ["begun"]),
    "a line of the most": (chunked(b"1;a=" + b"b" * 122 + b"\r\nx\r\n", LAST), [b"x"]),
    "a line of one more": (chunked(b"1;a=" + b"b" * 123 + b"\r\nx\r\n", LAST), [FRAMING]),
    "a line without end": (chunked(b"1;a=" + b"b" * 125), [FRAMING]),
    "trailers": (chunked(b"0\r\n", b"A: b\r\nC: d\r\n", b"\r\n") + head("GET"), [b"", b""]),
    "a trailer that is none": (chunked(b"0\r\n", b"A b\r\n"), [FRAMING]),
    **{
        f"a trailer {name}": (chunked(b"0\r\n", f"{name}: x\r\n\r\n".encode()), [FRAMING])
        for name in ("Connection", "CONTENT-LENGTH", "transfer-encoding", "Upgrade")
    },
    "trailers of the most": (chunked(b"0\r\n", b"A: " + b"b" * 4_089 + b"\r\n\r\n"), [b""]),
    "trailers of one more": (chunked(b"0\r\n", b"A: " + b"b" * 4_090 + b"\r\n\r\n"), [FRAMING]),
    "frames of the most": (chunked(*[b"00000001\r\nx\r\n"] * 20, LAST), [b"x" * 20]),
    "too many frames": (
        chunked(*[b"1;a=" + b"b" * 110 + b"\r\nx\r\n"] * 18, LAST), [FRAMING],
    ),
    "as many frames as there may be": (chunked(*[b"1;a=" + b"b" * 110 + b"\r\nx\r\n"] * 17, LAST), [b"x" * 17]),
    "frames of what nobody reads": (
        chunked(*[b"1;a=" + b"b" * 110 + b"\r\nx\r\n"] * 70, LAST, method="GET"), [b""],
    ),
    "too many frames of what nobody reads": (
        chunked(*[b"1;a=" + b"b" * 110 + b"\r\nx\r\n"] * 72, LAST, method="GET"), [FRAMING],
    ),
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100_000])
@pytest.mark.parametrize("name", CASES)
def test_what_is_read(name: str, size: int) -> None:
    data, means = CASES[name]
    assert read(data, size) == means


@pytest.mark.parametrize(("length", "fits"), [(64, True), (65, False)])
@pytest.mark.parametrize("how", ["length", "GET", "chunks"])
def test_what_is_let_by_has_an_end(monkeypatch: pytest.MonkeyPatch, length: int, fits: bool, how: str) -> None:
    """Announced, or as it comes."""
    monkeypatch.setattr(reader, "PASSED_MAX", 64)
    method = "GET" if how == "GET" else "POST"
    body = b"x" * length
    if how == "chunks":
        data = chunked(b"%x\r\n" % length, body, b"\r\n", LAST)
    else:
        data = head(method, "/v1/bookings", f"Content-Length: {length}") + body
    refused = [*(["more than 20"] if how != "GET" else [])]
    good = [*refused, *([b""] if how == "GET" else [])]
    found = read(data, 10)
    if fits:
        assert found == good
    elif how == "length":
        assert found == [(400, "body_too_large")]
    else:
        assert found == [*refused, (400, "body_too_large")]


def test_how_far_it_is() -> None:
    """Whether some of a request is here, whether its client waits to be told to send, and whether it is let by."""
    ours = Reader(HEAD_MAX, BODY_MAX)

    def state() -> tuple[bool, bool, bool]:
        return ours.begun, ours.waits, ours.passing

    assert state() == (False, False, False)
    whole = head("POST", "/v1/bookings", "Content-Length: 3", "Expect: 100-continue")
    ours.feed(whole[:10])
    assert ours.next() is None
    assert state() == (True, False, False)
    ours.feed(whole[10:])
    assert ours.next() is None
    assert state() == (True, True, False)
    ours.feed(b"a")
    assert ours.next() is None
    assert state() == (True, False, False)
    ours.feed(b"bc")
    request = ours.next()
    assert request is not None
    assert (request.body, state()) == (b"abc", (False, False, False))
    ours.feed(post(b"x" * 21)[:-1])
    with pytest.raises(TooLong):
        ours.next()
    assert ours.next() is None
    assert state() == (True, False, True)
    ours.drop()
    assert state() == (False, False, False)
    ours.feed(post(b"abc"))
    assert ours.next() is not None
