"""What the operator of a rush sets aside for the partner shop and for the guest list, changes and releases, while others buy:
through the API, of which it remembers what it was told last."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from ops.rush.agreed import Aside

__all__ = ["Allotted", "SettingAside"]

Ask = Callable[[str, str, str, bytes], Awaitable[dict[str, Any] | None]]
"""Method, path, what it is called in the report, and body, to the answer; None when nobody confirmed it."""

_STEPS: Final = ("allocation changed", "released in part", "released")


class Allotted(NamedTuple):
    """An allocation, as the API told it."""

    id: str
    holder: str
    """`@` and the shop, or `k` and the code's digest."""
    tickets: int
    lacking: int
    """Of those, how many were not there."""


class SettingAside:
    """One change after the other, each followed by a look at what came of it."""

    def __init__(self, ask: Ask, look: Ask, aside: Mapping[str, Aside]) -> None:
        self._ask = ask
        self._look = look
        self._aside = aside
        self.heard: dict[str, list[Allotted] | None] = {event: [] for event in aside}
        """By event; None: nobody has answered since the last change."""

    async def change(self, event: str, capacity: int, share: float, which: int) -> None:
        """One holder's: set so much of the capacity aside, or change or release it if something is. `which` draws whose, and
        what."""
        aside, path = self._aside[event], f"/v1/events/{event}/allocations"
        rows = self.heard[event]
        if rows is None:
            rows = await self._hear(event)
        holder, named = self._holder(aside, which % 2)
        found = next((row for row in rows or () if row.holder == holder), None)
        tickets = max(1, round(share * capacity))
        self.heard[event] = None
        if found is None:
            await self._ask("POST", path, "set aside", _body(tier_id=aside.tier, tickets=tickets, **named))
        else:
            step = _STEPS[which // 2 % len(_STEPS)]
            method, suffix = ("PATCH", "") if step == _STEPS[0] else ("POST", "/release")
            size = {_STEPS[0]: tickets, _STEPS[1]: max(1, found.tickets // 2), _STEPS[2]: None}[step]
            await self._ask(method, f"{path}/{found.id}{suffix}", step, _body(tickets=size))
        await self._hear(event)

    @staticmethod
    def _holder(aside: Aside, which: int) -> tuple[str, dict[str, str]]:
        if which:
            return f"k{aside.code.digest}", {"code_id": aside.code.id}
        return f"@{aside.shop}", {"shop": aside.shop}

    async def _hear(self, event: str) -> list[Allotted] | None:
        """All that is set aside of the event. None when nobody answers, or nobody knows what is there."""
        answer = await self._look("GET", f"/v1/events/{event}/allocations", "looked", b"")
        rows = None if answer is None else answer["data"]
        if rows is None or any(row["lacking"] is None for row in rows):
            return None
        digests = {self._aside[event].code.id: self._aside[event].code.digest}
        self.heard[event] = [
            Allotted(
                row["id"], f"@{row['shop']}" if row["shop"] else f"k{digests[row['code_id']]}", row["tickets"], row["lacking"]
            )
            for row in rows
        ]  # fmt: skip
        return self.heard[event]


def _body(**members: Any) -> bytes:
    return json.dumps(members).encode()
