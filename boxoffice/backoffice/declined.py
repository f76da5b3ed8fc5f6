"""Whose payments were declined in the present window, and who is refused for it: what decline.lua has counted, for people."""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from redis.asyncio import Redis

from boxoffice.rate_settings import DeclineSettings
from boxoffice.stores import keys
from boxoffice.stores.shard import Shards

__all__ = ["DeclinedOf", "declined"]

_WHOSE: Final = {"o": "customer", "c": "client", "e": "event", "f": "card"}
"""Letters of the counts' fields (`lua/lib/declines.lua`)."""

_STEP: Final = 1_000
"""Fields that are read in one piece: nobody is admitted meanwhile."""


class DeclinedOf(Struct, frozen=True):
    """The declined payments of one customer, client, event or card in the present window of a shard."""

    shard: int
    whose: str
    name: str
    """A customer's digest, the id of a client or an event, what the gateway calls a card."""
    declined: int
    answered: int | None
    """All that the gateway answered, yes or no; None where nobody counts them: of a customer, and of a card."""
    refused: bool
    """Whether it has so many that no other is tried. Of an event, only for those clients that have their share in it."""
    ends_in_s: int
    """Until the window ends, and all is forgotten."""


async def declined(shards: Shards, terms: DeclineSettings) -> list[DeclinedOf]:
    """Those with most first, of all shards. Raises `RedisError`."""
    found = [each for shard in shards for each in await _of_one(shard.number, shard.redis, terms)]
    return sorted(found, key=lambda each: (not each.refused, -each.declined, each.shard, each.name))


async def _of_one(number: int, redis: Redis, terms: DeclineSettings) -> list[DeclinedOf]:
    name, window_s = keys.declines(number), terms.window_s
    seconds, _ = await redis.time()
    counts = {field.decode(): int(count) async for field, count in redis.hscan_iter(name, count=_STEP)}
    if counts.pop("at", None) != 1_000 * (seconds - seconds % window_s):
        return []
    found = []
    for field, count in counts.items():
        letter, _, who = field.partition(":")
        if letter in _WHOSE and count:
            answered = counts.get(f"{letter.upper()}:{who}", 0) if letter in "ce" else None
            refused = _is_refused(letter, count, answered or 0, terms)
            ends_in_s = window_s - seconds % window_s
            found.append(DeclinedOf(number, _WHOSE[letter], who, count, answered, refused, ends_in_s))
    return found


def _is_refused(letter: str, count: int, answered: int, terms: DeclineSettings) -> bool:
    """As the scripts and the workers see it."""
    if letter in "of":
        most = terms.customer_max if letter == "o" else terms.card_max
        return 0 < most <= count
    return 0 < terms.least <= count and 100 * count >= terms.share * answered
