"""Lines of the log that anybody on the network can cause: the first of a kind at once, then one for many."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import structlog

__all__ = ["EACH_S", "say"]

EACH_S: Final = 10.0
"""Seconds in which one kind has one line."""

KINDS_MAX: Final = 256
"""Kinds are made of our own words, so they are few; should they not be, all others share a line."""

log = structlog.get_logger()

_more: Final[dict[tuple[str, ...], int]] = {}
"""Kinds that had their line, and how many came since."""


def say(event: str, kind: tuple[str, ...], **fields: Any) -> None:
    """Log this, unless the kind was logged a moment ago: then count it. Counts are logged, as `requests`, with the fields
    of the last one."""
    key = (event, *kind)
    if key not in _more and len(_more) >= KINDS_MAX:
        key = (event,)
    if key in _more:
        _more[key] += 1
        _last[key] = fields
        return
    log.info(event, **fields)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    _more[key] = 0
    loop.call_later(EACH_S, _again, loop, event, key)


_last: Final[dict[tuple[str, ...], dict[str, Any]]] = {}


def _again(loop: asyncio.AbstractEventLoop, event: str, key: tuple[str, ...]) -> None:
    many, fields = _more.pop(key, 0), _last.pop(key, {})
    if many:
        log.info(event, **fields, requests=many)
        _more[key] = 0
        loop.call_later(EACH_S, _again, loop, event, key)
