"""What this process waits for: a line when it is missed, and one when it is there again, with how long it was away.

Noted where a store or the gateway is spoken to, so that whatever waits for it need not say so once more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from boxoffice.telemetry.seldom import Seldom, seldom

__all__ = ["OUTAGES", "Outages", "outages"]

log = structlog.get_logger()

OUTAGES: Final[dict[str, tuple[str, str]]] = {
    "redis": ("redis.away", "redis.recovered"),
    "redis writes": ("redis.refused", "redis.accepted"),
    "postgresql": ("postgres.away", "postgres.recovered"),
    "gateway": ("gateway.away", "gateway.recovered"),
    "gate": ("gate.shut", "gate.recovered"),
    "rights": ("rights.missing", "rights.given"),
}
"""The two lines of each kind."""


@dataclass(slots=True)
class _Lasting:
    began_s: float
    failures: int = 0
    said: bool = False
    """Whether a line says that it is missed: then one says that it is there again."""


class Outages:
    """Those that last. To note that there is none costs a look into an empty dict."""

    def __init__(self, lines: Seldom = seldom, now_s: Callable[[], float] = time.monotonic) -> None:
        self.lasting: dict[tuple[str, str], _Lasting] = {}
        self.silent = False
        """Where nobody keeps a log: a command says by itself what is away."""
        self._lines = lines
        self._now_s = now_s

    def missed(self, what: str, error: str, which: str = "") -> None:
        """It did not answer, or took nothing from us. `error`: a kind's name or a code, never a store's sentence. `which`: of
        several, one."""
        if self.silent:
            return
        found = self.lasting.setdefault((what, which), _Lasting(self._now_s()))
        found.failures += 1
        found.said |= self._lines.warning(OUTAGES[what][0], error=error, **_which(which))

    def met(self, what: str, which: str = "") -> None:
        """It answered."""
        found = self.lasting.pop((what, which), None) if self.lasting else None
        if found is not None and found.said:
            seconds = round(self._now_s() - found.began_s, 1)
            log.info(OUTAGES[what][1], seconds=seconds, failures=found.failures, **_which(which))

    def forget(self) -> None:
        """Nothing is missed, and it is said what is."""
        self.lasting.clear()
        self.silent = False


def _which(which: str) -> dict[str, str]:
    return {"which": which} if which else {}


outages: Final = Outages()
"""This process's, which says nothing before its log is set up."""
outages.silent = True
