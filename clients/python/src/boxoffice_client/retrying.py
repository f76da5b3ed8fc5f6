"""When to send again: the table of docs/api.md. No I/O; `tests/clients/retry_cases.json` is its test for every client."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

__all__ = ["NOTHING_DONE", "Answered", "Lost", "Retries", "pause_before_repeat", "retry_after_of"]

NOTHING_DONE: Final = frozenset(
    {
        "busy",
        "gate-closed",
        "not-ready",
        "overloaded",
        "payment-in-progress",
        "rate-limited",
        "request-timeout",
        "streams-full",
        "too-many-connections",
        "too-many-streams",
        "too-many-waits",
    }
)
"""Problems after which any request may be sent again: it has changed nothing, and later it may succeed."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How patient a client is."""

    deadline_s: float = 60.0
    """Seconds from the first attempt, after which a call raises what came back last."""

    attempt_s: float = 10.0
    """Seconds that one attempt may take. A call that asks the server to wait gets that on top."""

    first_s: float = 1.0
    """Seconds before the second attempt where the answer does not say; twice as many before each further one."""

    most_s: float = 30.0
    """Most seconds between two attempts where the answer does not say."""

    chance: Callable[[], float] = random.random
    """A number from 0 to 1. Many clients that were refused at once do not come back at once."""


class Answered(NamedTuple):
    """An answer came."""

    status: int
    slug: str
    """Of the problem; empty when it is none."""
    retry_after_s: float | None


class Lost(NamedTuple):
    """No answer came."""

    sent: bool
    """False when no connection was made: then nothing was done."""


def pause_before_repeat(outcome: Answered | Lost, repeatable: bool, attempt: int, retries: Retries) -> float | None:
    """Seconds to wait before the same request is sent again, with the same key; None: do not send it.

    `repeatable`: sent twice it does the same as sent once. `attempt` is 1 after the first.
    """
    if not _may_repeat(outcome, repeatable):
        return None
    asked = outcome.retry_after_s if isinstance(outcome, Answered) else None
    if asked is not None:
        return asked * (1 + retries.chance() / 4)
    steps = min(retries.most_s, retries.first_s * 2.0 ** min(attempt - 1, 30))
    return steps * (1 + retries.chance()) / 2


def _may_repeat(outcome: Answered | Lost, repeatable: bool) -> bool:
    if isinstance(outcome, Lost):
        return repeatable or not outcome.sent
    if outcome.slug in NOTHING_DONE:
        return True
    if outcome.status == 429 and not outcome.slug:
        return True  # a proxy's own limit
    return outcome.status >= 500 and repeatable


def retry_after_of(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds that `Retry-After` asks for, from a number or a date; None without one. `now_s` is the Unix time."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except ValueError:
        return None
