"""What went wrong, in one sentence for who typed a command: what to do, and never a statement or its values."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Final

from redis import exceptions as redis

from boxoffice.errors import BoxOfficeError
from boxoffice.stores.sessions import SHARED

__all__ = ["sentence_of"]

_BY_STATE: Final = {
    "42P01": "The schema is not up to date: run `boxoffice migrate`.",
    "42703": "The schema is not up to date: run `boxoffice migrate`.",
    "55P03": "Somebody uses a table or row that is to be changed. Nothing was changed: try again a little later.",
    "57014": "It took longer than it may, and nothing was changed: try again a little later.",
    "42501": "This PostgreSQL role may not do that: commands need boxoffice_operator's rights, migrations the owner's.",
    "25006": "PostgreSQL is read-only: a standby, or set so. Point DATABASE_URL to the primary.",
    "3D000": "There is no such database: create it, or look at DATABASE_URL.",
    "28P01": "PostgreSQL refuses the user or the password: look at DATABASE_URL.",
    "28000": "PostgreSQL refuses the user, or the way we come (pg_hba.conf): look at DATABASE_URL, sslmode and sslcert.",
    "26000": SHARED,
    "42P05": SHARED,
    "53300": "PostgreSQL has no connection left for us: try again a little later, or raise max_connections.",
    "57P03": "PostgreSQL is starting or stopping: try again a little later.",
}
"""By PostgreSQL's SQLSTATE."""


_BY_KIND: Final[tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...]] = (
    (redis.AuthenticationError, "Redis refuses the user or the password: look at REDIS_URL."),
    (
        redis.NoPermissionError,
        "Redis does not let our user do that: give it what `boxoffice acl --role operator` prints.",
    ),
    (redis.ReadOnlyError, "Redis is a replica and takes no writes: point REDIS_URL to the primary."),
    (redis.BusyLoadingError, "Redis is loading its data: try again a little later."),
    ((redis.ConnectionError, redis.TimeoutError), "Redis does not answer: does it run, and is REDIS_URL right?"),
    ((ConnectionError, socket.gaierror), "PostgreSQL does not answer: does it run, and is DATABASE_URL right?"),
)
"""Of what is left bare: redis-py wraps what happens to its connections, asyncpg does not."""


def sentence_of(error: BaseException) -> str:
    """The error's own first line, or for one of a store's what it means here. Libraries add statements and values behind
    it. A sentence of ours has the store's behind it; one that only says where to look gives way to it."""
    if isinstance(error, BoxOfficeError):
        ours = str(error) or type(error).__name__
        theirs = _meaning_of(error.__cause__)
        if theirs and "_URL" in ours:
            return theirs
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
    for cause in _chain(error):
        sentence = _BY_STATE.get(str(getattr(cause, "sqlstate", None) or ""))
        if sentence:
            return sentence
        for fits, sentence in _of_the_way(cause):
            if fits:
                return sentence
    return next((what for kinds, what in _BY_KIND if isinstance(error, kinds)), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """SQLAlchemy's own text has the statement in it; the driver's is in `orig`."""
    while error is not None:
        yield error
        inner = getattr(error, "orig", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__


_DISTRUST: Final = "We do not believe {}'s certificate: look at {} and the host's name in {}."

_POOLER: Final = "A pooler between us and PostgreSQL (PgBouncer) "


def _of_the_way(error: BaseException) -> Iterator[tuple[bool, str]]:
    """Sentences about TLS and poolers, each with whether it fits. redis-py keeps what happened to its connection as the context
    of its own error alone."""
    strange = ssl.SSLCertVerificationError
    yield isinstance(error, strange), _DISTRUST.format("PostgreSQL", "sslrootcert", "DATABASE_URL")
    inner = error.__context__ if isinstance(error, redis.ConnectionError) else None
    yield isinstance(inner, strange), _DISTRUST.format("Redis", "ssl_ca_certs", "REDIS_URL")
    no_tls = isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error)
    yield no_tls, "PostgreSQL speaks no TLS, and sslmode in DATABASE_URL asks for it."
    refused = getattr(error, "sqlstate", None) == "08P01"
    unknown = refused and "startup parameter" in str(error)
    yield (
        unknown,
        f"{_POOLER}takes no options and no search_path in DATABASE_URL: give them to the role, with ALTER ROLE … SET.",
    )
    yield refused, f"{_POOLER}refuses us: its log says why."
