"""How long PostgreSQL lets a session of the tests pause in the middle of a transaction.

The limits of a worker with short leases are a second between two statements and three for a transaction. On a machine that
several suites share, a process that is well may get no turn for so long; only one that froze is to be cut off.
"""

from __future__ import annotations

from typing import Final

from boxoffice.stores import postgres

__all__ = ["LIMITS", "give_time"]

LIMITS: Final = {name: int(getattr(postgres, name)) for name in ("IDLE_LEAST_MS", "TRANSACTION_LEAST_MS")}
"""The product's own, for the tests that freeze a session."""

PAUSE_MS: Final = 60_000


def give_time() -> None:
    """From now on sessions that this process opens may pause so long."""
    for name in LIMITS:
        setattr(postgres, name, PAUSE_MS)
