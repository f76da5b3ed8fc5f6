"""Log lines: JSON, one a line, to stderr. Ours and those of every library, in the same format.

A door calls `configure` once. Inner code returns or raises; what is logged is one line per refusal (those of one admission
call that are alike share it), error and settled batch. No payload, no token, no name of a person; card numbers are
blotted out of whatever gets in all the same.

Logging never raises, whatever is logged and whatever has become of stderr: it is called where errors are handled, and
an error there would end the loop that does the work. What cannot be written is counted, and told by `log.lost`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import traceback
from functools import lru_cache
from types import TracebackType
from typing import IO, Any, Final, TypeAlias

import msgspec
import structlog

from boxoffice.clock import timestamp
from boxoffice.settings import Settings
from boxoffice.telemetry import request_id
from boxoffice.telemetry.outages import outages
from boxoffice.telemetry.redaction import has_card_number, mask_card_numbers
from boxoffice.telemetry.seldom import Seldom, comparable, seldom
from boxoffice.telemetry.sink import Sink

__all__ = ["configure"]

SECRET: Final = frozenset({"authorization", "api_key", "card_number", "token", "password", "idempotency_key"})
"""Fields that never show their value."""

_IDS: Final = frozenset({"request_id", "request_ids"})
_NEVER_THE_SAME: Final = SECRET | _IDS | {"exc_info"}

_Line: TypeAlias = dict[str, Any]


def configure(
    settings: Settings, stream: IO[bytes] | None = None, *, expected: tuple[type[BaseException], ...] = ()
) -> None:
    """Set up structlog and the standard library's logging. Of `expected` errors no line has a traceback."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    # stderr is None when its descriptor was closed before we started.
    printer = _Printer(stream or getattr(sys.stderr, "buffer", None), level, expected)
    structlog.configure(
        processors=[], wrapper_class=_Logger, logger_factory=lambda *_: printer, cache_logger_on_first_use=True
    )
    logging.root.handlers[:] = [Handler(printer)]
    logging.root.setLevel(max(level, logging.INFO))
    for chatty in ("arq", "httpx2", "httpcore2", "asyncio", "stripe"):
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))
    logging.raiseExceptions = False
    outages.silent, seldom.expected = False, expected
    logging.captureWarnings(capture=True)


class _Printer:
    """Writes lines, the redacted ones only."""

    def __init__(self, stream: IO[bytes] | None, level: int, expected: tuple[type[BaseException], ...] = ()) -> None:
        self.level = level
        self.expected = expected
        self.sink = Sink(stream, lost)
        self._flushing: asyncio.AbstractEventLoop | None = None

    def print(self, level: str, event: str, fields: _Line) -> None:
        """Never raises. Where a task works for one request, its lines name it."""
        if (name := request_id.now()) and "request_id" not in fields:
            fields = {**fields, "request_id": name.decode()}
        error = _error_of(fields.get("exc_info"))
        if isinstance(error, self.expected):
            fields = {"error": type(error).__name__, **fields}
            del fields["exc_info"]
        try:
            # A rush's refusals say the same again and again. Remembered is only what shows all it is: no secret, and no error
            # that is being handled.
            if _PLAIN.issuperset(map(type, fields.values())) and _NEVER_THE_SAME.isdisjoint(fields):
                line = _remembered(level, event, tuple(fields), *fields.values())
            else:
                line = _rendered(level, event, fields)
        except Exception as error:
            line = _substitute(level, event, error)
        self.sink.add(_stamped(line))
        if level in ("debug", "info"):
            self._flush_soon()
        else:
            self.sink.flush()

    def _flush_soon(self) -> None:
        """A rush refuses thousands a second: the lines of one loop turn are written together."""
        try:
            loop = asyncio.get_running_loop()
            if self._flushing is not loop:
                loop.call_soon(self._flush)
                self._flushing = loop
        except RuntimeError:
            self.sink.flush()

    def _flush(self) -> None:
        self._flushing = None
        self.sink.flush()


class _Logger(structlog.BoundLoggerBase):
    """What `structlog.get_logger()` gives. A rush refuses thousands a second, each with its line, and structlog's chain
    of processors takes eight times as long for one."""

    _logger: _Printer

    def debug(self, event: str, **fields: Any) -> None:
        self._log(logging.DEBUG, "debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._log(logging.INFO, "info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._log(logging.WARNING, "warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._log(logging.ERROR, "error", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        self._log(logging.ERROR, "error", event, {"exc_info": True, **fields})

    def _log(self, level: int, name: str, event: str, fields: _Line) -> None:
        if level >= self._logger.level:
            self._logger.print(name, event, {**self._context, **fields} if self._context else fields)


class Handler(logging.Handler):
    """The standard library's records in the same format: each at most once in ten seconds, and of an error that we live with
    its kind alone."""

    def __init__(self, printer: _Printer) -> None:
        super().__init__(printer.level)
        self.printer = printer
        self.seldom = Seldom()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. Never raises."""
        try:
            event = record.getMessage()
        except Exception:  # arguments that do not fit their message
            event = record.msg if type(record.msg) is str else type(record.msg).__name__
        error = record.exc_info[1] if record.exc_info else None
        # What differs from one time to the next, the repr of a task or of a request, stands in the arguments or further down.
        pattern = record.msg if type(record.msg) is str else event
        known = type(error) if isinstance(error, self.printer.expected) else comparable(error)
        unsaid = self.seldom.turn(record.name, record.levelno, pattern.partition("\n")[0], known)
        if unsaid is None:
            return
        if isinstance(error, self.printer.expected):
            event = event.partition("\n")[0]
        fields: _Line = {"logger": record.name, "exc_info": record.exc_info}
        if unsaid:
            fields["suppressed"] = unsaid
        self.printer.print(record.levelname.lower(), event, fields)


def _stamped(line: bytes) -> bytes:
    return b'{"at":"%b",%b\n' % (timestamp(time.time_ns() // 1_000_000).encode(), line)


def lost(lines: int, since_s: float, why: str) -> bytes:
    """The line about lines that could not be written."""
    since = timestamp(int(1_000 * since_s))
    return _stamped(_rendered("warning", "log.lost", {"lines": lines, "since": since, "error": why}))


def _substitute(level: str, event: str, error: Exception) -> bytes:
    """Instead of a line that cannot be made: a field whose text cannot be had, a number that JSON has no room for."""
    known = event if type(event) is str else type(event).__name__
    return _encoded({"level": level, "event": mask_card_numbers(_escaped(known)), "unsaid": type(error).__name__})[1:]


def _rendered(level: str, event: str, fields: _Line) -> bytes:
    """A line behind its time."""
    line: _Line = {"level": level, "event": mask_card_numbers(event)}
    if error := fields.pop("exc_info", None):
        line["exception"] = mask_card_numbers(_traceback(error))
    for name, value in fields.items():
        line[name] = _redacted(name, value)
    return _encoded(line)[1:]


_PLAIN: Final = frozenset({str, int, float, bool, type(None)})


@lru_cache(256, typed=True)
def _remembered(level: str, event: str, names: tuple[str, ...], *values: Any) -> bytes:
    return _rendered(level, event, dict(zip(names, values, strict=True)))


def _traceback(error: BaseException | tuple[Any, BaseException | None, TracebackType | None] | bool) -> str:
    """A traceback: of the error, or of the one being handled."""
    found = _error_of(error)
    return "".join(traceback.format_exception(found)) if found is not None else ""


def _error_of(
    error: BaseException | tuple[Any, BaseException | None, TracebackType | None] | bool | None,
) -> BaseException | None:
    """What `exc_info` means, as the standard library takes it."""
    if isinstance(error, tuple):
        error = error[1] or True
    if error and not isinstance(error, BaseException):
        return sys.exc_info()[1]
    return error or None


def _redacted(name: str, value: Any) -> Any:
    if name in SECRET:
        return "[hidden]"
    if type(value) is str:
        # An answer bears the same id: it was looked at when it came, and a trace is no card number.
        return value if name in _IDS and not has_card_number(value) else mask_card_numbers(value)
    if type(value) in (int, float, bool) or value is None:
        return value
    return mask_card_numbers(str(value))


_encode: Final = msgspec.json.Encoder(enc_hook=repr).encode


def _encoded(line: _Line) -> bytes:
    try:
        return _encode(line)
    except UnicodeEncodeError:  # a lone surrogate
        return _encode({name: _escaped(value) if type(value) is str else value for name, value in line.items()})


def _escaped(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()
