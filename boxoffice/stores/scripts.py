"""Loads `lua/*.lua` and calls them. Knows no script in particular.

A script's header is its signature: `-- KEYS[1] gate`, `-- ARGV[1] limit`, and a last slot `[n...]` that takes the rest.
`Script.call` lines up what is given by name.
`-- include: name` is replaced by `lua/lib/name.lua`; `-- Flags: allow-oom` becomes the `#!lua` line of a real server.
A script whose first key is the gate decides: while that is shut it answers `closed` or `unchecked`, and the call raises.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any, Final, Protocol

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from boxoffice.errors import GateClosed, RunUnchecked
from boxoffice.stores.refusals import refusal
from boxoffice.telemetry.outages import outages

__all__ = ["Call", "Commands", "Script", "Scripts", "Slot", "load_scripts", "send_all"]

Slot = str | bytes | int
"""What stands in one slot."""

_SLOT = re.compile(r"^-- (KEYS|ARGV)\[(\d+)(\.\.\.)?\] (\w+)", re.M)
_INCLUDE = re.compile(r"^-- include: (\w+)$", re.M)
_FLAGS = re.compile(r"^-- Flags: ([\w, -]+)$", re.M)


REFUSALS: Final = frozenset({"OOM", "MISCONF", "READONLY", "NOREPLICAS", "NOPERM"})
"""How Redis refuses a script before it begins: full, a disk that takes no more, a replica, too few replicas, no right."""


class Commands(Protocol):
    """Whoever sends a command."""

    async def execute_command(self, *args: Any) -> Any:
        """Its answer."""
        ...


@dataclass(frozen=True)
class Script:
    """One script: its text as the server gets it, and the slots that its header names."""

    name: str
    text: str
    keys: tuple[str, ...]
    args: tuple[str, ...]
    more_keys: bool
    more_args: bool

    @cached_property
    def decides(self) -> bool:
        """Whether it does its work only while the gate is open for this run of the server."""
        return self.keys[:1] == ("gate",)

    @cached_property
    def sha(self) -> str:
        """What the server calls the script."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    @cached_property
    def slots(self) -> frozenset[str]:
        """The names of all slots. No name is both a key and an argument."""
        return frozenset(self.keys) | frozenset(self.args)

    def call(self, values: Mapping[str, Slot | Sequence[Slot]], *, given: Mapping[str, Any]) -> Call:
        """A call with these values, each by the name of its slot; `values` may have more than the script takes.

        Raises `TypeError` when a slot has no value, or when one that was `given` is no slot.
        """
        if not self.slots.issuperset(given):
            raise TypeError(f"{self.name}.lua has no slot {', '.join(sorted(given.keys() - self.slots))}")
        try:
            return Call(
                self, _row(self.keys, self.more_keys, values), _row(self.args, self.more_args, values)
            )  # fmt: skip
        except KeyError as missing:
            raise TypeError(f"{self.name}.lua needs {missing}") from None

    async def __call__(
        self, redis: Commands, keys: list[str] | tuple[str, ...], args: list[Any] | tuple[Any, ...]
    ) -> Any:
        """Run it. `keys` and `args` stand in the order of the header's slots.

        A server that has forgotten its scripts (a restart, a failover) is sent the text once more. Raises `GateClosed` and
        `RunUnchecked` of a script that decides.
        """
        try:
            try:
                reply = await redis.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)
            except NoScriptError:
                reply = await redis.execute_command("EVAL", self.text, len(keys), *keys, *args)
            answer = _decided(reply) if self.decides else reply
        except ResponseError as error:
            if (code := refusal(error)) in REFUSALS:
                outages.missed("redis writes", code, self.name)
            raise
        except GateClosed as error:
            outages.missed("gate", type(error).__name__, str(keys[0]))
            raise
        if outages.lasting:
            outages.met("redis writes", self.name)
            if self.decides:
                outages.met("gate", str(keys[0]))
        return answer


@dataclass(frozen=True, slots=True)
class Call:
    """A script with its keys and arguments in the order of the header's slots."""

    script: Script
    keys: list[Any]
    args: list[Any]

    async def send(self, redis: Commands) -> Any:
        """Make it. Raises as `Script`."""
        return await self.script(redis, self.keys, self.args)


async def send_all(redis: Redis, calls: Sequence[Call]) -> list[Any]:
    """Make these calls in one round trip, in their order: each by itself is atomic, not all of them together, and a server that
    fsyncs each write does so once. Answers in the same order; in the place of a call that failed stands what it raised
    (`ResponseError`, `GateClosed`, `RunUnchecked`). Raises Redis's errors when it did not answer: any of them may be done then.
    """
    async with redis.pipeline(transaction=False) as pipe:
        for call in calls:
            pipe.execute_command("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)
        came = await pipe.execute(raise_on_error=False)
    sent = (call.send(_Answered(redis, answer)) for call, answer in zip(calls, came, strict=True))
    return [await _outcome(answer) for answer in sent]


async def _outcome(answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except (ResponseError, GateClosed) as error:
        return error


class _Answered:
    """A Redis that has already answered the first command, and is asked for what comes after it."""

    def __init__(self, redis: Redis, answer: Any) -> None:
        self._redis = redis
        self._first = [answer]

    async def execute_command(self, *args: Any) -> Any:
        if not self._first:
            return await self._redis.execute_command(*args)  # type: ignore[no-untyped-call]
        answer = self._first.pop()
        if isinstance(answer, Exception):
            raise answer
        return answer


def _row(names: tuple[str, ...], more: bool, values: Mapping[str, Slot | Sequence[Slot]]) -> list[Any]:
    if not more:
        return [values[name] for name in names]
    rest: Any = values[names[-1]]
    return [*[values[name] for name in names[:-1]], *rest]


def _decided(reply: Any) -> Any:
    word = reply[0] if isinstance(reply, list) and reply else reply
    if word == b"unchecked":
        raise RunUnchecked
    if word == b"closed":
        raise GateClosed
    return reply


class Scripts:
    """All scripts by name, as attributes: `scripts.admit`."""

    def __init__(self, scripts: dict[str, Script]) -> None:
        self._scripts = scripts

    def __getattr__(self, name: str) -> Script:
        try:
            return self._scripts[name]
        except KeyError:
            raise AttributeError(name) from None

    def __iter__(self) -> Any:
        return iter(self._scripts.values())


@cache
def load_scripts(*, real_server: bool = True) -> Scripts:
    """Every script, read once in a process. `real_server=False` leaves out the `#!lua` line, which fakeredis does not know."""
    folder = files("lua")
    scripts = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".lua"):
            name = entry.name.removesuffix(".lua")
            scripts[name] = parse(name, entry.read_text("utf-8"), real_server)
    return Scripts(scripts)


def parse(name: str, source: str, real_server: bool) -> Script:
    slots = _SLOT.findall(source)
    keys = tuple(slot for kind, _, _, slot in slots if kind == "KEYS")
    args = tuple(slot for kind, _, _, slot in slots if kind == "ARGV")
    more = {kind for kind, _, rest, _ in slots if rest}
    library = files("lua") / "lib"
    text = _INCLUDE.sub(lambda found: (library / f"{found[1]}.lua").read_text("utf-8"), source)
    flags = _FLAGS.search(source)
    if flags and real_server:
        text = f"#!lua flags={flags[1].replace(' ', '')}\n{text}"
    return Script(name, text, keys, args, "KEYS" in more, "ARGV" in more)
