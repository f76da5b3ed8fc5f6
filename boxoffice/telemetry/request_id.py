"""The id of a request: whoever asks names it, or its trace does, or it is made here. It stands on the answer, in a problem,
and in every line of the log that is written for the request.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from itertools import count
from typing import Final

from boxoffice.telemetry.redaction import has_card_number

__all__ = ["HEADER", "TRACEPARENT", "WELL_FORMED", "choose", "current", "has_card", "in_hand", "make", "now"]

HEADER: Final = b"x-request-id"
TRACEPARENT: Final = b"traceparent"
"""W3C Trace Context."""

WELL_FORMED: Final = rb"[0-9A-Za-z._:+/=@~-]{1,128}"
"""Ids that we take from others: nothing that a header, JSON, a shell or a line of a log reads as more than a word."""

current: ContextVar[bytes] = ContextVar("request_id", default=b"")
"""The request that this task works for. Empty where it is for many, or for none."""


class _InHand:
    """The request that is worked on without a task, until whoever began it puts the name back that was there before. Setting
    the variable of the context and taking it back costs ten times as much."""

    name = b""


in_hand: Final = _InHand()


def now() -> bytes:
    """The request that is being worked on; empty where it is for many, or for none."""
    return in_hand.name or current.get()


_well_formed: Final = re.compile(WELL_FORMED).fullmatch
_trace: Final = re.compile(
    rb"((?!ff)[0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"
).fullmatch
"""Version, trace, and what versions to come may add."""

_digits: Final = re.compile(rb"[0-9]{13}|[0-9]{4}[A-Za-z][0-9]{4}").search
"""Of letters and digits alone, only what has one of these may be a card number."""

_PREFIX: Final = secrets.token_hex(6).encode()
_numbers: Final = count(1)


def make() -> bytes:
    """A new one: no two requests of any two processes have the same."""
    return b"%b-%x" % (_PREFIX, next(_numbers))


def choose(given: bytes | None, traceparent: bytes | None) -> bytes:
    """The id of a request with these two headers, each empty or None where there is none. What is not well-formed, or has a
    card number in it, is not repeated."""
    if given and _well_formed(given) and not has_card(given):
        return given
    if traceparent and (trace := trace_of(traceparent)) and not has_card(trace):
        return trace
    return make()


def trace_of(traceparent: bytes) -> bytes | None:
    """The trace in such a header, if it is one (W3C Trace Context, 3.2)."""
    found = _trace(traceparent)
    return None if found is None or (found[1] == b"00" and found[3]) else found[2]


def has_card(name: bytes) -> bool:
    """Whether there is a card number in an id. Of letters and digits alone, nearly none is looked at closely."""
    if name.isalnum() and not _digits(name):
        return False
    return has_card_number(name.decode())
