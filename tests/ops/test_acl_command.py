"""`boxoffice acl` and `boxoffice roles`: what an operator pipes into redis-cli and psql."""

from __future__ import annotations

import os
import subprocess

import pytest

from boxoffice.settings import Settings
from boxoffice.stores.postgres_rights import role_statements
from boxoffice.stores.redis_rights import ROLES, acl_rule
from ops.stack.servers import Servers
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
