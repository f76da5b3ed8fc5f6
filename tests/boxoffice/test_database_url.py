"""One URL means the same in every process: the settling pool, SQLAlchemy, migrations, audits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import InterfaceError

from boxoffice.database_url import read_database_url
from boxoffice.errors import CannotRun
from boxoffice.settings import Settings, load_settings
from boxoffice.stores.postgres import AWAY, migrate, open_engine, open_pool, open_readers

WORKS = [
    "",
    "?sslmode=disable",
    "?sslmode=prefer",
    "?sslmode=allow",
    "?ssl=disable",
    "?ssl=false",
    "?ssl=prefer",
    "?ssl=require&sslmode=disable",
    "?connect_timeout=3",
    "?connect_timeout=0",
    "?application_name=my%20shop",
    "?options=-c%20statement_timeout%3D7000",
    "?target_session_attrs=read-write",
    "?target_session_attrs=any&sslmode=disable&connect_timeout=10&application_name=a",
    "?keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3",
    "?gssencmode=disable&channel_binding=prefer&client_encoding=UTF8&fallback_application_name=x",
    "?tcp_user_timeout=1000&load_balance_hosts=disable&sslsni=1&sslcompression=0",
    "?SSLMODE=disable",
    "?prepared_statement_cache_size=100",
]
"""Against a server without TLS."""

NEEDS_TLS = ["?sslmode=require", "?ssl=require", "?ssl=true", "?sslmode=verify-full", "?ssl=verify-ca"]

REFUSED = [
    ("?sslmode=sometimes", "sslmode is one of"),
    ("?ssl=maybe", "ssl is one of"),
    ("?connect_timeout=soon", "connect_timeout is a number"),
    ("?frobnicate=1", "none of libpq's: frobnicate"),
    ("?statement_timeout=1", "none of libpq's: statement_timeout"),
    ("?p%40ss=hunter2", "none of libpq's: (not shown)"),
    ("?nonsense", "is no URL"),
    ("?oauth_issuer=x", "cannot be used here: oauth_issuer"),
    ("?scram_client_key=hunter2", "cannot be used here: scram_client_key"),
    ("?port=soon", "port is a number"),
    ("#hunter2", "which is written %23"),
    ("?application_name=a%00hunter2", "or a %00"),
]


def with_query(settings: Settings, query: str) -> Settings:
    return settings.model_copy(update={"database_url": settings.database_url + query})


async def ways(settings: Settings) -> dict[str, Any]:
    """What each way in ends with: True, or the name of the error."""

    async def pool() -> bool:
        opened = await open_pool(settings, size=1)
        try:
            return bool(await opened.fetchval("SELECT true"))
        finally:
            opened.terminate()

    async def readers() -> bool:
        opened = await open_readers(settings, size=1)
        try:
            return bool(await opened.fetchval("SELECT true"))
        finally:
            opened.terminate()

    async def engine() -> bool:
        opened = open_engine(settings)
        try:
            async with opened.connect() as connection:
                return bool(await connection.scalar(text("SELECT true")))
        finally:
            await opened.dispose()

    async def migrations() -> bool:
        await asyncio.to_thread(migrate, settings)
        return True

    found = {}
    for way in (pool, readers, engine, migrations):
        try:
            found[way.__name__] = await way()
        except Exception as error:
            away = isinstance(error, (CannotRun, InterfaceError, *AWAY))
            found[way.__name__] = False if away else type(error).__name__
    return found


@pytest.mark.parametrize("query", WORKS)
async def test_it_means_the_same_everywhere(settings: Settings, query: str) -> None:
    assert set((await ways(with_query(settings, query))).values()) == {True}


@pytest.mark.parametrize("query", NEEDS_TLS)
async def test_encryption_that_is_asked_for_is_never_left_out(settings: Settings, query: str) -> None:
    """This server has none, and there is no certificate to hold it against: nobody connects."""
    assert set((await ways(with_query(settings, query))).values()) == {False}


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg"])
async def test_schemes(settings: Settings, scheme: str) -> None:
    other = settings.model_copy(update={"database_url": settings.database_url.replace("postgresql", scheme, 1)})
    assert set((await ways(other)).values()) == {True}


@pytest.mark.parametrize(("query", "said"), REFUSED)
def test_what_is_not_understood_is_named_at_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, query: str, said: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", settings.database_url + query)
    with pytest.raises(CannotRun) as refused:
        load_settings()
    assert said in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:hunter2#x@h/d", "postgresql://u:hunter2?x@h/d", "postgresql://h:hunter2/d", "postgresql://h:999999/d",
     "postgresql://u:hunter2@[::1/d", "postgresql://u:p@a:1;b:2/d"],
)  # fmt: skip
def test_what_would_be_read_as_another_server_is_refused(url: str) -> None:
    """A sign of a password that is not escaped ends it; nothing of it is repeated."""
    with pytest.raises(ValueError, match="DATABASE_URL") as refused:
        read_database_url(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "dsn"),
    [
        ("postgresql://u:@h/d", "postgresql://u:@h/d"),
        ("postgresql://u:p%40%2F%23@h:5432/d%20b", "postgresql://u:p%40%2F%23@h:5432/d%20b"),
        ("postgresql://u:a@b@h/d", "postgresql://u:a@b@h/d"),
        ("postgresql://u:p@[::1]:5432,[fe80::1%25eth0]/d", "postgresql://u:p@[::1]:5432,[fe80::1%25eth0]/d"),
        ("postgresql://a:1,b,c:3/d", "postgresql://a:1,b,c:3/d"),
        ("postgresql://u@%2Frun%2Fpg:5433/d", "postgresql://u@%2Frun%2Fpg:5433/d"),
        ("postgresql://u@/d?hostaddr=192.0.2.1", "postgresql://u@/d?host=192.0.2.1"),
        ("postgresql://u@h/d?hostaddr=192.0.2.1", "postgresql://u@h/d"),
        ("postgresql:///d?host=a,b&port=1,2", "postgresql:///d?host=a%2Cb&port=1%2C2"),
        (" postgres://u@h/d\n", "postgresql://u@h/d"),
    ],
)  # fmt: skip
def test_what_asyncpg_is_told(url: str, dsn: str) -> None:
    assert read_database_url(url).dsn == dsn


@pytest.mark.parametrize("url", ["mysql://u@h/d", "host=h dbname=d", "", "http://h", "postgresql"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="DATABASE_URL"):
        read_database_url(url)


def test_several_hosts_and_sockets() -> None:
    """What libpq takes and SQLAlchemy's URL does not."""
    assert read_database_url("postgresql://u:p@a:1,b:2/d?target_session_attrs=read-write").dsn == (
        "postgresql://u:p@a:1,b:2/d?target_session_attrs=read-write"
    )
    assert read_database_url("postgresql:///d?host=/run/pg&user=u").dsn == "postgresql:///d?host=%2Frun%2Fpg&user=u"


async def test_what_the_url_says_of_the_session_is_heard(settings: Settings) -> None:
    named = with_query(settings, "?application_name=my%20shop&options=-c%20work_mem%3D7MB")
    pool = await open_pool(named, size=1)
    assert (
        await pool.fetchval("SELECT current_setting('application_name') || current_setting('work_mem')") == "my shop7MB"
    )
    assert await pool.fetchval("SELECT current_setting('enable_seqscan')") == "off", "and ours as well"
    pool.terminate()
