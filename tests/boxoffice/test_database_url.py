"""One URL means the same in every process: the settling pool, SQLAlchemy, migrations, audits."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError

from boxoffice.database_url import check_database_files, read_database_url
from boxoffice.errors import CannotRun
from boxoffice.settings import Settings, load_settings
from boxoffice.stores.postgres import AWAY, migrate, open_engine, open_pool, open_readers, sqlstate

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
    (
        "?channel_binding=require",
        "channel_binding asks for what cannot be done here: leave it out, or say disable or prefer",
    ),
    ("?sslmode=require&require_auth=hunter2", "require_auth asks for what cannot be done here: leave it out"),
    ("?sslrootcert=system&sslmode=require", "sslrootcert=system needs sslmode=verify-full"),
    ("?sslmode=verify-full", "sslmode=verify-full needs sslrootcert: a file, or system"),
    ("?sslmode=require&sslrootcert=/hunter2/no.crt", "sslrootcert names a file that cannot be read"),
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
            refused = isinstance(error, DBAPIError) and sqlstate(error.orig or error).startswith("28")
            found[way.__name__] = False if away or refused else type(error).__name__
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


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u@h/d",
        "host=h dbname=d",
        "",
        "http://h",
        "postgresql",
        "postgresql:d",
        "postgresql:/d",
        "xpostgresql://h",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="DATABASE_URL"):
        read_database_url(url)


PASSED = [
    "host",
    "user",
    "password",
    "dbname",
    "passfile",
    "service",
    "servicefile",
    "sslmode",
    "sslcert",
    "sslkey",
    "sslrootcert",
    "sslcrl",
    "sslpassword",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "target_session_attrs",
    "krbsrvname",
    "gsslib",
]
TOLD = ["application_name", "options", "search_path", "timezone"]
ONLY = {
    "channel_binding": (["disable", "prefer", "PREFER"], ["require"], ", or say disable or prefer"),
    "client_encoding": (["auto", "UTF8", "utf-8"], ["LATIN1"], ", or say auto or utf-8 or utf8"),
    "gssencmode": (["disable", "prefer"], ["require"], ", or say disable or prefer"),
    "load_balance_hosts": (["disable"], ["random"], ", or say disable"),
    "min_protocol_version": (["3.0"], ["3.2", "latest"], ", or say 3.0"),
    "replication": (["0", "false", "no", "off"], ["1", "database", "true"], ", or say 0 or false or no or off"),
    "require_auth": ([], ["scram-sha-256", "none"], ""),
    "requirepeer": ([], ["postgres"], ""),
    "sslcertmode": (["allow"], ["require", "disable"], ", or say allow"),
    "sslsni": (["1"], ["0"], ", or say 1"),
}
"""With the values that mean what is done anyway, others, and what is said then."""
LEFT_OUT = [
    "gssdelegation",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "max_protocol_version",
    "sslcompression",
    "sslkeylogfile",
    "tcp_user_timeout",
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
]
UNABLE = [
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_issuer",
    "oauth_scope",
    "scram_client_key",
    "scram_server_key",
    "sslcrldir",
]


@pytest.mark.parametrize("name", PASSED)
def test_what_asyncpg_does_as_libpq_does_is_passed_on(name: str) -> None:
    written = "allow" if name == "sslmode" else "a%2Fb%20c"
    for spelt in (name, name.upper()):
        found = read_database_url(f"postgresql://u@h/d?{spelt}={written}")
        assert found == (f"postgresql://u@h/d?{name}={written}", {}, None, False)


@pytest.mark.parametrize("name", TOLD)
def test_what_the_server_is_told_is_told_by_name(name: str) -> None:
    assert read_database_url(f"postgresql://u@h/d?{name}=a%20b") == ("postgresql://u@h/d", {name: "a b"}, None, False)


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_nothing_depends_on_is_left_out(name: str) -> None:
    assert read_database_url(f"postgresql://u@h/d?{name}=1") == ("postgresql://u@h/d", {}, None, False)


@pytest.mark.parametrize("name", ONLY)
def test_what_asks_for_more_than_is_done_is_refused(name: str) -> None:
    """A check that is asked for and not made would be believed in."""
    good, bad, said = ONLY[name]
    for value in ["", *good]:
        assert read_database_url(f"postgresql://u@h/d?{name}={value}") == ("postgresql://u@h/d", {}, None, False)
    for value in bad:
        with pytest.raises(ValueError) as refused:
            read_database_url(f"postgresql://u@h/d?{name}={value}")
        assert str(refused.value) == f"DATABASE_URL: {name} asks for what cannot be done here: leave it out{said}"


@pytest.mark.parametrize(
    ("query", "name"),
    [("fallback_application_name=a", "a"), ("fallback_application_name=a&application_name=b", "b"),
     ("application_name=b&fallback_application_name=a", "b"), ("fallback_application_name=", None)],
)  # fmt: skip
def test_a_name_to_fall_back_on_is_one_when_there_is_no_other(query: str, name: str | None) -> None:
    found = read_database_url(f"postgresql://u@h/d?{query}").server_settings
    assert found == ({} if name is None else {"application_name": name})


@pytest.mark.parametrize(
    ("query", "told"),
    [("requiressl=1", "?sslmode=require"), ("requiressl=0", ""), ("requiressl=", ""), ("requiressl=no", ""),
     ("requiressl=1&sslmode=verify-ca", "?sslmode=verify-ca"), ("sslmode=disable&requiressl=1", "?sslmode=disable")],
)  # fmt: skip
def test_the_old_word_for_encryption_is_heard_where_there_is_no_other(query: str, told: str) -> None:
    assert read_database_url(f"postgresql://u@h/d?{query}").dsn == f"postgresql://u@h/d{told}"


@pytest.mark.parametrize("query", ["sslrootcert=system", "sslrootcert=system&sslmode=verify-full"])
def test_the_authorities_of_the_machine_vouch_for_a_host_by_name(query: str) -> None:
    """What asyncpg does of that by itself."""
    found = read_database_url(f"postgresql://u@h/d?{query}&application_name=a")
    assert found == ("postgresql://u@h/d", {"application_name": "a"}, None, True)
    assert found.arguments(timeout_s=1)["ssl"] is True
    assert "ssl" not in read_database_url("postgresql://u@h/d?sslrootcert=x").arguments(timeout_s=1)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        *((f"sslmode={mode}", "DATABASE_URL: sslrootcert=system needs sslmode=verify-full")
          for mode in ("disable", "allow", "prefer", "require", "verify-ca")),
        *((f"{name}=x", f"DATABASE_URL: {name} cannot be used here with sslrootcert=system") for name in (
            "sslcert", "sslkey", "sslpassword", "sslcrl", "ssl_min_protocol_version", "ssl_max_protocol_version")),
    ],
)  # fmt: skip
def test_the_authorities_of_the_machine_are_no_part_of_less(query: str, said: str) -> None:
    with pytest.raises(ValueError) as refused:
        read_database_url(f"postgresql://u@h/d?{query}&sslrootcert=system")
    assert str(refused.value) == said


@pytest.mark.parametrize("name", ["sslrootcert", "sslcrl", "sslcert", "sslkey", "servicefile"])
def test_a_file_that_cannot_be_read_is_named_before_anybody_waits_for_it(tmp_path: Path, name: str) -> None:
    there = tmp_path / "a file"
    there.touch()
    check_database_files(f"postgresql://u@h/d?{name}={quote(str(there))}")
    check_database_files(f"postgresql://u@h/d?{name}=")
    with pytest.raises(ValueError) as refused:
        check_database_files(f"postgresql://u@h/d?{name}={quote(str(there))}x")
    assert str(refused.value) == f"DATABASE_URL: {name} names a file that cannot be read"


def test_whom_to_believe_is_said_somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the URL, the environment, a service or at home, as libpq and asyncpg look for it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for mode in ("verify-ca", "verify-full"):
        with pytest.raises(ValueError) as refused:
            check_database_files(f"postgresql://u@h/d?sslmode={mode}", {})
        assert str(refused.value) == f"DATABASE_URL: sslmode={mode} needs sslrootcert: a file, or system"
        check_database_files(f"postgresql://u@h/d?sslmode={mode}", {"PGSSLROOTCERT": "x"})
        check_database_files(f"postgresql://u@h/d?sslmode={mode}&service=x", {})
    for mode in ("require", "prefer", "disable"):
        check_database_files(f"postgresql://u@h/d?sslmode={mode}", {})
    check_database_files("postgresql://u@h/d?sslrootcert=system", {})
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql/root.crt").touch()
    check_database_files("postgresql://u@h/d?sslmode=verify-full", {})
    monkeypatch.setenv("PGSSLROOTCERT", "x")
    (tmp_path / ".postgresql/root.crt").unlink()
    check_database_files("postgresql://u@h/d?sslmode=verify-full")


@pytest.mark.parametrize("name", UNABLE)
def test_what_cannot_be_used_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"cannot be used here: {name}$"):
        read_database_url(f"postgresql://u@h/d?{name}=1")


@pytest.mark.parametrize(
    ("query", "mode"),
    [
        ("ssl=true", "require"), ("ssl=1", "require"), ("ssl=on", "require"), ("ssl=false", "disable"), ("ssl=0", "disable"),
        ("ssl=off", "disable"), ("SSL=TRUE", "require"), ("sslmode=Off", "disable"), ("ssl=disable", "disable"),
        ("ssl=allow", "allow"), ("ssl=prefer", "prefer"), ("ssl=require", "require"), ("sslmode=verify-ca", "verify-ca"),
        ("sslmode=VERIFY-FULL", "verify-full"), ("ssl=require&sslmode=disable", "disable"),
        ("sslmode=disable&ssl=require", "disable"),
    ],
)  # fmt: skip
def test_encryption_has_one_word(query: str, mode: str) -> None:
    """sslmode wins over SQLAlchemy's word for it, whichever comes first."""
    assert read_database_url(f"postgresql://u@h/d?{query}").dsn == f"postgresql://u@h/d?sslmode={mode}"


@pytest.mark.parametrize(
    ("query", "dsn"),
    [
        ("password=", "?password="), ("user=&dbname=x", "?user=&dbname=x"), ("database=x", "?dbname=x"), ("keepalives=", ""),
        ("hostaddr=192.0.2.1", ""), ("port=", None), ("port=1,,65535", None), ("port=123456", ValueError),
        ("port=1,123456", ValueError), ("port=1;2", ValueError), ("sslmode=", ValueError), ("ssl=", ValueError),
        ("connect_timeout=", ValueError), ("connect_timeout=1234567", ValueError), ("connect_timeout=1.", ValueError),
        ("connect_timeout=-1", ValueError), ("timeout=1s", ValueError), ("timeout=inf", ValueError), ("&", ValueError),
        ("user", ValueError), ("user=a&&dbname=b", ValueError),
    ],
)  # fmt: skip
def test_a_parameter_without_a_value_is_still_one(query: str, dsn: Any) -> None:
    """As libpq has it: an empty password is said, and an empty mode is none."""
    if dsn is ValueError:
        with pytest.raises(ValueError, match="DATABASE_URL"):
            read_database_url(f"postgresql://u@h/d?{query}")
    else:
        told = f"?{query.replace(',', '%2C')}" if dsn is None else dsn
        assert read_database_url(f"postgresql://u@h/d?{query}").dsn == f"postgresql://u@h/d{told}"


@pytest.mark.parametrize(
    ("url", "dsn"),
    [
        ("postgresql:///d?hostaddr=192.0.2.1&host=a", "postgresql:///d?host=a"),
        ("postgresql:///d?host=a&hostaddr=192.0.2.1", "postgresql:///d?host=a"),
        ("postgresql:///d?hostaddr=192.0.2.1", "postgresql:///d?host=192.0.2.1"),
        ("postgresql://u:p@/d?hostaddr=192.0.2.1&port=2", "postgresql://u:p@/d?port=2&host=192.0.2.1"),
        ("postgresql://u@x@/d?hostaddr=192.0.2.1", "postgresql://u@x@/d?host=192.0.2.1"),
        ("postgresql:///postgresql:d", "postgresql:///postgresql:d"),
        ("postgresql:////d", "postgresql:////d"),
        ("postgresql:///d//e", "postgresql:///d//e"),
        ("postgresql://?user=u", "postgresql://?user=u"),
        ("POSTGRESQL+ASYNCPG://u@h", "postgresql://u@h"),
        ("postgresql:///", "postgresql:///"),
    ],
)  # fmt: skip
def test_a_host_is_never_made_of_what_is_none(url: str, dsn: str) -> None:
    assert read_database_url(url).dsn == dsn


@pytest.mark.parametrize(
    ("query", "seconds"),
    [("", 10.0), ("?connect_timeout=3", 3.0), ("?timeout=2.5", 2.5), ("?connect_timeout=0", None), ("?timeout=999999", 999999)],
)  # fmt: skip
def test_what_connecting_is_told(query: str, seconds: float | None) -> None:
    """How long it may take, 0 being as long as it takes; and of the server's settings the URL's own come first."""
    joint = "&" if query else "?"
    url = read_database_url(f"postgresql://u@h/d{query}{joint}timezone=UTC&application_name=shop")
    assert url.arguments(timeout_s=10.0, timezone="CET", jit="off") == {
        "dsn": "postgresql://u@h/d",
        "timeout": seconds,
        "server_settings": {"timezone": "UTC", "application_name": "shop", "jit": "off"},
    }


@pytest.mark.parametrize(
    ("name", "shown"),
    [("x" * 40, "x" * 40), ("x" * 41, "(not shown)"), ("a1", "(not shown)"), ("A_b", "A_b"), ("", "(not shown)"),
     ("%2561", "a"), ("a%2520", "(not shown)")],
)  # fmt: skip
def test_a_name_that_may_be_a_part_of_a_password_is_not_shown(name: str, shown: str) -> None:
    with pytest.raises(ValueError) as refused:
        read_database_url(f"postgresql://u@h/d?{name}=1")
    assert str(refused.value) == f"DATABASE_URL has a parameter that is none of libpq's: {shown}"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u@h/d#x", "DATABASE_URL has a # in it, which is written %23, or a %00"),
        ("postgresql://u@h/d%00", "DATABASE_URL has a # in it, which is written %23, or a %00"),
        ("postgresql://[::1", "DATABASE_URL is no URL such as postgresql://user:password@host:5432/database"),
        ("mysql://h", "DATABASE_URL begins with postgresql://"),
        ("postgresql+://h", "DATABASE_URL begins with postgresql://"),
        ("postgresql://h:x/d", "DATABASE_URL: behind a host stands :port, a number, and hosts are parted by commas"),
        ("postgresql://h:123456/d", "DATABASE_URL: behind a host stands :port, a number, and hosts are parted by commas"),
        ("postgresql://h/d?port=x", "DATABASE_URL: port is a number, or one for each host"),
        ("postgresql://h/d?ssl=x", "DATABASE_URL: ssl is one of allow, disable, prefer, require, verify-ca, verify-full"),
        ("postgresql://h/d?TIMEOUT=x", "DATABASE_URL: TIMEOUT is a number of seconds"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_url_is_said_in_words(url: str, said: str) -> None:
    with pytest.raises(ValueError) as refused:
        read_database_url(url)
    assert str(refused.value) == said


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
