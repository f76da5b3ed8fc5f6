"""`REDIS_URL` means one thing in every process, whatever carries it, and what cannot be understood is said at start."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from boxoffice.errors import CannotRun
from boxoffice.redis_url import check_redis_files, check_redis_url
from boxoffice.settings import Settings, load_settings
from boxoffice.stores.redis import FastConnection, FastSocketConnection, FastTLSConnection, open_redis
from tests.support.tls import check_redis


@pytest.mark.parametrize(
    "url",
    ["redis://h", "redis://h/", "redis://h:6379/3", "redis://:p@h/0", "redis://u:p%40x@h/0", "redis://u@h?password=p&db=2",
     "rediss://h/0?ssl_cert_reqs=none&ssl_check_hostname=yes&ssl_ca_certs=/x.pem", "unix:///run/redis.sock?db=1",
     "unix://u:p@/run/redis.sock", "redis://[::1]:6379/0", "REDIS://h", "redis://h?client_name=x&socket_keepalive=on",
     "redis://h?socket_timeout=1.5&health_check_interval=10&max_connections=7"],
)  # fmt: skip
def test_what_is_understood(url: str) -> None:
    check_redis_url(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("h:6379", "begins with"), ("http://h", "begins with"), ("redis+sentinel://h/0", "begins with"), ("", "begins with"),
        ("redis:h", "begins with"), ("redis://h/hunter2", "number of a database"), ("redis://h/0/1", "number of a database"),
        ("redis://:p@h:hunter2/0", "is no URL"), ("redis://h:99999/0", "is no URL"), ("redis://[::1/0", "is no URL"),
        ("redis://:p/hunter2@h/0", "is no URL"), ("redis://h?hunter2", "is no URL"), ("unix://", "path of a socket"),
        ("redis://h?db=x", "db has a value"), ("redis://h?socket_timeout=soon", "socket_timeout has a value"),
        ("redis://h?protocol=3", "do not know: protocol"), ("redis://h?decode_responses=1", "do not know: decode_responses"),
        ("redis://h?h%40unter2=1", "(not shown)"), ("redis://h?ssl=true", "without rediss://: ssl"),
        ("redis://h?ssl_cert_reqs=none", "without rediss://: ssl_cert_reqs"),
        ("rediss://h?ssl_cert_reqs=sometimes", "ssl_cert_reqs has a value"), ("redis://h?ssl_min_version=3", "do not know"),
        ("rediss://h?ssl_ca_certs=/hunter2", "ssl_ca_certs names a file that cannot be read"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_named_at_start(monkeypatch: pytest.MonkeyPatch, url: str, said: str) -> None:
    """redis-py would pass it on, to where it is a traceback, another database, or answers of another kind."""
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(CannotRun) as refused:
        load_settings()
    assert said in str(refused.value)
    assert "hunter2" not in str(refused.value)


NUMBERS = (["0", "7", "999999999"], ["", "x", "-1", "1.5", "1000000000", " 1"])
SECONDS = (["0", "5", "1.5", "999999", "999999.25"], ["", "soon", "-1", "1.", "1000000", ".5"])
YES_OR_NO = (["1", "0", "true", "FALSE", "yes", "No", "y", "n", "on", "off"], ["", "2", "maybe", "true1", "10"])
TEXTS = (["x", "a b", "%0A"], [""])
PLAIN = {
    "db": NUMBERS, "username": TEXTS, "password": TEXTS, "client_name": TEXTS, "socket_timeout": SECONDS,
    "socket_connect_timeout": SECONDS, "socket_keepalive": YES_OR_NO, "max_connections": NUMBERS,
    "health_check_interval": NUMBERS,
}  # fmt: skip
TLS = {
    "ssl_cert_reqs": (["none", "optional", "required"], ["", "None", "requiredx"]), "ssl_check_hostname": YES_OR_NO,
    "ssl_ca_certs": TEXTS, "ssl_ca_data": TEXTS, "ssl_certfile": TEXTS, "ssl_keyfile": TEXTS, "ssl_ciphers": TEXTS,
}  # fmt: skip


@pytest.mark.parametrize("name", [*PLAIN, *TLS])
def test_each_parameter_has_its_values(name: str) -> None:
    """With TLS, without it and on a socket; what belongs to TLS is refused elsewhere."""
    good, bad = {**PLAIN, **TLS}[name]
    for scheme in ("rediss://h?", "redis://h?", "unix:///s?"):
        if name in TLS and scheme != "rediss://h?":
            with pytest.raises(ValueError) as refused:
                check_redis_url(f"{scheme}{name}={good[0]}")
            assert str(refused.value) == f"REDIS_URL has a parameter that we do not know without rediss://: {name}"
            continue
        for value in good:
            check_redis_url(f"{scheme}db=1&{name}={value}")
        for value in bad:
            with pytest.raises(ValueError) as refused:
                check_redis_url(f"{scheme}db=1&{name}={value}")
            assert str(refused.value) == f"REDIS_URL: {name} has a value that cannot be"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://[::1", "REDIS_URL is no URL such as redis://user:password@host:6379/0"),
        ("redis://h:x", "REDIS_URL is no URL such as redis://user:password@host:6379/0"),
        ("redis://h?", None), ("redis://h?db", "REDIS_URL is no URL such as redis://user:password@host:6379/0"),
        ("redis://h?&", "REDIS_URL is no URL such as redis://user:password@host:6379/0"),
        ("http://h", "REDIS_URL begins with redis://, rediss:// (TLS) or unix://"),
        ("unix:/s", "REDIS_URL begins with redis://, rediss:// (TLS) or unix://"),
        ("unix://", "REDIS_URL: unix:// goes on with the path of a socket, unix:///run/redis.sock?db=0"),
        ("redis://h/123456789", None),
        ("redis://h/1234567890", "REDIS_URL: behind the host stands the number of a database, or nothing"),
        ("redis://h/-1", "REDIS_URL: behind the host stands the number of a database, or nothing"),
        ("redis://h?ssl=1", "REDIS_URL has a parameter that we do not know without rediss://: ssl"),
        ("rediss://h?ssl_ca_certs=/no", None),
        ("rediss://h?protocol=3", "REDIS_URL has a parameter that we do not know: protocol"),
        (f"redis://h?{'x' * 40}=1", f"REDIS_URL has a parameter that we do not know: {'x' * 40}"),
        (f"redis://h?{'x' * 41}=1", "REDIS_URL has a parameter that we do not know: (not shown)"),
        ("redis://h?DB=1", "REDIS_URL has a parameter that we do not know: DB"),
        ("redis://h?a1=1", "REDIS_URL has a parameter that we do not know: (not shown)"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_url_is_said_in_words(url: str, said: str | None) -> None:
    if said is None:
        check_redis_url(url)
        return
    with pytest.raises(ValueError) as refused:
        check_redis_url(url)
    assert str(refused.value) == said


@pytest.mark.parametrize("name", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_a_file_that_cannot_be_read_is_named_before_anybody_waits_for_it(tmp_path: Path, name: str) -> None:
    there = tmp_path / "file"
    there.touch()
    check_redis_files(f"rediss://h?db=1&{name}={there}")
    with pytest.raises(ValueError) as refused:
        check_redis_files(f"rediss://h?db=1&{name}={there}x")
    assert str(refused.value) == f"REDIS_URL: {name} names a file that cannot be read"
    with pytest.raises(ValueError, match="without rediss://"):
        check_redis_files(f"redis://h?{name}={there}")
    check_redis_files("rediss://h?ssl_ca_data=x")


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: tuple[str, int]) -> None:
    there, back = await asyncio.open_connection(*to)

    async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            sink.write(data)
        sink.close()

    await asyncio.gather(pass_on(reader, back), pass_on(there, writer), return_exceptions=True)


@pytest.fixture
async def doors(settings: Settings, tmp_path: Path) -> AsyncIterator[dict[type, str]]:
    """The private Redis by TCP, by TLS and by a socket."""
    parts = urlsplit(settings.redis_url)
    to = (parts.hostname or "", parts.port or 0)
    key, crt, socket = tmp_path / "key", tmp_path / "crt", tmp_path / "socket"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *name, "-keyout", str(key), "-out", str(crt)]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(crt, key)
    tls = await asyncio.start_server(lambda r, w: _relay(r, w, to), "127.0.0.1", 0, ssl=context)
    unix = await asyncio.start_unix_server(lambda r, w: _relay(r, w, to), socket)
    who, port = parts.netloc.rpartition("@")[0], tls.sockets[0].getsockname()[1]
    yield {
        FastConnection: settings.redis_url,
        FastTLSConnection: f"rediss://{who}@localhost:{port}/0?ssl_ca_certs={crt}",
        FastSocketConnection: f"unix://{who}@{socket}?db=0",
    }
    tls.close()
    unix.close()


async def test_every_way_in_is_ours(settings: Settings, doors: dict[type, str]) -> None:
    """Whatever carries it: as fast, and a cancelled command is cancelled."""
    for kind, url in doors.items():
        redis = open_redis(settings.model_copy(update={"redis_url": url}))
        await redis.set("by", url[:5])
        assert await redis.get("by") == url[:5].encode()
        assert redis.connection_pool.connection_class is kind
        assert kind.pack_command is FastConnection.pack_command  # type: ignore[attr-defined]
        assert kind.send_packed_command is FastConnection.send_packed_command  # type: ignore[attr-defined]
        await redis.delete("by")
        await redis.aclose()


@pytest.mark.parametrize(
    ("said", "answers"),
    [("", False), ("&ssl_check_hostname=no", True), ("&ssl_cert_reqs=none", True), ("&ssl_check_hostname=yes", False)],
)
async def test_a_certificate_is_good_for_the_host_that_it_names(
    settings: Settings, doors: dict[type, str], said: str, answers: bool
) -> None:
    """Whoever has one of the same authority for another host could take our place. The URL may say that it does not matter."""
    url = doors[FastTLSConnection].replace("localhost", "127.0.0.1") + said
    await check_redis(settings, url, answers=answers)
