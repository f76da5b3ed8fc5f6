"""What went wrong, in one sentence for who typed a command: what to do, and never a statement or its values."""

from __future__ import annotations

import socket
from typing import Final

from redis import exceptions as redis

from boxoffice.errors import BoxOfficeError

__all__ = ["sentence_of"]

_BY_STATE: Final = {
    "42P01": "The schema is not up to date: run `boxoffice migrate`.",
    "42703": "The schema is not up to date: run `boxoffice migrate`.",
    "55P03": "Somebody uses a table or row that is to be changed. Nothing was changed: try again a little later.",
    "57014": "It took longer than it may, and nothing was changed: try again a little later.",
    "42501": "This PostgreSQL role may not do that: it needs the rights of the tables' owner.",
    "25006": "PostgreSQL is read-only: a standby, or set so. Point DATABASE_URL to the primary.",
    "3D000": "There is no such database: create it, or look at DATABASE_URL.",
    "28P01": "PostgreSQL refuses the user or the password: look at DATABASE_URL.",
    "28000": "PostgreSQL refuses the user or the password: look at DATABASE_URL.",
    "53300": "PostgreSQL has no connection left for us: try again a little later, or raise max_connections.",
    "57P03": "PostgreSQL is starting or stopping: try again a little later.",
}
"""By PostgreSQL's SQLSTATE."""


_BY_KIND: Final[tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...]] = (
    (redis.AuthenticationError, "Redis refuses the user or the password: look at REDIS_URL."),
    (redis.ReadOnlyError, "Redis is a replica and takes no writes: point REDIS_URL to the primary."),
    (redis.BusyLoadingError, "Redis is loading its data: try again a little later."),
    ((redis.ConnectionError, redis.TimeoutError), "Redis does not answer: does it run, and is REDIS_URL right?"),
    ((ConnectionError, socket.gaierror), "PostgreSQL does not answer: does it run, and is DATABASE_URL right?"),
)
"""Of what is left bare: redis-py wraps what happens to its connections, asyncpg does not."""


def sentence_of(error: BaseException) -> str:
    """The error's own first line, or for one of a store's what it means here. Libraries add statements and values behind
    it. A sentence of ours has the store's behind it, unless it says already where to look."""
    if isinstance(error, BoxOfficeError):
        ours = str(error) or type(error).__name__
        theirs = _meaning_of(error.__cause__) if "_URL" not in ours else None
        return f"{ours} {theirs}" if theirs else ours
    if meaning := _meaning_of(error):
        return meaning
    origin = getattr(error, "orig", None)
    cause = origin if isinstance(origin, BaseException) else error
    while cause.__cause__ is not None and hasattr(error, "orig"):
        cause = cause.__cause__
    first = (str(cause).splitlines() or [""])[0]
    return f"{type(cause).__name__}: {first}" if first else type(cause).__name__


def _meaning_of(error: BaseException | None) -> str | None:
    """What an error of PostgreSQL's, or of the way to a store, means here."""
    cause = error
    while cause is not None:
        sentence = _BY_STATE.get(str(getattr(cause, "sqlstate", None) or ""))
        if sentence:
            return sentence
        # SQLAlchemy's own text has the statement in it; the driver's is in `orig`.
        inner = getattr(cause, "orig", None)
        cause = inner if isinstance(inner, BaseException) else cause.__cause__
    return next((what for kinds, what in _BY_KIND if isinstance(error, kinds)), None)
