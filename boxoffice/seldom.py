"""Log lines that come again and again, said once in a while with how often they came."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import structlog

__all__ = ["EVERY_S", "Seldom"]

log = structlog.get_logger()

EVERY_S: Final = 10.0
"""So often the same line is said, at most."""

LINES_MAX: Final = 1_000
"""Different lines remembered; beyond it all are forgotten, and said anew."""


class Seldom:
    """Says the same event with the same fields at most once per `every_s`; `times` counts those that were not said."""

    def __init__(self, every_s: float = EVERY_S, now_s: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._now_s = now_s
        self._lines: dict[tuple[Any, ...], tuple[float, int]] = {}

    def warning(self, event: str, **fields: Any) -> None:
        """As structlog's."""
        self._say("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """As structlog's."""
        self._say("error", event, fields)

    def _say(self, level: str, event: str, fields: dict[str, Any]) -> None:
        line = (level, event, *sorted((name, str(value)) for name, value in fields.items()))
        now_s = self._now_s()
        said_at, unsaid = self._lines.get(line, (float("-inf"), 0))
        if now_s < said_at + self._every_s:
            self._lines[line] = said_at, unsaid + 1
            return
        if len(self._lines) >= LINES_MAX:
            self._lines.clear()
        self._lines[line] = now_s, 0
        getattr(log, level)(event, **fields, **({"times": unsaid + 1} if unsaid else {}))
