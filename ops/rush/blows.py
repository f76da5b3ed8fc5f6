"""The misfortunes of a rush, drawn from its seed before it begins: what happens to whom, when, and for how long."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

from ops.rush.promotion import CLEAR_S, LEAST_S, TWO_S, draw_promotions

__all__ = ["AGE_S", "KINDS", "PUT_BACK_S", "RARE", "READ_ONLY_S", "STORES", "Blow", "draw_blows"]

KINDS: Final = ("api", "worker", "redis", "postgres")

STORES: Final = ("redis", "postgres")

RARE: Final = ("promote", "put back", "read-only", "bad logs")
"""Of which a rush has one or two."""

KILLS_PER_S: Final = 0.42
"""25 kills in a minute."""

PAUSES_PER_S: Final = 0.12

PAUSE_S: Final = {"api": (0.3, 1.5), "worker": (2.5, 4.0), "redis": (0.2, 1.5), "postgres": (0.3, 2.5)}
"""Shortest and longest. A worker sleeps longer than its lease (2 s in a rush with chaos) and wakes up to find its
bookings settled by another."""

QUIET_AT_END: Final = 0.04
"""Share of the time without new blows, so that the last one meets a sale that goes on."""

AGE_S: Final = (0.5, 3.0)
"""How old the copy of Redis's file is when whoever sells is stopped; what comes of it before it is put back makes it older."""

PUT_BACK_S: Final = 12.0
"""From the copy on, so long neither store is hurt otherwise, if it can be planned."""

READ_ONLY_S: Final = (2.0, 5.0)

BAD_LOGS_S: Final = (4.0, 8.0)
"""So long, API processes and workers that start cannot write their log; they cannot until they are started again."""

STEP_S: Final = 0.25
"""Of the search for a moment that is free."""

LATEST: Final = 0.85
"""Share of the time in which what takes long begins."""

Action = Literal["kill", "pause", "promote", "put back", "read-only", "bad logs"]


@dataclass(frozen=True, slots=True)
class Blow:
    """One misfortune to come."""

    at_s: float
    kind: str
    action: Action
    seconds: float = 0.0
    """Of a pause, of being read-only, of bad logs; of a promotion, how long the standby lags; of an old copy, its age."""
    which: int = 0


def draw_blows(seconds: float, seed: int) -> list[Blow]:
    """Kills and pauses, evenly over the time and over the four kinds of components. And in a rush of ten seconds or more: a
    store that goes back in time, at which neither store is hurt otherwise, a PostgreSQL that is read-only, and logs that
    take nothing. A longer one has both stores go back, each at its time."""
    chance, more = random.Random(f"chaos-{seed}"), random.Random(f"setbacks-{seed}")
    blows = [
        *_spread("kill", max(4, round(seconds * KILLS_PER_S)), seconds, chance),
        *_spread("pause", max(1, round(seconds * PAUSES_PER_S)), seconds, chance),
    ]
    promotions = [Blow(at_s, "postgres", "promote", lag_s) for at_s, lag_s in draw_promotions(seconds, chance)]
    if LEAST_S <= seconds < TWO_S and more.random() < 0.5:
        promotions = []
    setbacks = [*promotions, *_put_back(seconds, promotions, more)]
    windows = [_window(blow) for blow in setbacks]
    longer = [*_read_only(seconds, windows, more), *_bad_logs(seconds, more)]
    return sorted([*_spare(blows, windows), *setbacks, *longer], key=lambda blow: blow.at_s)


def _window(blow: Blow) -> tuple[float, float]:
    """When nobody else hurts a store."""
    return blow.at_s, blow.at_s + (CLEAR_S if blow.action == "promote" else PUT_BACK_S)


def _put_back(seconds: float, promotions: list[Blow], chance: random.Random) -> list[Blow]:
    if seconds < LEAST_S or (promotions and seconds < TWO_S):
        return []
    taken = [(begins - PUT_BACK_S, ends) for begins, ends in map(_window, promotions)]
    return [
        Blow(at_s, "redis", "put back", chance.uniform(*AGE_S))
        for at_s in _free(seconds * 0.1, seconds * LATEST - AGE_S[1], taken, chance)
    ]


def _read_only(seconds: float, windows: list[tuple[float, float]], chance: random.Random) -> list[Blow]:
    if seconds < LEAST_S:
        return []
    longest_s = READ_ONLY_S[1]
    taken = [(begins - longest_s, ends) for begins, ends in windows]
    return [
        Blow(at_s, "postgres", "read-only", chance.uniform(*READ_ONLY_S))
        for at_s in _free(STEP_S, seconds * LATEST, taken, chance)
    ]


def _bad_logs(seconds: float, chance: random.Random) -> list[Blow]:
    """A full disk and a dead reader, whichever comes first; in a short rush one of them."""
    if seconds < LEAST_S:
        return []
    count = 2 if seconds >= TWO_S else 1
    share = seconds * LATEST / count
    ways = chance.sample((0, 1), count)
    return [
        Blow((at + chance.random()) * share, "logs", "bad logs", chance.uniform(*BAD_LOGS_S), way)
        for at, way in enumerate(ways)
    ]


def _free(begin_s: float, end_s: float, taken: Iterable[tuple[float, float]], chance: random.Random) -> Iterable[float]:
    """A moment between these that is not taken, if there is one."""
    steps = [begin_s + STEP_S * at for at in range(max(1, int((end_s - begin_s) / STEP_S)))]
    free = [at_s for at_s in steps if not any(begins <= at_s < ends for begins, ends in taken)]
    return [chance.choice(free)] if free else []


def _spare(blows: list[Blow], windows: list[tuple[float, float]]) -> list[Blow]:
    """A store that would be hurt while one goes back in time, or be away when that begins, changes places with somebody
    else; where nobody is left, it is hurt at the next moment that is free."""

    def near(at_s: float) -> bool:
        return any(begins - PAUSE_S["postgres"][1] <= at_s < ends for begins, ends in windows)

    clashing = [blow for blow in blows if blow.kind in STORES and near(blow.at_s)]
    others = [blow for blow in blows if blow.kind not in STORES and not near(blow.at_s)]
    for blow in clashing:
        other = min(others, key=lambda one: abs(one.at_s - blow.at_s), default=None)
        if other is None:
            blows = [one for one in blows if one is not blow] + [replace(blow, at_s=_next_free(blow.at_s, near))]
            continue
        others.remove(other)
        blows = [one for one in blows if one is not blow and one is not other]
        blows += [replace(blow, at_s=other.at_s), replace(other, at_s=blow.at_s)]
    return blows


def _next_free(at_s: float, near: Callable[[float], bool]) -> float:
    while near(at_s):
        at_s += STEP_S
    return at_s


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
