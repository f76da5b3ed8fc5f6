"""What each part of a run takes."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Stopwatch"]


class Stopwatch:
    """Seconds by part, from the moment it is made. Parts of the same name are added up."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.took_s: dict[str, float] = {}
        self._clock = clock
        self._last = clock()

    def split(self, name: str) -> None:
        """A part ends, and the next begins."""
        now = self._clock()
        self.took_s[name] = self.took_s.get(name, 0.0) + now - self._last
        self._last = now

    @property
    def line(self) -> str:
        """All parts, in the order of their first end."""
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.took_s.items())
        return f"{sum(self.took_s.values()):.0f} s: {parts}"
