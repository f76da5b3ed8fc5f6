"""Log lines that a client can cause: the first of a kind is logged at once, later ones are counted and logged as one."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any, Final

import structlog

__all__ = ["EACH_S", "forget", "say"]

EACH_S: Final = 10.0
"""Seconds in which one kind has its lines."""

KINDS_MAX: Final = 4_096
"""Kinds are made of our own words and of clients' ids, so they are few; should they not be, all others of an event share
one."""

log = structlog.get_logger()


class _Kind:
    """How many lines a kind may still log at once, and what was counted since then."""

    __slots__ = ("fields", "left", "level", "more")

    def __init__(self, left: int) -> None:
        self.left = left
        self.more = 0
        self.level = "info"
        self.fields: dict[str, Any] = {}


kinds: Final[dict[tuple[str, ...], _Kind]] = {}


def say(
    event: str, kind: tuple[str, ...], *, lines: int = 1, level: str = "info", requests: int = 1, **fields: Any
) -> None:
    """Log this, unless its kind had its `lines` a moment ago: then count it. Counts are logged, as `requests`, with the
    fields of the last one."""
    key = (event, *kind)
    known = kinds.get(key)
    if known is None and len(kinds) >= KINDS_MAX:
        key = (event,)
        known = kinds.get(key)
    if known is None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            _log(level, event, fields, requests)
            return
        known = kinds[key] = _Kind(lines)
        loop.call_later(EACH_S, again, loop, event, key, lines, known, context=Context())
    if known.left > 0:
        known.left -= 1
        _log(level, event, fields, requests)
    else:
        known.more += requests
        known.level, known.fields = level, fields


def forget() -> None:
    """Start anew, as if nothing had been logged: for tests."""
    kinds.clear()


def again(loop: asyncio.AbstractEventLoop, event: str, key: tuple[str, ...], lines: int, known: _Kind) -> None:
    """The time of this kind is over, unless it was forgotten meanwhile: one of the same name has a time of its own."""
    if kinds.get(key) is not known:
        return
    del kinds[key]
    if known.more or known.left < lines:
        if known.more:
            getattr(log, known.level)(event, **known.fields, requests=known.more)
        after = kinds[key] = _Kind(lines - 1 if known.more else lines)
        loop.call_later(EACH_S, again, loop, event, key, lines, after)


def _log(level: str, event: str, fields: dict[str, Any], requests: int) -> None:
    getattr(log, level)(event, **fields, **({"requests": requests} if requests > 1 else {}))
