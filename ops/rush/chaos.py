"""Deals the blows of a rush to the components of a private stack: kills and pauses them, and starts them again; has its
stores go back in time, its PostgreSQL refuse writes, its logs take nothing.

One file because each blow is read beside the way it is mended.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from boxoffice.errors import CannotRun
from ops.rush.bad_logs import bad_log
from ops.rush.blows import RARE, STORES, Blow
from ops.rush.old_copy import GoesBack, Setback
from ops.rush.promotion import CALM_S, Promotion, StandsBy
from ops.rush.read_only import Refuses
from ops.stack.processes import Child

__all__ = ["Chaos", "Deed"]

RESTART_S: Final = 0.1
"""How long a supervisor takes to notice. When a start fails, the next one comes after ten times as long."""

WAIT_S: Final = 0.5
"""So long is put off what may not happen now, and up to eight times as long, so that not all of it comes at once."""


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
    """Of a standby that was promoted; the age of a copy that was put back; how long PostgreSQL was read-only."""
    lost: int | None = None
    """Commits that a standby lacked, None where nobody can count them; unpaid holds that a copy lacked."""

    @property
    def kind(self) -> str:
        """`api` for `api-2`."""
        return self.name.partition("-")[0]


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
    old: GoesBack | None = None
    """Of Redis; None: no copy is put back."""
    read_only: Refuses | None = None
    """PostgreSQL; None: it always takes writes."""
    deeds: list[Deed] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    """Components that ended without our doing."""
    began: float = field(default_factory=time.monotonic)
    _dead: dict[str, _Absence] = field(default_factory=dict)
    _paused: dict[str, _Absence] = field(default_factory=dict)
    _promotion: Promotion | None = None
    _setback: Setback | None = None
    _ending: bool = False
    _refusal: Deed | None = None
    """Of PostgreSQL's to write."""
    _refuses_until: float = 0.0
    _log_way: int = 0
    _bad_logs_until: float = 0.0
    _truce_until: float = 0.0
    """Until then no store is hurt, whatever was planned: what takes long may begin late."""

    def begin(self) -> None:
        """Count the time from now."""
        self.began = time.monotonic()

    def step(self) -> None:
        """Do what is due: wake, start again, and strike."""
        self._notice_deaths()
        self._wake(time.monotonic())
        self._start(time.monotonic())
        self._promote(time.monotonic())
        self._go_back(time.monotonic())
        self._let_write(time.monotonic())
        now_s = time.monotonic() - self.began
        while (blow := self._next()) and blow.at_s <= now_s:
            self.blows.remove(blow)
            if self._has_to_wait(blow):
                self._put_off(blow)
            else:
                self._strike(blow)

    def calm(self) -> bool:
        """No more blows but those of which a rush has one or two, and which had no moment yet; everybody awake and alive,
        and PostgreSQL taking writes? To be asked again until it says so."""
        if not self._ending:
            self._ending, now_s = True, time.monotonic() - self.began
            self.blows = [replace(blow, at_s=now_s) for blow in self.blows if blow.action in RARE]
            self._refuses_until = 0.0
        for name, absence in [*self._paused.items()]:
            if not self._stopped_selling(name):
                absence.until = 0.0
        self.step()
        hurt = self._dead or self._paused or self._promotion or self._setback or self._refusal
        return not (self.blows or hurt)

    def make_amends(self) -> None:
        """Leave nothing behind that outlives a rush which is broken off."""
        if self._refusal is not None and self.read_only is not None:
            self.read_only.end()

    @property
    def commits_lost(self) -> int | None:
        """By all promotions; None when nobody can say."""
        lost = [deed.lost for deed in self.deeds if deed.action == "promote"]
        return None if None in lost else sum(filter(None, lost))

    # ------------------------------------------------------------------ what is due

    def _next(self) -> Blow | None:
        return min(self.blows, key=lambda blow: blow.at_s, default=None)

    def _put_off(self, blow: Blow) -> None:
        now_s = time.monotonic() - self.began
        self.blows.append(replace(blow, at_s=now_s + WAIT_S * (1 + blow.which % 8)))

    def _has_to_wait(self, blow: Blow) -> bool:
        """While a store goes back in time both are left alone, for what it lost waits until both are well; and so is
        everybody while nobody sells: workers are to get done."""
        going_back = self._promotion is not None or self._setback is not None or time.monotonic() < self._truce_until
        if blow.action in ("promote", "put back", "read-only"):
            hurt = self._refusal is not None or any(name in STORES for name in (*self._dead, *self._paused))
            return going_back or hurt
        stopped = self._setback is not None and not self._setback.selling
        return stopped or (going_back and blow.kind in STORES)

    def _strike(self, blow: Blow) -> None:
        match blow.action:
            case "promote":
                self._begin_promotion(blow.seconds)
            case "put back":
                self._copy_redis(blow.seconds)
            case "read-only":
                self._refuse_writes(blow.seconds)
            case "bad logs":
                self._spoil_logs(blow)
            case _:
                self._hurt(blow)

    def _deed(self, name: str, action: str, lag_s: float = 0.0) -> Deed:
        now = time.monotonic()
        self.deeds.append(Deed(now - self.began, time.time(), now, name, action, lag_s=lag_s))
        return self.deeds[-1]

    def _surprise(self, what: str) -> None:
        self.surprises.append(what)
        self.say(what)

    # ------------------------------------------------------------------ stores that go back in time

    def _begin_promotion(self, lag_s: float) -> None:
        if self.standby is None:
            return
        try:
            self._promotion = Promotion.begin(self.standby, lag_s)
        except CannotRun as error:
            self._surprise(f"a standby did not start: {error}")

    def _promote(self, now: float) -> None:
        if (promotion := self._promotion) is None or "postgres" in self._dead:
            return
        try:
            if not promotion.ripe(now):
                return
        except CannotRun as error:
            self._promotion = None
            promotion.standby.stop()
            self._surprise(f"a standby did not start: {error}")
            return
        self._promotion = None
        deed = self._deed("standby", "promote", lag_s=time.monotonic() - promotion.behind_s)
        deed.lost = promotion.standby.take_over()
        self._went_back(deed)
        lost = "some" if deed.lost is None else deed.lost
        self.say(f"{deed.at_s:6.2f} s  promote a standby that lags {deed.lag_s:.2f} s: {lost} commits lost")

    def _copy_redis(self, seconds: float) -> None:
        if self.old is not None:
            self._setback = Setback.begin(self.old, seconds)

    def _go_back(self, now: float) -> None:
        """Put the copy back, once it is old and all that was accepted since is in PostgreSQL."""
        if (setback := self._setback) is None or not setback.old_enough(now) or "redis" in self._dead:
            return
        self._stop_selling()
        if now > setback.give_up_s:
            self._setback = None
            self._sell_again()
            self._surprise("no old Redis was put back: what was accepted did not reach PostgreSQL in time")
            return
        if any(name.startswith("api") for name in self._dead) or not setback.quiet(now):
            return
        self._setback = None
        deed = self._deed("copy", "put back", lag_s=time.monotonic() - setback.ripe_s + setback.seconds)
        try:
            deed.lost = setback.copy.put_back(self._sell_again)
        except CannotRun as error:
            self._surprise(f"Redis did not start with an older file: {error}")
        self._went_back(deed)
        self.say(f"{deed.at_s:6.2f} s  put back a Redis of {deed.lag_s:.2f} s before: {deed.lost} unpaid holds lost")

    def _went_back(self, deed: Deed) -> None:
        deed.back_s = time.monotonic() - deed.clock_s
        self._truce_until = time.monotonic() + CALM_S
        self._make_up_for(deed.at_s)

    def _stop_selling(self) -> None:
        for component in self.stack:
            if component.name.startswith("api") and component.alive and not self._stopped_selling(component.name):
                if not component.paused:
                    component.pause()
                self._paused[component.name] = _Absence(component, None, math.inf)

    def _stopped_selling(self, name: str) -> bool:
        return name in self._paused and self._paused[name].until == math.inf

    def _sell_again(self) -> None:
        for name, absence in [*self._paused.items()]:
            if self._stopped_selling(name):
                self._resume(absence.component)

    def _make_up_for(self, began_s: float) -> None:
        """Nothing was dealt from then until now: the blows to come are spread over the time that is left."""
        now_s = time.monotonic() - self.began
        last_s = max((blow.at_s for blow in self.blows), default=0.0)
        if last_s > now_s:
            share = (last_s - now_s) / (last_s - began_s)
            self.blows = [replace(blow, at_s=last_s - (last_s - blow.at_s) * share) for blow in self.blows]

    # ------------------------------------------------------------------ what refuses to write, and what takes no writing

    def _refuse_writes(self, seconds: float) -> None:
        if self.read_only is None:
            return
        self._refusal = self._deed("postgres", "read-only", lag_s=seconds)
        self._refuses_until = time.monotonic() + seconds
        if not self.read_only.begin():
            self._surprise("PostgreSQL did not become read-only")
        self.say(f"{self._refusal.at_s:6.2f} s  have PostgreSQL refuse writes for {seconds:.1f} s")

    def _let_write(self, now: float) -> None:
        """Undone for certain: asked again until a new session may write."""
        away = "postgres" in self._dead or "postgres" in self._paused
        if self._refusal is None or self.read_only is None or now < self._refuses_until or away:
            return
        if self.read_only.end():
            self._refusal.back_s = time.monotonic() - self._refusal.clock_s
            self._refusal = None

    def _spoil_logs(self, blow: Blow) -> None:
        """All workers, so that none does the others' work, and an API process are started with such logs; whoever starts
        in the next seconds, too."""
        self._log_way, self._bad_logs_until = blow.which, time.monotonic() + blow.seconds
        apis = [one for one in self.stack if one.name.startswith("api") and one.alive]
        victims = [one for one in self.stack if one.name.startswith("worker") and one.alive]
        for component in (*victims, *apis[:1]):
            self._kill(component, None)
        way, _ = bad_log(blow.which)
        deed = self._deed("logs", way, lag_s=blow.seconds)
        self.say(f"{deed.at_s:6.2f} s  {way} under the logs of who starts within {blow.seconds:.1f} s")

    # ------------------------------------------------------------------ kills and pauses

    def _hurt(self, blow: Blow) -> None:
        found = [one for one in self.stack if one.name.partition("-")[0] == blow.kind and one.alive]
        awake = [one for one in found if one.name not in self._paused] or found
        if not awake:
            return
        component = awake[blow.which % len(awake)]
        if blow.action == "kill":
            self._kill(component, deed := self._deed(component.name, "kill"))
            self.say(f"{deed.at_s:6.2f} s  kill  {component.name}")
        elif component.name not in self._paused:
            deed = self._deed(component.name, "pause")
            component.pause()
            self._paused[component.name] = _Absence(component, deed, time.monotonic() + blow.seconds)
            self.say(f"{deed.at_s:6.2f} s  pause {component.name} for {blow.seconds:.1f} s")

    def _kill(self, component: Child, deed: Deed | None) -> None:
        self._resume(component)
        component.kill()
        self._dead[component.name] = _Absence(component, deed, time.monotonic() + RESTART_S)

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
            if name.startswith(("api", "worker")):
                absence.component.output = bad_log(self._log_way)[1] if now < self._bad_logs_until else None
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
