"""How long the money pump waits before it asks the gateway again, and what it says of outcomes that nobody knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from boxoffice.clock import CLOCK
from boxoffice.settings import GatewaySettings

__all__ = ["Patience"]

log = structlog.get_logger()

_DOUBLINGS_MAX: Final = 30


class Patience:
    """Exponential, with a limit: `gateway.retry_s` doubled with each try, at most `gateway.retry_max_s`."""

    def __init__(self, settings: GatewaySettings, chance: Callable[[], float] = CLOCK.chance) -> None:
        self._first_s = settings.retry_s
        self._most_s = settings.retry_max_s
        self._chance = chance

    def pause_ms(self, tries: int) -> int:
        """Before the next try, when so many were made; a fifth of it is chance, so that they do not come together."""
        pause_s = min(self._first_s * 2.0 ** min(tries, _DOUBLINGS_MAX), self._most_s)
        return int(1_000 * pause_s * (0.8 + 0.2 * self._chance()))

    def unknown(self, what: str, key: str, reason: str, tries: int, payments: int = 1) -> None:
        """Nobody can say what became of it. Told at the first try of each, and counted in its row's `tries`."""
        if tries <= 1:
            log.warning("money.unknown", what=what, key=key, reason=reason, payments=payments)

    def known(self, what: str, key: str, tries: int) -> None:
        """It is known now. Told when it took more than one try."""
        if tries > 1:
            log.info("money.known", what=what, key=key, tries=tries)
