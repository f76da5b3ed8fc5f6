"""Ways from the product to its stores, as other people's houses have them.

A way is opened over the servers of the tests: whatever stands in between runs while it is open, and it says by which URLs
the product goes. One that cannot be had on this machine skips the test, with the reason. The story is told over each of them:
a part of it in tests/story/test_ways.py, all of it by `STORY_WAY=… pytest tests/story`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, cast

from ops.stack.servers import Servers, temporary_data_dir
from tests.support.pgbouncer import pgbouncer
from tests.support.tls import servers_with_tls

__all__ = ["STRAIGHT", "WAYS", "Way"]


class Way(NamedTuple):
    """By which URLs the product goes, and where they end."""

    redis_url: str
    database_url: str
    servers: Servers
    """At its end. Whoever empties the stores goes straight there."""


@contextlib.contextmanager
def straight(servers: Servers) -> Iterator[Way]:
    """To the servers themselves."""
    yield Way(servers.redis_url, servers.database_url, servers)


@contextlib.contextmanager
def tls(_: Servers) -> Iterator[Way]:
    """Other servers, which speak nothing else and want to see a certificate."""
    with temporary_data_dir() as folder, servers_with_tls(folder) as (found, _authority):
        yield Way(found.redis_url, found.database_url, cast(Servers, found))


@contextlib.contextmanager
def through_pgbouncer(servers: Servers) -> Iterator[Way]:
    """PostgreSQL behind a PgBouncer in session mode."""
    with pgbouncer(servers.database_url) as url:
        yield Way(servers.redis_url, url, servers)


STRAIGHT: Final = "straight"

WAYS: Final[Mapping[str, Callable[[Servers], AbstractContextManager[Way]]]] = {
    STRAIGHT: straight,
    "tls": tls,
    "pgbouncer": through_pgbouncer,
}
"""By the name that `STORY_WAY` takes."""
