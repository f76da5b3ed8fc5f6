"""What a store that was killed a moment ago may raise. Whoever samples or waits meanwhile tries again later."""

from __future__ import annotations

from typing import Final

import asyncpg
from redis.exceptions import RedisError

from boxoffice.stores.postgres import TRANSIENT

__all__ = ["STORE_AWAY"]

STORE_AWAY: Final = (RedisError, *TRANSIENT, asyncpg.PostgresError, asyncpg.InternalClientError)
"""`InternalClientError` is what asyncpg says when a connection dies in the middle of a statement that was given up."""
