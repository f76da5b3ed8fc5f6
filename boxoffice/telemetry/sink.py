"""Where lines go that may be lost, but may never stop anybody: a stream that never raises and never waits long.

A full disk, a reader that died or stopped reading, a stream that was closed: what cannot be written is dropped and
counted, and told in one line as soon as lines can be written again.
"""

from __future__ import annotations

import atexit
import errno
import os
import select
import stat
import threading
import time
from collections.abc import Callable
from typing import IO, Any, Final

__all__ = ["Sink"]

PIECE: Final = select.PIPE_BUF if hasattr(select, "PIPE_BUF") else 512
"""A pipe that says it can be written to takes so many bytes without making us wait."""

PATIENCE_MS: Final = 100
"""Longest wait for a reader that is slow. One that kept us waiting so long gets no more until it reads again."""


class Sink:
    """Collects lines and writes them together. `line_of_loss` makes the line that says how many were lost, since when
    (seconds of the clock) and why."""

    def __init__(self, stream: IO[bytes] | None, line_of_loss: Callable[[int, float, str], bytes]) -> None:
        self.lost = 0
        """Lines that could not be written, and of which nobody has been told yet."""
        self._line_of_loss = line_of_loss
        self.write = _writer(stream)
        self._lines: list[bytes] = []
        self._lock = threading.Lock()
        self._lost_since = 0.0
        self._why = ""
        self._torn = False
        atexit.register(self.flush)

    def add(self, line: bytes) -> None:
        """One line, with its newline. It is written by the next `flush`."""
        self._lines.append(line)

    def flush(self) -> None:
        """Write what was added. Never raises."""
        with self._lock:
            lines, self._lines = self._lines, []
            if not lines:
                return
            lost = self.lost
            head = [b"\n"] if self._torn else []
            if lost:
                head.append(self._line_of_loss(lost, self._lost_since, self._why))
            text = b"".join((*head, *lines))
            written, self._why = self._out(text, patient=not lost)
            if written >= sum(map(len, head)):
                self.lost, self._torn = 0, False
            if written < len(text):
                if written:
                    self._torn = text[written - 1 : written] != b"\n"
                if not self.lost:
                    self._lost_since = time.time()
                self.lost += min(len(lines), text.count(b"\n", written))

    def _out(self, text: bytes, *, patient: bool) -> tuple[int, str]:
        """How many bytes went out, and why no more of them."""
        written = 0
        end = time.monotonic() + (PATIENCE_MS / 1_000 if patient else 0)
        try:
            while written < len(text):
                count = self.write(text, written, max(0, int(1_000 * (end - time.monotonic()))))
                if not count:
                    return written, "EAGAIN"
                written += count
        except OSError as error:
            return written, errno.errorcode.get(error.errno or 0, type(error).__name__)
        except Exception as error:  # a closed file raises ValueError
            return written, type(error).__name__
        return written, ""


def _writer(stream: IO[bytes] | None) -> Callable[[bytes, int, int], int]:
    """A function that writes what it can of a text from a place on, waiting so many ms at most, and says how much."""
    try:
        fd = stream.fileno() if stream is not None else -1
        kind = os.fstat(fd).st_mode
    except (OSError, ValueError, AttributeError):
        return _nobody if stream is None else _in_memory(stream)
    if stat.S_ISREG(kind):
        return lambda text, at, _wait_ms: os.write(fd, memoryview(text)[at:])
    poll = select.poll()
    poll.register(fd, select.POLLOUT)

    def write(text: bytes, at: int, wait_ms: int) -> int:
        if not poll.poll(wait_ms):
            return 0
        try:
            return os.write(fd, memoryview(text)[at : at + PIECE])
        except BlockingIOError:
            return 0

    return write


def _nobody(_text: bytes, _at: int, _wait_ms: int) -> int:
    """Standard error was closed before we started."""
    raise OSError(errno.EBADF, "closed")


def _in_memory(stream: Any) -> Callable[[bytes, int, int], int]:
    def write(text: bytes, at: int, _wait_ms: int) -> int:
        stream.write(text[at:])
        stream.flush()
        return len(text) - at

    return write
