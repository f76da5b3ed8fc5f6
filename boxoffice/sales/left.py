"""What is left of an event's tiers, and for whom: tickets that are set aside for a shop or for an access code are left for
nobody else (`lua/lib/allocations.lua`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from boxoffice.stores import keys

__all__ = ["Allocated", "Left", "allocated_text", "ask_left", "counts_of", "left_of", "reserved", "takeable"]


class Allocated(msgspec.Struct, frozen=True):
    """Tickets of a tier that are set aside for one shop, or for one access code."""

    tier: str
    holder: str
    """`@` and the shop's id, or `k` and the code's digest."""
    tickets: int


class Left(NamedTuple):
    """Of one event."""

    available: dict[str, bytes | None]
    """By tier, as Redis counts; None for a tier without counters."""
    reserved: Counter[tuple[str, str]]
    """By tier and holder what of it is set aside and not taken, by tier and "" all of that. Empty when nothing is set aside."""


class _Tier(Protocol):
    @property
    def id(self) -> str: ...


class _Event(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def shard(self) -> int: ...
    @property
    def tiers(self) -> Sequence[_Tier]: ...
    @property
    def allocated(self) -> Sequence[Allocated]: ...


def allocated_text(allocated: Sequence[Allocated]) -> str:
    """As lib/allocations.lua reads them. Empty when there are none."""
    return ",".join(f"{each.tier}:{each.holder}:{each.tickets}" for each in allocated)


def reserved(tickets: int, has: int) -> int:
    """What of so many tickets is still set aside for a holder who has so many of the tier."""
    return max(0, tickets - has)


def takeable(available: int, in_all: int, own: int) -> int:
    """How many of a tier's available tickets somebody may take for whom `own` are set aside, and for others the rest of what is
    set aside `in_all`."""
    return max(0, min(available, max(0, available - in_all) + own))


def ask_left(pipeline: Any, event: _Event) -> None:
    """Put the commands for one event into a pipeline: more than one only when something is set aside."""
    shard = event.shard
    pipeline.hmget(keys.event(shard, event.id), [f"a:{tier.id}" for tier in event.tiers])
    for each in event.allocated:
        if each.holder[0] == "@":
            pipeline.hget(keys.shops(shard, event.id), f"{each.holder[1:]}:{each.tier}")
        else:
            pipeline.hget(keys.owned_tiers(shard, event.id), each.holder)


def left_of(event: _Event, replies: Iterator[Any]) -> Left:
    """Take the replies to one event's commands."""
    available = dict(zip((tier.id for tier in event.tiers), next(replies), strict=True))
    by_holder: Counter[tuple[str, str]] = Counter()
    for each in event.allocated:
        raw = next(replies) or b"0"
        has = int(raw) if each.holder[0] == "@" else _of_tier(raw, each.tier)
        left = reserved(each.tickets, has)
        by_holder.update({(each.tier, each.holder): left, (each.tier, ""): left})
    return Left(available, by_holder)


def counts_of(event: _Event, left: Left, client: str) -> list[int]:
    """What of each tier, in the order of the event's tiers, this shop may take: what is set aside for it, and not what is set
    aside for others. Without a client what everybody may. Every tier has counters."""
    aside = left.reserved
    return [
        takeable(count, aside[tier.id, ""], aside[tier.id, f"@{client}"]) if aside else max(0, count)
        for tier in event.tiers
        for count in [int(left.available[tier.id] or 0)]
    ]


def _of_tier(items: bytes, tier: str) -> int:
    """Tickets of one tier, of `tier:tickets,...`."""
    pairs = (item.partition(":") for item in items.decode().split(","))
    return next((int(tickets) for name, _, tickets in pairs if name == tier), 0)
