"""What of a store's errors goes into the log: which one it is that somebody waits for, and which errors are no bug."""

from __future__ import annotations

from typing import Final

from redis.exceptions import RedisError

from boxoffice.errors import BoxOfficeError, GateClosed, RunUnchecked
from boxoffice.stores.postgres import TRANSIENT, PostgresError
from boxoffice.stores.redis import AWAY

__all__ = ["EXPECTED", "waits_for"]

EXPECTED: Final = (BoxOfficeError, *AWAY, *TRANSIENT)
"""What every process lives with: stores that are away, full, or restarted. A line of the log names them without a traceback."""


def waits_for(error: BaseException) -> str:
    """What has to come back before it is over: `redis`, `gate`, `postgresql`, or nothing that we know."""
    if isinstance(error, GateClosed | RunUnchecked):
        return "gate"
    if isinstance(error, BoxOfficeError):
        return waits_for(error.__cause__) if error.__cause__ else ""
    if isinstance(error, RedisError):
        return "redis"
    return "postgresql" if isinstance(error, (PostgresError, *TRANSIENT)) else ""
