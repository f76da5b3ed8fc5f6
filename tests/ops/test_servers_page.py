"""What docs/servers.md tells a stranger to type on Debian, typed: on Debian's servers, or where there are none on ours."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as sync_redis

from ops.stack.servers import Servers, temporary_servers
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "servers.md"

DEBIANS_REDIS = Path("/usr/bin/redis-server")
DEBIANS_POSTGRES = sorted(Path("/").glob("usr/lib/postgresql/*/bin/postgres"))

CLI = f"""#!{sys.executable}
# What the page asks of redis-cli, where there is none: one command as arguments, or a line each of standard input.
import os, sys
import redis

arguments, user = sys.argv[1:], None
if arguments[:1] == ["--user"]:
    user, arguments = arguments[1], arguments[2:]
client = redis.Redis(port=int(os.environ["CLI_PORT"]), username=user, password=os.environ.get("REDISCLI_AUTH"))
for command in [arguments] if arguments else [line.split() for line in sys.stdin]:
    print(client.execute_command(*command))
"""


def lines() -> str:
    """All that is to be typed, from the first block to the last."""
    text = PAGE.read_text().partition("## From nothing to a box office, on Debian")[2].partition("\n## ")[0]
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S))


def arguments() -> list[str]:
    """The lines without what a program reads on standard input or has in its environment."""
    typed = re.sub(r" <<(\w+)\n.*?^\1$", "", lines().replace("\\\n", " "), flags=re.M | re.S)
    return [
        re.sub(r"^\s*(?:export\s|(?:\w+=(?:\"[^\"]*\"|\$\([^)]*\)|\S+)\s+)+)", "", line) for line in typed.splitlines()
    ]


def test_no_password_is_an_argument_of_a_program() -> None:
    """Everybody on the machine can list them."""
    found = [line for line in arguments() if re.search(r"\$\w*PASSWORD|_URL\b", line) and not re.match(r"\w+=", line)]
    assert found == []
    assert lines().count("<<END") == 3 and "boxoffice status" in arguments()


@pytest.fixture
def fresh() -> Iterator[Servers]:
    """A Redis that asks for no password, as Debian's does, and a PostgreSQL with nothing in it but its superuser's database."""
    if not (shutil.which("curl") and shutil.which("psql") and shutil.which("openssl")):
        pytest.skip("curl, psql and openssl are not all here, so the page was not tried.")
    environ = dict(os.environ)
    if DEBIANS_REDIS.exists():
        environ["BOXOFFICE_REDIS_SERVER"] = str(DEBIANS_REDIS)
    if DEBIANS_POSTGRES:
        environ["BOXOFFICE_POSTGRES_BIN"] = str(DEBIANS_POSTGRES[-1].parent)
    with temporary_servers(debug=False, environ=environ) as servers:
        with sync_redis.Redis.from_url(servers.redis_url) as client:
            client.config_set("requirepass", "")
        empty(servers)
        yield servers


def empty(servers: Servers) -> None:
    """Take our database and its owner away."""
    url = servers.admin_url.rpartition("/")[0] + "/postgres"
    for statement in ("DROP DATABASE boxoffice", "DROP ROLE boxoffice"):
        subprocess.run(["psql", "-q", url, "-c", statement], check=True)


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def shell(folder: Path, servers: Servers) -> dict[str, str]:
    """Where `apt-get` has nothing to do, `sudo -u postgres` is the superuser of this server, and `redis-cli` finds this one."""
    user, password = re.findall(r"//(\w+):(\w+)@", servers.admin_url)[0]
    bin_dir = folder / "bin"
    bin_dir.mkdir()
    program(bin_dir, "apt-get", "#!/bin/sh\n")
    program(bin_dir, "sudo", '#!/bin/sh\n[ "$1 $2" = "-u postgres" ] && shift 2 && '
            f'PGHOST=127.0.0.1 PGPORT={servers.postgres.port} PGUSER={user} PGPASSWORD={password} exec "$@"\n')  # fmt: skip
    if found := shutil.which("redis-cli"):
        program(bin_dir, "redis-cli", f'#!/bin/sh\nexec {found} -p {servers.redis.port} "$@"\n')
    else:
        program(bin_dir, "redis-cli", CLI)
    keep = {name: os.environ[name] for name in ("HOME", "LANG", "LC_ALL") if name in os.environ}
    path = f"{bin_dir}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**keep, "PATH": path, "CLI_PORT": str(servers.redis.port), "DATA_DIR": str(folder / "data")}


@pytest.mark.timeout(180)
def test_a_stranger_follows_the_page_to_servers_of_their_own(fresh: Servers, tmp_path: Path) -> None:
    """From nothing to an API that is ready, a shop, and a status without complaints."""
    port = free_port()
    typed = lines()
    for said, here in (
        ("127.0.0.1:6379", f"127.0.0.1:{fresh.redis.port}"), ("127.0.0.1:5432", f"127.0.0.1:{fresh.postgres.port}"),
        ("8000", str(port)),
    ):  # fmt: skip
        assert said in typed
        typed = typed.replace(said, here)
    script = f"trap 'kill $(jobs -p) || true; wait' EXIT\n{typed}\necho ADMIN=$ADMIN_PASSWORD API=$API_PASSWORD\n"
    ran = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=tmp_path, env=shell(tmp_path, fresh), capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said
    assert '{"status":"ready"}' in said, "and nothing had to be stated: CONFIG GET is allowed"
    assert "rights.missing" not in said

    admin, api = re.findall(r"ADMIN=(\w+) API=(\w+)", said)[0]
    with pytest.raises(sync_redis.AuthenticationError):
        sync_redis.Redis(port=fresh.redis.port).ping()
    with sync_redis.Redis(port=fresh.redis.port, username="boxoffice-api", password=api) as client:
        assert client.ping()
        with pytest.raises(sync_redis.exceptions.NoPermissionError):
            client.flushall()
    written = (fresh.redis.folder / "redis.conf").read_text()
    assert "user boxoffice-worker on" in written and "user default off" in written, "a restart changes nothing"
    assert admin not in written
