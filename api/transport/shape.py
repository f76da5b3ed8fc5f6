"""How a shop's client writes the head of a booking: always the same way, but for a few values.

Once a whole request has gone through the parser, the next one whose head has the same lines needs no parser: only values
in which nothing can hide may differ, and they are matched strictly. Whatever is written in any other way goes through
the parser as ever.
"""

from __future__ import annotations

import re
import time
from typing import Final

from boxoffice.telemetry import request_id

__all__ = ["Shape"]

_VARIES: Final = {
    b"idempotency-key": rb"(?P<key>[!-~]{1,255})",
    b"content-length": rb"(?P<length>[1-9][0-9]{0,6})",
}
"""Values that are different in each booking, and what they may be made of."""

_NAMED: Final = {
    request_id.HEADER: b"(?P<request_id>" + request_id.WELL_FORMED + b")",
    request_id.TRACEPARENT: rb"(?P<traceparent>[0-9a-f-]{55,255})",
}
"""The same of those that a client may leave out."""

_EMPTY: Final = (b"(?P<request_id>)", b"(?P<traceparent>)")
"""In place of those that it leaves out, behind the head."""

_NAMELESS: Final = b"".join(_EMPTY)

_STAYS: Final = frozenset((
    b"authorization", b"connection", b"content-encoding", b"content-type", b"expect", b"host", b"keep-alive", b"origin",
    b"prefer", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
))  # fmt: skip
"""Headers that say how a request is to be read, or by whom it was sent: to the byte as they were."""

_REFUSED: Final = frozenset((
    b"content-encoding", b"expect", b"origin", b"te", b"trailer", b"transfer-encoding", b"upgrade",
))  # fmt: skip
"""A request with one of these is none of the usual ones."""

_ANY: Final = rb"[ -~]*"
"""The value of a header that we do not look at, such as a trace id: printable ASCII, so no end of a line."""

_NAME: Final = re.compile(rb"[A-Za-z0-9-]+")

_KNOWN_MAX: Final = 256

SEEN_MAX: Final = 1_024
"""Shapes that were seen once and are not yet worth compiling."""

COMPILED_EACH_S: Final = 0.1
"""Least seconds between two compilations: whoever writes each head anew may slow the process down by a fiftieth."""

HEAD_MAX: Final = 2_048
"""Bytes of a head that is taken for a shape: compiling one takes 2 ms, during which the loop does nothing else."""


class Shape:
    """A head with gaps. `match` finds `key` and `length`, the groups `key_at` and `length_at`; `request_id` and `traceparent`,
    empty where there are none, as in all of a shape without `names`; and where the body begins."""

    __slots__ = ("authorization", "content_type", "key_at", "length_at", "match", "names", "prefer")

    def __init__(
        self, pattern: bytes, authorization: bytes | None, content_type: bytes | None, prefer: bytes | None = None
    ) -> None:
        compiled = re.compile(pattern)
        self.match = compiled.match
        self.key_at, self.length_at = compiled.groupindex["key"], compiled.groupindex["length"]
        self.names = not pattern.endswith(_NAMELESS)
        self.authorization = authorization
        self.content_type = content_type
        self.prefer = prefer

    @classmethod
    def of(cls, request: bytes, first_line: bytes) -> Shape | None:
        """The shape of a whole request that the parser has just taken, or None when it is an unusual one."""
        head, _, body = request.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        if first != first_line or len(head) > HEAD_MAX:
            return None
        pattern = [re.escape(first)]
        values: dict[bytes, bytes] = {}
        for line in lines:
            name, _, value = line.partition(b":")
            lower, bare = name.lower(), value.strip(b" \t")
            if (
                not _NAME.fullmatch(name)
                or lower in _REFUSED
                or (lower in values and lower in (_STAYS | _VARIES.keys() | _NAMED.keys()))
            ):
                return None
            values[lower] = bare
            before, _, after = value.partition(bare) if bare else (value, b"", b"")
            if varies := _VARIES.get(lower) or _NAMED.get(lower):
                pattern.append(re.escape(name + b":" + before) + varies + re.escape(after))
            elif lower in _STAYS:
                pattern.append(re.escape(line))
            else:
                pattern.append(re.escape(name) + b":" + _ANY)
        if not _VARIES.keys() <= values.keys() or values[b"content-length"] != b"%d" % len(body):
            return None
        whole = rb"\r\n".join(pattern) + rb"\r\n\r\n"
        whole += b"".join(empty for empty in _EMPTY if empty[:-1] not in whole)
        shape = known.get(whole)
        if shape is None:
            if not is_worth_it(whole):
                return None
            if len(known) >= _KNOWN_MAX:
                known.clear()
            shape = known[whole] = cls(
                whole, values.get(b"authorization"), values.get(b"content-type"), values.get(b"prefer")
            )
            if shape.match(request) is None:
                # A key with a blank, or a length with a sign, would make a pattern that lets such values by.
                del known[whole]
                return None
        return shape


known: dict[bytes, Shape] = {}
"""Connections of one client have one shape."""

seen: set[int] = set()
"""Hashes of patterns that came once."""

compiled_at = float("-inf")


def is_worth_it(pattern: bytes) -> bool:
    """Whether to compile this head: it was seen before, and the last one was compiled long enough ago."""
    global compiled_at
    key, now = hash(pattern), time.monotonic()
    if key not in seen:
        if len(seen) >= SEEN_MAX:
            seen.clear()
        seen.add(key)
        return False
    if now < compiled_at + COMPILED_EACH_S:
        return False
    seen.discard(key)
    compiled_at = now
    return True
