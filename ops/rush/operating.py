"""The operator of a rush: pauses, enlarges and shrinks the sale, changes its prices, revokes access codes and sets tickets
aside while it goes on, through the API, as drawn from the seed; and remembers what it was told, for the audit."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final, Literal, NamedTuple

from boxoffice.sales.catalogue import EventView, TierView
from ops.rush.agreed import Aside, Code
from ops.rush.asking import Asking
from ops.rush.setting_aside import Allotted, SettingAside

__all__ = ["Change", "Changes", "Operator", "Pause", "Price", "draw_changes"]

Kind = Literal["pause", "capacity", "price", "revoke", "aside"]

EVERY_S: Final[dict[Kind, float]] = {"pause": 8.0, "capacity": 2.0, "price": 4.0, "revoke": 20.0, "aside": 1.5}
"""One of each in so many seconds; at least one of each in a rush."""

PAUSE_S: Final = (0.2, 1.0)
SHRINK: Final = (0.5, 0.95)
GROW: Final = (1.05, 1.6)
"""Share of the capacity as it was told last."""

PRICE: Final = (0.5, 2.0)
"""Share of the first price."""

ASIDE: Final = (0.1, 0.5)
"""Share of the first capacity that is set aside for one holder."""

ALL: Final = (1.0, 1.0)
"""A code is revoked, or it is not."""

LATEST: Final = 0.9
"""Share of the time in which the last change begins."""


class Change(NamedTuple):
    """One to come. `share`: seconds of a pause; of the capacity, or of the first price or capacity."""

    at_s: float
    kind: Kind
    share: float
    which: int
    """Draws the event, and the tier, the code, or for whom tickets are set aside."""


class Price(NamedTuple):
    """A price that was asked for (epoch seconds), and was answered: from then on it is in force."""

    cents: int
    sent_s: float = -inf
    answered_s: float = -inf


class Pause(NamedTuple):
    """From its answer to when its end was asked for nothing is let in (epoch seconds)."""

    event: str
    from_s: float
    until_s: float


@dataclass(slots=True)
class Changes:
    """What an operator was told."""

    made: Counter[str] = field(default_factory=Counter)
    """Changes by what they were; `unanswered` those that nobody confirmed."""
    capacities: dict[str, int | None] = field(default_factory=dict)
    """By tier, as it was told last; None: nobody answered."""
    prices: dict[str, list[Price]] = field(default_factory=dict)
    """By tier, in the order in which they were asked for. No two are the same."""
    pauses: list[Pause] = field(default_factory=list)
    revoked: dict[str, float] = field(default_factory=dict)
    """Digest of an access code to when its revocation was answered (epoch seconds): from then on it lets nothing in."""
    aside: dict[str, list[Allotted] | None] = field(default_factory=dict)
    """By event, what is set aside of it, as it was told last; None: nobody answered."""


def draw_changes(seconds: float, seed: int, every_s: Mapping[Kind, float] = EVERY_S) -> list[Change]:
    """In the order in which they come. Capacities go down and up in turn. The same seed draws the same ones."""
    chance, found = random.Random(f"changes-{seed}"), []
    for kind, each_s in every_s.items():
        count = max(1, round(seconds / each_s))
        for at in range(count):
            share = {
                "pause": PAUSE_S, "capacity": (SHRINK, GROW)[at % 2], "price": PRICE, "revoke": ALL, "aside": ASIDE,
            }[kind]  # fmt: skip
            at_s = (at + chance.random()) * seconds * LATEST / count
            found.append(Change(at_s, kind, chance.uniform(*share), chance.randrange(1_000)))
    return sorted(found)


class Operator:
    """Makes the changes, one after the other."""

    def __init__(
        self, shop: Asking, events: list[EventView], clock_s: Callable[[], float] = time.time,
        codes: Mapping[str, Sequence[Code]] | None = None, aside: Mapping[str, Aside] | None = None,
    ) -> None:  # fmt: skip
        """`codes`: by event, those that may be revoked; `aside`: for whom tickets may be set aside."""
        self._shop = shop
        self._events = events
        self._codes = codes or {}
        self._clock_s = clock_s
        self._sent = 0
        self._asides = aside or {}
        self._aside = SettingAside(self._ask, self._look, self._asides)
        tiers = [tier for event in events for tier in event.tiers]
        self.changes = Changes(
            capacities={tier.id: tier.capacity for tier in tiers},
            prices={tier.id: [Price(tier.price_cents)] for tier in tiers},
            aside=self._aside.heard,
        )

    async def work(self, changes: Sequence[Change], start: float) -> None:
        """All of them, each at its time by the loop's clock, or as soon as those before it are answered."""
        clock = asyncio.get_running_loop().time
        for change in changes:
            await asyncio.sleep(max(0.0, start + change.at_s - clock()))
            event = self._events[change.which % len(self._events)]
            match change.kind:
                case "pause":
                    await self._pause(event, change.share)
                case "capacity":
                    await self._resize(event, event.tiers[change.which % len(event.tiers)], change.share)
                case "price":
                    priced = [tier for tier in event.tiers if tier.price_cents]
                    await self._price(event, priced[change.which % len(priced)], change.share)
                case "revoke" if codes := self._codes.get(event.id, ()):
                    await self._revoke(codes[change.which // len(self._events) % len(codes)])
                case "aside" if aside := self._asides.get(event.id):
                    (tier,) = [tier for tier in event.tiers if tier.id == aside.tier]
                    which = change.which // len(self._events)
                    await self._aside.change(event.id, tier.capacity, change.share, which)

    async def _pause(self, event: EventView, seconds: float) -> None:
        path = f"/v1/events/{event.id}"
        answered = await self._ask("POST", f"{path}/pause", "paused")
        from_s = self._clock_s()
        await asyncio.sleep(seconds)
        until_s = self._clock_s()
        if answered is not None:
            self.changes.pauses.append(Pause(event.id, from_s, until_s))
        await self._ask("POST", f"{path}/resume", "resumed")

    async def _resize(self, event: EventView, tier: TierView, share: float) -> None:
        now = self.changes.capacities[tier.id]
        if now is None:
            return
        capacity = max(1, round(now * share))
        path = f"/v1/events/{event.id}/tiers/{tier.id}"
        word = "capacity lowered" if capacity < now else "capacity raised"
        answer = await self._ask("PATCH", path, word, json.dumps({"capacity": capacity}).encode())
        self.changes.capacities[tier.id] = None if answer is None else int(answer["capacity_change"]["after"])

    async def _price(self, event: EventView, tier: TierView, share: float) -> None:
        prices = self.changes.prices[tier.id]
        cents = max(1, round(tier.price_cents * share))
        while any(price.cents == cents for price in prices):
            cents += 1
        sent_s = self._clock_s()
        prices.append(Price(cents, sent_s, inf))
        path = f"/v1/events/{event.id}/tiers/{tier.id}"
        if await self._ask("PATCH", path, "price changed", json.dumps({"price_cents": cents}).encode()) is not None:
            prices[-1] = Price(cents, sent_s, self._clock_s())

    async def _revoke(self, code: Code) -> None:
        path = f"/v1/events/{code.event}/access-codes/{code.id}/revoke"
        if await self._ask("POST", path, "code revoked") is not None:
            self.changes.revoked.setdefault(code.digest, self._clock_s())

    async def _ask(self, method: str, path: str, word: str, body: bytes = b"") -> dict[str, Any] | None:
        """Insistently: a change that is asked for twice is made once. None when nobody confirmed it."""
        answer = await self._look(method, path, word, body)
        self.changes.made["unanswered" if answer is None else word] += 1
        return answer

    async def _look(self, method: str, path: str, word: str, body: bytes = b"") -> dict[str, Any] | None:
        """The same of what changes nothing."""
        self._sent += 1
        answer = await self._shop.insist(method, path, f"operator-{self._sent}", self._sent, body)
        if answer is None or answer.status not in (200, 201):
            return None
        found: dict[str, Any] = json.loads(answer.body)
        return found
