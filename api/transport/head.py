"""The head of a request: read strictly, or not at all.

One grammar (RFC 9112, RFC 9110) and nothing besides: no bare line ends, no folded lines, no space before a colon, one
Host, one length, no other coding than `chunked`. What a proxy in front of us might take for something else is refused,
because the two of us would then disagree about where a request ends or whose it is. `Upgrade` and `HTTP2-Settings` are
headers that nobody looks at (RFC 9110, 7.8): a request that offers another protocol is an ordinary one.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from boxoffice.telemetry import request_id

__all__ = ["HEADERS_MAX", "METHODS", "TARGET_MAX", "TOKEN", "Head", "Unreadable", "check_begun", "read_head"]

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
"""What may stand first. Which of them a path knows is for the application to say. CONNECT is a proxy's."""

TARGET_MAX: Final = 8_192
"""Bytes of a request's target: of our longest, a list with all of its filters, a quarter."""

HEADERS_MAX: Final = 100
"""Lines of headers. Proxies and tracing add a dozen to a client's ten."""

# No possessive groups here: Python before 3.11.5 reads them wrongly (python/cpython#106052).
TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_VALUE: Final = rb"[\t -~\x80-\xff]"
_LINES: Final = rb"(?:" + TOKEN + rb"+:" + _VALUE + rb"*\r\n)*"
_FIRST: Final = rb"(" + "|".join(METHODS).encode() + rb") (/[!$-~]*) HTTP/1\.([01])\r\n"

_head: Final = re.compile(_FIRST + _LINES + rb"\r\n").fullmatch
_first_line: Final = re.compile(_FIRST).fullmatch
_other_version: Final = re.compile(_FIRST.partition(rb" HTTP")[0] + rb"(?: HTTP/[0-9.]{1,8})?\r\n").fullmatch
lines: Final = re.compile(_LINES).fullmatch
"""Whether this is nothing but whole lines of headers, or of trailers."""

_fields: Final = re.compile(rb"\r\n(" + TOKEN + rb"+):([^\r]*)").findall

_ONCE: Final = frozenset((
    b"authorization", b"content-encoding", b"content-length", b"content-type", b"expect", b"host", b"origin",
    b"transfer-encoding",
))  # fmt: skip
"""Headers of which there may be one. With two, somebody reads the first and somebody the last."""

_host: Final = re.compile(rb"(?:[0-9A-Za-z\-._~%!$&'()*;=]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?").fullmatch
_number: Final = re.compile(rb"0|[1-9][0-9]{0,14}").fullmatch

_tabbed: Final = re.compile(rb"\r\n(transfer-encoding|content-length):[^\r]*\t", re.IGNORECASE).search
"""Where a body ends is written with spaces: some trim a tab, and some take it for a part of the value."""

# Not a line of text: a control character, or one half of a line's end. What has come so far may end with the first half.
_bad: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)").search

_SPACED: Final = tuple(b"%b /" % method.encode() for method in METHODS)


class Unreadable(Exception):
    """What arrives is no request that we read. `code` says why, `header` where, when it was one of them."""

    def __init__(self, code: str, header: str = "", status: int = 400) -> None:
        super().__init__(code)
        self.code = code
        self.header = header
        self.status = status


class Head(Struct, gc=False):
    """A request without its body."""

    method: bytes
    target: bytes
    """Path and query, as they were written."""
    version: str
    """`1.1` or `1.0`."""
    headers: list[tuple[bytes, bytes]]
    """Names in lower case."""
    by_name: dict[bytes, bytes]
    """The same by name; the last value, where there are several."""
    length: int
    """Bytes of the body; -1 when it comes in chunks."""
    stays: bool
    """The connection may go on after the answer."""
    expects: bool
    """The client waits for a 100 before it sends the body."""

    @property
    def request_id(self) -> bytes:
        """As the client names it, or a new one at each look."""
        return request_id.choose(self.by_name.get(request_id.HEADER), self.by_name.get(request_id.TRACEPARENT))


def read_head(raw: bytes) -> Head:
    """A whole head, its empty line included. Raises `Unreadable`."""
    found = _head(raw)
    if found is None:
        raise _unreadable(raw)
    method, target, minor = found.groups()
    if len(target) > TARGET_MAX or raw.count(b"\n") > HEADERS_MAX + 2:
        raise Unreadable("too_large", status=431)
    headers = [(name.lower(), value.strip(b" \t")) for name, value in _fields(raw)]
    by_name = dict(headers)
    if len(by_name) < len(headers):
        _refuse_twice(headers)
    if b"\t" in raw and (tabbed := _tabbed(raw)):
        raise Unreadable("framing", _title(tabbed[1].lower()))
    old = minor == b"0"
    host = by_name.get(b"host")
    if host is None:
        if not old:
            raise Unreadable("missing", "Host")
    elif not _host(host):
        raise Unreadable("malformed", "Host")
    length = _length(by_name, old)
    close = old or (b"connection" in by_name and _closes(headers))
    expects = b"expect" in by_name and not old and by_name[b"expect"].lower() == b"100-continue"
    return Head(method, target, "1.0" if old else "1.1", headers, by_name, length, not close, expects)


def _refuse_twice(headers: list[tuple[bytes, bytes]]) -> None:
    seen = set()
    for name, _ in headers:
        if name in seen and name in _ONCE:
            raise Unreadable("duplicate", _title(name))
        seen.add(name)


def _length(by_name: dict[bytes, bytes], old: bool) -> int:
    length = by_name.get(b"content-length")
    if b"transfer-encoding" in by_name:
        if length is not None or old or by_name[b"transfer-encoding"].lower() != b"chunked":
            raise Unreadable("framing", "Transfer-Encoding")
        return -1
    if length is None:
        return 0
    if not _number(length):
        raise Unreadable("framing", "Content-Length")
    return int(length)


def _closes(headers: list[tuple[bytes, bytes]]) -> bool:
    tokens = b",".join(value for name, value in headers if name == b"connection").lower()
    return b"close" in (token.strip(b" \t") for token in tokens.split(b","))


def _title(name: bytes) -> str:
    return "-".join(part.capitalize() for part in name.decode().split("-"))


def check_begun(raw: bytes | bytearray, known: int, scanned: int) -> int:
    """Of a head that has only begun: refuse what no more bytes can mend. Each byte is looked at once: its first `known`
    bytes are lines that were found good, the first `scanned` are text.

    Returns how many bytes are lines that are good. Raises `Unreadable`.
    """
    end = raw.rfind(b"\n", known) + 1
    if known == 0:
        _check_method(bytes(raw[:9]))
        if first := raw.find(b"\n") + 1:
            if not _first_line(raw, 0, first):
                raise _unreadable(bytes(raw[:first]))
            known = first
        elif len(raw) > TARGET_MAX + 32:
            raise Unreadable("too_large", status=431)
    if bad := _bad(raw, max(0, scanned - 1)):
        raise Unreadable("header" if known and bad.start() >= known else "request_line")
    if end > known:
        if not lines(raw, known, end):
            raise Unreadable("header")
        known = end
    return known


def _check_method(begun: bytes) -> None:
    for each in _SPACED:
        if each.startswith(begun) or begun.startswith(each):
            return
    raise Unreadable("request_line")


def _unreadable(raw: bytes) -> Unreadable:
    first = raw[: raw.find(b"\n") + 1]
    if _first_line(first):
        return Unreadable("header")
    return Unreadable("http_version" if _other_version(first) else "request_line")
