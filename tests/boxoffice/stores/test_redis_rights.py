"""Users of Redis with the least rights: what they may do is what the code does, and what one lacks is named."""

from __future__ import annotations

import ast
import re
from collections.abc import AsyncIterator, Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError
from structlog.testing import capture_logs

from boxoffice.errors import CannotRun
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores.redis import open_redis
from boxoffice.stores.redis_rights import (
    DIRECT,
    KEYS,
    ROLES,
    SCRIPTS,
    Role,
    acl_rule,
    check_rights,
    commands_of,
    keys_of,
    missing,
)
from boxoffice.stores.refusals import OPTIONAL, refusal
from boxoffice.stores.scripts import load_scripts
from boxoffice.telemetry.outages import outages
from ops.stack.servers import Servers
from tests.support.least import as_user, set_user

ROOT = Path(__file__).resolve().parents[3]

USER = "tried"

Client = Callable[..., Redis]


@pytest.fixture
async def client(clean: None, servers: Servers) -> AsyncIterator[Client]:
    """A client of a user that has these rules and no others."""
    opened: list[Redis] = []

    def client(*rules: str) -> Redis:
        set_user(servers, USER, *rules)
        opened.append(open_redis(Settings(redis_url=as_user(servers.redis_url, USER))))
        return opened[-1]

    yield client
    for each in opened:
        await each.aclose()


# ---------------------------------------------------------------- the lists are those of the code


def test_every_key_has_its_row() -> None:
    assert sorted(KEYS) == sorted({*keys.__all__} - {"news", "shard_tag"})


def test_every_script_is_run_by_somebody() -> None:
    known = {script.name for script in load_scripts()}
    assert {name for names in SCRIPTS.values() for name in names} == known


SENT = {
    "config_get": "config|get", "delete": "del", "scan_iter": "scan", "hscan_iter": "hscan",
    "script_load": "script|load",
}  # fmt: skip
"""What redis-py calls otherwise than Redis."""

COMMANDS = {
    "blpop", "config_get", "delete", "eval", "eval_ro", "evalsha", "exists", "expire", "get", "getset", "hdel", "hexists",
    "hget", "hgetall", "hincrby", "hscan_iter", "hkeys", "hmget", "hset", "hsetnx", "incr", "info", "keys", "lpush", "lrange",
    "ltrim", "mget", "ping", "psetex", "pttl", "role", "rpush", "sadd", "scan", "scan_iter", "script_load", "set", "setex",
    "setnx", "smembers", "srem", "time", "ttl", "unlink", "watch", "zadd", "zcard", "zcount", "zincrby", "zrange",
    "zrangebyscore", "zrem", "zscan", "zscore",
}  # fmt: skip
"""Methods of redis-py that send what they are called."""


@cache
def sent_directly() -> set[str]:
    """Commands that Python sends to Redis outside of scripts, as an ACL names them."""
    found = set()
    for folder in ("api", "boxoffice", "worker", "ops"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                whose, name = ast.unparse(node.func.value), node.func.attr
                if name in COMMANDS and re.search(r"redis\b|\bpipe|client\b", whose):
                    found.add(SENT.get(name, name))
                if name in ("execute_command", "send_command") and node.args and isinstance(node.args[0], ast.Constant):
                    found.add(str(node.args[0].value).lower())
    return found


def test_every_command_that_is_sent_is_somebodys() -> None:
    listed = {name for names in DIRECT.values() for name in names}
    assert sent_directly() - listed - OPTIONAL == set()


ARQS = {"dbsize", "incrby", "psetex", "setex", "zincrby", "zrangebyscore"}
"""What arq sends beside what we do."""

PYS = {"client|setname", "exec", "multi", "select", "unwatch"}
"""What redis-py sends by itself."""


def test_nobody_may_send_what_nobody_sends() -> None:
    listed = {name for names in DIRECT.values() for name in names}
    assert listed - sent_directly() - ARQS - PYS == set()


@pytest.mark.parametrize("role", ROLES)
def test_the_commands_of_the_scripts_are_read_from_them(role: Role) -> None:
    called = set()
    for script in SCRIPTS[role]:
        text = getattr(load_scripts(), script).text
        called |= {name.lower() for name in re.findall(r'redis\.p?call\(\s*"(\w+)"', text)}
        assert not re.search(r"redis\.p?call\((?!\s*\")", text), "a command that is not spelt out cannot be read"
    assert {*commands_of(role)} == (called - OPTIONAL) | {*DIRECT[role]}
    assert "msetex" not in commands_of(role)


# ---------------------------------------------------------------- what a user lacks is found, and nothing is changed


@pytest.mark.parametrize("role", ROLES)
async def test_who_has_what_the_rule_says_lacks_nothing(client: Client, role: Role) -> None:
    assert not any(await missing(client(*acl_rule(role).split()), role))
    assert not any(await missing(client("~*", "&*", "+@all"), role))


@pytest.mark.parametrize("role", ROLES)
async def test_each_command_that_is_taken_away_is_named(client: Client, role: Role) -> None:
    for command in commands_of(role):
        if command not in OPTIONAL | {"subscribe"}:  # to ask would be to subscribe; whoever lacks it looks now and then
            found = await missing(client(*acl_rule(role).split(), f"-{command}"), role)
            assert found == ((command,), ()), command


@pytest.mark.parametrize("role", ROLES)
async def test_each_key_that_is_shut_is_named(client: Client, role: Role) -> None:
    rights = keys_of(role)
    for shut in rights:
        if role == "operator" and shut != "arq:*":
            continue  # it reads everything of ours
        others = [f"~{name}" if right == "rw" else f"%R~{name}" for name, right in rights.items() if name != shut]
        commands = [f"+{name}" for name in commands_of(role)]
        for lacks in ([], [f"%R~{shut}"] if rights[shut] == "rw" else []):
            found = await missing(client(*others, *lacks, *commands, "&{s*}:news"), role)
            assert found.commands == (), shut
            assert found.keys == (shut.replace("{s*}", "{s00}").removesuffix("*"),), shut


@pytest.mark.parametrize("role", ROLES)
async def test_the_channel_is_named_too(client: Client, role: Role) -> None:
    """A script that may not publish on it goes on without a word: so it is seen when a process starts."""
    rule = [each for each in acl_rule(role).split() if not each.startswith("&")]
    assert (await missing(client(*rule), role)).keys == (keys.news(0),)


async def test_to_ask_changes_nothing(client: Client, servers: Servers) -> None:
    """Whatever stands in Redis, of whatever kind; all but the probe, which ends by itself."""
    async with Redis.from_url(servers.redis_url) as everything:
        for name in keys_of("worker"):
            await everything.hset(name.replace("{s*}", "{s00}").removesuffix("*") + "x", "f", "v")  # type: ignore[misc]
        await everything.zadd(keys.pending(0), {"x": 1})
        await everything.sadd(keys.told(0), "f")  # type: ignore[misc]
        await everything.set(keys.gate(0), "first:run")
        await everything.hset(keys.api_keys(0), "f", "v")  # type: ignore[misc]

        async def all_of_it() -> dict[bytes, bytes]:
            names = [name for name in await everything.keys() if name.decode() != keys.probe(0)]
            return {name: await everything.dump(name) for name in names}  # type: ignore[misc]

        before = await all_of_it()
        for role in ROLES:
            assert not any(await missing(client("~*", "&*", "+@all"), role))
        assert await all_of_it() == before
        assert 0 < await everything.ttl(keys.probe(0)) <= 60
        assert await client("~*", "+@all").get(keys.gate(0)) == b"first:run"


# ---------------------------------------------------------------- and said


async def test_a_process_is_told_in_one_sentence_what_its_user_lacks(client: Client) -> None:
    redis = client(*acl_rule("worker").split(), "-zadd", "-blpop")
    with capture_logs() as lines, pytest.raises(CannotRun) as refused:
        await check_rights(redis, "worker")
    assert refused.value.detail == (
        "Redis does not let our user tried run blpop, zadd: give it what `boxoffice acl --role worker` prints."
    )
    assert [(line["event"], line["error"], line["which"]) for line in lines] == [
        ("rights.missing", "blpop zadd", "redis")
    ]

    with capture_logs() as lines:
        await check_rights(client(*acl_rule("worker").split()), "worker")
    assert [(line["event"], line["which"]) for line in lines] == [("rights.given", "redis")]


async def test_keys_are_named_in_the_same_sentence(client: Client) -> None:
    rule = acl_rule("api").replace("~{s*}:gate ", "").replace("~{s*}:bk:* ", "")
    with pytest.raises(CannotRun, match=r"tried use keys like \{s00\}:bk:, \{s00\}:gate: give"):
        await check_rights(client(*rule.split()), "api")
    with pytest.raises(CannotRun, match=r"tried run zcard, nor use keys like \{s00\}:bk:, \{s00\}:gate: give"):
        await check_rights(client(*rule.split(), "-zcard"), "api")


async def test_who_may_not_even_set_is_told_that_first(client: Client) -> None:
    assert (await missing(client(*acl_rule("api").split(), "-set"), "api")).commands[:1] == ("set",)
    assert (await missing(client("~*", "-@all"), "api")).commands == ("set",)
    assert keys.probe(0) in (await missing(client("%R~*", "+@all"), "api")).keys


async def test_nobody_is_left_inside_a_transaction(client: Client) -> None:
    redis = client(*acl_rule("api").split(), "-exec")
    assert (await missing(redis, "api")).commands == ("exec",)
    assert await redis.get(keys.gate(0)) is not None, "an answer, and not QUEUED"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("zadd", "{s00}:pend", "1", "x"), "zadd"),
        (("get", "other"), "a key"),
        (("eval", "return redis.call('zadd', KEYS[1], 1, 'x')", "1", "{s00}:pend"), "zadd"),
        (("config", "get", "appendonly"), None),
        (("role",), None),
    ],
)
async def test_what_is_refused_while_it_runs_is_named(
    client: Client, command: tuple[str, ...], said: str | None
) -> None:
    """Whoever met it waits and tries again; which right it was is said where all answers come in."""
    redis = client("~{s*}:*", "-@all", "+get", "+eval")
    with capture_logs() as lines:
        for _ in range(3):
            with pytest.raises(ResponseError) as refused:
                await redis.execute_command(*command)  # type: ignore[no-untyped-call]
    assert [(line["event"], line["error"]) for line in lines] == ([("rights.missing", said)] if said else [])
    assert refusal(refused.value) == "NOPERM", "and no word of the server's sentence"
    outages.forget()


def test_other_refusals_keep_their_word() -> None:
    assert refusal(ResponseError("MISCONF hunter2")) == "MISCONF"


# ---------------------------------------------------------------- and nobody may do more

API_MAY_NOT: tuple[tuple[str, ...], ...] = (
    ("flushall",), ("config", "get", "requirepass"), ("config", "set", "appendonly", "no"), ("keys", "*"),
    ("acl", "list"), ("shutdown",), ("debug", "sleep", "0"), ("monitor",), ("replicaof", "no", "one"), ("dbsize",),
    ("hset", "{s00}:api_keys", "f", "v"), ("hset", "{s00}:workers", "f", "v"), ("get", "{s00}:sound"),
    ("get", "arq:in-progress:x"), ("get", "other"), ("publish", "x", "y"), ("rename", "{s00}:gate", "{s00}:pend"),
)  # fmt: skip

WORKER_MAY_NOT: tuple[tuple[str, ...], ...] = (
    ("flushdb",), ("config", "get", "requirepass"), ("keys", "*"), ("acl", "whoami"), ("get", "{s00}:rates"), ("get", "other"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("role", "command"),
    [("api", each) for each in API_MAY_NOT] + [("worker", each) for each in WORKER_MAY_NOT]
    + [("operator", ("hset", "{s00}:rates", "f", "v")), ("operator", ("hset", "{s00}:workers", "f", "v"))],
)  # fmt: skip
async def test_what_a_role_has_no_need_of_is_refused(client: Client, role: Role, command: tuple[Any, ...]) -> None:
    with pytest.raises(NoPermissionError):
        await client(*acl_rule(role).split()).execute_command(*command)  # type: ignore[no-untyped-call]


def test_more_commands_are_added_at_the_end() -> None:
    assert acl_rule("api", ["config|get"]).endswith(" +zscore +config|get")
    assert "config" not in acl_rule("api")
