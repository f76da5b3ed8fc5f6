"""Log lines that come again and again, said once in a while with how often they came."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import structlog

__all__ = ["EVERY_S", "Seldom", "comparable", "seldom"]

log = structlog.get_logger()

EVERY_S: Final = 10.0
"""So often the same line is said, at most."""

LINES_MAX: Final = 1_000
"""Different lines remembered; beyond it all are forgotten, and said anew."""


_DIFFER: Final = frozenset({"booking_id", "bookings", "failures", "holds", "now_ms", "request_id", "seconds"})
"""Fields that differ from one time to the next. A line that comes for each booking is the same line."""


class Seldom:
    """Says the same event with the same fields at most once per `every_s`; `suppressed` counts those that were not said."""

    def __init__(self, every_s: float = EVERY_S, now_s: Callable[[], float] = time.monotonic) -> None:
        self.every_s = every_s
        self.now_s = now_s
        self.lines: dict[tuple[Any, ...], tuple[float, int]] = {}
        self.expected: tuple[type[BaseException], ...] = ()
        """Errors that are no bug: of these no line has a traceback, and it is the same wherever they were raised."""

    def info(self, event: str, **fields: Any) -> None:
        """As structlog's."""
        self._log("info", event, fields)

    def warning(self, event: str, **fields: Any) -> bool:
        """As structlog's. Returns whether it was said."""
        return self._log("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """As structlog's."""
        self._log("error", event, fields)

    def exception(self, event: str, error: BaseException, **fields: Any) -> None:
        """As an error, with its traceback. The same is what was raised as the same kind in the same place. When it is no bug:
        as a warning that names its kind."""
        if isinstance(error, self.expected):
            self._log("warning", event, {**fields, "error": type(error).__name__})
        else:
            self._log("error", event, {**fields, "exc_info": error})

    def forget(self) -> None:
        """Everything is new again, and every error a bug."""
        self.lines.clear()
        self.expected = ()

    def _log(self, level: str, event: str, fields: dict[str, Any]) -> bool:
        unsaid = self.turn(
            level, event, *sorted((name, comparable(value)) for name, value in fields.items() if name not in _DIFFER)
        )
        if unsaid is None:
            return False
        getattr(log, level)(event, **fields, **({"suppressed": unsaid} if unsaid else {}))
        return True

    def turn(self, *line: Any) -> int | None:
        """How often this line was left out since it was said last; None when it is left out now, too."""
        now_s = self.now_s()
        said_at, unsaid = self.lines.get(line, (float("-inf"), 0))
        if now_s < said_at + self.every_s:
            self.lines[line] = said_at, unsaid + 1
            return None
        if len(self.lines) >= LINES_MAX:
            self.lines.clear()
        self.lines[line] = now_s, 0
        return unsaid


def comparable(value: Any) -> str:
    """What makes a field the same as another: its text, and of an error its kind and the place that raised it."""
    if not isinstance(value, BaseException):
        return str(value)
    trace = value.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
    return type(value).__name__ + place


seldom: Final = Seldom()
"""This process's."""
