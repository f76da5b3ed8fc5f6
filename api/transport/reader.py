"""Cuts what arrives on a connection into whole requests.

It counts every byte as it comes, keeps no more than limits say, and hands out a request only when all of it is there: a
head that announces a body which never comes is nobody's request. Looks at each byte a fixed number of times, however it
is cut into pieces.

One file because it is one grammar: where a request ends is decided nowhere else.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from api.transport.head import TOKEN, Head, Unreadable, check_begun, lines, read_head

__all__ = ["WEBHOOK_MAX", "WITH_BODY", "Reader", "Request", "TooLong"]

WITH_BODY: Final = (b"POST", b"PATCH")
"""Methods whose bodies somebody looks at. Those of others are let by unread."""

CHUNK_LINE_MAX: Final = 128
"""Bytes of a chunk's first line: its size and what nobody asked for."""

TRAILERS_MAX: Final = 4_096
"""Bytes of trailers. They are read, and dropped: a header in a trailer is none."""

FRAMES_MAX: Final = 2_048
"""Bytes that a body in chunks may spend on anything but its content; four times as many when it is let by."""

WEBHOOK_MAX: Final = 262_144
"""Bytes of a gateway's message. Stripe's carry the whole object; the largest have some ten thousand."""

PASSED_MAX: Final = 67_108_864
"""Bytes of a body that are let by unread, so that its client hears the answer, before the connection is closed."""

PROBES: Final = (b"GET /healthz ", b"GET /readyz ", b"HEAD /healthz", b"HEAD /readyz ")

_EXTENSION: Final = rb";" + TOKEN + rb"+(?:=(?:" + TOKEN + rb'+|"[\t !#-\[\]-~]*"))?'

_size: Final = re.compile(rb"([0-9A-Fa-f]{1,8})(?:" + _EXTENSION + rb")*\r\n").fullmatch
_size_begun: Final = re.compile(rb"[0-9A-Fa-f]{1,8}(?:;[\t -~]*)?\r?").fullmatch


_FRAMING: Final = (b"connection", b"content-length", b"transfer-encoding", b"upgrade")
"""What somebody who takes trailers for headers would read another body from, or the end of the connection."""


class Request(Struct, gc=False):
    """A whole one."""

    head: Head
    body: bytes


class TooLong(Exception):
    """The body has more bytes than may be. The rest of it will be passed over."""

    def __init__(self, head: Head, most: int) -> None:
        super().__init__(most)
        self.head = head
        self.most = most


class Reader:
    """One connection's. Feed it what came, and ask for the next request until there is none."""

    __slots__ = ("_body", "_body_max", "_frames", "_head_max", "_known", "_left", "_most", "_part", "_passed",
                 "_passing", "_scanned", "_skipped", "buffer", "head")  # fmt: skip

    def __init__(self, head_max: int, body_max: int) -> None:
        """Most bytes of a head, and of a body, but for a webhook's."""
        self._head_max = head_max
        self._body_max = body_max
        self.buffer: bytes | bytearray = b""
        """What has come of a request and is not read yet."""
        self.head: Head | None = None
        """Of the request whose body is arriving."""
        self._known = self._scanned = 0
        self._start()

    def _start(self) -> None:
        self.head = None
        self._body = bytearray()
        self._left = 0
        self._part = ""
        self._frames = self._passed = 0
        self._passing = self._skipped = False
        self._most = 0

    @property
    def begun(self) -> bool:
        """Whether some of a request is here and some is missing."""
        return bool(self.buffer) or self.head is not None

    @property
    def is_probe(self) -> bool:
        """Whether what has come begins as a load balancer's question does."""
        return self.head is None and self.buffer[:13].startswith(PROBES)

    @property
    def waits(self) -> bool:
        """Whether the client waits to be told to send the body."""
        return self.head is not None and self.head.expects and not self.buffer and not self._body and not self._passed

    @property
    def passing(self) -> bool:
        """Whether the body that is arriving is let by unread."""
        return self._passing

    def feed(self, data: bytes) -> None:
        """What came."""
        if not self.buffer:
            self.buffer = data
            return
        if not isinstance(self.buffer, bytearray):
            self.buffer = bytearray(self.buffer)
        self.buffer += data

    def drop(self) -> None:
        """Forget everything."""
        self.buffer = b""
        self._start()

    def next(self) -> Request | None:
        """A request that is whole; None when more has to come.

        Raises `Unreadable`: nothing that follows can be read either. Raises `TooLong`, once, as soon as a body is.
        """
        while True:
            if self.head is None and (not self.buffer or not self._read_head()):
                return None
            head = self.head
            assert head is not None
            if not (self._read_chunks() if head.length < 0 else self._read_length()):
                return None
            body, was_continued = self._body, self._passing and self._most >= 0
            self._start()
            if not was_continued:
                return Request(head, bytes(body))

    def _read_head(self) -> bool:
        buffer = self.buffer
        if buffer[0] == 13 and not self._skipped:
            # One empty line before a request is passed over (RFC 9112, 2.2).
            if len(buffer) == 1:
                return False
            if buffer[1] == 10:
                self._skipped = True
                self._take(2)
                return bool(self.buffer) and self._read_head()
        end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3)) + 4
        if end < 4 or end > self._head_max:
            if len(buffer) > self._head_max:
                # What is wrong with its beginning is said first, in however many pieces it came.
                check_begun(buffer[: self._head_max], self._known, self._scanned)
                raise Unreadable("too_large", status=431)
            if buffer:
                self._known = check_begun(buffer, self._known, self._scanned)
                self._scanned = len(buffer)
            return False
        head = read_head(buffer if end == len(buffer) and isinstance(buffer, bytes) else bytes(buffer[:end]))
        self._take(end)
        most = self._most_of(head)
        self.head = head
        self._left = max(head.length, 0)
        self._most = -1 if most is None else most
        self._passing = most is None
        if most is not None and head.length > most:
            self._too_long()
        return True

    def _most_of(self, head: Head) -> int | None:
        """Bytes that a body may have; None when nobody will look at it."""
        if head.method not in WITH_BODY:
            return None
        return WEBHOOK_MAX if head.target.startswith(b"/v1/webhooks/") else self._body_max

    def _take(self, count: int) -> None:
        """Away with the first bytes."""
        buffer = self.buffer
        self._known = self._scanned = 0
        if count == len(buffer):
            self.buffer = b""
        elif isinstance(buffer, bytearray):
            del buffer[:count]
        else:
            self.buffer = bytearray(memoryview(buffer)[count:])

    def _too_long(self) -> None:
        head = self.head
        assert head is not None
        self._passing = True
        self._body = bytearray()
        if head.length > PASSED_MAX:
            raise Unreadable("body_too_large")
        raise TooLong(head, self._most)

    def _content(self) -> None:
        """Some of the body: kept, or let by."""
        buffer = self.buffer
        count = min(self._left, len(buffer))
        self._left -= count
        if self._passing:
            self._passed += count
            if self._passed > PASSED_MAX:
                raise Unreadable("body_too_large")
        else:
            self._body += memoryview(buffer)[:count]
        self._take(count)

    def _read_length(self) -> bool:
        if self._left and self.buffer:
            self._content()
        return not self._left

    def _read_chunks(self) -> bool:
        while self.buffer:
            if self._part == "content":
                self._content()
                if not self._left:
                    self._part = "end"
            elif self._part == "end":
                if not b"\r\n".startswith(bytes(self.buffer[:2])):
                    raise Unreadable("framing", "Transfer-Encoding")
                if len(self.buffer) < 2:
                    return False
                self._take(2)
                self._part = ""
            elif not self._read_line():
                return False
            elif self._part == "done":
                return True
        return False

    def _read_line(self) -> bool:
        """A line between chunks, or a trailer."""
        buffer = self.buffer
        end = buffer.find(b"\n", max(0, self._scanned - 1)) + 1
        self._scanned = len(buffer)
        trailing = self._part == "trailers"
        most = TRAILERS_MAX if trailing else CHUNK_LINE_MAX
        if (end or len(buffer)) > most:
            raise Unreadable("framing", "Transfer-Encoding")
        if not end:
            if not trailing and not _size_begun(buffer):
                raise Unreadable("framing", "Transfer-Encoding")
            return False
        line = bytes(buffer[:end])
        self._take(end)
        self._frames += end
        if self._frames > (TRAILERS_MAX if trailing else 4 * FRAMES_MAX if self._passing else FRAMES_MAX):
            raise Unreadable("framing", "Transfer-Encoding")
        if trailing:
            self._trailer(line)
            return True
        found = _size(line)
        if found is None:
            raise Unreadable("framing", "Transfer-Encoding")
        self._left = int(found[1], 16)
        if self._left:
            self._part = "content"
        else:
            self._part, self._frames = "trailers", 0
        if not self._passing and len(self._body) + self._left > self._most:
            self._too_long()
        return True

    def _trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self._part = "done"
        elif not lines(line) or line.partition(b":")[0].lower() in _FRAMING:
            raise Unreadable("framing", "Transfer-Encoding")
