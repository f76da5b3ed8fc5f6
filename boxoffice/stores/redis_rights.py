"""What each kind of process may do in Redis: the commands of its scripts and its own, and the keys that they touch.

`boxoffice acl` prints it for a server with users, and whoever starts looks whether its user has it. A script that lacks a
right stops in the middle, and what it wrote by then stays: so nobody decides anything before all rights were seen.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple, TypeAlias

from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError

from boxoffice.errors import CannotRun
from boxoffice.stores import keys
from boxoffice.stores.redis import AWAY, user_of
from boxoffice.stores.refusals import OPTIONAL, lacks_right, refused_command, without_notes
from boxoffice.stores.scripts import load_scripts
from boxoffice.telemetry.outages import outages

__all__ = ["ROLES", "Missing", "Role", "acl_rule", "check_rights", "commands_of", "keys_of", "missing"]

Role: TypeAlias = Literal["api", "worker", "operator"]

ROLES: Final[tuple[Role, ...]] = ("api", "worker", "operator")

SCRIPTS: Final[dict[Role, tuple[str, ...]]] = {
    "api": (
        "admit", "cancel", "change", "codes", "extend", "gather", "load", "move", "pay", "read", "reconcile", "shrink", "tally",
        "throttle", "wake",
    ),
    "worker": (
        "cancel", "claim", "codes", "confirm", "correct", "decline", "expire", "gather", "grant", "load", "move", "open",
        "read", "reconcile", "restore", "revive", "rewind", "settle",
    ),
    "operator": (
        "cancel", "codes", "correct", "expire", "gather", "grant", "load", "move", "open", "read", "reconcile", "restore",
        "rewind", "settle", "shrink", "tally",
    ),
}  # fmt: skip
"""Whose process runs which script."""

_EVERYBODY: Final = (
    "client|setname", "eval", "evalsha", "exec", "exists", "expire", "get", "hexists", "hget", "hgetall",
    "hmget", "hsetnx", "info", "lpush", "ltrim", "mget", "multi", "ping", "sadd", "script|load", "select", "set", "smembers",
    "time", "zcard", "zrange", "zscore",
)  # fmt: skip

_REPAIR: Final = (
    "del", "hdel", "hincrby", "hkeys", "scan", "setnx", "srem", "unwatch", "watch", "zadd", "zrem", "zscan",
)  # fmt: skip

_ARQ: Final = (
    "blpop", "dbsize", "hset", "incrby", "psetex", "setex", "zincrby", "zrangebyscore",
)  # fmt: skip

DIRECT: Final[dict[Role, tuple[str, ...]]] = {
    "api": (*_EVERYBODY, "hincrby", "hkeys", "scan", "subscribe", "ttl", "zadd", "zrem", "zscan"),
    "worker": (*_EVERYBODY, *_REPAIR, *_ARQ),
    "operator": (*_EVERYBODY, *_REPAIR, "eval_ro", "hscan", "pttl", "ttl", "zcount"),
}
"""What they send besides, as an ACL names it."""

KEYS: Final[dict[str, dict[Role, str]]] = {
    name: {"api": api, "worker": worker, "operator": operator}
    for name, api, worker, operator in (
        ("api_keys", "r", "rw", "rw"),
        ("arq_job", "rw", "rw", "rw"),
        ("arq_queue", "rw", "rw", "rw"),
        ("bell", "rw", "rw", "rw"),
        ("booking", "rw", "rw", "rw"),
        ("catalogue", "rw", "rw", "rw"),
        ("changes", "rw", "rw", "rw"),
        ("clock", "rw", "rw", "rw"),
        ("codes", "rw", "rw", "rw"),
        ("dead", "rw", "rw", "rw"),
        ("deadlines", "rw", "rw", "rw"),
        ("declines", "rw", "rw", "rw"),
        ("ended", "rw", "rw", "rw"),
        ("event", "rw", "rw", "rw"),
        ("gate", "rw", "rw", "rw"),
        ("idempotency", "rw", "rw", "rw"),
        ("lacking", "rw", "rw", "rw"),
        ("moved", "rw", "rw", "rw"),
        ("owned_tiers", "rw", "rw", "rw"),
        ("owners", "rw", "rw", "rw"),
        ("pending", "rw", "rw", "rw"),
        ("probe", "rw", "rw", "rw"),
        ("rates", "rw", "", ""),
        ("rings", "rw", "rw", "rw"),
        ("sequence", "rw", "rw", "rw"),
        ("session", "rw", "", ""),
        ("shops", "rw", "rw", "rw"),
        ("sound", "", "rw", "r"),
        ("sums", "rw", "rw", ""),
        ("told", "rw", "rw", "rw"),
        ("unchecked", "rw", "rw", "rw"),
        ("unpaid", "rw", "rw", "rw"),
        ("workers", "r", "rw", "r"),
    )
}
"""Each key, by its function in `keys`: what each role does with it. A key that a script is given counts as written, whatever
the script does with it: Redis asks for both rights."""

_OTHER_KEYS: Final[dict[Role, dict[str, str]]] = {
    "api": {},
    "worker": dict.fromkeys(("arq:abort", "arq:in-progress:*", "arq:retry:*", "{s*}:arq:queue:health-check"), "rw"),
    "operator": {"{s*}:*": "r", "arq:*": "r"},
}
"""arq's own, which `keys` does not name; and an audit reads whatever is there."""

PROBE_TTL_S: Final = 60

NO_FIELD: Final = "no such field"

_CALLED: Final = re.compile(r'redis\.p?call\("(\w+)"')

_PROBE: Final[dict[str, str]] = {
    "blpop": "P 0.01", "del": "A", "evalsha": "0 0", "eval": "E 0", "eval_ro": "E 0", "exists": "P", "expire": "A 1",
    "getrange": "P 0 0", "hincrby": "P f 1", "hscan": "P 0", "hset": "P f v", "hsetnx": "P f v", "incrby": "P 1",
    "info": "server",
    "ltrim": "P 0 0", "persist": "A", "mset": "A x A", "pexpire": "A 1", "pexpireat": "A 1", "psetex": "A 0 x",
    "publish": "N -",
    "scan": "0 count 1",
    "script|load": "E", "set": "A x xx", "setex": "A 0 x", "setnx": "P x", "unlink": "A", "watch": "P",
    "zadd": "P 1 m", "zcount": "P 0 0", "zincrby": "P 1 m", "zrange": "P 0 0", "zrangebyscore": "P 0 0",
    "zrevrange": "P 0 0", "zrevrangebyscore": "P 0 0", "zscan": "P 0",
    **dict.fromkeys(("dbsize", "ping", "time", "unwatch"), ""),
    **dict.fromkeys(("get", "hgetall", "hkeys", "hlen", "incr", "mget", "pttl", "smembers", "ttl", "type", "zcard"), "P"),
    **dict.fromkeys(("hdel", "hexists", "hget", "hmget", "lpush", "sadd", "srem", "zrem", "zscore"), "P f"),
}  # fmt: skip
"""A form of each command that changes nothing. P is the probe, a string that is no number, so what is for other types or for
numbers is refused behind the question of rights; A is a key that is not there; E is a script that does nothing; N is a channel,
whose listeners take the message for none of theirs."""


class Missing(NamedTuple):
    """What a user may not do and should."""

    commands: tuple[str, ...]
    keys: tuple[str, ...]


def commands_of(role: Role) -> list[str]:
    """Every command, in lower case and with its subcommand, as an ACL names it."""
    scripts = load_scripts()
    called = {name.lower() for script in SCRIPTS[role] for name in _CALLED.findall(getattr(scripts, script).text)}
    return sorted(called - OPTIONAL | {*DIRECT[role]})


def keys_of(role: Role) -> dict[str, str]:
    """Patterns of keys, each with `r` or `rw`. Shards of any number: a booking's id may name one that is not served."""
    ours = {_pattern(name): rights[role] for name, rights in KEYS.items() if rights[role]}
    return {**ours, **_OTHER_KEYS[role]}


def acl_rule(role: Role, more: Iterable[str] = ()) -> str:
    """What `ACL SETUSER` is told: nothing but these keys and commands, and `more` commands."""
    patterns = [f"~{pattern}" if right == "rw" else f"%R~{pattern}" for pattern, right in keys_of(role).items()]
    allowed = [f"+{command}" for command in (*commands_of(role), *more)]
    return " ".join(["resetkeys", *patterns, "resetchannels", f"&{_pattern('news')}", "-@all", *allowed])


async def missing(redis: Redis, role: Role) -> Missing:
    """What this client's user may not do. Raises one of `redis.AWAY` when nobody answers."""
    with without_notes():
        # Without this string some of the forms below would write.
        commands, shut = await _refused(redis, [["set", keys.probe(0), "probe", "ex", str(PROBE_TTL_S)]])
        if not commands | shut:
            tried = [name for name in commands_of(role) if name in _PROBE]
            # Of a transaction that is refused in the middle nothing is left.
            commands, _ = await _refused(redis, [*map(_form, tried), ["multi"], ["exec"]])
        if not commands & {"get", "hdel", "set"}:
            wanted = [["get", _one(name)] for name in keys_of(role)]
            wanted += [["hdel", _one(name), NO_FIELD] for name, right in keys_of(role).items() if right == "rw"]
            wanted += [["publish", keys.news(0), "-"]]
            shut |= (await _refused(redis, wanted))[1]
    return Missing(tuple(sorted(commands)), tuple(sorted(shut)))


async def check_rights(redis: Redis, role: Role) -> None:
    """Raises `CannotRun` naming our user and every right that it lacks, and says it in the log; one of `redis.AWAY` when nobody
    answers."""
    found = await missing(redis, role)
    if not any(found):
        outages.met("rights", "redis")
        return
    lacks = [f"run {', '.join(found.commands)}"] * bool(found.commands)
    lacks += [f"use keys like {', '.join(found.keys)}"] * bool(found.keys)
    outages.missed("rights", " ".join((*found.commands, *found.keys)), "redis")
    raise CannotRun(
        f"Redis does not let our user {user_of(redis)} {', nor '.join(lacks)}: give it what `boxoffice acl --role {role}` "
        "prints."
    )


async def _refused(redis: Redis, forms: list[list[str]]) -> tuple[set[str], set[str]]:
    """Of these commands, each with its key first, the commands and the keys that Redis refuses for want of a right."""
    async with redis.pipeline(transaction=False) as pipe:
        for form in forms:
            pipe.execute_command(*form)
        answers = await pipe.execute(raise_on_error=False)
    commands, shut = set(), set()
    for form, answer in zip(forms, answers, strict=True):
        if isinstance(answer, AWAY) and not isinstance(answer, ReadOnlyError):
            raise answer
        if lacks_right(answer):
            command = refused_command(answer)
            commands |= {command} if command else set()
            shut |= set() if command else {form[1]}
    return commands, shut


def _form(command: str) -> list[str]:
    stand_for = {"P": keys.probe(0), "A": keys.booking(0, ""), "E": "return 1", "N": keys.news(0)}
    # In lower case redis-py sends them as they are.
    return [*command.split("|"), *(stand_for.get(word, word) for word in _PROBE[command].split())]


def _pattern(name: str) -> str:
    function = getattr(keys, name)
    return str(function(*(0 if each == "shard" else "*" for each in inspect.signature(function).parameters))).replace(
        "{s00}", "{s*}"
    )


def _one(pattern: str) -> str:
    """A key of this pattern that nobody has, unless there is only one."""
    return pattern.replace("{s*}", "{s00}").removesuffix("*")
