"""How long a delivery, and a whole endpoint, is left alone after a failure. Pure: what happened in, what is to be done out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from boxoffice.webhook_settings import WebhookSettings
from boxoffice.webhooks.sending import Outcome

__all__ = ["Health", "health_after", "next_try_s", "probe_pause_s"]

PROBE_MAX_S: Final = 120.0
"""Longest pause between two looks whether an endpoint that takes nothing takes something again. It costs two requests."""


class Health(NamedTuple):
    """What one round of deliveries says of the endpoint."""

    well: bool
    """It has taken at least one."""
    failures: int
    """Rounds in a row in which it took none of the notices that it heard of for the first time."""
    pause_s: float | None
    """For so long nothing is sent to it; None: at once more."""
    gone: bool
    """It wants no more."""
    slow: bool
    """It failed, or took its time."""


def next_try_s(tries: int, outcome: Outcome, settings: WebhookSettings, chance: Callable[[], float]) -> float:
    """The pause of one delivery after so many tries, the last of which ended so."""
    pause_s = _doubled(settings.retry_s, tries, settings.retry_max_s) * (1 - chance() / 2)
    return max(pause_s, min(outcome.retry_after_s or 0.0, settings.retry_max_s))


def probe_pause_s(failures: int, settings: WebhookSettings, chance: Callable[[], float]) -> float:
    """The pause of a whole endpoint after so many rounds in a row that failed."""
    return _doubled(settings.retry_s, failures, min(PROBE_MAX_S, settings.retry_max_s)) * (1 - chance() / 2)


def health_after(
    failures: int,
    first: Sequence[Outcome],
    again: Sequence[Outcome],
    settings: WebhookSettings,
    chance: Callable[[], float],
) -> Health:
    """Of the notices that were sent for the `first` time, and of those that were sent `again`. One that always fails must not
    make an endpoint wait that takes all others: only the former let a pause grow."""
    every = [*first, *again]
    well = any(outcome.delivered for outcome in every)
    if well:
        failures = 0
    elif first:
        failures += 1
    wanted_s = max((outcome.retry_after_s or 0.0 for outcome in every if not outcome.delivered), default=0.0)
    pause_s = min(wanted_s, settings.retry_max_s)
    if failures and first:
        pause_s = max(pause_s, probe_pause_s(failures, settings, chance))
    slow = bool(failures) or any(outcome.took_s > settings.slow_s for outcome in every)
    return Health(well, failures, pause_s or None, any(outcome.failure == "gone" for outcome in every), slow)


def _doubled(first_s: float, times: int, most_s: float) -> float:
    return min(most_s, first_s * 2.0 ** min(times - 1, 40))
