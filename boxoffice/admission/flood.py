"""Whether more is asked of this process than it answers in time, for longer than a burst: a flood.

Those who wait know it first. Where everybody who is served has waited longer than `api.wait_ms`, and nobody less for half of
`api.burst_s`, waiting does not help: the queue is as long as all connections together, and each of them is answered too late.
Then a turn of the loop lets in what it has time for, and whoever else comes is told so, at a tenth of the cost.
"""

from __future__ import annotations

import time
from typing import Final

from boxoffice.setting_parts import ApiSettings
from boxoffice.telemetry import series
from boxoffice.telemetry.core_time import core_time_s
from boxoffice.telemetry.seldom import seldom

__all__ = ["FLOOD", "Flood", "Waits"]

OVER_PART: Final = 20
"""A flood is over when fewer than one of so many were sent away, for as long as a burst takes."""

CHEAP: Final = 4
"""To send so many away takes the time of one that is let in."""

ENOUGH: Final = 0.9
"""Or when all who came in that time would have taken no larger part of it, had they been let in. Clients that come in step are
too many for a turn, though the next turns have time for them: they would keep up a flood at half of what can be done."""


class Flood:
    """Of one process: all its shards share a loop, and time on it is what a flood takes away."""

    def __init__(self) -> None:
        self.is_on = False
        """Whether whoever comes when a turn's time is used up is sent away."""
        self._came = self._sent_away = 0
        self._looked_at_s = self._burst_s = self._core_time_s = 0.0

    def begin(self, burst_s: float) -> None:
        """Somebody has seen it. Nothing new while it goes on."""
        if not self.is_on:
            self.is_on, self._burst_s = True, burst_s
            self._look_anew(time.monotonic())
            series.FLOOD.set(1)
            seldom.warning("flood.began")

    def count(self, sent_away: bool) -> None:
        """One more has come, while it goes on."""
        self._came += 1
        if sent_away:
            self._sent_away += 1

    def look(self) -> None:
        """End it, if nearly nobody had to be sent away since the last look, which was as long ago as a burst takes; or nobody
        would have had to be."""
        now_s = time.monotonic()
        passed_s = now_s - self._looked_at_s
        if passed_s < self._burst_s:
            return
        came, sent_away = self._came, self._sent_away
        took_s = core_time_s() - self._core_time_s
        if sent_away * OVER_PART <= came or took_s * came <= ENOUGH * passed_s * (came - sent_away + sent_away / CHEAP):
            self.end()
        self._look_anew(now_s)

    def end(self) -> None:
        """Whoever comes waits for a turn again."""
        if self.is_on:
            self.is_on = False
            series.FLOOD.set(0)
            seldom.warning("flood.ended")

    def _look_anew(self, now_s: float) -> None:
        self._came = self._sent_away = 0
        self._looked_at_s, self._core_time_s = now_s, core_time_s()


FLOOD: Final = Flood()

PAUSE_S: Final = 1.0
"""Where nobody was served for so long, whoever waits now has nothing to do with those who waited before."""


class Waits:
    """How long those waited who were served in one place, one after another."""

    def __init__(self) -> None:
        self._long_since_s: float | None = None
        """When the first of those was served who all waited for too long."""
        self._noted_s = 0.0

    def note(self, waited_s: float, now_s: float, patience: ApiSettings) -> None:
        """Who is served now has waited so long, and those behind are no better off. `now_s` may be any clock's."""
        if not patience.wait_ms or 1_000 * waited_s <= patience.wait_ms:
            self._long_since_s = None
            return
        paused = now_s - self._noted_s > PAUSE_S
        self._noted_s = now_s
        if self._long_since_s is None or paused:
            self._long_since_s = now_s
        elif now_s - self._long_since_s >= patience.burst_s / 2:
            FLOOD.begin(patience.burst_s)
