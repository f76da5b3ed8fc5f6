"""Kills and pauses the components of a private stack, and starts them again: misfortune drawn from a seed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from boxoffice.errors import CannotRun
from ops.processes import Child

__all__ = ["KINDS", "Blow", "Chaos", "Deed", "draw_blows"]

KINDS: Final = ("api", "worker", "redis", "postgres")

KILLS_PER_S: Final = 0.42
"""25 kills in a minute."""

PAUSES_PER_S: Final = 0.12

PAUSE_S: Final = {"api": (0.3, 1.5), "worker": (2.5, 4.0), "redis": (0.2, 1.5), "postgres": (0.3, 2.5)}
"""Shortest and longest. A worker sleeps longer than its lease (2 s in a rush with chaos) and wakes up to find its
bookings settled by another."""

RESTART_S: Final = 0.1
"""How long a supervisor takes to notice. When a start fails, the next one comes after ten times as long."""

QUIET_AT_END: Final = 0.04
"""Share of the time without new blows, so that the last one meets a sale that goes on."""


@dataclass(frozen=True, slots=True)
class Blow:
    """One misfortune to come."""

    at_s: float
    kind: str
    action: Literal["kill", "pause"]
    seconds: float = 0.0
    which: int = 0


@dataclass(slots=True)
class Deed:
    """One that came."""

    at_s: float
    wall_s: float
    clock_s: float
    name: str
    action: str
    back_s: float | None = None
    """Until the process ran again; stores answer by then, the others still have to start."""

    @property
    def kind(self) -> str:
        """`api` for `api-2`."""
        return self.name.partition("-")[0]


def draw_blows(seconds: float, seed: int) -> list[Blow]:
    """Kills and pauses, evenly over the time and over the four kinds of components."""
    chance = random.Random(f"chaos-{seed}")
    blows = [
        *_spread("kill", max(4, round(seconds * KILLS_PER_S)), seconds, chance),
        *_spread("pause", max(1, round(seconds * PAUSES_PER_S)), seconds, chance),
    ]
    return sorted(blows, key=lambda blow: blow.at_s)


def _spread(action: Literal["kill", "pause"], count: int, seconds: float, chance: random.Random) -> list[Blow]:
    room = seconds * (1 - QUIET_AT_END) / count
    kinds: list[str] = []
    while len(kinds) < count:
        kinds += chance.sample(KINDS, len(KINDS))
    return [
        Blow(
            (at + chance.random()) * room, kind, action,
            chance.uniform(*PAUSE_S[kind]) if action == "pause" else 0.0, chance.randrange(1_000),
        )
        for at, kind in enumerate(kinds[:count])
    ]  # fmt: skip


@dataclass(slots=True)
class _Absence:
    """A component that is dead or paused."""

    component: Child
    deed: Deed | None
    until: float


@dataclass(slots=True)
class Chaos:
    """Deals the blows, and is the supervisor of the components at the same time. Lives in the main thread, because
    components end with the thread that started them."""

    stack: Iterable[Child]
    blows: list[Blow]
    say: Callable[[str], None]
    deeds: list[Deed] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    """Components that ended without our doing."""
    began: float = field(default_factory=time.monotonic)
    _dead: dict[str, _Absence] = field(default_factory=dict)
    _paused: dict[str, _Absence] = field(default_factory=dict)

    def begin(self) -> None:
        """Count the time from now."""
        self.began = time.monotonic()

    def step(self, *, strike: bool = True) -> None:
        """Do what is due: wake, start again, and strike if wanted."""
        self._notice_deaths()
        self._wake(time.monotonic())
        self._start(time.monotonic())
        now_s = time.monotonic() - self.began
        while strike and self.blows and self.blows[0].at_s <= now_s:
            self._strike(self.blows.pop(0))

    def calm(self) -> bool:
        """No more blows; everybody awake and alive? To be asked again, and `step` to be called, until it says so."""
        self.blows.clear()
        for absence in [*self._paused.values()]:
            absence.until = 0.0
        self.step(strike=False)
        return not self._dead and not self._paused

    def _strike(self, blow: Blow) -> None:
        found = [one for one in self.stack if one.name.partition("-")[0] == blow.kind and one.alive]
        awake = [one for one in found if one.name not in self._paused] or found
        if not awake:
            return
        component = awake[blow.which % len(awake)]
        deed = Deed(time.monotonic() - self.began, time.time(), time.monotonic(), component.name, blow.action)
        if blow.action == "pause":
            if component.name in self._paused:
                return
            component.pause()
            self._paused[component.name] = _Absence(component, deed, time.monotonic() + blow.seconds)
            self.say(f"{deed.at_s:6.2f} s  pause {component.name} for {blow.seconds:.1f} s")
        else:
            self._resume(component)
            component.kill()
            self._dead[component.name] = _Absence(component, deed, time.monotonic() + RESTART_S)
            self.say(f"{deed.at_s:6.2f} s  kill  {component.name}")
        self.deeds.append(deed)

    def _resume(self, component: Child) -> None:
        """PostgreSQL's children would stay stopped for ever if their parent were killed while they are."""
        if absence := self._paused.pop(component.name, None):
            component.resume()
            if absence.deed is not None:
                absence.deed.back_s = time.monotonic() - absence.deed.clock_s

    def _wake(self, now: float) -> None:
        for absence in [*self._paused.values()]:
            if absence.until <= now:
                self._resume(absence.component)

    def _notice_deaths(self) -> None:
        for component in self.stack:
            if not component.alive and component.name not in self._dead:
                self._paused.pop(component.name, None)
                self.surprises.append(f"{component.name} ended by itself ({component.ending}): {component.last_line()}")
                self.say(self.surprises[-1])
                self._dead[component.name] = _Absence(component, None, time.monotonic() + RESTART_S)

    def _start(self, now: float) -> None:
        for name, absence in [*self._dead.items()]:
            if absence.until > now:
                continue
            try:
                absence.component.start()
            except CannotRun as error:
                self.surprises.append(f"{name} did not start: {error}")
                self.say(self.surprises[-1])
                absence.component.stop()
                absence.until = time.monotonic() + 10 * RESTART_S
                continue
            del self._dead[name]
            if absence.deed is not None:
                absence.deed.back_s = time.monotonic() - absence.deed.clock_s
