"""Certificates made on the spot, and servers of Debian's that speak nothing but TLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import redis

from boxoffice.settings import Settings
from boxoffice.stores.postgres import migrate
from boxoffice.stores.redis import open_redis
from ops.stack.postgresql import own
from ops.stack.servers import Servers, temporary_servers
from tests.support.ports import free_port
from tests.support.warm import WarmServers

__all__ = ["Authority", "check_redis", "servers_with_tls"]

DEBIANS = "/usr/lib/postgresql"

NO_REDIS = "No redis-server with TLS is installed (Debian and Ubuntu: apt install redis-server)."


class Authority:
    """Who vouches for a host, by name; `certificate` is what those have who believe it."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self.certificate, self._key = self._make(name, "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def vouch(self, name: str) -> tuple[Path, Path]:
        """A certificate and its key: a server's of this host name, or a client's."""
        by = ["-CA", str(self.certificate), "-CAkey", str(self._key)]
        return self._make(name, *by, "-addext", f"subjectAltName=DNS:{name}", "-addext", "basicConstraints=CA:FALSE")

    def _make(self, name: str, *more: str) -> tuple[Path, Path]:
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        made = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ]
        made += ["-subj", f"/CN={name}", "-keyout", str(key), "-out", str(certificate), *more]
        subprocess.run(made, check=True, capture_output=True)
        return certificate, key


@contextlib.contextmanager
def servers_with_tls(folder: Path) -> Iterator[tuple[WarmServers, Authority]]:
    """A Redis and a PostgreSQL on `localhost` that want to see a certificate as well, migrated; and who vouches for them. Skips
    where none is installed that can."""
    programs = {"BOXOFFICE_REDIS_SERVER": _redis(), "BOXOFFICE_POSTGRES_BIN": _postgres()}
    authority = Authority(folder)
    server, client = authority.vouch("localhost"), authority.vouch("boxoffice")
    with temporary_servers(environ={**os.environ, **programs}) as servers:
        _postgres_with_tls(servers, authority, *server)
        port = _redis_with_tls(servers, authority, *server)
        said = f"ssl_ca_certs={authority.certificate}&ssl_certfile={client[0]}&ssl_keyfile={client[1]}"
        redis_url = servers.redis_url.replace("redis://", "rediss://").replace(
            f"127.0.0.1:{servers.redis.port}", f"localhost:{port}"
        )
        query = f"sslmode=verify-full&sslrootcert={authority.certificate}&sslcert={client[0]}&sslkey={client[1]}"
        database_url = servers.database_url.replace("127.0.0.1", "localhost")
        found = WarmServers(
            f"{redis_url}?{said}", f"{database_url}?{query}", servers.admin_url, servers.redis_pid, servers.postgres_pid
        )
        migrate(Settings(redis_url=found.redis_url, database_url=found.database_url))
        yield found, authority


def _redis() -> str:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip(NO_REDIS)
    return program


def _postgres() -> str:
    found = sorted(Path(DEBIANS).glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip("No PostgreSQL with TLS is installed (Debian and Ubuntu: apt install postgresql).")
    return str(found[-1].parent)


def _postgres_with_tls(servers: Servers, authority: Authority, certificate: Path, key: Path) -> None:
    data, _, account = servers.postgres.place()
    for name, source in (("server.crt", certificate), ("server.key", key), ("root.crt", authority.certificate)):
        shutil.copy(source, data / name)
        (data / name).chmod(0o600)
        own(data / name, account)
    # The superuser looks in without; everybody else shows a certificate.
    (data / "pg_hba.conf").write_text(
        "hostssl boxoffice boxoffice 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n"
        "host boxoffice postgres 127.0.0.1/32 scram-sha-256\n"
    )

    async def turn_on() -> None:
        connection = await asyncpg.connect(servers.admin_url)
        await connection.execute("ALTER SYSTEM SET ssl = on")
        await connection.execute("ALTER SYSTEM SET ssl_ca_file = 'root.crt'")
        await connection.close()

    asyncio.run(turn_on())
    servers.restart_postgres()


def _redis_with_tls(servers: Servers, authority: Authority, certificate: Path, key: Path) -> int:
    """The port on which it speaks TLS; on the other it speaks no more."""
    port = free_port()
    with contextlib.closing(redis.Redis.from_url(servers.redis_url)) as client:
        files = {"tls-cert-file": certificate, "tls-key-file": key, "tls-ca-cert-file": authority.certificate}
        words = [word for name, path in files.items() for word in (name, str(path))]
        try:
            client.execute_command("CONFIG SET", *words, "tls-auth-clients", "yes", "tls-port", str(port))
        except redis.ResponseError:
            pytest.skip(NO_REDIS)
        client.execute_command("CONFIG SET", "port", "0")
    return port


async def check_redis(settings: Settings, url: str, *, answers: bool) -> None:
    """It answers at this URL; or nobody is spoken to there."""
    client = open_redis(settings.model_copy(update={"redis_url": url}))
    try:
        if answers:
            assert await client.ping()
        else:
            with pytest.raises(redis.ConnectionError):
                await client.ping()
    finally:
        await client.aclose()
