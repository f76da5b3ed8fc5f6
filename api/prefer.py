"""`Prefer: wait=N` (RFC 7240, 4.3): the answer may come so many seconds later, if it is another one by then."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from msgspec.structs import replace

from api.transport.reply import Header, Reply

__all__ = ["PREFER", "WAIT_MAX_S", "applied", "applied_header", "applied_line", "wait_of"]

WAIT_MAX_S: Final = 10
"""Who asks for more waits for so long: load balancers cut an answer that has not begun after some tens of seconds."""

PREFER: Final[dict[str, Any]] = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": f"`wait=N`: answer once the booking is final, or after N seconds, at most {WAIT_MAX_S} (RFC 7240). "
    "`Preference-Applied` says that it was waited for.",
    "schema": {"type": "string"},
    "example": "wait=10",
}
"""As the documentation has it."""

_PREFERENCE: Final = re.compile(
    rb'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^\s,;"]*))?\s*(?:;[^,]*)?(?:,|$)'
)
_SECONDS: Final = re.compile(rb'"?([0-9]{1,9})"?')


@lru_cache(256)
def wait_of(prefer: bytes | None) -> int:
    """Whole seconds, 0 to `WAIT_MAX_S`. What is written in any other way is left out, as the RFC has it; of several, the first
    counts."""
    at = 0
    while prefer and (found := _PREFERENCE.match(prefer, at)) and found.end() > at:
        if found[1].lower() == b"wait":
            seconds = _SECONDS.fullmatch(found[2] or b"")
            return min(int(seconds[1]), WAIT_MAX_S) if seconds else 0
        at = found.end()
    return 0


def applied_header(wait_s: int) -> Header:
    """Of an answer that was waited for."""
    return b"preference-applied", b"wait=%d" % wait_s


def applied_line(wait_s: int) -> bytes:
    """The same as HTTP/1.1 has it."""
    return b"%b: %b\r\n" % applied_header(wait_s)


def applied(reply: Reply, wait_s: int) -> Reply:
    """This answer, with that header."""
    return replace(reply, _headers=[*reply.headers, applied_header(wait_s)], _lines=b"")
