"""An answer before it is sent, the same for the fast path and for FastAPI."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Final, TypeAlias

from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

__all__ = ["JSON", "NO_STORE", "Header", "Reply", "stamp"]

Header: TypeAlias = tuple[bytes, bytes]

JSON: Final[Header] = (b"content-type", b"application/json")

NO_STORE: Final[Header] = (b"cache-control", b"no-store")
"""Of bookings, problems and probes: nobody keeps them."""


SECURITY: Final[tuple[Header, ...]] = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
"""What a browser may do with an answer that is no page: read it. That TLS is to be used is for the proxy in front to say."""

_SECURITY_LINES: Final = b"".join(b"%b: %b\r\n" % header for header in SECURITY)


class Reply(Struct, eq=False, gc=False):
    """Status, body and headers, all but the length and the request's id. Not to be changed: many requests may be given the
    same."""

    status: int
    body: bytes
    _headers: list[Header]
    _lines: bytes = b""
    """The headers written out, the length among them, as `header_lines` has them; given in their place, or made once."""
    names_request: bool = False
    """The body is a problem, and gets the request's id as one more member."""

    @property
    def headers(self) -> list[Header]:
        """Names and values, without the length."""
        if not self._headers:
            lines = (line.partition(b": ") for line in self._lines.splitlines())
            self._headers = [(name, value) for name, _, value in lines if name != b"content-length"]
        return self._headers

    @property
    def header_lines(self) -> bytes:
        """The headers as HTTP/1.1 has them; the length among them, unless it depends on the request's id."""
        if not self._lines:
            parts = [b"%b: %b\r\n" % header for header in self._headers]
            if not self.names_request:
                parts += [b"%b: %b\r\n" % length for length in self.length(self.body)]
            self._lines = b"".join(parts)
        return self._lines

    def length(self, body: bytes) -> list[Header]:
        """The length of this body as a header. None where there is no body, whose length would be taken for another's."""
        return [] if self.status in (204, 304) else [(b"content-length", b"%d" % len(body))]

    def body_to(self, request_id: bytes) -> bytes:
        """The body of the answer to this request."""
        return b'%b,"request_id":"%b"}' % (self.body[:-1], request_id) if self.names_request else self.body

    def whole(self, request_id: bytes, more: bytes = b"") -> bytes:
        """The answer to this request as it is sent over HTTP/1.1, now, on a connection that stays. `more`: lines of headers."""
        lines, body = self._lines or self.header_lines, self.body
        if self.names_request:
            body = self.body_to(request_id)
            more = b"content-length: %d\r\n%b" % (len(body), more)
        return b"%b%bx-request-id: %b\r\n%b\r\n%b" % (_begin(self.status), lines, request_id, more, body)

    def last(self, request_id: bytes) -> bytes:
        """The same, where the connection ends with it."""
        return self.whole(request_id, b"connection: close\r\n")


_begun: Final[dict[int, bytes]] = {}
"""Status line, date and what all have by status, for the second that `_begun_at` is."""

_begun_at = -1


def _begin(status: int) -> bytes:
    global _begun_at
    now = int(time.time())
    if now != _begun_at:
        _begun.clear()
        _begun_at = now
    begin = _begun.get(status)
    if begin is None:
        date = formatdate(now, usegmt=True).encode()
        begin = _begun[status] = b"%bdate: %b\r\n%b" % (STATUS_LINE[status], date, _SECURITY_LINES)
    return begin


def stamp() -> bytes:
    """The value of `Date` (RFC 9110, 6.6.1)."""
    return _begin(200).partition(b"date: ")[2].partition(b"\r\n")[0]
