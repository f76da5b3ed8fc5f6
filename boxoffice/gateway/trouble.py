"""What is wrong with how we stand at the gateway: a key, an account, a permission. Never a card."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog

__all__ = ["Trouble"]

log = structlog.get_logger()

AGAIN_S: Final = 60.0
"""How often the same trouble is logged while it lasts."""


class Trouble:
    """The last refusal that was about us, until the gateway serves us again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged: dict[str, float] = {}
        self.code = ""
        """Empty when the gateway serves us, as far as we know."""

    def note(self, code: str, *, of_all: bool) -> None:
        """The gateway refused us for this. `of_all`: it would refuse every payment (a wrong key), not this one alone (its
        amount, its currency, a permission that others do not need)."""
        if of_all:
            self.code = code
        if self._logged.get(code, -AGAIN_S) + AGAIN_S <= self._clock():
            self._logged[code] = self._clock()
            log.error("gateway.misconfigured", code=code)

    def clear(self) -> None:
        """It serves us."""
        if self.code:
            log.warning("gateway.mended", code=self.code)
            self._logged.pop(self.code, None)
            self.code = ""
