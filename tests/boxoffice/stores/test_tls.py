"""TLS to both stores, tried on servers that speak nothing else: what it protects against is refused by every way in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError
from sqlalchemy.engine import make_url

from boxoffice.settings import Settings
from boxoffice.stores.postgres import open_pool
from boxoffice.stores.redis import open_redis
from ops.complaints import sentence_of
from tests.boxoffice.test_database_url import ways
from tests.support.tls import Authority, check_redis
from tests.support.ways import Way


@pytest.fixture
def tls(open_way: Callable[[str], Way]) -> Way:
    return open_way("tls")


@pytest.fixture
def others(tmp_path: Path) -> Authority:
    """Whom nobody has told us to believe."""
    return Authority(tmp_path, "others")


def database_url(way: Way, host: str = "localhost", **changes: str | None) -> str:
    """The way's URL to PostgreSQL, to another host and with other parameters; None leaves one out."""
    url = make_url(way.database_url)
    query = {name: value for name, value in {**url.query, **changes}.items() if value is not None}
    return url.set(host=host, query=query).render_as_string(hide_password=False)


def redis_url(way: Way, host: str = "localhost", **changes: str | None) -> str:
    """The same of Redis."""
    url = make_url(way.redis_url)
    query = {name: value for name, value in {**url.query, **changes}.items() if value is not None}
    return url.set(host=host, query=query).render_as_string(hide_password=False)


CASES: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"sslmode": "require", "sslrootcert": None}, True),
    ({"host": "127.0.0.1", "sslmode": "verify-ca"}, True),
    ({"host": "127.0.0.1"}, False),
    ({"sslrootcert": "others"}, False),
    ({"sslrootcert": "others", "sslmode": "require"}, False),
    ({"sslrootcert": "system"}, False),
    ({"sslcert": None, "sslkey": None}, False),
    ({"sslmode": "disable"}, False),
]


@pytest.mark.parametrize(("changes", "good"), CASES, ids=lambda value: str(value))
async def test_postgresql_is_who_it_says_for_everybody(
    settings: Settings, tls: Way, others: Authority, changes: dict[str, Any], good: bool
) -> None:
    """A name, an authority and a certificate of ours: the settling pool, audits, SQLAlchemy and migrations look at the same."""
    changes = {name: str(others.certificate) if value == "others" else value for name, value in changes.items()}
    if changes.get("sslrootcert") == "system":
        changes |= {"sslcert": None, "sslkey": None}
    there = settings.model_copy(update={"database_url": database_url(tls, **changes)})
    assert set((await ways(there)).values()) == {good}


async def test_what_goes_to_postgresql_is_encrypted(settings: Settings, tls: Way) -> None:
    pool = await open_pool(settings.model_copy(update={"database_url": tls.database_url}), size=1)
    assert await pool.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") is True
    pool.terminate()


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        ({"host": "127.0.0.1"}, False),
        ({"host": "127.0.0.1", "ssl_check_hostname": "no"}, True),
        ({"ssl_ca_certs": "others"}, False),
        ({"ssl_ca_certs": None}, False),
        ({"ssl_ca_certs": None, "ssl_cert_reqs": "none"}, True),
        ({"ssl_certfile": None, "ssl_keyfile": None}, False),
    ],
    ids=str,
)
async def test_redis_is_who_it_says(
    settings: Settings, tls: Way, others: Authority, changes: dict[str, Any], good: bool
) -> None:
    changes = {name: str(others.certificate) if value == "others" else value for name, value in changes.items()}
    await check_redis(settings, redis_url(tls, **changes), answers=good)


async def test_a_certificate_that_we_do_not_believe_is_what_a_command_complains_of(
    settings: Settings, tls: Way, others: Authority
) -> None:
    """And no server that does not answer, for it does."""
    strange = str(others.certificate)
    with pytest.raises(OSError) as postgresql:
        await open_pool(settings.model_copy(update={"database_url": database_url(tls, sslrootcert=strange)}), size=1)
    assert sentence_of(postgresql.value) == (
        "We do not believe PostgreSQL's certificate: look at sslrootcert and the host's name in DATABASE_URL."
    )
    redis = open_redis(settings.model_copy(update={"redis_url": redis_url(tls, ssl_ca_certs=strange)}))
    with pytest.raises(ConnectionError) as refused:
        await redis.ping()
    assert sentence_of(refused.value) == (
        "We do not believe Redis's certificate: look at ssl_ca_certs and the host's name in REDIS_URL."
    )
    await redis.aclose()
