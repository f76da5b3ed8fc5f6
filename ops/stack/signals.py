"""When to stop: a signal, a second signal, or the end of the `make` that started us."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Self

from ops.stack.processes import die_with_parent

__all__ = ["Interrupted", "StopWatch"]

SETTLED_S = 0.3
"""make also blocks signals for an instant when it starts something, with `-j` at any time."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Somebody asked us to stop while we were waiting for something."""


class StopWatch:
    """Counts the requests to stop. The first lets everything finish, the second hurries.

    Under `make` two requests would pass us by. On SIGTERM make tells its children, but on SIGINT it only waits for
    them, counting on the terminal to have told them too; `kill -INT <make>` tells nobody. While make waits inside its
    handler it keeps that signal blocked, and that can be seen from outside. And when make is SIGKILLed, only the kernel
    can tell us.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.requests = 0
        self._make = os.getppid() if "MAKELEVEL" in environ else 0
        self._watch_make = self._make != 0 and _name(self._make) in {"make", "gmake"}
        self._blocked_at_first = _blocked(self._make)
        self._blocked_since: float | None = None
        self._before = {signum: signal.getsignal(signum) for signum in STOP_SIGNALS}

    def __enter__(self) -> Self:
        for signum in STOP_SIGNALS:
            # Under nohup a hang-up is none of our business.
            if self._before[signum] is not signal.SIG_IGN:
                signal.signal(signum, self._on_signal)
        if self._make:
            die_with_parent(signal.SIGTERM, self._make)()
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    @property
    def wanted(self) -> bool:
        """Whether we were asked to stop."""
        if self._watch_make and self._make_is_leaving():
            self._watch_make = False
            self.requests += 1
        return self.requests > 0

    @property
    def hurry(self) -> bool:
        """Whether we were asked twice."""
        return self.wanted and self.requests > 1

    def check(self) -> None:
        """Raise Interrupted when we were asked to stop."""
        if self.wanted:
            raise Interrupted

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self.requests += 1

    def _make_is_leaving(self) -> bool:
        if not (_blocked(self._make) - self._blocked_at_first) & {signal.SIGINT, signal.SIGHUP}:
            self._blocked_since = None
            return False
        now = time.monotonic()
        self._blocked_since = self._blocked_since or now
        return now - self._blocked_since > SETTLED_S


def _name(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "comm").read_text().strip()
    except OSError:
        return ""


def _blocked(pid: int) -> set[int]:
    """The signals that a process blocks now. Linux only; elsewhere, or when it is gone, none."""
    try:
        status = Path("/proc", str(pid), "status").read_text()
    except OSError:
        return set()
    found = re.search(r"^SigBlk:\s*([0-9a-f]+)$", status, re.MULTILINE)
    mask = int(found[1], 16) if found else 0
    return {signum for signum in range(1, 65) if mask >> (signum - 1) & 1}
