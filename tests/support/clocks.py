"""Clocks as a test has them. Of scripts: what TIME says is shifted in their text, the rest is the real server."""

from __future__ import annotations

import re
from typing import Final

from boxoffice.clock import Clock
from boxoffice.stores.scripts import Scripts

__all__ = ["Passing", "shift"]

_NOW: Final = re.compile(r"^(local now_ms = .*?/ 1000\))(?: \+ -?\d+)?$", re.M)


def shift(scripts: Scripts, ms: int) -> None:
    """From now on these scripts, whoever holds them, run on a clock that is so far ahead, or behind when it is less than
    nothing. 0: as it is."""
    for script in scripts:
        object.__setattr__(script, "text", _NOW.sub(rf"\1 + {ms}", script.text))
        vars(script).pop("sha", None)


class Passing:
    """Time that passes while somebody sleeps, and when the test says: `time.now += 5`. Every pause is noted."""

    def __init__(self, now: float = 100.0, *, chance: float = 0.5) -> None:
        self.now = now
        self.slept: list[float] = []
        self.clock = Clock(lambda: self.now, lambda: int(1e9 * self.now), self._sleep, lambda: chance)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
