"""A PostgreSQL that goes back in time, in a rush: a standby that lags is promoted, and what it lacks is lost.

Only while Redis is well: what PostgreSQL lacks is written again from there. Losing both is beyond the promise
(docs/promises.md, "the honest limit").
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Final, Protocol

__all__ = ["CALM_S", "CLEAR_S", "LAG_S", "LEAST_S", "TWO_S", "Promotion", "StandsBy", "draw_promotions"]

LAG_S: Final = (0.15, 0.9)
"""Least and most that a standby has not received when it is promoted."""

FOLLOW_S: Final = 0.3
"""So long it streams first: then it has all but the lag."""

COMMITS_S: Final = 10.0
"""So much longer it may lag until it lacks something: a sale that stands still commits nothing."""

LOOK_S: Final = 0.2
"""How often it is asked whether it does."""

CLEAR_S: Final = 6.0
"""From the start of the standby on, so long neither store is killed or paused: a copy takes 2 s, the lag 1 s, and what
was lost is written again within the next ticks of a guard."""

CALM_S: Final = 6.0
"""After a store went back, so long neither is hurt, whatever was planned: what was lost is written again, and a guard has
seen both in order and written down which server PostgreSQL is. Sooner, an operator would have to decide."""

LEAST_S: Final = 10.0
"""In a shorter rush, no store goes back in time."""

TWO_S: Final = 45.0
"""A rush that lasts so long has one promotion or two."""


class StandsBy(Protocol):
    """What `ops.stack.standby.Standby` does."""

    def prepare(self) -> None:
        """Begin to copy the primary, and return at once."""

    def streams(self) -> bool:
        """Go on with it, and say whether it follows the primary by now. Raises `CannotRun`."""

    def fall_behind(self) -> None:
        """Receive nothing from now on."""

    def lacks(self) -> bool:
        """Whether something was written since, as far as anybody can say."""

    def take_over(self) -> int | None:
        """Be the primary. Returns how many commits were lost; None where nobody can count them."""

    def stop(self) -> None:
        """End, if it runs."""


@dataclass(slots=True)
class Promotion:
    """One that has begun: the standby is made, follows for a moment, falls behind, and takes over when its lag is
    reached and it lacks something."""

    standby: StandsBy
    lag_s: float
    next_s: float = 0.0
    """When the next step is due, by `time.monotonic()`."""
    follows: bool = False
    behind_s: float = 0.0
    """Since when it receives nothing; 0: it still does."""

    @classmethod
    def begin(cls, standby: StandsBy, lag_s: float) -> Promotion:
        """Begin to make a standby, which takes some seconds. Raises `CannotRun`."""
        standby.prepare()
        return cls(standby, lag_s)

    def ripe(self, now: float) -> bool:
        """Go on, and say whether it is time to take over. Raises `CannotRun` when the standby cannot be made."""
        if not self.follows:
            self.follows = self.standby.streams()
            self.next_s = time.monotonic() + FOLLOW_S
            return False
        if now < self.next_s:
            return False
        if not self.behind_s:
            self.standby.fall_behind()
            self.behind_s = time.monotonic()
            self.next_s = self.behind_s + self.lag_s
            return False
        self.next_s = now + LOOK_S
        return now > self.behind_s + self.lag_s + COMMITS_S or self.standby.lacks()


def draw_promotions(seconds: float, chance: random.Random) -> list[tuple[float, float]]:
    """When a standby is made, and how long it lags, in seconds: none, one or two, never two at once."""
    count = 0 if seconds < LEAST_S else chance.choice((1, 2)) if seconds >= TWO_S else 1
    # Within the middle part of its own share of the time.
    share = seconds / max(count, 1)
    return [((at + chance.uniform(0.25, 0.5)) * share, chance.uniform(*LAG_S)) for at in range(count)]
