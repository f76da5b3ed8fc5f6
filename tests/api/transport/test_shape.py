"""What is taken without a parser: a head with the same lines as one that the parser took, and nothing else."""

from __future__ import annotations

import pytest

from api.transport import shape as shapes
from api.transport.shape import Shape


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes are compiled when they first come."""
    monkeypatch.setattr(shapes, "is_worth_it", lambda pattern: True)


LINE = b"POST /v1/bookings HTTP/1.1"


def request_of(*lines: bytes, body: bytes = b"{}", line: bytes = LINE) -> bytes:
    return b"\r\n".join([line, *lines, b"", b""]) + body


USUAL = (
    b"Host: x",
    b"Authorization: Bearer a.b",
    b"idempotency-key:  k1 ",
    b"X-Trace: 1",
    b"Content-Type: application/json",
    b"Content-Length: 2",
)


def changed(at: int, line: bytes) -> tuple[bytes, ...]:
    return (*USUAL[:at], line, *USUAL[at + 1 :])


def test_key_length_and_what_nobody_reads_may_differ() -> None:
    """Everything else stays as it was."""
    shape = Shape.of(request_of(*USUAL), LINE)
    assert shape is not None
    other = request_of(
        *USUAL[:2], b"idempotency-key:  k2 ", b"X-Trace: a b;c", USUAL[4], b"Content-Length: 31", body=b"x" * 31
    )

    found = shape.match(other)

    assert found is not None and (found["key"], found["length"], other[found.end() :]) == (b"k2", b"31", b"x" * 31)
    assert (found[shape.key_at], found[shape.length_at], shape.names) == (b"k2", b"31", False)
    assert (shape.authorization, shape.content_type) == (b"Bearer a.b", b"application/json")


@pytest.mark.parametrize(
    ("line", "group"), [(b"X-Request-Id: r1", "request_id"), (b"Traceparent: " + b"0" * 55, "traceparent")]
)
def test_whether_its_requests_have_names(line: bytes, group: str) -> None:
    """Before the key and behind it: groups are counted in the order of the head."""
    for lines in ((*USUAL, line), (*USUAL[:1], line, *USUAL[1:])):
        shape = Shape.of(request_of(*lines), LINE)
        assert shape is not None and shape.names
        found = shape.match(request_of(*lines))
        assert found is not None and found[group] == line.partition(b": ")[2]
        assert (found[shape.key_at], found[shape.length_at]) == (b"k1", b"2")


@pytest.mark.parametrize(
    "lines",
    [
        changed(1, b"Authorization: Bearer a.c"),
        changed(2, b"Idempotency-Key:  k1 "),
        changed(2, b"idempotency-key: k1"),
        changed(2, b"idempotency-key:  k 1 "),
        changed(2, b"idempotency-key:  k\x7f1 "),
        changed(2, b"idempotency-key:  " + b"k" * 256 + b" "),
        changed(3, b"X-Trace: 1\x00"),
        changed(3, b"X-Trace: 1\r\nOrigin: https://a.example"),
        changed(3, b"X-Trace: 1\n"),
        changed(3, b"X-Trace: 1\r"),
        changed(3, b"X-Trace: \xc3\xa9"),
        changed(4, b"Content-Type: application/xml"),
        changed(5, b"Content-Length: 02"),
        changed(5, b"Content-Length: +2"),
        changed(5, b"Content-Length: 2, 2"),
        changed(5, b"Content-Length:2"),
        (*USUAL, b"Expect: 100-continue"),
        (*USUAL, b"Transfer-Encoding: chunked"),
        USUAL[::-1],
        USUAL[:-1],
    ],
)
def test_any_other_head_goes_to_the_parser(lines: tuple[bytes, ...]) -> None:
    """One line more, less, or in another order; a value that is not of its kind."""
    shape = Shape.of(request_of(*USUAL), LINE)
    assert shape is not None
    assert shape.match(request_of(*lines)) is None
    assert shape.match(request_of(*USUAL, line=b"POST /v1/holds HTTP/1.1")) is None
    assert shape.match(b"\r\n" + request_of(*USUAL)) is None


@pytest.mark.parametrize(
    "request_",
    [
        request_of(*USUAL, line=b"POST /v1/bookings HTTP/1.0"),
        request_of(*USUAL, body=b"{"),
        request_of(*USUAL, body=b"{} "),
        request_of(*USUAL[:-1]),
        request_of(*USUAL[:2], *USUAL[3:]),
        request_of(*USUAL, b"Idempotency-Key: k2"),
        request_of(*USUAL, b"Content-Length: 2"),
        request_of(*USUAL, b"Authorization: Bearer a.c"),
        request_of(*USUAL, b"Origin: https://a.example"),
        request_of(*USUAL, b"Expect: 100-continue"),
        request_of(*USUAL, b"Transfer-Encoding: chunked"),
        request_of(*USUAL, b"Upgrade: h2c"),
        request_of(*USUAL, b" folded: line"),
        request_of(*changed(2, b'idempotency-key: "a b"')),
        request_of(*USUAL, b"X-Long: " + b"x" * 2_048),
        b"",
        USUAL[0],
    ],
)
def test_an_unusual_request_is_no_shape_for_others(request_: bytes) -> None:
    """A request that is anything but a plain booking in one piece."""
    assert Shape.of(request_, LINE) is None


def test_a_head_that_is_new_each_time_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes milliseconds in which nobody else is served: what came once is not worth them, and little is
    compiled in a second."""
    monkeypatch.undo()
    monkeypatch.setattr(shapes, "known", {})
    monkeypatch.setattr(shapes, "compiled_at", 0.0)

    def new(number: int) -> bytes:
        return request_of(*USUAL, b"X-New-%d: 1" % number)

    assert [Shape.of(new(number), LINE) for number in range(2_000)] == [None] * 2_000
    twice = [Shape.of(new(number), LINE) for number in range(1_990, 2_000)]
    assert len([shape for shape in twice if shape is not None]) == 1
