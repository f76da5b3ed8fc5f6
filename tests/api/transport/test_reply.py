"""An answer as it goes out: what all have, and what is each request's own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from api.transport import reply
from api.transport.reply import JSON, NO_STORE, Reply

SECURE = (
    b"content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n"
    b"referrer-policy: no-referrer\r\nx-content-type-options: nosniff\r\n"
)


def test_an_answer_as_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Status, date, headers in their order, length, body; the last one says that the connection ends."""
    now = [1_700_000_000.9]
    monkeypatch.setattr(reply, "time", SimpleNamespace(time=lambda: now[0]))
    answer = Reply(202, b"{}", [JSON, NO_STORE])
    date = b"date: Tue, 14 Nov 2023 22:13:20 GMT\r\n"
    date += SECURE
    lines = b"content-type: application/json\r\ncache-control: no-store\r\ncontent-length: 2\r\n"
    lines += b"x-request-id: r-1\r\n"
    assert answer.whole(b"r-1") == b"HTTP/1.1 202 Accepted\r\n" + date + lines + b"\r\n{}"
    assert answer.last(b"r-1") == b"HTTP/1.1 202 Accepted\r\n" + date + lines + b"connection: close\r\n\r\n{}"
    assert reply.stamp() == b"Tue, 14 Nov 2023 22:13:20 GMT"
    now[0] += 1
    assert reply.stamp() == b"Tue, 14 Nov 2023 22:13:21 GMT"
    assert Reply(404, b"", []).whole(b"r-1") == (
        b"HTTP/1.1 404 Not Found\r\ndate: Tue, 14 Nov 2023 22:13:21 GMT\r\n"
        + SECURE
        + b"content-length: 0\r\nx-request-id: r-1\r\n\r\n"
    )


def test_a_problem_says_to_each_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made once for many requests, and its length is that of what each of them gets."""
    monkeypatch.setattr(reply, "time", SimpleNamespace(time=lambda: 1_700_000_000.0))
    problem = Reply(409, b'{"status":409}', [NO_STORE], names_request=True)
    for name, length in ((b"r-1", 33), (b"longer-1", 38)):
        begin = b"HTTP/1.1 409 Conflict\r\ndate: Tue, 14 Nov 2023 22:13:20 GMT\r\n" + SECURE
        begin += b"cache-control: no-store\r\n"
        headers = b"x-request-id: %b\r\ncontent-length: %d\r\n" % (name, length)
        body = b'{"status":409,"request_id":"%b"}' % name
        assert (len(body), problem.body_to(name)) == (length, body)
        assert problem.whole(name) == begin + headers + b"\r\n" + body
        assert problem.last(name) == begin + headers + b"connection: close\r\n\r\n" + body
    assert problem.headers == [NO_STORE]


def test_headers_that_were_written_out_are_read_again() -> None:
    """Without the length: whoever sends them in another way says it himself."""
    answer = Reply(201, b"{}", [], b"content-type: a\r\nlocation: /b: c\r\ncontent-length: 2\r\n")
    assert answer.headers == [(b"content-type", b"a"), (b"location", b"/b: c")]
    assert answer.header_lines == b"content-type: a\r\nlocation: /b: c\r\ncontent-length: 2\r\n"
    assert (answer.status, answer.body) == (201, b"{}")
