"""Kills and pauses the components of a private stack, and starts them again; promotes a standby that lags: misfortune
drawn from a seed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from boxoffice.errors import CannotRun
from ops.processes import Child
from ops.rush.promotion import CLEAR_S, Promotion, StandsBy, draw_promotions

__all__ = ["KINDS", "Blow", "Chaos", "Deed", "draw_blows"]

KINDS: Final = ("api", "worker", "redis", "postgres")

STORES: Final = ("redis", "postgres")

KILLS_PER_S: Final = 0.42
"""25 kills in a minute."""

PAUSES_PER_S: Final = 0.12

PAUSE_S: Final = {"api": (0.3, 1.5), "worker": (2.5, 4.0), "redis": (0.2, 1.5), "postgres": (0.3, 2.5)}
"""Shortest and longest. A worker sleeps longer than its lease (2 s in a rush with chaos) and wakes up to find its
bookings settled by another."""

RESTART_S: Final = 0.1
"""How long a supervisor takes to notice. When a start fails, the next one comes after ten times as long."""

WAIT_S: Final = 0.5
"""So long is put off what may not happen now."""

QUIET_AT_END: Final = 0.04
"""Share of the time without new blows, so that the last one meets a sale that goes on."""


@dataclass(frozen=True, slots=True)
class Blow:
    """One misfortune to come."""

    at_s: float
    kind: str
    action: Literal["kill", "pause", "promote"]
    seconds: float = 0.0
    """Of a pause; of a promotion, how long the standby lags."""
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
    lag_s: float = 0.0
    """Of a standby that was promoted."""
    lost: int | None = None
    """Commits that it lacked; None where nobody can count them."""

    @property
    def kind(self) -> str:
        """`api` for `api-2`."""
        return self.name.partition("-")[0]


def draw_blows(seconds: float, seed: int) -> list[Blow]:
    """Kills and pauses, evenly over the time and over the four kinds of components; promotions of a standby, at which
    neither store is hurt otherwise."""
    chance = random.Random(f"chaos-{seed}")
    blows = [
        *_spread("kill", max(4, round(seconds * KILLS_PER_S)), seconds, chance),
        *_spread("pause", max(1, round(seconds * PAUSES_PER_S)), seconds, chance),
    ]
    promotions = [Blow(at_s, "postgres", "promote", lag_s) for at_s, lag_s in draw_promotions(seconds, chance)]
    return sorted([*_spare(blows, [blow.at_s for blow in promotions]), *promotions], key=lambda blow: blow.at_s)


def _spare(blows: list[Blow], promotions: list[float]) -> list[Blow]:
    """A store that would be hurt during a promotion, or be away when it begins, changes places with somebody else; or,
    in a short rush, where nobody is left, is hurt after it."""

    def near(at_s: float) -> bool:
        return any(begins - PAUSE_S["postgres"][1] <= at_s < begins + CLEAR_S for begins in promotions)

    clashing = [blow for blow in blows if blow.kind in STORES and near(blow.at_s)]
    others = [blow for blow in blows if blow.kind not in STORES and not near(blow.at_s)]
    for blow in clashing:
        other = min(others, key=lambda one: abs(one.at_s - blow.at_s), default=None)
        if other is None:
            blows = [one for one in blows if one is not blow] + [replace(blow, at_s=blow.at_s + 2 * CLEAR_S)]
            continue
        others.remove(other)
        blows = [one for one in blows if one is not blow and one is not other]
        blows += [replace(blow, at_s=other.at_s), replace(other, at_s=blow.at_s)]
    return blows


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
    standby: StandsBy | None = None
    """Of PostgreSQL; None: nobody is promoted."""
    deeds: list[Deed] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    """Components that ended without our doing."""
    began: float = field(default_factory=time.monotonic)
    _dead: dict[str, _Absence] = field(default_factory=dict)
    _paused: dict[str, _Absence] = field(default_factory=dict)
    _promotion: Promotion | None = None
    _truce_until: float = 0.0
    """Until then no store is hurt, whatever was planned: a promotion may begin late."""

    def begin(self) -> None:
        """Count the time from now."""
        self.began = time.monotonic()

    def step(self, *, strike: bool = True) -> None:
        """Do what is due: wake, start again, and strike if wanted."""
        self._notice_deaths()
        self._wake(time.monotonic())
        self._start(time.monotonic())
        self._promote(time.monotonic())
        now_s = time.monotonic() - self.began
        while strike and (blow := self._next()) and blow.at_s <= now_s:
            self.blows.remove(blow)
            if self._has_to_wait(blow):
                self.blows.append(replace(blow, at_s=now_s + WAIT_S))
            else:
                self._strike(blow)

    def calm(self) -> bool:
        """No more blows; everybody awake and alive? To be asked again, and `step` to be called, until it says so."""
        self.blows.clear()
        for absence in [*self._paused.values()]:
            absence.until = 0.0
        self.step(strike=False)
        return not self._dead and not self._paused and not self._promotion

    @property
    def commits_lost(self) -> int | None:
        """By all promotions; None when nobody can say."""
        lost = [deed.lost for deed in self.deeds if deed.action == "promote"]
        return None if None in lost else sum(filter(None, lost))

    def _next(self) -> Blow | None:
        return min(self.blows, key=lambda blow: blow.at_s, default=None)

    def _has_to_wait(self, blow: Blow) -> bool:
        """A store is not hurt while PostgreSQL has lost something, and that loss waits until both are well."""
        if blow.action == "promote" and any(name in STORES for name in (*self._dead, *self._paused)):
            return True
        return blow.kind in STORES and time.monotonic() < self._truce_until

    def _begin_promotion(self, lag_s: float) -> None:
        if self.standby is None:
            return
        began_s = time.monotonic() - self.began
        try:
            self._promotion = Promotion.begin(self.standby, lag_s)
        except CannotRun as error:
            self._surprise(f"a standby did not start: {error}")
        self._make_up_for(began_s)
        self._truce_until = time.monotonic() + CLEAR_S

    def _promote(self, now: float) -> None:
        if (promotion := self._promotion) is None or "postgres" in self._dead or not promotion.ripe(now):
            return
        self._promotion = None
        deed = Deed(now - self.began, time.time(), now, "standby", "promote", lag_s=promotion.lag_s)
        self.deeds.append(deed)
        deed.lost = promotion.standby.take_over()
        deed.back_s = time.monotonic() - now
        self._truce_until = time.monotonic() + CLEAR_S / 2
        self._make_up_for(deed.at_s)
        lost = "some" if deed.lost is None else deed.lost
        self.say(f"{deed.at_s:6.2f} s  promote a standby that lags {deed.lag_s:.2f} s: {lost} commits lost")

    def _make_up_for(self, began_s: float) -> None:
        """Nothing was dealt from then until now: the blows to come are spread over the time that is left."""
        now_s = time.monotonic() - self.began
        last_s = max((blow.at_s for blow in self.blows), default=0.0)
        if last_s > now_s:
            share = (last_s - now_s) / (last_s - began_s)
            self.blows = [replace(blow, at_s=last_s - (last_s - blow.at_s) * share) for blow in self.blows]

    def _surprise(self, what: str) -> None:
        self.surprises.append(what)
        self.say(what)

    def _strike(self, blow: Blow) -> None:
        if blow.action == "promote":
            self._begin_promotion(blow.seconds)
            return
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
                self._surprise(f"{component.name} ended by itself ({component.ending}): {component.last_line()}")
                self._dead[component.name] = _Absence(component, None, time.monotonic() + RESTART_S)

    def _start(self, now: float) -> None:
        for name, absence in [*self._dead.items()]:
            if absence.until > now:
                continue
            try:
                absence.component.start()
            except CannotRun as error:
                self._surprise(f"{name} did not start: {error}")
                absence.component.stop()
                absence.until = time.monotonic() + 10 * RESTART_S
                continue
            del self._dead[name]
            if absence.deed is not None:
                absence.deed.back_s = time.monotonic() - absence.deed.clock_s
