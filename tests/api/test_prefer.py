"""Which wait a request prefers (RFC 7240)."""

from __future__ import annotations

import pytest

from api.prefer import applied, applied_line, wait_of
from api.transport.reply import Reply


@pytest.mark.parametrize(
    ("prefer", "wait_s"),
    [
        (None, 0),
        (b"", 0),
        (b"wait=5", 5),
        (b"Wait = 5", 5),
        (b'wait="5"', 5),
        (b"wait=10", 10),
        (b"wait=3600", 10),
        (b"wait=999999999", 10),
        (b"wait=9999999999999999999999", 0),
        (b"wait=0", 0),
        (b"wait=-1", 0),
        (b"wait=1.5", 0),
        (b"wait", 0),
        (b"wait=", 0),
        (b"respond-async, wait=7", 7),
        (b"respond-async; foo=bar, wait=7;x", 7),
        (b'return="a, wait=3", wait=7', 7),
        (b"wait=2, wait=9", 2),
        (b"waiting=5", 0),
        (b"x-wait=5", 0),
        (b",,wait=5", 0),
        (b"\xff\xfe", 0),
    ],
)
def test_what_is_understood_counts(prefer: bytes | None, wait_s: int) -> None:
    assert wait_of(prefer) == wait_s


def test_the_answer_says_that_it_was_waited_for() -> None:
    reply = Reply(200, b"{}", [(b"etag", b"1")])
    assert reply.header_lines  # written out before
    more = applied(reply, 7)
    assert more.headers == [(b"etag", b"1"), (b"preference-applied", b"wait=7")]
    assert applied_line(7) in more.header_lines
    assert applied_line(7) not in reply.header_lines
