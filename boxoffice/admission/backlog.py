"""How long a booking will probably be pending: what shops are told to wait before they look.

Each admission call learns how many bookings are due and claimed by nobody, and how many there were so far. What was claimed
between two calls says how fast workers claim, while they have as much to do as they can; what is left by that rate is the
wait. No store is asked for it.
"""

from __future__ import annotations

from math import ceil
from typing import Final

__all__ = ["LEAST_S", "MOST_S", "Backlog", "pause_s"]

LEAST_S: Final = 1
"""A shop looks no sooner: nearly every booking is final by then."""

MOST_S: Final = 30
"""However long the backlog is, and should nobody work on it at all: whoever looks so often sees within half a minute that
it goes on."""

FROM: Final = 500
"""Bookings that are due and claimed by nobody: a full batch. With fewer, workers keep up, and claim what comes, not what they
can."""

ASSUMED: Final = 1_000.0
"""Bookings that workers claim in a second, until that was measured."""

SPAN_S: Final = 0.5
"""Between two measurements."""

PART: Final = 4
"""Who has waited for long is asked to wait for as long as one part in so many of that: a booking that has been pending for
a minute will not be final in a second."""


class Backlog:
    """Of one shard, as one process sees it."""

    def __init__(self) -> None:
        self._rate = ASSUMED
        self._mark: tuple[float, int] | None = None
        """When, and how many bookings had been claimed by then; None while workers keep up."""
        self._until_s = 0.0

    def note(self, behind: int, admissions: int, now_s: float) -> None:
        """An admission call has answered: so many are due and unclaimed, of so many so far."""
        if behind <= FROM:
            self._mark, self._until_s = None, 0.0
            return
        claimed = admissions - behind
        if self._mark is None:
            self._mark = now_s, claimed
        elif now_s - self._mark[0] >= SPAN_S:
            self._rate = max(0.0, (claimed - self._mark[1]) / (now_s - self._mark[0]))
            self._mark = now_s, claimed
        wait_s = behind / self._rate if self._rate * MOST_S > behind else MOST_S
        self._until_s = now_s + wait_s

    def wait_s(self, now_s: float) -> int:
        """Whole seconds until what is pending now will probably be final, from `LEAST_S` to `MOST_S`."""
        return max(LEAST_S, min(MOST_S, ceil(self._until_s - now_s)))


def pause_s(wait_s: int, age_s: float) -> int:
    """Seconds until whoever reads a pending booking of this age should read it again, when what is let in now is said to
    wait so long."""
    return max(wait_s, min(MOST_S, int(age_s) // PART))
