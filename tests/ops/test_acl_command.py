"""`boxoffice acl` and `boxoffice roles`: what an operator pipes into redis-cli and psql."""

from __future__ import annotations

import os
import subprocess

import pytest

from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores.postgres_rights import role_statements
from boxoffice.stores.redis_rights import ROLES, acl_rule
from ops.stack.servers import Servers
from tests.conftest import SaleMaker
from tests.ops.terminal import register_all, run
from tests.support import commands as processes
from tests.support.least import LeastRights, as_user, set_user


@pytest.fixture(autouse=True)
def commands() -> None:
    register_all()


async def test_one_line_for_each_user() -> None:
    code, said = await run("acl")
    assert code == 0
    assert said.splitlines() == [f"ACL SETUSER boxoffice-{role} on {acl_rule(role)}" for role in ROLES]
    assert not {">", "nopass", "reset"} & {*said.split()}, "passwords stay as they are"


async def test_one_user_and_its_rule_alone() -> None:
    assert await run("acl", "--role", "worker", "--rule") == (0, f"on {acl_rule('worker')}\n")


async def test_what_may_be_added() -> None:
    code, said = await run("acl", "--role", "api", "--config", "--msetex")
    assert (code, said.split()[-2:]) == (0, ["+config|get", "+msetex"])
    assert (await run("acl", "--role", "api", "--msetex"))[1].split()[-2:] == ["+zscore", "+msetex"]


async def test_statements_for_psql() -> None:
    code, said = await run("roles")
    assert code == 0
    assert said == "".join(f"{statement};\n" for statement in role_statements())
    assert "PASSWORD" not in said


def process(settings: Settings, *arguments: str, **urls: str) -> subprocess.CompletedProcess[bytes]:
    env = {"REDIS_URL": settings.redis_url, "DATABASE_URL": settings.database_url, "DATA_DIR": str(settings.data_dir)}
    return processes.run(*arguments, env=os.environ | env | urls)


async def test_a_worker_that_lacks_a_right_says_which_and_does_not_start(
    clean: None, servers: Servers, settings: Settings, least_rights: LeastRights
) -> None:
    """In one sentence, instead of stopping in the middle of a script, or trying for ever."""
    set_user(servers, "small", *acl_rule("worker").split(), "-zadd", "-psetex")
    ran = process(settings, "worker", REDIS_URL=as_user(servers.redis_url, "small"))
    assert (ran.returncode, ran.stderr.decode().splitlines()[-1]) == (
        3,
        "boxoffice: Redis does not let our user small run psetex, zadd: give it what `boxoffice acl --role worker` prints.",
    )
    ran = process(settings, "worker", DATABASE_URL=least_rights.urls("api")["database_url"])
    assert ran.returncode == 3
    said = ran.stderr.decode().splitlines()[-1]
    assert said.startswith("boxoffice: PostgreSQL does not give our role boxoffice_api DELETE on ")


async def test_a_command_that_lacks_a_right_says_where_to_find_it(
    clean: None, servers: Servers, settings: Settings, least_rights: LeastRights
) -> None:
    set_user(servers, "small", *acl_rule("operator").split(), "-zcard")
    ran = process(settings, "status", REDIS_URL=as_user(servers.redis_url, "small"))
    assert ran.returncode == 3
    assert ran.stderr.decode().splitlines()[-1].endswith("give it what `boxoffice acl --role operator` prints.")
    ran = process(settings, "clients", "create", "X", DATABASE_URL=least_rights.urls("worker")["database_url"])
    assert ran.returncode == 3
    assert "boxoffice_operator" in ran.stderr.decode().splitlines()[-1]


async def contents(office: BoxOffice) -> dict[bytes, bytes]:
    """All that Redis keeps, but for the string that rights are tried on."""
    probes = {keys.probe(shard).encode() for shard in range(office.settings.shards)}
    return {key: await office.redis.dump(key) for key in await office.redis.keys() if key not in probes}


async def test_a_command_that_lacks_a_right_changes_nothing(
    office: BoxOffice, open_sale: SaleMaker, servers: Servers, settings: Settings, least_rights: LeastRights
) -> None:
    """A script without a right stops in the middle, and Redis keeps what it wrote: so no command begins. A look does."""
    event = await open_sale(GA=10)
    counted = keys.event(event.shard, event.id)
    for letter, by in (("a", -7), ("h", 7)):
        await office.redis.hincrby(counted, f"{letter}:{event.tiers[0].id}", by)
    before = await contents(office)
    set_user(servers, "small", *acl_rule("operator").split(), "-zrem")
    small = least_rights.urls("operator") | {"redis_url": as_user(servers.redis_url, "small")}
    urls = {name.upper(): small[name] for name in ("redis_url", "database_url")}

    deeds = (
        ("reconcile", "--event", event.id, "--fix"), ("rebuild",), ("trim",), ("payments", "audit", "--fix"),
        ("dead", "retry", "--all"), ("events", "pause", event.id), ("events", "call-off", event.id, "--reason", "x", "--yes"),
    )  # fmt: skip
    for command in deeds:
        ran = process(settings, *command, **urls)
        assert (ran.returncode, ran.stderr.decode().splitlines()[-1]) == (
            3,
            "boxoffice: Redis does not let our user small run zrem: give it what `boxoffice acl --role operator` prints.",
        )
        assert await contents(office) == before
    assert process(settings, "reconcile", **urls).returncode == 1
    looks = (
        ("trim", "--dry-run"), ("payments", "audit"), ("dead", "retry", "--all", "--dry-run"),
        ("events", "call-off", event.id, "--show"), ("events", "list"), ("bookings", "list"), ("status",),
    )  # fmt: skip
    ended = {command: process(settings, *command, **urls) for command in looks}
    assert [command for command, ran in ended.items() if b"our user" in ran.stderr] == []

    of_reader = as_user(servers.database_url, "boxoffice_reader")
    ran = process(settings, "reconcile", "--fix", DATABASE_URL=of_reader)
    assert (ran.returncode, await contents(office)) == (3, before)
    assert "does not give our role boxoffice_reader" in ran.stderr.decode().splitlines()[-1]

    urls["REDIS_URL"] = least_rights.urls("operator")["redis_url"]
    assert process(settings, "reconcile", "--event", event.id, "--fix", **urls).returncode == 2
    assert process(settings, "reconcile", **urls).returncode == 0


async def test_a_command_that_needs_one_store_runs_while_the_other_is_away(clean: None, settings: Settings) -> None:
    """Rights are asked of the Redis that answers."""
    ran = process(settings, "trim", REDIS_URL="redis://127.0.0.1:1/0")
    assert (ran.returncode, b"webhook_events: 0 deleted" in ran.stdout) == (0, True)
